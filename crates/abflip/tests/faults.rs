//! Every fault of the disk and of the records, at every call, in every run that changes something: what the status says is so.

mod machine;

use std::fs;

use machine::Machine;
use machine::extlinux::empty;
use serde_json::Value;

fn records(machine: &Machine) -> String {
    fs::read_to_string(machine.root().join("var/lib/labtools/slots.json")).unwrap()
}

/// A machine that runs slot a, with a trial of slot b that is armed.
fn armed() -> Machine {
    let machine = Machine::new();
    machine.configure_extlinux();
    machine.slots(&["try"]);
    machine
}

/// The same, booted.
fn tried() -> Machine {
    let machine = armed();
    machine.set_boot_once(&[empty(), empty()]);
    machine.run_from(2);
    machine
}

fn fresh() -> Machine {
    let machine = Machine::new();
    machine.configure_extlinux();
    machine
}

/// Its backup table is torn.
fn torn() -> Machine {
    let machine = fresh();
    machine.poke(machine.last() * 512 + 16, b"torn");
    machine
}

/// From 65 on nothing was changed, 1 is not silent, and the same run afterwards ends with this slot booting next.
fn every_fault_is_told_right(prepare: fn() -> Machine, verb: &str, next: &str) {
    // A short write is one that wrote nothing, and says that it wrote half a sector.
    let faults = [
        ("pwritev2", "error=EIO"),
        ("pwritev2", "error=ENOSPC"),
        ("pwritev2", "retval=256"),
        ("fdatasync", "error=EIO"),
        ("fsync", "error=EIO"),
        ("rename", "error=ENOSPC"),
        ("write", "error=ENOSPC"),
    ];
    let machine = prepare();
    let (disk, recorded) = (machine.bytes(), records(&machine));
    let mut injected = 0;
    for (call, fault) in faults {
        for step in 1.. {
            machine.poke(0, &disk);
            fs::write(machine.root().join("var/lib/labtools/slots.json"), &recorded).unwrap();
            let ended = machine.traced(&[verb], &["-e", &format!("inject={call}:{fault}:when={step}")]);
            let what = format!("{verb}: {call} {fault} {step}: {ended:?}");
            let slots = machine.run(&["status"]).slots();
            assert_eq!((&slots["table"]["primary"], slots["next"].is_string()), (&true.into(), true), "{what}");
            match ended.status {
                0 => {
                    assert_eq!(slots["next"], next, "{what}");
                    break;
                }
                1 => assert!(!ended.stderr.is_empty() && ended.slots()["next"] == slots["next"], "{what}"),
                73 | 74 => {
                    // The document that cannot be delivered comes when all is done.
                    if call == "write" && slots["next"] == next && ended.stderr.contains("standard output") {
                        continue;
                    }
                    assert_eq!(ended.stdout, "", "{what}");
                    assert!(machine.bytes() == disk, "{what}");
                    let same = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                    assert_eq!(same(&records(&machine)), same(&recorded), "{what}");
                }
                _ => panic!("{what}"),
            }
            injected += 1;
            // And it can be done then.
            assert_eq!(machine.slots(&[verb])["next"], next, "{what}");
        }
    }
    assert!(injected > 2, "{verb}: {injected}");
}

#[test]
fn of_flip() {
    every_fault_is_told_right(fresh, "flip", "b");
}

#[test]
fn of_flip_that_heals() {
    every_fault_is_told_right(torn, "flip", "b");
}

#[test]
fn of_flip_that_ends_a_trial() {
    every_fault_is_told_right(armed, "flip", "b");
}

#[test]
fn of_try() {
    every_fault_is_told_right(fresh, "try", "a");
}

#[test]
fn of_commit() {
    every_fault_is_told_right(tried, "commit", "b");
}

#[test]
fn of_rollback() {
    every_fault_is_told_right(armed, "rollback", "a");
    every_fault_is_told_right(tried, "rollback", "a");
}

#[test]
fn of_repair() {
    every_fault_is_told_right(torn, "repair", "a");
}
