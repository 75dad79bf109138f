//! Restore points: taken at the first login of a day, and gone back to at the desk or at a login.

mod on_qcow2;

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::evict::{events, used_volume};
use crate::machine::{ALICE, BOB, CLONE, Machine, volume};
use crate::prune::end;

const DAY: Duration = Duration::from_secs(86400);

/// A login at which the user chose to restore the volume.
fn login(restore: &str) -> String {
    let mut document =
        json!({"login": {"user": ALICE, "authenticated": true}, "choice": {"base": "windows"}});
    if !restore.is_empty() {
        document["choice"]["restore"] = json!(restore);
    }
    document.to_string()
}

fn log_in(machine: &Machine, restore: &str) -> Value {
    volume(&CLONE.run(machine.root(), &login(restore)))
}

pub fn end_session(machine: &Machine) {
    assert_eq!(machine.run(&["release"]).status, 0);
}

/// Lets the last login, and the restore point, be of an earlier day.
pub fn a_day_passes(machine: &Machine) {
    end_session(machine);
    let login = machine.last_login(ALICE, "windows");
    machine.set_last_login(ALICE, "windows", login - 2 * DAY);
    machine.set_restore_point(ALICE, "windows", login - 2 * DAY);
}

/// A volume whose restore point contains 0x11 in its second MiB, and which contains 0x22 there.
fn broken_machine() -> Machine {
    broken(Machine::new())
}

fn broken(machine: Machine) -> Machine {
    log_in(&machine, "");
    io(&machine, &["write -q -P 0x11 1M 1M"]);
    a_day_passes(&machine);
    let second = log_in(&machine, "");
    assert!(second["restore_point_at"].is_string(), "{second}");
    io(
        &machine,
        &["write -q -P 0x22 1M 1M", "write -q -P 0x22 20M 3M"],
    );
    end_session(&machine);
    machine
}

fn contains(machine: &Machine, pattern: u8) {
    let disk = machine.disk(ALICE, "windows");
    assert_eq!(disk.faults(), None);
    disk.io(&[&format!("read -q -P {pattern:#x} 1M 1M")]);
}

/// What the guest does.
fn io(machine: &Machine, commands: &[&str]) {
    machine.disk(ALICE, "windows").io(commands);
}

fn restore(machine: &Machine, to: &str) -> (i32, String) {
    let ended = machine.run(&["restore", "--user", ALICE, "--to", to]);
    (ended.status, ended.stdout + &ended.stderr)
}

fn listed(machine: &Machine) -> Value {
    machine.list()["catalog"]["bases"][1]["volumes"][0].take()
}

#[test]
fn the_first_login_of_a_day_takes_a_restore_point() {
    let machine = Machine::new();
    let first = log_in(&machine, "");
    assert_eq!(first["restore_point_at"], Value::Null);
    assert_eq!(first["missing"][0]["key"], "restore_point_at");
    io(&machine, &["write -q -P 0x11 1M 1M"]);
    end_session(&machine);
    let same_day = log_in(&machine, "");
    assert_eq!(same_day["restore_point_at"], Value::Null);
    assert_eq!(same_day["changed"], false);

    a_day_passes(&machine);
    let before = SystemTime::now();
    let next_day = log_in(&machine, "");
    assert_eq!(next_day["changed"], true);
    assert_eq!(next_day["missing"], json!([]));
    let taken = next_day["restore_point_at"].as_str().unwrap();
    assert!(
        taken >= jsonpipe::timestamp::rfc3339(before).as_str(),
        "{taken}"
    );
    assert!(next_day["room_bytes"].as_u64() > first["room_bytes"].as_u64());
    assert_eq!(
        listed(&machine)["restore_point_at"],
        next_day["restore_point_at"]
    );
    contains(&machine, 0x11);

    io(&machine, &["write -q -P 0x22 1M 1M"]);
    end_session(&machine);
    let again = log_in(&machine, "");
    assert_eq!(again["restore_point_at"], next_day["restore_point_at"]);
    assert_eq!(again["changed"], false);
    // The next day's has what this day wrote.
    a_day_passes(&machine);
    log_in(&machine, "");
    end_session(&machine);
    assert_eq!(restore(&machine, "yesterday").0, 0);
    contains(&machine, 0x22);
}

#[test]
fn the_desk_restores_a_volume() {
    let machine = broken_machine();
    let used = machine.last_login(ALICE, "windows");
    let dry = machine.run(&["restore", "--user", ALICE, "--to", "yesterday", "--dry-run"]);
    contains(&machine, 0x22);
    let (status, printed) = restore(&machine, "yesterday");
    assert_eq!((status, &printed), (0, &dry.stdout));
    let restored: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (&restored["restored"]["to"], &restored["restored"]["base"]),
        (&json!("yesterday"), &json!("windows"))
    );
    contains(&machine, 0x11);
    let now = machine.last_login(ALICE, "windows");
    assert_eq!(now, used, "the last login stays");
    // As often as it is asked.
    io(&machine, &["write -q -P 0x33 0 8M"]);
    assert_eq!(restore(&machine, "yesterday").0, 0);
    contains(&machine, 0x11);

    assert_eq!(restore(&machine, "clean").0, 0);
    contains(&machine, 0x55); // the base's
    assert_eq!(listed(&machine)["restore_point_at"], Value::Null);
    let (status, error) = restore(&machine, "yesterday");
    assert!(
        status == 66 && error.contains("it can be restored to clean"),
        "{error}"
    );
    let log = fs::read_to_string(machine.root().join("var/log/labtools/events.jsonl")).unwrap();
    let events: Vec<&str> = log.lines().collect();
    assert_eq!(events.len(), 3, "{log}");
    assert!(events[0].contains(r#""event":"restore""#) && events[0].contains(r#""what":"writes""#));
    assert!(events[2].contains(r#""what":"volume""#));
}

#[test]
fn a_volume_in_use_is_not_restored() {
    let machine = broken_machine();
    let qemu = machine.disk(ALICE, "windows").open();
    for to in ["yesterday", "clean"] {
        let (status, error) = restore(&machine, to);
        assert!(
            status == 75 && error.contains("a program has it open"),
            "{error}"
        );
        let ended = CLONE.run(machine.root(), &login(to));
        assert_eq!((ended.status, ended.stdout.as_str()), (75, ""), "{ended:?}");
    }
    end(qemu);
    log_in(&machine, "");
    let (status, error) = restore(&machine, "yesterday");
    assert!(
        status == 75 && error.contains("its session has not ended"),
        "{error}"
    );
    end_session(&machine);
    contains(&machine, 0x22);
    for (arguments, status) in [
        (&["restore", "--user", BOB, "--to", "clean"][..], 66),
        (
            &[
                "restore", "--user", ALICE, "--base", "macos", "--to", "clean",
            ],
            66,
        ),
        (&["restore", "--user", ALICE, "--to", "tomorrow"], 2),
        (&["restore", "--user", ALICE], 2),
    ] {
        assert_eq!(machine.run(arguments).status, status, "{arguments:?}");
    }
}

#[test]
fn a_user_restores_a_volume_at_the_login() {
    let machine = broken_machine();
    let restored = log_in(&machine, "yesterday");
    assert_eq!(
        (
            &restored["restored"],
            &restored["changed"],
            &restored["created"]
        ),
        (&json!("yesterday"), &json!(true), &json!(false))
    );
    contains(&machine, 0x11);
    end_session(&machine);
    // On another day: the content is that of the restore point, which is then today's.
    io(&machine, &["write -q -P 0x33 1M 1M"]);
    a_day_passes(&machine);
    let next_day = log_in(&machine, "yesterday");
    assert!(next_day["restore_point_at"].as_str() >= restored["restore_point_at"].as_str());
    contains(&machine, 0x11);
    end_session(&machine);

    let clean = log_in(&machine, "clean");
    assert_eq!(
        (
            &clean["restored"],
            &clean["created"],
            &clean["restore_point_at"]
        ),
        (&json!("clean"), &json!(true), &Value::Null)
    );
    assert!(
        clean["reserved"] == true && clean["held_bytes"].as_u64() >= clean["room_bytes"].as_u64()
    );
    contains(&machine, 0x55);
    end_session(&machine);
    let ended = CLONE.run(machine.root(), &login("yesterday"));
    assert!(ended.status == 66 && ended.stdout.is_empty(), "{ended:?}");
    let ended = CLONE.run(machine.root(), &login("tomorrow"));
    assert_eq!(ended.status, 65, "{ended:?}");
    contains(&machine, 0x55);
}

/// After the restore point was taken, the guest can write its whole disk although nothing else is
/// free, and then go back.
fn the_guest_has_its_room(kind: &str, mib: u64) {
    let machine = Machine::on_a_disk(kind, mib);
    log_in(&machine, "");
    io(&machine, &["write -q -P 0x11 0 32M"]);
    a_day_passes(&machine);
    let second = log_in(&machine, "");
    assert!(second["restore_point_at"].is_string(), "{second}");
    assert!(second["room_bytes"].as_u64() > Some(64 << 20), "{second}");
    let filler = machine.fill_the_disk();
    io(
        &machine,
        &["write -q -P 0x22 0 32M", "flush", "read -q -P 0x22 0 32M"],
    );
    assert_eq!(machine.disk(ALICE, "windows").faults(), None);
    end_session(&machine);
    if let Some(filler) = filler {
        filler.set_len(0).unwrap(); // it also took what is reserved for root
    }
    assert_eq!(restore(&machine, "yesterday").0, 0);
    contains(&machine, 0x11);
}

#[test]
fn a_volume_with_a_restore_point_has_its_room() {
    the_guest_has_its_room("ext4", 200);
}

#[test]
fn no_volume_goes_for_a_restore_point() {
    let machine = Machine::on_a_disk("ext4", 200);
    log_in(&machine, "");
    io(&machine, &["write -q -P 0x11 0 32M"]);
    a_day_passes(&machine);
    used_volume(&machine, BOB, 30, 30);
    machine.leave_room(20); // enough for what the volume lacks, and not for its restore point
    let second = log_in(&machine, "");
    assert_eq!(
        (&second["evicted"], &second["restore_point_at"]),
        (&json!([]), &Value::Null)
    );
    let reason = second["missing"][0]["reason"].as_str().unwrap();
    assert!(reason.ends_with("and no volume goes for it"), "{reason}");
    assert!(machine.has(BOB, "windows"));
    contains(&machine, 0x11);
}

/// A restore point whose room is taken by others goes, and the volume keeps its content.
#[test]
fn a_restore_point_goes_before_a_volume_of_another() {
    let machine = Machine::on_a_disk("ext4", 200);
    log_in(&machine, "");
    io(&machine, &["write -q -P 0x22 0 16M"]);
    a_day_passes(&machine);
    let with_point = log_in(&machine, "");
    assert!(with_point["restore_point_at"].is_string(), "{with_point}");
    end_session(&machine);
    used_volume(&machine, BOB, 30, 30);
    machine.leave_room(25); // the rest of the disk takes 17, all of it 33
    let again = log_in(&machine, "");
    assert_eq!(
        (&again["evicted"], &again["restore_point_at"]),
        (&json!([]), &Value::Null)
    );
    assert!(
        again["room_bytes"].as_u64() < with_point["room_bytes"].as_u64(),
        "{again}"
    );
    let events = events(&machine);
    assert_eq!(events[0]["what"], "restore_point", "{events:?}");
    contains(&machine, 0x22);
    let _filler = machine.fill_the_disk();
    io(&machine, &["write -q -P 0x33 0 32M", "flush"]);
    assert_eq!(machine.disk(ALICE, "windows").faults(), None);
}
