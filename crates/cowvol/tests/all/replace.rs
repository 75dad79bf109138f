//! A login of a user whose volume is on a retired generation: the old one goes, once the new one is
//! there.

use std::fs;

use jsonpipe::testkit::feed;
use serde_json::json;

use crate::evict::{events, used_volume};
use crate::machine::{ALICE, BOB, Machine, request, volume};
use crate::prune::end;

/// alice and bob have volumes on windows@7 and alice one on linux@3; their sessions have ended, and
/// windows@8 is current, whose volume needs 50 MiB.
fn after_a_switch_over() -> Machine {
    let machine = Machine::new();
    machine.volume(ALICE, Some("linux"));
    for user in [ALICE, BOB] {
        used_volume(&machine, user, 1, 2);
    }
    machine.switches_to_windows_8();
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
    assert_eq!(machine.volumes_of(ALICE), ["linux@3", "windows@8"]);
    assert_eq!(machine.volumes_of(BOB), ["windows@7"]);
    assert_eq!(machine.disk_of(&new).faults(), None);
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
            error.contains("/windows") && error.contains(reason),
            "{error}"
        );
        assert_eq!((machine.left(), events(&machine)), (before.clone(), vec![]));
    };
    let qemu = machine.disk(ALICE, "windows").open();
    refused(
        "a program has it open; end that session, or wait for the end of its export; nothing was changed",
    );
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
    machine.switches_to_windows_8(); // 50 MiB are free
    machine.take_room(20);
    let new = machine.volume(ALICE, None);
    assert_eq!(
        (&new["evicted"], &new["replaced"][0]["generation"]),
        (&json!([]), &json!(7))
    );
    let _filler = machine.fill_the_disk();
    let disk = machine.disk_of(&new);
    disk.io(&["write -q -P 0x11 0 48M", "flush", "read -q -P 0x11 0 48M"]);
    machine.disk(BOB, "windows").io(&["read -q -P 0x77 0 30M"]);
}

#[test]
fn replace_that_cannot_have_room_removes_nothing() {
    let machine = Machine::on_a_disk("ext4", 160);
    machine.leave_room(110);
    used_volume(&machine, ALICE, 1, 30);
    machine.switches_to_windows_8();
    machine.take_room(75);
    let before = machine.left();
    let (status, error) = machine.refusal(ALICE, None);
    assert_eq!((status, machine.left()), (73, before), "{error}");
    machine
        .disk(ALICE, "windows")
        .io(&["read -q -P 0x77 0 30M"]);
}

/// The steps of the back end are calls of the kernel.
mod on_qcow2 {
    use std::collections::BTreeSet;

    use nix::errno::Errno;
    use nix::libc::{
        SYS_fallocate, SYS_fcntl, SYS_fsync, SYS_ftruncate, SYS_rename, SYS_unlink, SYS_utimensat,
    };
    use nix::sys::signal::Signal;
    use nix::sys::wait::WaitStatus;
    use serde_json::Value;

    use super::*;
    use crate::evict::overlay;
    use crate::machine::{faults, make_base, tree, write_bases_ini};

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
            let (old, new) = (
                overlay(&machine, ALICE),
                machine.home(ALICE).join("windows@8.qcow2"),
            );
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

    /// The old volume gives up more than the new one needs, but not before the new one is there.
    #[test]
    fn replace_on_a_full_disk_makes_room_for_the_new_volume_first() {
        let machine = Machine::on_a_disk("ext4", 160);
        for (user, mib) in [(ALICE, 30), (BOB, 5)] {
            used_volume(&machine, user, 1, mib);
        }
        make_base(machine.root(), "windows", 8, &["8M"]);
        let text = machine.bases_ini();
        write_bases_ini(
            machine.root(),
            &text.replace("generation = 7", "generation = 8"),
        );
        let _filler = machine.fill_the_disk();
        let qemu = machine.disk(BOB, "windows").open();
        let before = machine.left();
        let (status, error) = machine.refusal(ALICE, None);
        assert!(
            status == 73 && error.contains(" 0 are free, and unused volumes have 0; "),
            "{error}"
        );
        assert_eq!((machine.left(), events(&machine)), (before, vec![]));
        end(qemu);
        let new = machine.volume(ALICE, None);
        let gone = |key: &str| new[key].as_array().unwrap().len();
        assert_eq!((gone("evicted"), gone("replaced")), (1, 1), "{new}");
        assert!(!machine.has(BOB, "windows"));
        assert!(new["held_bytes"].as_u64() >= new["room_bytes"].as_u64());
    }

    #[test]
    fn replace_whose_removal_fails_is_finished_by_the_next_login() {
        let machine = after_a_switch_over();
        let old = overlay(&machine, ALICE);
        let mut clone = machine.stepped(&["clone"], &request(ALICE, None));
        let new = machine.home(ALICE).join("windows@8.qcow2");
        while !(new.exists() && clone.next_call().number == SYS_unlink) {
            assert!(clone.steps(1), "it ended before the removal");
        }
        clone.fails(Errno::EIO);
        assert!(matches!(clone.end(), WaitStatus::Exited(_, 74)));
        assert!(old.exists() && new.exists());

        let volume = machine.volume(ALICE, None);
        assert_eq!(
            (&volume["created"], &volume["replaced"][0]["generation"]),
            (&json!(false), &json!(7))
        );
        assert_eq!(
            tree(&machine.home(ALICE)),
            ["linux@3.qcow2", "windows@8.qcow2"]
        );
    }
}
