//! The event log and the baseline, on the disk.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{BASELINE, LOG, known, told};
use crate::machine::{self, Machine};

#[test]
fn two_runs_at_once_tell_once() {
    let machine = known();
    machine.intrusion(true);
    let mut runs: Vec<_> = (0..4)
        .map(|_| {
            machine
                .command(&["changes"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let printed: Vec<u8> = runs
        .drain(..)
        .flat_map(|run| run.wait_with_output().unwrap().stdout)
        .collect();
    assert_eq!(String::from_utf8(printed).unwrap(), machine.read(LOG));
    assert_eq!(machine.read(LOG).lines().count(), 1);
}

/// Who reads what a run prints may take his time, or never read it: the next run does not wait for
/// that.
#[test]
fn changes_do_not_wait_for_readers() {
    let machine = Machine::optiplex();
    for number in 0..300 {
        machine.pci(
            &format!("0000:{number:02x}:00.1"),
            "0x10de",
            "0x128b",
            "0x030000",
            None,
        );
    }
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.remove("sys/bus/pci/devices");
    machine.pci("0000:00:02.0", "0x8086", "0x0152", "0x030000", Some("i915"));
    machine.pci(
        "0000:00:1b.0",
        "0x8086",
        "0x1e20",
        "0x040300",
        Some("vfio-pci"),
    );
    let mut first = machine
        .command(&["changes"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = first.stdout.take().unwrap();
    reader.read_exact(&mut [0]).unwrap(); // it prints more than a pipe holds
    let second = machine.run(&["changes"]);
    assert_eq!(
        (second.status, second.stdout.as_str()),
        (1, ""),
        "{}",
        second.stderr
    );
    std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(1));
}

#[test]
fn a_torn_line_in_the_log_spoils_no_event() {
    let machine = known();
    machine.write(LOG, "{\"at\":\"2026-11-23T07:00:00Z\",\"eve");
    machine.intrusion(true);
    assert_eq!(told(&machine), ["chassis_opened"]);
    let log = machine.read(LOG);
    assert_eq!(log.lines().count(), 2);
    assert!(serde_json::from_str::<Value>(log.lines().nth(1).unwrap()).is_ok());
}

/// No room for the log: the event waits for the next run, and is told by that one.
#[test]
fn a_full_disk_loses_no_event() {
    let machine = known();
    machine.intrusion(true);
    // The log may not grow: a write to it fails as on a full disk.
    machine.write(LOG, "x".repeat(4096 - 1) + "\n");
    let limited = format!(
        "ulimit -f 4; trap '' XFSZ; exec {} changes --root {}",
        machine::BINARY,
        machine.root().display()
    );
    let output = Command::new("bash")
        .args(["-c", &limited])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(73), "{output:?}");
    assert_eq!(
        machine.read(LOG).len(),
        4096,
        "what was half written is gone"
    );
    assert_eq!(told(&machine), ["chassis_opened"]);
}

/// That some other line speaks of an event is no reason to leave it out.
#[test]
fn an_event_is_in_the_log_when_a_line_has_its_id() {
    let machine = known();
    machine.intrusion(true);
    machine.write(LOG, "x".repeat(4096 - 1) + "\n");
    let limited = format!(
        "ulimit -f 4; trap '' XFSZ; exec {} changes --root {}",
        machine::BINARY,
        machine.root().display()
    );
    assert_eq!(
        Command::new("bash")
            .args(["-c", &limited])
            .output()
            .unwrap()
            .status
            .code(),
        Some(73)
    );
    let baseline: Value = serde_json::from_str(&machine.read(BASELINE)).unwrap();
    let id = baseline["unlogged"][0]["event"]["id"].as_str().unwrap();
    machine.write(
        LOG,
        format!("{{\"event\":\"stage\",\"error\":\"see\",\"about\":\"{id}\"}}\n"),
    );
    assert_eq!(told(&machine), ["chassis_opened"]);
    assert_eq!(machine.read(LOG).lines().count(), 2);
}

/// Its disk hangs: nothing is compared with nothing, and nothing is waited for.
#[test]
fn a_baseline_that_cannot_be_read_is_no_first_look() {
    let machine = known();
    machine.never_answers(BASELINE);
    for arguments in [&["changes"][..], &["accept"]] {
        let ended = machine.run(arguments);
        assert_eq!((ended.status, ended.stdout.as_str()), (75, ""));
        assert!(
            ended
                .stderr
                .contains("baseline.json: no answer within 2 seconds; look at its disk"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_baseline_that_is_not_right_is_said() {
    let machine = known();
    machine.write(BASELINE, "{");
    let ended = machine.run(&["changes"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (65, ""));
    assert!(
        ended.stderr.contains("baseline.json") && ended.stderr.contains("remove it"),
        "{}",
        ended.stderr
    );
    assert!(machine.reason("changes").unwrap().contains("baseline.json"));
    fs::remove_file(machine.path(BASELINE)).unwrap();
    assert_eq!(told(&machine), Vec::<String>::new());
}

#[test]
fn an_event_is_delivered_or_the_status_says_so() {
    let machine = known();
    machine.intrusion(true);
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = machine.command(&["changes"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(74));
    assert_eq!(machine.read(LOG).lines().count(), 1, "the log has it");
}
