//! `abflip settle`: whether the slot that runs stays, from what the disk and the records say.

use std::fs;

use serde_json::Value;

use crate::machine::extlinux::empty;
use jsonpipe::testkit::{Ended, hold};

use crate::machine::Machine;

/// A machine that runs slot a, whose extlinux knows how to start either; both slots are written.
fn tryable() -> Machine {
    let machine = Machine::new();
    machine.configure_extlinux();
    machine
}

/// The same, in which slot b is tried, and runs.
fn on_trial() -> Machine {
    let machine = tryable();
    machine.slots(&["try"]);
    machine.set_boot_once(&[empty(), empty()]);
    machine.run_from(2);
    machine
}

/// The verdict and the status of a run.
fn settle(machine: &Machine, options: &[&str]) -> (String, i32) {
    let ended = machine.run(&[&["settle"], options].concat());
    let document: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    assert_eq!(document["settlement"]["schema"], 1);
    (
        document["settlement"]["verdict"]
            .as_str()
            .unwrap()
            .to_owned(),
        ended.status,
    )
}

fn verdict(word: &str, status: i32) -> (String, i32) {
    (word.to_owned(), status)
}

fn refused(machine: &Machine, status: i32, words: &str) {
    let ended: Ended = machine.run(&["settle"]);
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (status, ""),
        "{ended:?}"
    );
    assert!(ended.stderr.contains(words), "{ended:?}");
}

#[test]
fn settle_leaves_alone_what_boots_next() {
    let machine = tryable();
    let before = machine.bytes();
    for options in [&[][..], &["--healthy"], &["--sick"]] {
        assert_eq!(settle(&machine, options), verdict("stay", 0), "{options:?}");
    }
    // The next boot is a trial: that is none yet.
    machine.slots(&["try"]);
    let armed = machine.bytes();
    assert_eq!(settle(&machine, &["--sick"]), verdict("stay", 0));
    assert!(machine.bytes() == armed && armed != before);
}

#[test]
fn settle_commits_a_trial_that_is_healthy() {
    let machine = on_trial();
    let before = machine.bytes();
    assert_eq!(settle(&machine, &[]), verdict("check", 1));
    assert_eq!(
        settle(&machine, &["--dry-run", "--healthy"]),
        verdict("stay", 0)
    );
    assert!(machine.bytes() == before);
    assert_eq!(settle(&machine, &["--healthy"]), verdict("stay", 0));
    assert_eq!(machine.slots(&["status"])["next"], "b");
    assert_eq!(settle(&machine, &[]), verdict("stay", 0));
}

#[test]
fn settle_gives_back_a_trial_that_is_sick() {
    let machine = on_trial();
    assert_eq!(
        settle(&machine, &["--dry-run", "--sick"]),
        verdict("back", 1)
    );
    assert_eq!(settle(&machine, &[]), verdict("check", 1));
    assert_eq!(settle(&machine, &["--sick"]), verdict("back", 1));
    // It runs still, and is not what boots next.
    assert_eq!(settle(&machine, &["--healthy"]), verdict("back", 1));
    machine.run_from(1);
    assert_eq!(settle(&machine, &[]), verdict("stay", 0));
    assert_eq!(machine.slots(&["status"])["b"]["rejected"], true);
}

#[test]
fn settle_remembers_a_trial_that_failed_by_itself() {
    let machine = on_trial();
    machine.run_from(1);
    assert_eq!(machine.slots(&["status"])["trial_state"], "failed");
    assert_eq!(settle(&machine, &[]), verdict("stay", 0));
    let slots = machine.slots(&["status"]);
    assert_eq!(
        (&slots["trial_state"], &slots["b"]["rejected"]),
        (&Value::Null, &true.into())
    );
}

#[test]
fn settle_gives_back_a_trial_that_cannot_commit() {
    let machine = on_trial();
    // It was written to since.
    let records = machine.root().join("var/lib/labtools/slots.json");
    let text = fs::read_to_string(&records).unwrap();
    let (written, rest) = text.split_once("\"trial\"").unwrap();
    fs::write(
        &records,
        format!(
            "{}\"trial\"{rest}",
            written.replace("\"sha256\":\"00\"", "\"sha256\":\"08\"")
        ),
    )
    .unwrap();
    assert_eq!(settle(&machine, &["--healthy"]), verdict("back", 1));
    assert_eq!(machine.slots(&["status"])["next"], "a");
}

#[test]
fn settle_waits_for_nobody() {
    let machine = on_trial();
    let held = hold(&machine.root().join("run/labtools/abflip.lock"));
    let ended = machine.run(&["settle", "--healthy"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (75, ""), "{ended:?}");
    // Not by the rollback either: it is the next boot that matters.
    assert_eq!(settle(&machine, &["--sick"]), verdict("back", 1));
    drop(held);
    assert_eq!(settle(&machine, &["--healthy"]), verdict("stay", 0));
}

#[test]
fn settle_goes_back_where_no_record_says_why_another_slot_boots_next() {
    let machine = tryable();
    machine.run_from(2);
    assert_eq!(settle(&machine, &[]), verdict("back", 1));
    // Armed, which a loader was to disarm.
    let machine = tryable();
    machine.slots(&["try"]);
    machine.run_from(2);
    assert_eq!(
        settle(&machine, &[]),
        verdict("check", 1),
        "its record is there"
    );
}

#[test]
fn settle_does_not_reboot_into_what_may_be_nothing() {
    let machine = on_trial();
    machine.poke(512 + 92, &[0]); // both tables stay as they are but for this header, whose checksum is wrong then
    assert_eq!(
        settle(&machine, &[]),
        verdict("check", 1),
        "the backup says it"
    );
    let machine = tryable();
    for (lba, entries) in [(1, 2 * 512), (machine.last(), machine.last() * 512 - 16384)] {
        machine.poke(entries + 48, &[0]);
        machine.seal(lba);
    }
    refused(
        &machine,
        78,
        "which slot boots next is not known, and it may be none; run abflip repair",
    );
}

#[test]
fn settle_is_unsure_only_with_a_trial_on_record() {
    // How it stands is not known: the configuration is gone, or the root is on no disk.
    let break_it = [
        |machine: &Machine| {
            fs::remove_file(machine.root().join("etc/labtools/abflip.ini")).unwrap()
        },
        |machine: &Machine| fs::write(machine.root().join("proc/self/mountinfo"), "").unwrap(),
    ];
    for (break_it, status) in break_it.into_iter().zip([66, 78]) {
        let machine = tryable();
        break_it(&machine);
        let ended = machine.run(&["settle"]);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (status, ""),
            "{ended:?}"
        );
        let machine = on_trial();
        break_it(&machine);
        assert_eq!(settle(&machine, &[]), verdict("unsure", 1), "{status}");
    }
    // A record that cannot be read may be one.
    let machine = tryable();
    fs::write(machine.root().join("var/lib/labtools/slots.json"), "{").unwrap();
    assert_eq!(settle(&machine, &[]), verdict("unsure", 1));
    let machine = tryable();
    fs::remove_file(machine.root().join("var/lib/labtools/slots.json")).unwrap();
    assert_eq!(settle(&machine, &[]), verdict("stay", 0));
}
