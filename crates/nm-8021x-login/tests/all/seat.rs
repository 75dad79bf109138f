//! The loop of a seat, scripts/host/lab-seat, on a terminal and without a network: whatever fails,
//! there is a prompt again. scripts/lab/test-session has it with whole sessions.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::terminal::Terminal;

pub const USER: &str = "User (name@institution): ";
const PASSWORD: &str = "Password (nothing is shown): ";

/// A machine with this tool and no other.
pub struct Machine {
    directory: TempDir,
}

impl Machine {
    pub fn new() -> Machine {
        let machine = Machine {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(machine.path("bin")).unwrap();
        machine.install();
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn install(&self) {
        let tool = env!("CARGO_BIN_EXE_nm-8021x-login");
        symlink(tool, self.path("bin/nm-8021x-login")).unwrap();
    }

    /// Has this shell script in the place of a program.
    pub fn fake(&self, name: &str, script: &str) {
        let new = self.path("new"); // the old one may be running
        fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    fn seat(&self) -> Terminal {
        let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/host");
        self.seat_by(&host.join("lab-seat"), "--tty")
    }

    pub fn seat_by(&self, script: &Path, by: &str) -> Terminal {
        let mut command = Command::new(script);
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        command
            .args([by, "--root"])
            .arg(self.directory.path())
            .env("PATH", path)
            .env("LANG", "C");
        Terminal::start(&command, "")
    }

    pub fn events(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("var/log/labtools/events.jsonl")).unwrap();
        let event = |line| -> Value { serde_json::from_str(line).unwrap() };
        log.lines()
            .map(|line| event(line)["event"].as_str().unwrap().to_owned())
            .collect()
    }
}

pub fn log_in(terminal: &mut Terminal) {
    terminal.press("alice@uni-a.example\r");
    terminal.see(PASSWORD);
    terminal.press("correct-horse\r");
}

#[test]
fn a_session_that_cannot_begin_leads_back_to_the_prompt_and_says_why() {
    let machine = Machine::new();
    let mut terminal = machine.seat();
    for _ in 0..2 {
        terminal.see(USER);
        log_in(&mut terminal);
        terminal.see("is not running");
        terminal.see("[status 69]");
    }
    terminal.see(USER);
    for key in ["\x03", "\x1a", "\x04"] {
        terminal.press(key);
        terminal.see(USER);
    }
    assert!(!terminal.all.contains("correct-horse"));
    let pid = Pid::from_raw(terminal.child.id().try_into().unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    let mut terminal = terminal;
    let status = terminal.child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(machine.events(), ["seat_started"]);
    let knows = Command::new("grep")
        .args(["-r", "correct-horse"])
        .arg(machine.directory.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&knows.stdout), "");
}

#[test]
fn a_dead_prompt_comes_back_at_a_key_and_does_not_spin() {
    let machine = Machine::new();
    let tool = machine.path("bin/nm-8021x-login");
    fs::remove_file(&tool).unwrap();
    let mut terminal = machine.seat();
    // Twelve failures in a row are over half an hour, if nobody presses a key.
    for _ in 0..12 {
        terminal.see("press a key");
        terminal.press("x");
    }
    terminal.see("press a key");
    machine.install();
    terminal.press("x");
    terminal.see(USER);
    let ended = terminal.hang_up();
    assert_ne!(ended.status, 0, "it ends with its terminal");
    assert_eq!(machine.events(), ["seat_started", "seat_failed"]);
}

/// The fake stands for a disk that does not answer: no signal but SIGKILL ends it.
#[test]
fn a_store_that_hangs_does_not_keep_the_prompt() {
    let machine = Machine::new();
    let pid = machine.path("pid");
    let hang = format!(
        "trap '' TERM HUP; echo $$ >'{}'; exec sleep infinity",
        pid.display()
    );
    machine.fake("bin/cowvol", &hang);
    let mut terminal = machine.seat();
    terminal.see(USER);
    let pid = fs::read_to_string(pid).unwrap();
    let hangs = Path::new("/proc").join(pid.trim()).join("exe").exists();
    assert!(!hangs, "the list goes on behind the prompt");
    let catalog = r#"{"catalog":{"schema":2,"bases":[
        {"name":"a","title":"A","default":true,"volumes":[]},
        {"name":"b","title":"B","default":false,"volumes":[]}]}}"#;
    machine.fake(
        "bin/cowvol",
        &format!("echo '{}'", catalog.replace('\n', "")),
    );
    log_in(&mut terminal);
    terminal.see("[status 69]");
    terminal.see(USER);
    log_in(&mut terminal);
    terminal.see("2  B");
    terminal.hang_up();
}
