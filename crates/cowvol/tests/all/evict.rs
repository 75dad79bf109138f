//! `cowvol clone` on a disk that has no room left: what goes, what stays, and that the promised room
//! is there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonpipe::testkit::feed;
use jsonpipe::testkit::stepped::Stepped;
use nix::libc::SYS_unlink;
use nix::sys::wait::WaitStatus;
use serde_json::{Value, json};

use crate::machine::{Machine, request, volume};
use crate::prune::end;

pub const USERS: [&str; 3] = ["u1@uni-a.example", "u2@uni-a.example", "u3@uni-a.example"];
const NEW: &str = "new@uni-a.example";

pub fn overlay(machine: &Machine, user: &str) -> PathBuf {
    machine.home(user).join("windows@7.qcow2")
}

/// Makes a volume with so many MiB in it, last used so many days ago; its session has ended.
pub fn used_volume(machine: &Machine, user: &str, days: u64, mib: u64) {
    machine.volume(user, Some("windows"));
    let disk = machine.disk(user, "windows");
    disk.io(&[&format!("write -q -P 0x77 0 {mib}M")]);
    assert_eq!(machine.run(&["release"]).status, 0);
    let login = SystemTime::now() - Duration::from_secs(days * 86400);
    machine.set_last_login(user, "windows", login);
}

/// A disk on which the volumes of three users leave no room for another one; u2's is the oldest.
pub fn full_machine(kind: &str, mib: u64) -> Machine {
    let machine = Machine::on_a_disk(kind, mib);
    machine.leave_room(100); // a volume needs 34
    for (user, days) in USERS.into_iter().zip([2, 3, 1]) {
        used_volume(&machine, user, days, 30);
    }
    machine
}

pub fn events(machine: &Machine) -> Vec<Value> {
    let log = machine.root().join("var/log/labtools/events.jsonl");
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The login that evicts u2's volume, and then has all the room that it was promised.
pub fn a_login_evicts_the_oldest_and_has_its_room(kind: &str, mib: u64) {
    let machine = full_machine(kind, mib);
    let before = machine.left();
    let mut dry = machine.command(&["clone", "--dry-run"]);
    let would = volume(&feed(&mut dry, &request(NEW, None)));
    assert_eq!((machine.left(), events(&machine)), (before, vec![]));

    let new = machine.volume(NEW, None);
    assert_eq!(new["evicted"], would["evicted"]);
    let [gone] = new["evicted"].as_array().unwrap().as_slice() else {
        panic!("{new}")
    };
    assert_eq!(
        (&gone["what"], &gone["base"], &gone["generation"]),
        (&json!("volume"), &json!("windows"), &json!(7))
    );
    assert!(gone["freed_bytes"].as_u64() >= Some(30 << 20), "{gone}");
    assert_eq!(
        (&new["changed"], &new["reserved"]),
        (&json!(true), &json!(true))
    );
    let there = USERS.map(|user| machine.has(user, "windows"));
    assert_eq!(there, [true, false, true]);
    assert!(!machine.has_home(USERS[1]));

    let [event] = &events(&machine)[..] else {
        panic!("one event")
    };
    assert_eq!(
        (
            &event["event"],
            &event["tool"],
            &event["for"],
            &event["token"]
        ),
        (
            &json!("evict"),
            &json!("cowvol"),
            &new["token"],
            &gone["token"]
        )
    );

    // Nothing else has any room, and the guest fills its disk.
    let _filler = machine.fill_the_disk();
    let disk = machine.disk(NEW, "windows");
    disk.io(&["write -q -P 0x11 0 32M", "flush", "read -q -P 0x11 0 32M"]);
    assert_eq!(disk.faults(), None);
    let spared = machine.disk(USERS[0], "windows");
    spared.io(&["read -q -P 0x77 0 30M"]);
}

#[test]
fn a_login_evicts_the_oldest_volume_and_has_its_room() {
    a_login_evicts_the_oldest_and_has_its_room("ext4", 160);
}

/// QEMU would not open it again, so nothing goes for it.
#[test]
fn nothing_goes_for_a_volume_that_a_program_has_open() {
    let machine = full_machine("ext4", 160);
    let qemu = machine.disk(USERS[0], "windows").open();
    drop(machine.fill_the_disk());
    let mut dry = machine.command(&["clone", "--dry-run"]);
    let would = feed(&mut dry, &request(USERS[0], Some("windows")));
    assert_eq!((would.status, would.stdout.as_str()), (75, ""), "{would:?}");
    let (status, error) = machine.refusal(USERS[0], Some("windows"));
    assert!(
        status == 75 && error.contains("a program has it open; end that session"),
        "{error}"
    );
    let are_there = USERS.map(|user| machine.has(user, "windows"));
    assert_eq!((are_there, events(&machine)), ([true; 3], vec![]));
    end(qemu);
    let volume = machine.volume(USERS[0], Some("windows"));
    assert_eq!(volume["evicted"].as_array().map(Vec::len), Some(1));
}

#[test]
fn reservations_of_ended_sessions_go_before_volumes() {
    let machine = Machine::on_a_disk("ext4", 160);
    machine.leave_room(95);
    for user in &USERS[..2] {
        machine.volume(user, Some("windows"));
    }
    // Their sessions may still begin: the room is theirs.
    let (status, error) = machine.refusal(NEW, None);
    assert!(
        status == 73 && error.contains("and unused volumes have 0; nothing was removed; "),
        "{error}"
    );
    // A power cut ends them.
    fs::remove_dir_all(machine.root().join("run")).unwrap();
    let new = machine.volume(NEW, None);
    assert_eq!(new["evicted"][0]["what"], "reservation");
    assert_eq!(new["evicted"].as_array().unwrap().len(), 1);
    assert!(USERS[..2].iter().all(|user| machine.has(user, "windows")));
}

#[test]
fn a_login_that_cannot_have_room_removes_nothing() {
    let machine = full_machine("ext4", 160);
    let open: Vec<_> = USERS
        .map(|user| machine.disk(user, "windows").open())
        .into();
    let before = machine.left();
    let (status, error) = machine.refusal(NEW, None);
    assert_eq!((status, machine.left()), (73, before), "{error}");
    assert!(error.contains("nothing was removed"), "{error}");
    for (user, qemu) in USERS.into_iter().zip(open) {
        end(qemu);
        assert_eq!(machine.disk(user, "windows").faults(), None);
    }
    assert_eq!(events(&machine), [Value::Null; 0]);
    // His own volume is no victim, whatever its age and its base.
    machine.set_last_login(USERS[0], "windows", UNIX_EPOCH);
    machine.volume(USERS[0], Some("windows"));
    assert!(machine.has(USERS[0], "windows"));
}

#[test]
fn of_two_logins_one_has_the_room_that_is_left() {
    let machine = Machine::on_a_disk("ext4", 160);
    machine.leave_room(40);
    let statuses = thread::scope(|scope| {
        let others = USERS.map(|user| {
            let machine = &machine;
            scope.spawn(move || machine.clone(user, Some("windows")).status)
        });
        others.map(|other| other.join().unwrap())
    });
    assert_eq!(
        statuses.iter().filter(|status| **status == 0).count(),
        1,
        "{statuses:?}"
    );
    assert!(
        statuses.iter().all(|status| [0, 73].contains(status)),
        "{statuses:?}"
    );
}

/// Only files have these.
mod on_qcow2 {
    use nix::errno::Errno;
    use nix::libc::SYS_fcntl;

    use super::*;
    use crate::machine::disk::chattr;

    /// Whose volume each event of a kind is about.
    fn events_of(machine: &Machine, kind: &str) -> Vec<String> {
        let events = events(machine).into_iter();
        events
            .filter(|event| event["event"] == kind)
            .map(|event| event["token"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_volume_that_cannot_go_stays_and_the_next_one_goes() {
        let machine = full_machine("ext4", 160);
        let token = |user: &str| cowvol::Token::of(user).as_str().to_owned();
        let [newer, oldest, newest] = USERS;
        // One that cannot be opened for writing, and one whose name cannot go.
        let stuck = [overlay(&machine, oldest), machine.home(newer)];
        stuck.iter().for_each(|path| chattr("+i", path));
        let new = machine.clone(NEW, None);
        let failed = events_of(&machine, "evict_failed");
        let evicted = events_of(&machine, "evict");
        let qemu = machine.disk(NEW, "windows").open();
        let second = machine.clone("another@uni-a.example", None);
        end(qemu);
        stuck.iter().for_each(|path| chattr("-i", path));

        let new = volume(&new);
        assert_eq!(new["evicted"].as_array().unwrap().len(), 1, "{new}");
        assert_eq!(new["evicted"][0]["token"], token(newest), "{new}");
        assert_eq!(failed, [token(oldest), token(newer)]);
        assert_eq!(evicted, [token(newer), token(newest)]);
        let reason = &events(&machine)
            .into_iter()
            .find(|event| event["event"] == "evict_failed")
            .unwrap()["reason"];
        let reason = reason.as_str().unwrap();
        assert!(
            reason.ends_with("Operation not permitted (os error 1)"),
            "{reason}"
        );
        let there = USERS.map(|user| machine.has(user, "windows"));
        assert_eq!(there, [true, true, false]);
        for user in [newer, oldest] {
            let spared = machine.disk(user, "windows");
            spared.io(&["read -q -P 0x77 0 30M"]);
        }
        // Where no other can go, the error has the reasons.
        let is_refused = second.status == 73 && second.stderr.contains("not permitted");
        assert!(is_refused, "{second:?}");
    }

    #[test]
    fn a_volume_that_cannot_be_read_stays_and_the_next_one_goes() {
        let machine = full_machine("ext4", 160);
        let victim = overlay(&machine, USERS[1]);
        let mut clone = machine.stepped(&["clone"], &request(NEW, None));
        let looks_at_it = |clone: &Stepped| {
            let call = clone.next_call();
            call.number == SYS_fcntl && clone.file(call.arguments[0]) == victim
        };
        while !looks_at_it(&clone) {
            assert!(clone.steps(1), "it does not look at the oldest");
        }
        assert!(clone.fails(Errno::EIO));
        assert!(matches!(clone.end(), WaitStatus::Exited(_, 0)));
        let there = USERS.map(|user| machine.has(user, "windows"));
        assert_eq!(there, [false, true, true]);
        assert_eq!(events_of(&machine, "evict_failed").len(), 1);
    }

    #[test]
    fn remains_of_a_power_cut_go_first() {
        let machine = Machine::on_a_disk("ext4", 160);
        machine.leave_room(100);
        used_volume(&machine, USERS[0], 1, 30);
        let remains = machine.home(USERS[0]).join(".linux@3.qcow2.tmp");
        fs::write(&remains, vec![1; 40 << 20]).unwrap();
        let new = machine.volume(NEW, None);
        assert_eq!(new["evicted"][0]["what"], "remains");
        assert_eq!(new["evicted"].as_array().unwrap().len(), 1);
        assert!(!remains.exists() && overlay(&machine, USERS[0]).exists());
    }

    /// QEMU opens the victim after it was chosen and before it goes.
    #[test]
    fn a_program_does_not_get_a_volume_that_is_going() {
        let machine = full_machine("ext4", 160);
        let victim = overlay(&machine, USERS[1]);
        let mut clone = machine.stepped(&["clone"], &request(NEW, None));
        while clone.next_call().number != SYS_unlink {
            assert!(clone.steps(1), "it removed nothing");
        }
        assert!(victim.exists());
        let opened = Command::new("qemu-io")
            .args(["-f", "qcow2", "-c", "length"])
            .arg(&victim)
            .output()
            .unwrap();
        assert!(
            !opened.status.success(),
            "QEMU opened a volume that was going"
        );
        assert!(matches!(clone.end(), WaitStatus::Exited(_, 0)));
        assert!(!victim.exists());
    }

    #[test]
    fn a_file_system_that_cannot_promise_room_is_named() {
        let machine = Machine::on_a_disk("tmpfs", 120);
        let (status, error) = machine.refusal(NEW, None);
        assert_eq!(status, 78);
        assert!(
            error.contains("tmpfs cannot promise it") && error.contains("reserve="),
            "{error}"
        );
        assert_eq!(machine.left(), [""; 0]);
        machine.reserves(10 << 20);
        let new = machine.volume(NEW, None);
        assert_eq!(
            (&new["room_bytes"], &new["reserved"]),
            (&json!(10 << 20), &json!(false))
        );
        machine.reserves(500 << 20);
        assert_eq!(machine.refusal(NEW, None).0, 73);
    }
}
