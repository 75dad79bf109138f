//! Volumes on real file systems, and the kills of an eviction.

mod cuts;
mod faults;
mod verbs;

use std::collections::BTreeSet;
use std::fs;

use jsonpipe::testkit::feed;
use jsonpipe::testkit::stepped::killed_before;
use nix::libc::{
    SYS_fallocate, SYS_fcntl, SYS_fsync, SYS_ftruncate, SYS_mkdir, SYS_pwrite64, SYS_rename,
    SYS_rmdir, SYS_unlink, SYS_utimensat, SYS_write, c_long,
};
use nix::sys::signal::Signal;

use crate::carry::{another, export, import, importing, same_disk, stream, used_machine};
use crate::check::checked;
use crate::evict::{
    USERS, a_login_evicts_the_oldest_and_has_its_room, full_machine, overlay, used_volume,
};
use crate::machine::{ALICE, Machine, base_path, faults, qemu_io, request};
use crate::prune::{end, open_in_qemu};

/// The calls that change a file, and those that lock one.
const CHANGES: [c_long; 7] = [
    SYS_fallocate,
    SYS_fcntl,
    SYS_fsync,
    SYS_ftruncate,
    SYS_rename,
    SYS_unlink,
    SYS_utimensat,
];

#[test]
fn xfs_a_login_evicts_the_oldest_volume_and_has_its_room() {
    a_login_evicts_the_oldest_and_has_its_room("xfs", 300); // the smallest that there is
}

#[test]
fn xfs_a_volume_needs_only_the_room_that_it_lacks() {
    let machine = Machine::on_a_disk("xfs", 300);
    used_volume(&machine, "u1@uni-a.example", 1, 30);
    machine.leave_room(10);
    let volume = machine.volume("u1@uni-a.example", Some("windows"));
    assert!(
        volume["held_bytes"].as_u64() >= volume["room_bytes"].as_u64(),
        "{volume}"
    );
}

/// A file system needs room for the list of a file's pieces: the more pieces, the more room.
#[test]
fn xfs_a_plan_is_enough_on_a_disk_in_pieces() {
    let machine = Machine::on_a_disk("xfs", 300);
    let victim = "u1@uni-a.example";
    used_volume(&machine, victim, 9, 5);
    machine.leave_room_in_pieces(31);
    let fits = |kib: u64| {
        machine.take_kib(kib);
        let mut dry = machine.command(&["clone", "--dry-run"]);
        feed(&mut dry, &request("new@uni-a.example", None)).status == 0
    };
    // The most that can be taken, to 4 KiB.
    let (mut fitting, mut not) = (4, 8 << 10);
    assert!(fits(fitting) && !fits(not));
    while not - fitting > 4 {
        let half = (fitting + not) / 8 * 4;
        match fits(half) {
            true => fitting = half,
            false => not = half,
        }
    }
    assert!(fits(fitting));
    let new = machine.volume("new@uni-a.example", None);
    assert_eq!(
        (&new["evicted"][0]["what"], machine.has(victim, "windows")),
        (&"volume".into(), false)
    );
}

#[test]
fn evict_killed_at_any_change_leaves_each_volume_whole_or_absent() {
    let machine = Machine::on_a_disk("ext4", 160);
    machine.leave_room(85);
    let users = ["u1", "u2", "u3"].map(|user| format!("{user}@uni-a.example"));
    let mut states = BTreeSet::new();
    for nth in 0.. {
        for (days, user) in users.iter().enumerate() {
            used_volume(&machine, user, 9 - days as u64, 20);
        }
        // Two of them have to go.
        drop(machine.fill_the_disk());
        let new = format!("new{nth}@uni-a.example");
        let mut clone = machine.stepped(&["clone"], &request(&new, None));
        let mut left = nth;
        let killed = loop {
            if CHANGES.contains(&clone.next_call().number) {
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
        let all = users.iter().chain([&new]);
        for file in all.clone().map(|user| overlay(&machine, user)) {
            assert_eq!(faults(&file).filter(|_| file.exists()), None, "{nth}");
        }
        states.insert(
            all.clone()
                .map(|user| overlay(&machine, user).exists())
                .collect::<Vec<_>>(),
        );
        assert_eq!(machine.volume(&new, None)["reserved"], true, "{nth}");
        if !killed {
            break;
        }
        fs::remove_file(machine.users().join("filler")).unwrap();
        assert_eq!(machine.run(&["release"]).status, 0);
        for user in all {
            assert_eq!(machine.run(&["discard", "--user", user]).status, 0);
        }
    }
    let expected = [
        [true, true, true],
        [false, true, true],
        [false, false, true],
    ];
    for volumes in expected {
        assert!(
            states.contains(&[&volumes[..], &[false]].concat()),
            "{states:?}"
        );
    }
    assert!(
        states.contains(&vec![false, false, true, true]),
        "{states:?}"
    );
}

/// What an export or an import does to files.
fn changes_a_file(call: c_long) -> bool {
    const MORE: [c_long; 4] = [SYS_mkdir, SYS_pwrite64, SYS_rmdir, SYS_write];
    CHANGES.contains(&call) || MORE.contains(&call)
}

#[test]
fn import_killed_at_any_change_leaves_the_old_volume_or_the_new_one() {
    let here = used_machine();
    let file = stream(&here);
    for replaces in [false, true] {
        let there = another(&here);
        let theirs = overlay(&there, ALICE);
        let mut states = BTreeSet::new();
        for nth in 0.. {
            if replaces {
                used_volume(&there, ALICE, 3, 1);
            }
            let before = fs::read(&theirs).ok();
            let mut command = there.command(&[&importing(&file)[..], &["--replace"]].concat());
            let killed = killed_before(&mut command, nth, changes_a_file);
            let after = fs::read(&theirs).ok();
            let is_new = after != before;
            if is_new {
                assert_eq!(faults(&theirs), None, "{nth}");
                same_disk(&overlay(&here, ALICE), &theirs);
            }
            states.insert((
                is_new,
                there.left().iter().any(|name| name.ends_with(".tmp")),
            ));
            // The next run clears up.
            let again = import(&there, &file, &["--replace"]);
            assert_eq!(again.status, 0, "{nth}: {again:?}");
            assert_eq!(there.left().len(), 2, "{nth}: {:?}", there.left());
            same_disk(&overlay(&here, ALICE), &theirs);
            if !killed {
                break;
            }
            assert_eq!(there.run(&["discard", "--user", ALICE]).status, 0);
        }
        let expected = [(false, false), (false, true), (true, false)];
        assert_eq!(states, BTreeSet::from(expected), "replaces: {replaces}");
    }
}

#[test]
fn export_killed_at_any_change_leaves_a_whole_stream_or_none() {
    let here = used_machine();
    let whole = fs::read(stream(&here)).unwrap();
    let file = here.root().join("again");
    let mut states = BTreeSet::new();
    for nth in 0.. {
        let arguments = ["export", "--user", ALICE, "--to", file.to_str().unwrap()];
        let killed = killed_before(&mut here.command(&arguments), nth, changes_a_file);
        states.insert(file.exists());
        if file.exists() {
            assert!(fs::read(&file).unwrap() == whole, "{nth}");
            fs::remove_file(&file).unwrap();
        }
        if !killed {
            break;
        }
    }
    assert_eq!(states, BTreeSet::from([false, true]));
    assert_eq!(export(&here, &file, &[]).status, 0);
    assert!(fs::read(&file).unwrap() == whole && !here.root().join(".again.tmp").exists());
}

/// Also where no login comes to evict or to overwrite what is left.
#[test]
fn repair_clears_up_after_a_kill_of_restore_or_discard() {
    let whole = Machine::new();
    used_volume(&whole, ALICE, 1, 1);
    let restore: &[&str] = &["restore", "--user", ALICE, "--to", "clean"];
    let mut found = BTreeSet::new();
    for arguments in [restore, &["discard", "--user", ALICE]] {
        for nth in 0.. {
            let machine = whole.copy();
            let killed = killed_before(&mut machine.command(arguments), nth, changes_a_file);
            let volume = overlay(&machine, ALICE);
            let is_there = volume.exists();
            found.extend(checked(&machine));
            assert_eq!(machine.run(&["repair"]).status, 0, "{arguments:?}, {nth}");
            assert_eq!(checked(&machine), [""; 0], "{arguments:?}, {nth}");
            assert_eq!(volume.exists(), is_there, "{arguments:?}, {nth}");
            if !killed {
                break;
            }
        }
    }
    let expected = ["empty_directory a", "half_made a/.windows@7.qcow2.tmp"];
    assert!(found.iter().eq(&expected), "{found:?}");
}

/// A full disk whose base is that of `here`.
fn full(here: &Machine) -> Machine {
    let there = full_machine("ext4", 160);
    let image = base_path(there.root(), "windows", 7);
    assert_eq!(
        fs::read(&image).unwrap(),
        fs::read(base_path(here.root(), "windows", 7)).unwrap(),
        "qemu-img makes the same base every time"
    );
    there
}

#[test]
fn import_evicts_for_a_whole_stream_and_never_for_a_damaged_file() {
    let here = used_machine();
    let file = stream(&here);
    let there = full(&here);
    let are_there = |there: &Machine| USERS.map(|user| overlay(there, user).exists());
    let damaged = here.root().join("damaged");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, &bytes).unwrap();
    let ended = import(&there, &damaged, &[]);
    assert_eq!(
        (ended.status, are_there(&there)),
        (65, [true; 3]),
        "{ended:?}"
    );

    let would = import(&there, &file, &["--dry-run"]);
    assert_eq!(are_there(&there), [true; 3]);
    assert!(
        would.stdout.contains(r#""evicted":[{"what":"volume""#),
        "{would:?}"
    );
    let ended = import(&there, &file, &[]);
    assert_eq!(
        (ended.status, are_there(&there)),
        (0, [true, false, true]),
        "{ended:?}"
    );
    same_disk(&overlay(&here, ALICE), &overlay(&there, ALICE));

    // Nothing else has any room, and the guest fills its disk.
    let _filler = there.fill_the_disk();
    qemu_io(
        &overlay(&there, ALICE),
        &["write -q -P 0x77 0 32M", "flush"],
    );
    assert_eq!(faults(&overlay(&there, ALICE)), None);
}

#[test]
fn import_without_room_removes_nothing() {
    let here = used_machine();
    let file = stream(&here);
    let there = full(&here);
    let in_use = USERS.map(|user| open_in_qemu(&[], &overlay(&there, user)));
    let before = there.left();
    let ended = import(&there, &file, &[]);
    assert_eq!((ended.status, ended.stdout.as_str()), (73, ""), "{ended:?}");
    assert!(ended.stderr.contains("nothing was removed"), "{ended:?}");
    assert_eq!(there.left(), before);

    in_use.into_iter().for_each(end);

    // Where no room is held, the disk may become full while it is filled.
    there.reserves(0);
    drop(there.fill_the_disk());
    let before = there.left();
    let ended = import(&there, &file, &[]);
    assert_eq!((ended.status, ended.stdout.as_str()), (73, ""), "{ended:?}");
    assert!(
        ended.stderr.contains("No space left on device"),
        "{ended:?}"
    );
    assert_eq!(there.left(), before);
}
