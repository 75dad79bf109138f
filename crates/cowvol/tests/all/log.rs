//! `--log`: the line in the event log, however a run ends.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::machine::{CLONE, Machine};

fn log(machine: &Machine) -> PathBuf {
    machine.root().join("var/log/labtools/events.jsonl")
}

fn lines(machine: &Machine) -> Vec<Value> {
    let text = fs::read_to_string(log(machine)).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn cowvol(machine: &Machine, arguments: &[&str]) -> Command {
    let mut command = Command::new(CLONE.binary);
    command
        .args(arguments)
        .arg("--log")
        .arg("--root")
        .arg(machine.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// A clone that waits for its document, and the process that does its work.
fn waiting_clone(machine: &Machine) -> (Child, ChildStdin, Pid) {
    let mut parent = cowvol(machine, &["clone"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (input, child) = (parent.stdin.take().unwrap(), child_at_work(parent.id()));
    (parent, input, child)
}

/// The child of a process, once it is blocked in a read of standard input: past everything that
/// comes before the work.
fn child_at_work(parent: u32) -> Pid {
    loop {
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        if let Some(child) = children.split_whitespace().next() {
            let call = fs::read_to_string(format!("/proc/{child}/syscall")).unwrap();
            let file =
                |descriptor: &str| fs::read_link(format!("/proc/{child}/fd/{descriptor}")).ok(); // it may be closed again
            let read = call
                .strip_prefix("0 0x")
                .and_then(|rest| rest.split(' ').next());
            if read
                .and_then(file)
                .is_some_and(|input| file("0") == Some(input))
            {
                return Pid::from_raw(child.parse().unwrap());
            }
        }
        std::thread::yield_now();
    }
}

#[test]
fn log_has_a_line_for_every_run_and_none_for_a_dry_run() {
    let machine = Machine::new();
    assert_eq!(
        cowvol(&machine, &["list"]).status().unwrap().code(),
        Some(0)
    );
    let [line] = &lines(&machine)[..] else {
        panic!("one line")
    };
    assert_eq!(
        (&line["tool"], &line["command"], &line["status"]),
        (&"cowvol".into(), &"list".into(), &0.into())
    );
    assert!(
        line.get("report").is_none() && line.get("error").is_none(),
        "{line}"
    );
    let mut dry = cowvol(&machine, &["clone", "--dry-run"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    dry.stdin
        .take()
        .unwrap()
        .write_all(CLONE.document.as_bytes())
        .unwrap();
    assert_eq!(dry.wait().unwrap().code(), Some(0));
    assert_eq!(lines(&machine).len(), 1);
}

#[test]
fn log_has_a_line_where_the_caller_ignores_the_ends_of_its_children() {
    let machine = Machine::new();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "trap '' CHLD; exec \"$@\"",
            "sh",
            CLONE.binary,
            "list",
            "--log",
            "--root",
        ])
        .arg(machine.root());
    let ended = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(
        (ended.status.code(), lines(&machine).len()),
        (Some(0), 1),
        "{ended:?}"
    );
}

#[test]
fn log_has_a_line_for_a_run_that_is_killed() {
    let machine = Machine::new();
    let (mut parent, _input, child) = waiting_clone(&machine);
    kill(child, Signal::SIGKILL).unwrap();
    assert_eq!(parent.wait().unwrap().code(), Some(137));
    assert_eq!(lines(&machine)[0]["status"], 137);
}

#[test]
fn log_has_a_line_for_a_run_that_a_signal_ends() {
    use std::os::unix::process::ExitStatusExt;
    let machine = Machine::new();
    let (mut parent, _input, _child) = waiting_clone(&machine);
    // Of the parent alone: it passes it on, and ends by it when its child has.
    kill(
        Pid::from_raw(i32::try_from(parent.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(parent.wait().unwrap().signal(), Some(15));
    assert_eq!(lines(&machine)[0]["status"], 143);
}

#[test]
fn log_is_written_before_the_next_stage_begins() {
    let machine = Machine::new();
    let (mut parent, mut input, _child) = waiting_clone(&machine);
    input.write_all(CLONE.document.as_bytes()).unwrap();
    drop(input);
    let mut document = String::new();
    parent
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut document)
        .unwrap(); // to its end
    let [line] = &lines(&machine)[..] else {
        panic!("one line")
    };
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(line["report"], document["volume"]);
    assert_eq!(parent.wait().unwrap().code(), Some(0));
}

#[test]
fn log_clock_begins_when_the_document_has_come_in() {
    let machine = Machine::new();
    let (mut parent, mut input, _child) = waiting_clone(&machine);
    let since = std::time::Instant::now();
    while since.elapsed().as_millis() < 100 {
        std::thread::yield_now(); // the stage before is at work
    }
    let handed_over = std::time::Instant::now();
    input.write_all(CLONE.document.as_bytes()).unwrap();
    drop(input);
    let mut errors = String::new();
    parent
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    let longest = handed_over.elapsed().as_secs_f64();
    assert!(
        lines(&machine)[0]["seconds"].as_f64().unwrap() <= longest + 0.001,
        "{errors}"
    );
}

#[test]
fn log_that_cannot_be_written_is_73_when_all_else_went_well() {
    let machine = Machine::new();
    fs::create_dir_all(log(&machine)).unwrap();
    let ended = cowvol(&machine, &["list"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(73));
    let document: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert!(document["catalog"].is_object());
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(
        said.starts_with("cowvol: opening ") && said.contains("events.jsonl: Is a directory"),
        "{said}"
    );
    fs::remove_file(machine.root().join("qcow2/backing/bases.ini")).unwrap();
    assert_eq!(
        cowvol(&machine, &["list"]).output().unwrap().status.code(),
        Some(66),
        "its own status before that of the line"
    );
}

#[test]
fn log_of_a_document_that_nobody_took_has_no_report() {
    let machine = Machine::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ended = cowvol(&machine, &["list"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(74));
    let line = &lines(&machine)[0];
    assert_eq!(line["status"], 74);
    assert!(
        line.get("report").is_none()
            && line["error"]
                .as_str()
                .unwrap()
                .contains("No space left on device"),
        "{line}"
    );
}
