//! Each change that a subcommand makes, once as its last, and once failing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use jsonpipe::testkit::feed;
use jsonpipe::testkit::stepped::Stepped;
use nix::errno::Errno;
use nix::libc::{SYS_fallocate, SYS_utimensat};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use serde_json::Value;
use tempfile::TempDir;

use super::verbs::{VERBS, Verb, changes, changes_or_locks, needs_room, writes};
use crate::evict::events;
use crate::machine::disk::{own_mounts, succeed};
use crate::machine::{ALICE, Machine, faults, tree};

/// A disk for machines, in memory.
struct Disk {
    directory: TempDir,
    /// With all bases, and without volumes.
    machine: Machine,
}

impl Disk {
    fn new() -> Disk {
        own_mounts();
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let image = directory.path().join("image");
        File::create(&image).unwrap().set_len(512 << 20).unwrap();
        let image = image.to_str().unwrap();
        succeed("mkfs.ext4", &["-q", image]);
        let machines = directory.path().join("machines");
        fs::create_dir(&machines).unwrap();
        succeed("mount", &["-o", "loop", image, machines.to_str().unwrap()]);
        Disk {
            machine: Machine::with_windows_8(),
            directory,
        }
    }

    fn machines(&self) -> PathBuf {
        self.directory.path().join("machines")
    }

    /// A new machine, ready for a run.
    fn prepared(&self, verb: &Verb) -> Machine {
        let machine = self.machine.copy_in(&self.machines());
        (verb.prepare)(&machine);
        machine
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.machines()).status(); // it would be in the way of its removal
    }
}

/// What is on the disk for volumes: the names of files, and the bases.
///
/// Not the room that a volume holds, which the next release gives back, and not its last login, which changes with
/// that room.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Store {
    names: BTreeSet<String>,
    bases_ini: String,
}

impl Store {
    fn of(machine: &Machine) -> Store {
        let store = machine.root().join("qcow2");
        // Directories are nothing: a run that ends between two calls leaves an empty one.
        let names = tree(&store).into_iter();
        Store {
            names: names.filter(|name| !store.join(name).is_dir()).collect(),
            bases_ini: machine.bases_ini(),
        }
    }

    /// The same without what events tell: each names a volume that may be gone, and for a replacement the user who
    /// may have the new one.
    fn but_for(&self, events: &[Value]) -> Store {
        let is_told = |name: &String| {
            let user = match name.strip_prefix("user/ephemeral/") {
                Some(of) => of.split('.').next(),
                None => name.split('/').nth(1),
            };
            let of = |event: &Value| {
                let is_new = event["event"] == "replace" && event["for"].as_str() == user;
                is_new || event["token"].as_str() == user
            };
            is_volume(name) && events.iter().any(of)
        };
        let mut store = self.clone();
        store.names.retain(|name| !is_told(name));
        store
    }

    /// The names of what is half made.
    fn half_made(&self) -> Vec<&String> {
        self.names
            .iter()
            .filter(|name| name.ends_with(".tmp"))
            .collect()
    }
}

fn is_volume(name: &str) -> bool {
    name.starts_with("user/") && name.ends_with(".qcow2") && !name.contains("/.")
}

/// Every whole volume is one for qemu-img; returns what is there.
fn judged(machine: &Machine, what: &str) -> Store {
    let store = Store::of(machine);
    for name in store.names.iter().filter(|name| is_volume(name)) {
        let volume = machine.root().join("qcow2").join(name);
        assert_eq!(faults(&volume), None, "{what}: {name}");
    }
    store
}

fn command(machine: &Machine, verb: &Verb) -> Command {
    let arguments = verb.arguments(machine);
    machine.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn stepped(machine: &Machine, verb: &Verb, input: &str) -> Stepped {
    let arguments = verb.arguments(machine);
    machine.stepped(
        &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
        input,
    )
}

/// Runs a subcommand again, without a fault: the store must be as if there had never been one.
fn ends_as_without(machine: &Machine, verb: &Verb, input: &str, whole: &Store, what: &str) {
    let ended = feed(command(machine, verb), input);
    assert_eq!(ended.status, 0, "{what}: the next run: {ended:?}");
    let now = judged(machine, what);
    assert_eq!(now, *whole, "{what}: the next run");
}

/// Calls `fault` before each call of a run that `counts` selects, on a new machine each time, to end the run and to judge.
/// Then the subcommand is run again.
fn at_each(counts: fn(&Stepped) -> bool, fault: impl Fn(&Machine, Stepped, &Store, &str)) {
    let disk = Disk::new();
    let mut faults = 0;
    for verb in VERBS {
        let machine = disk.prepared(verb);
        let input = (verb.input)(&machine);
        let ended = feed(command(&machine, verb), &input);
        assert_eq!(ended.status, 0, "{}: {ended:?}", verb.name);
        let whole = judged(&machine, verb.name);
        drop(machine);

        for nth in 0.. {
            let machine = disk.prepared(verb);
            let before = Store::of(&machine);
            let mut run = stepped(&machine, verb, &input);
            if !goes_to(&mut run, counts, nth) {
                break;
            }
            faults += 1;
            let call = run.next_call();
            let file = run.file(call.arguments[0]);
            let what = format!(
                "{}, before {nth}, which is call {} {}",
                verb.name,
                call.number,
                file.display()
            );
            fault(&machine, run, &before, &what);
            ends_as_without(&machine, verb, &input, &whole, &what);
        }
    }
    assert!(faults >= VERBS.len(), "{faults} faults");
}

/// Runs to the call of that number, from 0, among those that `counts` selects; returns false when it makes fewer.
fn goes_to(run: &mut Stepped, counts: fn(&Stepped) -> bool, nth: u64) -> bool {
    let mut left = nth;
    loop {
        if counts(run) {
            if left == 0 {
                return true;
            }
            left -= 1;
        }
        if !run.steps(1) {
            return false;
        }
    }
}

#[test]
fn killed_before_any_change_each_volume_is_whole_or_absent() {
    at_each(changes_or_locks, |machine, run, _, what| {
        assert!(matches!(
            run.end_by(Signal::SIGKILL),
            WaitStatus::Signaled(_, Signal::SIGKILL, _)
        ));
        judged(machine, what);
    });
}

fn has_event(machine: &Machine, kind: &str) -> bool {
    events(machine).iter().any(|event| event["event"] == kind)
}

/// A run of which one change fails says so by this status, and then changes nothing but what the events tell; or goes
/// well all the same.
fn one_fails(counts: fn(&Stepped) -> bool, error: Errno, status: i32) {
    at_each(counts, |machine, mut run, before, what| {
        let last_sync = run.syncs().is_some_and(|path| path.is_dir());
        assert!(run.fails(error), "{what}");
        let ended = run.end();
        let after = judged(machine, what);
        let is_new = |name: &&&String| !before.names.contains(**name);
        let half_made = after.half_made();
        assert_eq!(half_made.iter().find(is_new), None, "{what}");
        match ended {
            WaitStatus::Exited(_, 0 | 1) => {}
            // A rename is in effect, whether it is durable or not.
            WaitStatus::Exited(_, found) if found == status && last_sync => {}
            // The only volume that could go does not.
            WaitStatus::Exited(_, 73) if has_event(machine, "evict_failed") => {
                assert_eq!(after, *before, "{what}");
            }
            WaitStatus::Exited(_, found) if found == status => {
                let events = events(machine);
                assert_eq!(after.but_for(&events), before.but_for(&events), "{what}");
            }
            _ => panic!("{what}: {ended:?}"),
        }
    });
}

#[test]
fn a_change_that_fails_with_eio_leaves_nothing_half_made() {
    one_fails(changes, Errno::EIO, 74);
}

#[test]
fn a_change_that_fails_with_enospc_leaves_nothing_half_made() {
    one_fails(needs_room, Errno::ENOSPC, 73);
}

/// The rename of bases.ini is the switch, and what fails afterwards is a warning.
#[test]
fn a_switch_over_that_cannot_be_synced_is_in_effect() {
    let disk = Disk::new();
    let verb = VERBS
        .iter()
        .find(|verb| verb.name == "install-base")
        .unwrap();
    let machine = disk.prepared(verb);
    let mut run = stepped(&machine, verb, &(verb.input)(&machine));
    let is_switched = || machine.bases_ini().contains("generation = 8");
    while !is_switched() {
        assert!(run.steps(1), "it ended before the switch");
    }
    while run.syncs().is_none() {
        assert!(run.steps(1), "it ended before the sync");
    }
    assert_eq!(run.syncs(), Some(machine.root().join("qcow2/backing")));
    run.fails(Errno::EIO);
    assert!(matches!(run.end(), WaitStatus::Exited(_, 0)));
    assert!(is_switched());
}

/// Neither its room nor its last login shows a login that was refused.
#[test]
fn a_login_that_fails_leaves_the_room_and_the_last_login() {
    let disk = Disk::new();
    let verb = VERBS.iter().find(|verb| verb.name == "login").unwrap();
    let mut failed = BTreeSet::new();
    for nth in 0.. {
        let machine = disk.prepared(verb);
        let now = || {
            let last_login = machine.last_login(ALICE, "windows");
            (machine.held_bytes(ALICE, "windows"), last_login)
        };
        let before = now();
        let mut run = stepped(&machine, verb, &(verb.input)(&machine));
        if !goes_to(&mut run, changes, nth) {
            break;
        }
        let call = run.next_call().number;
        assert!(run.fails(Errno::EIO), "{nth}");
        if matches!(run.end(), WaitStatus::Exited(_, 74)) {
            assert_eq!(now(), before, "{nth}, call {call}");
            failed.insert(call);
        }
    }
    assert!(failed.is_superset(&BTreeSet::from([SYS_fallocate, SYS_utimensat])));
}

#[test]
fn a_write_of_a_half_is_continued() {
    at_each(writes, |machine, mut run, _, what| {
        assert!(run.writes_half(), "{what}");
        assert!(matches!(run.end(), WaitStatus::Exited(_, 0)), "{what}");
        assert_eq!(judged(machine, what).half_made(), [""; 0], "{what}");
    });
}

#[test]
fn a_read_only_file_system_is_left_alone() {
    let disk = Disk::new();
    for verb in VERBS {
        let machine = disk.prepared(verb);
        let (input, before) = ((verb.input)(&machine), Store::of(&machine));
        let store = machine.root().join("qcow2");
        let store = store.to_str().unwrap();
        succeed("mount", &["--bind", store, store]);
        succeed("mount", &["-o", "remount,bind,ro", store]);
        let ended = feed(command(&machine, verb), &input);
        let status = ended.status;
        assert!([1, 73, 74].contains(&status), "{}: {ended:?}", verb.name);
        assert_eq!(
            status == 1,
            !ended.stdout.is_empty(),
            "{}: {ended:?}",
            verb.name
        );
        assert_eq!(Store::of(&machine), before, "{}", verb.name);
        succeed("umount", &[store]);
    }
}
