//! A login of a user whose volume is on a retired generation: the old one goes, once the new one is
//! there.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use jsonpipe::testkit::feed;
use nix::libc::{
    SYS_fallocate, SYS_fcntl, SYS_fsync, SYS_ftruncate, SYS_rename, SYS_unlink, SYS_utimensat,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::evict::{events, overlay, used_volume};
use crate::machine::{
    ALICE, BOB, Machine, faults, make_base, qemu_io, request, tree, volume, write_bases_ini,
};
use crate::prune::{end, open_in_qemu};

fn new_overlay(machine: &Machine, user: &str) -> PathBuf {
    machine.home(user).join("windows@8.qcow2")
}

/// Makes windows@8 the current generation, whose volume needs 50 MiB.
fn switch_over(machine: &Machine) {
    make_base(machine.root(), "windows", 8, &["48M"]);
    let text = machine.bases_ini();
    write_bases_ini(
        machine.root(),
        &text.replace("generation = 7", "generation = 8"),
    );
}

/// alice and bob have volumes on windows@7 and alice one on linux@3; their sessions have ended, and
/// windows@8 is current.
fn after_a_switch_over() -> Machine {
    let machine = Machine::new();
    machine.volume(ALICE, Some("linux"));
    for user in [ALICE, BOB] {
        used_volume(&machine, user, 1, 2);
    }
    switch_over(&machine);
    machine
}

#[test]
fn replace_removes_the_old_volume_of_the_user_alone() {
    let machine = after_a_switch_over();
    let before = machine.left();
    let mut dry = machine.command(&["clone", "--dry-run"]);
    let would = volume(&feed(&mut dry, &request(ALICE, None)));
    assert_eq!((machine.left(), events(&machine)), (before, vec![]));

    let new = machine.volume(ALICE, None);
    assert_eq!(new["replaced"], would["replaced"]);
    let [old] = new["replaced"].as_array().unwrap().as_slice() else {
        panic!("{new}")
    };
    assert_eq!(
        (
            &old["what"],
            &old["token"],
            &old["base"],
            &old["generation"]
        ),
        (
            &json!("volume"),
            &new["token"],
            &json!("windows"),
            &json!(7)
        )
    );
    assert!(old["freed_bytes"].as_u64() > Some(2 << 20), "{old}");
    assert_eq!(
        [&new["generation"], &new["evicted"], &new["created"]],
        [&json!(8), &json!([]), &json!(true)]
    );
    assert!(new["held_bytes"].as_u64() >= new["room_bytes"].as_u64());
    assert_eq!(
        tree(&machine.home(ALICE)),
        ["linux@3.qcow2", "windows@8.qcow2"]
    );
    assert!(overlay(&machine, BOB).exists());
    assert_eq!(faults(&new_overlay(&machine, ALICE)), None);
    let [event] = &events(&machine)[..] else {
        panic!("one event")
    };
    assert_eq!(
        [&event["event"], &event["for"], &event["generation"]],
        [&json!("replace"), &new["token"], &json!(7)]
    );

    let again = machine.volume(ALICE, None);
    assert_eq!(
        [&again["replaced"], &again["changed"]],
        [&json!([]), &json!(false)]
    );
}

#[test]
fn replace_needs_the_old_volume_to_be_unused() {
    let machine = after_a_switch_over();
    let before = machine.left();
    let refused = |reason: &str| {
        let (status, error) = machine.refusal(ALICE, None);
        assert_eq!(status, 75, "{error}");
        assert!(
            error.contains("windows@7.qcow2: ") && error.contains(reason),
            "{error}"
        );
        assert_eq!((machine.left(), events(&machine)), (before.clone(), vec![]));
    };
    let qemu = open_in_qemu(&[], &overlay(&machine, ALICE));
    refused("a program has it open; end that session first; nothing was changed");
    end(qemu);

    let promised = machine.root().join("run/labtools/promised");
    let id = format!("{}.windows@7", cowvol::Token::of(ALICE).as_str());
    fs::create_dir_all(&promised).unwrap();
    fs::write(promised.join(id), "").unwrap();
    refused("its session has not ended; end it, or if it was killed, run cowvol release");
    assert_eq!(machine.run(&["release"]).status, 0);
    assert_eq!(machine.volume(ALICE, None)["created"], true);
}

#[test]
fn replace_counts_the_room_of_the_old_volume() {
    let machine = Machine::on_a_disk("ext4", 160);
    machine.leave_room(110);
    used_volume(&machine, ALICE, 1, 30);
    used_volume(&machine, BOB, 9, 30);
    switch_over(&machine); // 50 MiB are free
    machine.take_room(20);
    let new = machine.volume(ALICE, None);
    assert_eq!(
        (&new["evicted"], &new["replaced"][0]["generation"]),
        (&json!([]), &json!(7))
    );
    let _filler = machine.fill_the_disk();
    qemu_io(
        &new_overlay(&machine, ALICE),
        &["write -q -P 0x11 0 48M", "flush", "read -q -P 0x11 0 48M"],
    );
    qemu_io(&overlay(&machine, BOB), &["read -q -P 0x77 0 30M"]);
}

#[test]
fn replace_that_cannot_have_room_removes_nothing() {
    let machine = Machine::on_a_disk("ext4", 160);
    machine.leave_room(110);
    used_volume(&machine, ALICE, 1, 30);
    switch_over(&machine);
    machine.take_room(75);
    let before = tree(&machine.users());
    let (status, error) = machine.refusal(ALICE, None);
    assert_eq!((status, tree(&machine.users())), (73, before), "{error}");
    qemu_io(&overlay(&machine, ALICE), &["read -q -P 0x77 0 30M"]);
}

#[test]
fn replace_killed_at_any_change_leaves_a_complete_volume() {
    let machine = after_a_switch_over();
    let changes = [
        SYS_fallocate,
        SYS_fcntl,
        SYS_fsync,
        SYS_ftruncate,
        SYS_rename,
        SYS_unlink,
        SYS_utimensat,
    ];
    let mut states = BTreeSet::new();
    for nth in 0.. {
        let mut clone = machine.stepped(&["clone"], &request(ALICE, None));
        let mut left = nth;
        let killed = loop {
            if changes.contains(&clone.next_call().number) {
                if left == 0 {
                    clone.end_by(Signal::SIGKILL);
                    break true;
                }
                left -= 1;
            }
            if !clone.steps(1) {
                break false;
            }
        };
        let (old, new) = (overlay(&machine, ALICE), new_overlay(&machine, ALICE));
        let there = [old.exists(), new.exists()];
        states.insert(there);
        assert!(there[0] || there[1], "{nth}: the user has no volume");
        for file in [&old, &new].into_iter().filter(|file| file.exists()) {
            assert_eq!(faults(file), None, "{nth}");
        }
        // What the next login finds, after a power cut or a kill.
        assert_eq!(machine.run(&["release"]).status, 0);
        let next = machine.volume(ALICE, None);
        assert_eq!(next["reserved"], true, "{nth}");
        assert!(
            next["held_bytes"].as_u64() >= next["room_bytes"].as_u64(),
            "{nth}: {next}"
        );
        assert_eq!(
            tree(&machine.home(ALICE)),
            ["linux@3.qcow2", "windows@8.qcow2"],
            "{nth}"
        );
        if !killed {
            break;
        }
        assert_eq!(machine.run(&["release"]).status, 0);
        fs::remove_file(&new).unwrap();
        write_bases_ini(
            machine.root(),
            &machine
                .bases_ini()
                .replace("generation = 8", "generation = 7"),
        );
        used_volume(&machine, ALICE, 1, 2);
        write_bases_ini(
            machine.root(),
            &machine
                .bases_ini()
                .replace("generation = 7", "generation = 8"),
        );
    }
    assert_eq!(
        states,
        BTreeSet::from([[true, false], [true, true], [false, true]])
    );
    let replaced = |event: &Value| event["event"] == "replace";
    assert!(events(&machine).iter().any(replaced));
}
