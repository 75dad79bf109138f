//! Volumes on real file systems, and the kills of an eviction.

mod cuts;

use std::collections::BTreeSet;
use std::fs;

use nix::libc::{
    SYS_fallocate, SYS_fcntl, SYS_fsync, SYS_ftruncate, SYS_rename, SYS_unlink, SYS_utimensat,
    c_long,
};
use nix::sys::signal::Signal;

use crate::evict::{a_login_evicts_the_oldest_and_has_its_room, overlay, used_volume};
use crate::machine::{Machine, faults, request};

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
