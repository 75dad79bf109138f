//! `seedctl ask`: against the real ssh and sshd over a pipe, and, for the faults that these cannot be
//! made to show, against a stand-in: a script with the name ssh, which does what the host's name says.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jsonpipe::testkit::{Ended, heeding_signals};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::tracker::BINARY;

/// A server's machine: its configuration, and a directory for what the stand-in does.
struct Server {
    directory: tempfile::TempDir,
    path: String,
}

/// Its process group stands in ssh.groups beside it.
const STAND_IN: &str = r#"#!/bin/bash
while [ "$1" != -- ]; do shift; done
host=$2 command=$3
echo $$ >>"$0.groups"
case $host in
    answers*) printf '{"host":"%s","sent":"%s"}' "$host" "$(cat)" ;;
    half) printf '{"host":"ha' ;;
    nothing) ;;
    swallows) cat >/dev/null ;;
    first) case $command in *settled) exec sleep infinity ;; esac ;;
    second)
        case $command in *settled) exec sleep infinity ;; esac
        until [ -e "$0.go" ]; do sleep 0.05; done
        ;;
    silent) exec sleep infinity ;;
    together*) until [ "$(wc -l <"$0.groups")" -ge 65 ]; do sleep 0.05; done ;;
    reads) head -c 1 >"$0.read"; exec sleep infinity ;;
    chatty) while echo . >&2; do sleep 0.05; done ;;
    flood) exec cat /dev/zero ;;
    swears) exec cat /dev/zero >&2 ;;
    background) sleep infinity & echo $! >"$0.background"; echo '{}' ;;
    reboots)
        case $command in *settled) ;; *) echo '{"state":"rebooting"}'; exit ;; esac
        [ -e "$0.off" ] || { : >"$0.off"; echo "ssh: connect to host reboots port 22: No route to host" >&2; exit 255; }
        echo '{"booted":"b"}'
        ;;
    loses) case $command in *settled) echo "Timeout, server loses not responding." >&2; exit 255 ;; esac ;;
    full*) echo "$command" >&2; exit 73 ;;
esac
"#;

impl Server {
    fn new() -> Server {
        let directory = tempfile::tempdir().unwrap();
        Server {
            directory,
            path: std::env::var("PATH").unwrap(),
        }
    }

    fn with_stand_in() -> Server {
        let mut server = Server::new();
        let ssh = server.file("bin/ssh");
        fs::create_dir(ssh.parent().unwrap()).unwrap();
        fs::write(&ssh, STAND_IN).unwrap();
        fs::set_permissions(&ssh, PermissionsExt::from_mode(0o755)).unwrap();
        server.path = format!("{}:{}", server.file("bin").display(), server.path);
        server
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = heeding_signals(BINARY);
        command
            .args(["ask", "--config"])
            .arg(self.directory.path())
            .args(arguments)
            .env("PATH", &self.path)
            .stdin(Stdio::null());
        command
    }

    fn ask(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// The ssh that are still there.
    fn left(&self) -> Vec<String> {
        let groups = fs::read_to_string(self.file("bin/ssh.groups")).unwrap();
        let is_alive = |pid: &&str| kill(Pid::from_raw(pid.parse().unwrap()), None).is_ok();
        groups.lines().filter(is_alive).map(str::to_owned).collect()
    }
}

/// The answers, by host.
fn answers(ended: &Ended) -> Vec<Value> {
    let mut answers: Vec<_> = ended
        .lines()
        .into_iter()
        .filter(|line| line["event"] == "answer")
        .collect();
    answers.sort_by_key(|line| line["host"].to_string());
    answers
}

fn states(ended: &Ended) -> Vec<String> {
    answers(ended)
        .iter()
        .map(|line| {
            format!(
                "{} {}",
                line["host"].as_str().unwrap(),
                line["state"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn ask_by_the_real_ssh() {
    let server = Server::new();
    for key in ["host_key", "other_key", "user_key"] {
        let status = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(server.file(key))
            .status();
        assert!(status.unwrap().success());
    }
    let public = |key: &str| {
        let text = fs::read_to_string(server.file(&format!("{key}.pub"))).unwrap();
        text.split(' ').take(2).collect::<Vec<_>>().join(" ")
    };
    let (host, other) = (public("host_key"), public("other_key"));
    fs::write(
        server.file("known_hosts"),
        format!("good {host}\ndenied {host}\nreinstalled {other}\n"),
    )
    .unwrap();
    fs::write(server.file("authorized_keys"), public("user_key")).unwrap();
    let _ = fs::create_dir("/run/sshd"); // where root's sshd wants it, as Debian's unit makes it
    let at = server.directory.path().display();
    fs::write(
        server.file("sshd_config"),
        format!(
            "HostKey {at}/host_key\nAuthorizedKeysFile {at}/authorized_keys\nStrictModes no\nUsePAM no\n"
        ),
    )
    .unwrap();
    fs::write(
        server.file("ssh_config"),
        format!(
            "Host off\nHostName 127.0.0.1\nPort 1\n\
             Host denied\nIdentityFile {at}/other_key\nHost good unknown reinstalled\nIdentityFile {at}/user_key\n\
             Host good denied unknown reinstalled\nProxyCommand /usr/sbin/sshd -i -f {at}/sshd_config\n\
             Host *\nLogLevel QUIET\nIdentitiesOnly yes\nUserKnownHostsFile {at}/known_hosts\nGlobalKnownHostsFile /dev/null\n"
        ),
    )
    .unwrap();
    fs::write(server.file("words"), "\"of the file\"").unwrap();
    let words = server.file("words").display().to_string();
    let hosts = ["good", "denied", "unknown", "reinstalled", "off"];
    let command = ["--", "printf '{\"sent\":%s}'", "\"$(cat)\""];
    let send = ["--send", &words];
    let ended = server.ask(&[&send[..], &hosts, &command].concat());
    assert_eq!(ended.status, 1, "{ended:?}");
    assert_eq!(
        states(&ended),
        [
            "denied no_login",
            "good done",
            "off unreachable",
            "reinstalled no_login",
            "unknown no_login"
        ]
    );
    let all = answers(&ended);
    assert_eq!(
        (&all[1]["answer"], &all[1]["status"]),
        (&json!({"sent": "of the file"}), &json!(0))
    );
    let said = all[3]["said"].as_str().unwrap();
    assert!(
        said.starts_with("Host key for reinstalled has changed"),
        "{said}"
    );
    let failed = server.ask(&["good", "--", "echo no room >&2; exit 73"]);
    assert_eq!(
        answers(&failed),
        [
            json!({"event": "answer", "host": "good", "state": "failed", "status": 73, "said": "no room"})
        ]
    );
    let hung = server.ask(&["--quiet-seconds", "3", "good", "--", "sleep infinity"]);
    assert_eq!(
        answers(&hung)[0]["said"],
        "sleep infinity: nothing was heard for 3 seconds"
    );
}

#[test]
fn a_machine_has_its_bounds_and_delays_no_other() {
    let server = Server::with_stand_in();
    fs::write(server.file("one"), "1").unwrap();
    fs::write(server.file("two"), "2").unwrap();
    let paths = ["one", "two"].map(|name| server.file(name).display().to_string());
    let ended = server.ask(&[
        "--send",
        &paths[0],
        "--send",
        &paths[1],
        "--most-seconds",
        "8",
        "--quiet-seconds",
        "5",
        "--expect",
        "{}",
        "silent",
        "chatty",
        "flood",
        "swears",
        "half",
        "nothing",
        "answers",
        "background",
        "full",
        "--",
        "work",
        "hard",
    ]);
    assert_eq!(
        states(&ended),
        [
            "answers done",
            "background done",
            "chatty hung",
            "flood hung",
            "full failed",
            "half failed",
            "nothing failed",
            "silent hung",
            "swears hung"
        ]
    );
    let all = answers(&ended);
    assert_eq!(all[0]["answer"], json!({"host": "answers", "sent": "12"}));
    for (which, said) in [
        (2, "work hard: not at its end after 8 seconds"),
        (3, "work hard: it printed more than 1 MiB"),
        (4, "PATH=$PATH:/usr/lib/labtools; work hard"),
        (5, "work hard: its answer is not the expected one"),
        (7, "work hard: nothing was heard for 5 seconds"),
        (8, "work hard: it printed more than 16 MiB of errors"),
    ] {
        assert_eq!(all[which]["said"], said);
    }
    let first = ended.lines()[0]["host"].as_str().unwrap().to_owned();
    assert!(!["silent", "chatty"].contains(&first.as_str()), "{first}");
    assert_eq!(server.left(), [""; 0], "no ssh is left");
    let background = fs::read_to_string(server.file("bin/ssh.background")).unwrap();
    let background = Pid::from_raw(background.trim().parse().unwrap());
    kill(background, Signal::SIGKILL).expect("what an ssh left in the background lives on");
}

#[test]
fn a_result_is_waited_for_and_every_answer_saved() {
    let server = Server::with_stand_in();
    fs::create_dir(server.file("hosts")).unwrap();
    let hosts = server.file("hosts").display().to_string();
    let ended = server.ask(&[
        "--save",
        &hosts,
        "--wait",
        "settled",
        "--wait-seconds",
        "2",
        "--again",
        "reboots",
        "loses",
        "full",
        "--",
        "begin",
    ]);
    assert_eq!(ended.status, 1, "{ended:?}");
    let all = answers(&ended);
    assert_eq!(
        all[2],
        json!({"event": "answer", "host": "reboots", "state": "done", "status": 0,
               "begun": {"state": "rebooting"}, "answer": {"booted": "b"}})
    );
    assert_eq!(
        (&all[1]["state"], &all[1]["said"]),
        (
            &json!("lost"),
            &json!("after 2 s: Timeout, server loses not responding.")
        )
    );
    let begun: Vec<_> = ended
        .lines()
        .into_iter()
        .filter(|line| line["event"] == "begun")
        .collect();
    assert_eq!(begun.len(), 2, "{begun:?}");
    for answer in &all {
        let name = format!("hosts/{}.json", answer["host"].as_str().unwrap());
        let saved = fs::read_to_string(server.file(&name)).unwrap();
        assert_eq!(&serde_json::from_str::<Value>(&saved).unwrap(), answer);
    }
    // as on a full disk
    fs::create_dir(server.file("hosts/.answers.json.tmp")).unwrap();
    let ended = server.ask(&["--save", &hosts, "answers", "--", "x"]);
    assert_eq!(
        (ended.status, states(&ended)),
        (1, vec!["answers done".into()])
    );
    assert!(ended.stderr.contains("answers.json"), "{ended:?}");
}

#[test]
fn machines_take_turns() {
    let server = Server::with_stand_in();
    let ended = server.ask(&[
        "--at-once",
        "1",
        "--most-seconds",
        "1",
        "silent",
        "answers-1",
        "answers-2",
        "--",
        "x",
    ]);
    let order: Vec<_> = ended
        .lines()
        .iter()
        .map(|line| line["host"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(order, ["silent", "answers-1", "answers-2"]);
}

#[test]
fn more_machines_than_usual_run_together_if_asked_for() {
    let server = Server::with_stand_in();
    let hosts: Vec<_> = (0..65).map(|n| format!("together-{n}")).collect();
    let mut arguments = vec!["--at-once", "65"];
    arguments.extend(hosts.iter().map(String::as_str));
    let ended = server.ask(&[&arguments[..], &["--", "x"]].concat());
    assert_eq!(ended.status, 0, "{ended:?}");
}

#[test]
fn a_signal_ends_every_ssh_first() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Server::with_stand_in();
        let mut child = server
            .command(&["full", "silent", "chatty", "--", "x"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains("full"), "{line}");
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let ended = Ended::of(child.wait_with_output().unwrap());
        assert_eq!(ended.signal, Some(signal as i32), "{ended:?}");
        assert_eq!(server.left(), [""; 0], "no ssh is left");
    }
}

#[test]
fn a_signal_ends_the_sending_of_a_fifo() {
    let server = Server::with_stand_in();
    let (fifo, has_read) = (server.file("fifo"), server.file("bin/ssh.read"));
    for path in [&fifo, &has_read] {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let path = fifo.display().to_string();
    let mut child = server
        .command(&["--send", &path, "reads", "--", "x"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It stays open, and no more is written: its reader hangs.
    let mut writer = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    writer.write_all(b"1").unwrap();
    assert_eq!(fs::read_to_string(&has_read).unwrap(), "1");
    kill(
        Pid::from_raw(child.id().try_into().unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(server.left(), [""; 0], "no ssh is left");
    assert!(!is_open(&fifo), "the process that sent it is gone");
}

#[test]
fn a_reader_that_left_ends_it() {
    let server = Server::with_stand_in();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = server
        .command(&["full", "silent", "--", "x"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(74), 0));
    assert_eq!(server.left(), [""; 0], "no ssh is left");
}

#[test]
fn a_reader_that_left_after_the_first_line_ends_it() {
    let server = Server::with_stand_in();
    let mut child = server
        .command(&["--wait", "settled", "first", "second", "--", "begin"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert!(line.contains("\"begun\",\"host\":\"first\""), "{line}");
    drop(stdout);
    fs::write(server.file("bin/ssh.go"), "").unwrap(); // now the second begins
    let ended = child.wait().unwrap();
    assert_eq!(ended.code(), Some(74));
    assert_eq!(server.left(), [""; 0], "no ssh is left");
}

#[test]
fn a_file_that_is_not_all_sent_is_a_failure() {
    let server = Server::with_stand_in();
    // Its first byte is not readable, although it can be opened.
    let ended = server.ask(&["--send", "/proc/self/mem", "answers", "swallows", "--", "x"]);
    assert_eq!(states(&ended), ["answers failed", "swallows failed"]);
    let said = answers(&ended)[0]["said"].as_str().unwrap().to_owned();
    assert!(said.starts_with("sending: cat: /proc/self/mem: "), "{said}");
    assert_eq!(ended.stderr, "");
}

#[test]
fn what_cannot_be_asked_is_refused_before_anybody_is() {
    let server = Server::with_stand_in();
    for (arguments, status, complaint) in [
        (&["a", "b", "a", "--", "x"][..], 2, "a: named twice"),
        (&["../a", "--", "x"], 2, "../a: not the name of a machine"),
        (
            &["--expect", "7", "a", "--", "x"],
            2,
            "--expect: not an object of JSON",
        ),
        (&["--send", "/nowhere", "a", "--", "x"], 66, "/nowhere: "),
        (&["--send", "/", "a", "--", "x"], 66, "/: a directory"),
        (
            &["--send", "/dev/null", "a", "b", "--", "x"],
            2,
            "/dev/null: not a regular file; only one machine can read it",
        ),
        (&["--save", "/nowhere", "a", "--", "x"], 66, "/nowhere: "),
        (
            &["--save", "/dev/null", "a", "--", "x"],
            66,
            "/dev/null: not a directory",
        ),
    ] {
        server.ask(arguments).refused(status, complaint);
    }
    assert!(!server.file("bin/ssh.groups").exists());
    let mut nowhere = Server::new();
    nowhere.path = server.file("nowhere").display().to_string();
    nowhere
        .ask(&["a", "--", "x"])
        .refused(69, "there is no ssh");
}

/// Whether a process has it open: opening a FIFO to write fails without a reader.
fn is_open(fifo: &Path) -> bool {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new()
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(fifo)
        .is_ok()
}
