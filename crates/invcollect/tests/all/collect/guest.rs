//! The guest that runs, and those that failed.

use std::fs;

use serde_json::{Value, json};

use crate::machine::Machine;

#[test]
fn the_guest_that_runs_is_told_and_never_whose_it_is() {
    use std::os::unix::fs::MetadataExt;
    let machine = Machine::optiplex();
    machine.write("run/labtools/guest.lock", "");
    machine.write("proc/locks", "");
    assert_eq!(machine.host()["guest"], Value::Null);
    let lock = fs::metadata(machine.path("run/labtools/guest.lock")).unwrap();
    let device = lock.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    machine.write(
        "proc/locks",
        format!(
            "1: FLOCK  ADVISORY  WRITE 500 {major:02x}:{minor:02x}:{} 0 EOF\n",
            lock.ino()
        ),
    );
    machine.write("proc/500/task/500/children", "501 ");
    machine.link(
        "proc/501/fd/4",
        "/qcow2/user/TOKEN-OF-ALICE/windows@7.qcow2",
    );
    machine.link("proc/501/fd/5", "/qcow2/backing/windows/7.qcow2");
    machine.write(
        "proc/501/stat",
        "501 (qemu) x) S 500 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 4 0 60000 1 1\n",
    );
    machine.write("proc/stat", "cpu 1\nbtime 1795420800\n");
    let host = machine.host();
    assert_eq!(
        host["guest"],
        json!({"base": "windows", "generation": 7, "started_at": "2026-11-23T08:10:00Z"})
    );
    assert!(!host.to_string().contains("ALICE"));
}

#[test]
fn failures_of_guests_are_told_by_their_cause() {
    let machine = Machine::optiplex();
    machine.write("proc/vmstat", "oom_kill 1\n");
    machine.write("dev/kmsg", "3,900,3540000000,-;Out of memory: Killed process 501 (qemu-system-x86) total-vm:6291456kB\n");
    machine.write(
        "var/log/labtools/events.jsonl",
        r#"{"at":"2026-11-23T07:00:00Z","event":"stage","tool":"vm-passthrough","status":1,"report":{"ended":"died","ended_reason":"QEMU ended: qemu_thread_create: Resource temporarily unavailable"}}
{"at":"2026-11-23T06:00:00Z","event":"stage","tool":"cowvol","status":1}
{"torn"#,
    );
    let failures = machine.host()["guest_failures"].clone();
    let causes: Vec<&Value> = failures
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| &failure["cause"])
        .collect();
    assert_eq!(causes, ["memory", "threads"]);
    assert_eq!(failures[1]["at"], "2026-11-23T07:00:00Z");
}
