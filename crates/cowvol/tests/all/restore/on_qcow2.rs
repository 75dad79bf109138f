//! Restore points in qcow2 files: kills, and snapshots that are none of ours.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use jsonpipe::testkit::{feed, redirected};
use nix::libc::{SYS_exit_group, SYS_ftruncate, SYS_pwrite64, SYS_rename};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    a_day_passes, broken_machine, contains, end_session, io, log_in, login, restore,
    the_guest_has_its_room,
};
use crate::evict::{overlay, used_volume};
use crate::machine::{ALICE, BOB, CLONE, Machine, faults, qemu_img, volume};
use crate::prune::end;

/// Killed before every call that changes something: the volume is whole, with one of the two contents,
/// and the next login works.
#[test]
fn a_kill_at_any_change_leaves_a_whole_volume() {
    let machine = broken_machine();
    let copy = machine.root().join("copy.qcow2");
    fs::copy(overlay(&machine, ALICE), &copy).unwrap();
    for (arguments, input) in [
        (
            &["restore", "--user", ALICE, "--to", "yesterday"][..],
            String::new(),
        ),
        (
            &["restore", "--user", ALICE, "--to", "clean"],
            String::new(),
        ),
        (&["clone"], login("yesterday")),
        (&["clone"], login("clean")),
        (&["clone"], login("")),
    ] {
        let mut kills = 0;
        for nth in 0.. {
            fs::copy(&copy, overlay(&machine, ALICE)).unwrap();
            if input == login("") {
                a_day_passes(&machine);
            }
            let _ = fs::remove_dir_all(machine.root().join("run"));
            if !killed_at_change(&machine, arguments, &input, nth) {
                break;
            }
            kills += 1;
            let file = overlay(&machine, ALICE);
            assert_eq!(faults(&file), None, "{arguments:?} {input}: change {nth}");
            let content = [0x11u8, 0x22, 0x55].map(|pattern| has(&file, pattern));
            assert!(
                content.contains(&true),
                "{arguments:?} {input}: change {nth}"
            );
            let _ = fs::remove_dir_all(machine.root().join("run"));
            log_in(&machine, "");
            end_session(&machine);
        }
        assert!(kills >= 4, "{arguments:?} {input}: {kills} changes");
    }
}

fn has(file: &Path, pattern: u8) -> bool {
    let read = format!("read -P {pattern:#x} 1M 1M");
    let output = Command::new("qemu-io")
        .args(["-f", "qcow2", "-c", &read])
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.contains("read 1048576/1048576") && !said.contains("Pattern verification failed")
}

/// Kills a run before its call number `nth` that changes the volume; whether there was one.
fn killed_at_change(machine: &Machine, arguments: &[&str], input: &str, nth: usize) -> bool {
    let mut run = machine.stepped(arguments, input);
    let mut changes = 0;
    loop {
        let number = run.next_call().number;
        if number == SYS_exit_group {
            run.end();
            return false;
        }
        if [SYS_pwrite64, SYS_ftruncate, SYS_rename].contains(&number) {
            if changes == nth {
                run.end_by(Signal::SIGKILL);
                return true;
            }
            changes += 1;
        }
        assert!(run.steps(1), "it ended without exit_group");
    }
}

/// What holding the room takes of the file system counts for a restore point as it does for an eviction.
#[test]
fn no_volume_goes_for_the_lists_of_a_restore_points_pieces() {
    use nix::sys::statvfs::statvfs;
    use serde_json::json;

    let machine = Machine::on_a_disk("ext4", 200);
    log_in(&machine, "");
    io(&machine, &["write -q -P 0x11 0 32M"]);
    a_day_passes(&machine);
    used_volume(&machine, BOB, 30, 30);
    machine.leave_room(20);
    let mut dry = machine.command(&["clone", "--dry-run"]);
    let would = volume(&feed(&mut dry, &login("")));
    let reason = would["missing"][0]["reason"].as_str().unwrap();
    let need: u64 = reason.split(' ').next().unwrap().parse().unwrap();
    // Less than is needed, by less than a 256th of the room.
    fs::remove_file(machine.users().join("ballast")).unwrap();
    let found = statvfs(&machine.users()).unwrap();
    let free = found.blocks_available() * found.fragment_size();
    machine.take_kib((free - need + (64 << 10)) >> 10);
    let second = log_in(&machine, "");
    assert_eq!(
        (&second["evicted"], &second["restore_point_at"]),
        (&json!([]), &Value::Null)
    );
    assert!(machine.has(BOB, "windows"));
}

/// A full disk on which alice's volume gives up more than a new one needs, but not before that is there.
fn full() -> (Machine, Option<File>) {
    let machine = Machine::on_a_disk("ext4", 200);
    log_in(&machine, "");
    io(&machine, &["write -q -P 0x11 0 32M"]);
    a_day_passes(&machine);
    log_in(&machine, "");
    io(&machine, &["write -q -P 0x22 0 32M"]);
    end_session(&machine);
    used_volume(&machine, BOB, 1, 1);
    let filler = machine.fill_the_disk();
    (machine, filler)
}

#[test]
fn a_login_that_restores_on_a_full_disk_makes_room_first() {
    let (machine, _filler) = full();
    let qemu = machine.disk(BOB, "windows").open();
    let ended = CLONE.run(machine.root(), &login("clean"));
    assert_eq!((ended.status, ended.stdout.as_str()), (73, ""), "{ended:?}");
    contains(&machine, 0x22);
    end(qemu);
    let clean = log_in(&machine, "clean");
    assert_eq!(clean["evicted"].as_array().unwrap().len(), 1, "{clean}");
    assert!(!machine.has(BOB, "windows"));
    contains(&machine, 0x55);
}

fn the_desk_restores_once_there_is_room(to: &str, pattern: u8) {
    let (machine, _filler) = full();
    let arguments = ["restore", "--user", ALICE, "--to", to];
    let qemu = machine.disk(BOB, "windows").open();
    let ended = machine.run(&arguments);
    assert_eq!((ended.status, ended.stdout.as_str()), (73, ""), "{ended:?}");
    assert!(ended.stderr.contains("nothing was removed"), "{ended:?}");
    end(qemu);
    contains(&machine, 0x22);
    let dry = machine.run(&[&arguments[..], &["--dry-run"]].concat());
    assert!(machine.has(BOB, "windows"));
    let ended = machine.run(&arguments);
    assert_eq!((ended.status, &ended.stdout), (0, &dry.stdout), "{ended:?}");
    let restored = ended.section("restored");
    assert_eq!(restored["evicted"][0]["what"], "volume", "{restored}");
    assert!(!machine.has(BOB, "windows"));
    contains(&machine, pattern);
}

#[test]
fn the_desk_restores_on_a_full_disk_to_yesterday() {
    the_desk_restores_once_there_is_room("yesterday", 0x11);
}

#[test]
fn the_desk_restores_on_a_full_disk_to_clean() {
    the_desk_restores_once_there_is_room("clean", 0x55);
}

#[test]
fn a_snapshot_that_is_no_restore_point_is_refused() {
    let machine = broken_machine();
    let file = overlay(&machine, ALICE);
    let good = fs::read(&file).unwrap();
    let path = file.to_str().unwrap();
    for (change, message) in [
        (
            &["snapshot", "-c", "another", path][..],
            "holds internal snapshots",
        ),
        (&["snapshot", "-d", "yesterday", path], ""),
    ] {
        fs::write(&file, &good).unwrap();
        qemu_img(change);
        assert_eq!(faults(&file), None);
        let ended = CLONE.run(machine.root(), &login(""));
        match message {
            // qemu-img knows how to remove it, and the volume is one without.
            "" => assert_eq!(volume(&ended)["restore_point_at"], Value::Null),
            _ => assert!(
                ended.status == 65 && ended.stderr.contains(message),
                "{ended:?}"
            ),
        }
        end_session(&machine);
    }
}

/// Tables that QEMU reads and cowvol does not change: the user gets the files, and no new restore point.
/// It would be restored, and the next login would refuse it.
#[test]
fn a_volume_on_something_else_is_restored_to_clean_alone() {
    let machine = broken_machine();
    let file = overlay(&machine, ALICE);
    let file = file.to_str().unwrap();
    qemu_img(&["rebase", "-u", "-b", "/etc/passwd", "-F", "qcow2", file]);
    let (status, error) = restore(&machine, "yesterday");
    assert!(
        status == 65 && error.contains("its backing file is not its base"),
        "{error}"
    );
    assert_eq!(restore(&machine, "clean").0, 0);
    log_in(&machine, "");
}

#[test]
fn a_volume_with_strange_tables_is_handed_out_as_it_is() {
    let machine = broken_machine();
    let file = overlay(&machine, ALICE);
    write_l2_entry(&file, 20 << 20, 1 << 40); // behind the end of the file, which QEMU reads as zeros
    a_day_passes(&machine);
    let handed_out = log_in(&machine, "");
    assert_eq!(handed_out["restore_point_at"], Value::Null);
    let reason = handed_out["missing"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("0x10000000000"), "{reason}");
    assert!(has(&file, 0x22));
    end_session(&machine);
    let ended = CLONE.run(machine.root(), &login("yesterday"));
    assert_eq!(ended.status, 65, "{ended:?}");
    assert!(has(&file, 0x22));
    log_in(&machine, "clean");
    assert!(has(&file, 0x55));
}

/// Lets the cluster of the disk at `offset` lie at `place` in the file.
fn write_l2_entry(file: &Path, offset: u64, place: u64) {
    let file = File::options().read(true).write(true).open(file).unwrap();
    let number = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes)
    };
    let l2 = number(number(40)) & 0x00ff_ffff_ffff_fe00; // of the first 512 MiB
    let entry = l2 + (offset >> 16) * 8;
    file.write_all_at(&place.to_be_bytes(), entry).unwrap();
}

#[test]
fn a_restore_that_nobody_heard_of_stays_and_is_1() {
    let machine = broken_machine();
    let unheard = |arguments: &[&str], input: &str| {
        let ended = feed(
            &mut redirected(">/dev/full", &machine.command(arguments)),
            input,
        );
        assert_eq!(ended.status, 1, "{ended:?}");
    };
    unheard(&["restore", "--user", ALICE, "--to", "yesterday"], "");
    contains(&machine, 0x11);
    io(&machine, &["write -q -P 0x22 1M 1M"]);
    unheard(&["clone"], &login("yesterday"));
    contains(&machine, 0x11);
}

#[test]
fn a_volume_with_a_restore_point_has_its_room_on_xfs() {
    the_guest_has_its_room("xfs", 400);
}
