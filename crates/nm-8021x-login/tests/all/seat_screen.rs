//! The loop of a seat with a graphical screen. The screen, and the programs that would end the work
//! of the machine, are scripts of the test; scripts/lab/test-host-image has the real ones.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::seat::{Machine, USER, log_in};
use crate::terminal::Terminal;

/// Shows the test each question, and answers what the test says.
const SCREEN: &str = "while read -r question; do
    echo \"$question\" >shown; read -r answer <keys; printf '%s\\n' \"$answer\"
done
echo ended >shown";

const LOGIN: &str = r#"{"login":{"username":"alice@uni-a.example","password":"correct-horse"}}"#;

/// What `invcollect name` has left at the boot.
const MACHINE: &str =
    r#"{"machine":{"schema":1,"changed":true,"name":"pc1","room":"r","missing":[]}}"#;

/// A guest that shut down, once the screen has ended.
const SESSION: &str =
    "cat >/dev/null; [ \"$1\" = --ready ] && sh -c \"$2\"; echo \"guest $?\" >shown
echo '{\"guest\":{\"schema\":1,\"ended\":\"shutdown\"}}'";

struct Seat {
    machine: Machine,
    terminal: Terminal,
    /// What the screen, and the other scripts, tell the test, in lines.
    shown: File,
}

/// One that ended without a document, after its user had his disk.
const FAILED_SESSION: &str = "cat >/dev/null; sh -c \"$2\"; echo \"guest $?\" >shown; exit 70";

impl Seat {
    fn new(screen: &str) -> Seat {
        let machine = Machine::new();
        fs::create_dir_all(machine.path("lib/greeter")).unwrap();
        let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/host");
        for name in ["lab-seat", "login-session", "append-record"] {
            let to = machine.path("lib").join(name);
            fs::copy(host.join(name), to).unwrap();
        }
        let mut mkfifo = Command::new("mkfifo");
        mkfifo.args([machine.path("keys"), machine.path("shown")]);
        assert!(mkfifo.status().unwrap().success());
        // For writing as well: then it has no end.
        let mut options = OpenOptions::new();
        let shown = options.read(true).write(true).open(machine.path("shown"));
        fake(&machine, "lib/greeter/greeter", screen);
        fs::create_dir_all(machine.path("run/labtools")).unwrap();
        fs::write(machine.path("run/labtools/machine.json"), MACHINE).unwrap();
        // What is not there does not end the work of the machine that the tests run on, either.
        fake(&machine, "bin/systemctl", "echo \"systemctl $*\" >shown");
        let terminal = machine.seat_by(&machine.path("lib/lab-seat"), "--screen");
        Seat {
            machine,
            terminal,
            shown: shown.unwrap(),
        }
    }

    /// The next line that is shown.
    #[track_caller]
    fn see(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            let mut ready = [PollFd::new(self.shown.as_fd(), PollFlags::POLLIN)];
            let patience = PollTimeout::try_from(120_000).unwrap();
            assert_eq!(poll(&mut ready, patience).unwrap(), 1, "nothing is shown");
            let mut byte = [0];
            self.shown.read_exact(&mut byte).unwrap();
            if byte == [b'\n'] {
                return String::from_utf8(line).unwrap();
            }
            line.push(byte[0]);
        }
    }

    fn answer(&self, answer: &str) {
        let keys = self.machine.path("keys");
        let mut keys = OpenOptions::new().write(true).open(keys).unwrap();
        keys.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }

    fn end(self) -> Vec<String> {
        let mut terminal = self.terminal;
        let pid = Pid::from_raw(terminal.child.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        terminal.child.wait().unwrap();
        self.machine.events()
    }
}

fn fake(machine: &Machine, name: &str, script: &str) {
    let there = format!("cd '{}'\n{script}", machine.path("").display());
    machine.fake(name, &there);
}

#[test]
fn the_screen_stays_while_logins_fail_and_is_gone_before_the_guest_starts() {
    let mut seat = Seat::new(SCREEN);
    let question = seat.see();
    assert!(
        question.contains(r#""explanation":{"schema":1}"#),
        "{question}"
    );
    seat.answer(LOGIN); // login-session finds no tools
    let question = seat.see();
    assert!(question.contains(r#""cause":"status 69""#), "{question}");
    assert!(
        question.contains(r#""machine":{"schema":1,"room":"r"}"#),
        "{question}"
    );
    fake(&seat.machine, "lib/login-session", SESSION);
    seat.answer(LOGIN);
    assert_eq!([seat.see(), seat.see()], ["ended", "guest 0"]);
    assert!(seat.see().contains(r#""explanation":{"schema":1}"#));
    assert_eq!(seat.end(), ["seat_started"]);
}

#[test]
fn a_screen_that_does_not_end_is_killed_before_the_guest_starts() {
    let mut seat = Seat::new(&SCREEN.replace("echo ended", "sleep infinity; echo ended"));
    fake(&seat.machine, "lib/login-session", SESSION);
    seat.see();
    fake(&seat.machine, "lib/greeter/greeter", SCREEN); // the next one
    seat.answer(LOGIN);
    assert_eq!(seat.see(), "guest 0");
    seat.see();
    seat.end();
}

#[test]
fn a_screen_that_dies_has_the_terminal_in_its_place() {
    let mut seat = Seat::new("read -r question; echo died >shown; exit 69");
    for _ in 0..2 {
        assert_eq!(seat.see(), "died");
        seat.terminal.see(USER);
        log_in(&mut seat.terminal);
    }
    seat.terminal.see("[status 69]");
    assert_eq!(seat.end(), ["seat_started", "screen_failed"]);
}

#[test]
fn a_user_switches_the_machine_off_but_not_a_root_on_trial() {
    let mut seat = Seat::new(SCREEN);
    fs::create_dir_all(seat.machine.path("etc/labtools")).unwrap();
    fs::write(seat.machine.path("etc/labtools/abflip.ini"), "").unwrap();
    seat.see();
    for answer in [
        "echo '{\"slots\":{\"trial\":\"b\"}}'",
        "exit 74",
        "echo '{}'",
    ] {
        fake(&seat.machine, "bin/abflip", answer);
        seat.answer(r#"{"power":"off"}"#);
        let question = seat.see();
        assert!(question.contains(r#""cause":"status 75""#), "{question}");
    }
    fake(&seat.machine, "bin/abflip", "echo '{\"slots\":{}}'");
    seat.answer(r#"{"power":"restart"}"#);
    assert_eq!([seat.see(), seat.see()], ["ended", "systemctl reboot"]);
    assert_eq!(seat.end(), ["seat_started", "restarted_by_user"]);
}

#[test]
fn a_user_does_not_switch_off_a_machine_with_a_session() {
    let mut seat = Seat::new(SCREEN);
    seat.see();
    let session = File::create(seat.machine.path("run/labtools/session.lock")).unwrap();
    let session = Flock::lock(session, FlockArg::LockExclusive).unwrap();
    seat.answer(r#"{"power":"off"}"#);
    let question = seat.see();
    assert!(question.contains(r#""cause":"status 75""#), "{question}");
    drop(session);
    seat.answer(r#"{"power":"off"}"#); // without abflip, no root is on trial
    assert_eq!([seat.see(), seat.see()], ["ended", "systemctl poweroff"]);
    assert_eq!(seat.end(), ["seat_started", "powered_off_by_user"]);
}

#[test]
fn a_host_that_is_not_fresh_restarts_after_each_session_that_had_a_disk() {
    for session in [SESSION, FAILED_SESSION] {
        let mut seat = Seat::new(SCREEN);
        fake(&seat.machine, "bin/vm-passthrough", "exit 1");
        seat.see();
        seat.answer(LOGIN);
        seat.see(); // the next question
        fake(&seat.machine, "lib/login-session", session);
        seat.answer(LOGIN);
        assert_eq!(
            [seat.see(), seat.see(), seat.see()],
            ["ended", "guest 0", "systemctl reboot"]
        );
        assert_eq!(seat.end(), ["seat_started", "restarted_between_sessions"]);
    }
}
