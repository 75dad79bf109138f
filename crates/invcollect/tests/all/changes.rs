//! `changes` and `accept`: what changed on a machine is told once.

mod alike;
mod identity;
mod kills;
mod links;
mod log;

use std::collections::HashSet;

use jsonpipe::testkit::Ended;
use serde_json::{Value, json};

use crate::machine::smbios::Tables;
use crate::machine::{ID, Machine};

const LOG: &str = "var/log/labtools/events.jsonl";
const BASELINE: &str = "var/lib/labtools/baseline.json";
const FIRST_BOOT: &str = "11111111-0000-4000-8000-000000000001";

/// A machine whose baseline has been taken.
fn known() -> Machine {
    let machine = Machine::optiplex();
    let first = machine.run(&["changes"]);
    assert_eq!(
        (first.status, first.stdout.as_str(), first.stderr.as_str()),
        (0, "", "")
    );
    machine
}

fn without_module(serial: &str) -> Tables {
    let mut tables = Tables::optiplex();
    let slot = tables
        .slots
        .iter_mut()
        .find(|slot| slot.serial == serial)
        .unwrap();
    slot.mib = 0;
    tables
}

fn actions(ended: &Ended) -> Vec<String> {
    ended
        .lines()
        .iter()
        .map(|event| event["event"]["action"].as_str().unwrap().to_owned())
        .collect()
}

/// What is told by one call, and that the next one tells nothing.
fn told(machine: &Machine) -> Vec<String> {
    let ended = machine.run(&["changes"]);
    let told = actions(&ended);
    assert_eq!(
        (ended.status, ended.stderr.as_str()),
        (i32::from(!told.is_empty()), ""),
        "{ended:?}"
    );
    let again = machine.run(&["changes"]);
    assert_eq!(
        (again.status, again.stdout.as_str()),
        (ended.status, ""),
        "told twice"
    );
    told
}

#[test]
fn a_module_that_is_gone_is_told_once() {
    let machine = known();
    machine.firmware(&without_module("0A00B002"));
    let ended = machine.run(&["changes"]);
    assert_eq!(ended.status, 1);
    let [event] = ended.lines().try_into().unwrap();
    let id = event["event"]["id"].as_str().unwrap();
    let shape = |(at, b): (usize, u8)| match at {
        8 | 13 | 18 | 23 => b == b'-',
        14 => b == b'4',
        19 => b"89ab".contains(&b),
        _ => b.is_ascii_hexdigit(),
    };
    assert!(
        id.len() == 36 && id.bytes().enumerate().all(shape),
        "{id} is no random UUID"
    );
    let expected = json!({
        "@timestamp": event["@timestamp"],
        "event": {"action": "memory_removed", "category": ["host"], "id": id, "kind": "alert", "type": ["change"], "provider": "invcollect"},
        "host": {"id": ID, "name": "b1-h7"},
        "labtools": {"part": "memory", "action": "removed", "subject": "0A00B002", "before": "4 GiB Hynix HMT351U6CFR8C in DIMM3"},
        "message": "the memory module 0A00B002 is gone (4 GiB Hynix HMT351U6CFR8C in DIMM3)",
    });
    assert_eq!(event, expected);
    assert_eq!(machine.read(LOG), ended.stdout, "the log has the same line");

    let again = machine.run(&["changes"]);
    assert_eq!(
        (again.status, again.stdout.as_str()),
        (1, ""),
        "it is still gone, and was told"
    );
    let change = machine.host()["changes"][0].clone();
    assert_eq!(
        (&change["id"], &change["subject"], &change["action"]),
        (&json!(id), &json!("0A00B002"), &json!("removed"))
    );

    // Put back, it is as it was; gone again, that is another event.
    machine.firmware(&Tables::optiplex());
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.firmware(&without_module("0A00B002"));
    assert_eq!(told(&machine), ["memory_removed"]);
    let ids: HashSet<String> = machine
        .read(LOG)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"]["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn a_technician_accepts() {
    let machine = known();
    machine.firmware(&without_module("0A00B002"));
    assert_eq!(told(&machine), ["memory_removed"]);
    let before = machine.read(BASELINE);
    let dry = machine.run(&["accept", "--dry-run"]).document();
    assert_eq!(
        (&dry["baseline"]["changed"], machine.read(BASELINE)),
        (&json!(true), before)
    );
    let accepted = machine.run(&["accept"]).document();
    assert_eq!(accepted["baseline"]["accepted"][0]["subject"], "0A00B002");
    assert_eq!(told(&machine), Vec::<String>::new());
    assert_eq!(
        machine.run(&["accept"]).document()["baseline"]["changed"],
        false
    );
    machine.firmware(&Tables::optiplex());
    assert_eq!(told(&machine), ["memory_added"]);
}

/// What is accepted was told before, and stands in the log, whoever was faster.
#[test]
fn accept_reports_events_first() {
    let machine = known();
    machine.firmware(&without_module("0A00B002"));
    machine.speed("eth0", Some(100));
    let subjects = |ended: Ended| {
        let accepted = ended.document()["baseline"]["accepted"].clone();
        accepted
            .as_array()
            .unwrap()
            .iter()
            .map(|change| change["subject"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let expected = ["0A00B002", "00:1b:21:0a:0b:0c"];
    assert_eq!(subjects(machine.run(&["accept", "--dry-run"])), expected);
    assert!(!machine.path(LOG).exists(), "a dry run logs nothing");
    assert_eq!(subjects(machine.run(&["accept"])), expected);
    let logged: Vec<Value> = machine
        .read(LOG)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        logged
            .iter()
            .map(|event| &event["event"]["action"])
            .collect::<Vec<_>>(),
        ["memory_removed", "link_degraded"]
    );
    assert_eq!(told(&machine), Vec::<String>::new());
}

/// What comes and goes by itself, and what only has another name, is nobody's business.
#[test]
fn changes_ignore_reboots_and_new_names() {
    let machine = known();

    machine.boot("22222222-0000-4000-8000-000000000002", 7200);
    assert_eq!(told(&machine), Vec::<String>::new(), "a reboot");

    let mut swapped = Tables::optiplex();
    swapped.slots.swap(0, 2);
    (swapped.slots[0].label, swapped.slots[2].label) = ("DIMM1", "DIMM3");
    machine.firmware(&swapped);
    assert_eq!(told(&machine), Vec::<String>::new(), "two modules swapped");

    machine.remove("sys/block/sda");
    machine.remove("sys/devices/pci0000:00/0000:00:1f.2");
    machine.sata_disk(
        "sdb",
        "ata3/host2/target2:0:0/2:0:0:0",
        "WDC WD5000AAKX-7",
        "WD-WCC2EKP12345",
        976_773_168,
    );
    machine.remove("sys/class/net/eth0");
    machine.wired("enp0s25", "00:1b:21:0a:0b:0c", Some(1000));
    assert_eq!(
        told(&machine),
        Vec::<String>::new(),
        "a disk on another port, an interface renamed"
    );

    machine.sata_disk(
        "sdc",
        "usb1/1-1/host7/target7:0:0/7:0:0:0",
        "DataTraveler",
        "0019E06B",
        61_440_000,
    );
    assert_eq!(told(&machine), Vec::<String>::new(), "a USB stick");
    machine.remove("sys/block/sdc");
    assert_eq!(told(&machine), Vec::<String>::new(), "and without it");

    machine.wireless("wlan0", "00:1b:21:0a:0b:0e", true);
    machine.wired("eth9", "00:1b:21:0a:0b:99", Some(100));
    machine.link("sys/class/net/eth9/device/subsystem", "../../../../bus/usb");
    assert_eq!(told(&machine), Vec::<String>::new(), "an adapter on USB");
    machine.remove("sys/class/net/eth9");
    machine.remove("sys/firmware/dmi/tables/DMI");
    assert_eq!(
        told(&machine),
        Vec::<String>::new(),
        "what cannot be read is not gone"
    );

    machine.boot("33333333-0000-4000-8000-000000000003", 10);
    machine.remove("sys/block/sdb");
    assert_eq!(
        told(&machine),
        Vec::<String>::new(),
        "a disk that is not found yet"
    );
    machine.boot("33333333-0000-4000-8000-000000000003", 300);
    assert_eq!(told(&machine), ["disk_removed"], "and that never was");
    assert!(!machine.path(LOG).exists() || machine.read(LOG).lines().count() == 1);
}

#[test]
fn a_machine_that_has_just_booted_is_not_accepted() {
    let machine = known();
    machine.boot("22222222-0000-4000-8000-000000000002", 10);
    machine.remove("sys/block/sda");
    let ended = machine.run(&["accept"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (75, ""));
    assert!(
        ended
            .stderr
            .contains("just booted; try again in 110 seconds"),
        "{}",
        ended.stderr
    );
    machine.boot("22222222-0000-4000-8000-000000000002", 300);
    assert_eq!(told(&machine), ["disk_removed"]);
}

#[test]
fn each_change_has_its_event() {
    let machine = known();
    machine.intrusion(true);
    assert_eq!(told(&machine), ["chassis_opened"]);
    machine.firmware(&Tables {
        serial: "XYZ9876",
        ..Tables::optiplex()
    });
    assert_eq!(
        machine.run(&["changes"]).lines()[0]["event"]["action"],
        "system_replaced"
    );
    machine.firmware(&Tables {
        serial: "XYZ9876",
        firmware: "A30",
        ..Tables::optiplex()
    });
    assert_eq!(actions(&machine.run(&["changes"])), ["firmware_replaced"]);
    machine.sata_disk("sdb", "ata2/host1/target1:0:0/1:0:0:0", "WDC", "WD-2", 1000);
    assert_eq!(actions(&machine.run(&["changes"])), ["disk_added"]);
    machine.pci("0000:01:00.0", "0x10de", "0x128b", "0x030000", None);
    assert_eq!(actions(&machine.run(&["changes"])), ["device_added"]);
    machine.directory("sys/block/sda/sda1");
    machine.write("sys/fs/ext4/sda1/errors_count", "2\n");
    assert_eq!(actions(&machine.run(&["changes"])), ["disk_degraded"]);
    machine.remove("sys/class/net/eth0");
    assert_eq!(actions(&machine.run(&["changes"])), ["link_removed"]);
    assert_eq!(machine.host()["changes"].as_array().unwrap().len(), 7);
    let verbose = machine.run(&["changes", "-v"]);
    assert_eq!((verbose.status, verbose.stdout.as_str()), (1, ""));
    assert!(
        verbose
            .stderr
            .contains("reported before and still so: 7; see host.changes of invcollect collect"),
        "{}",
        verbose.stderr
    );
    assert!(
        verbose
            .stderr
            .contains("comparing it with the baseline of "),
        "{}",
        verbose.stderr
    );
    assert_eq!(machine.run(&["changes"]).stderr, "", "cron is told nothing");

    machine.run(&["accept"]);
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.intrusion(false); // the technician reset the switch
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.intrusion(true);
    assert_eq!(told(&machine), ["chassis_opened"], "again");
}

/// What is known to be wrong with a disk hides nothing else that is.
#[test]
fn each_fault_of_a_disk_is_told_and_accepted_by_itself() {
    let machine = known();
    let errors = |count: &str| machine.write("sys/fs/ext4/sda1/errors_count", count);
    machine.directory("sys/block/sda/sda1");
    errors("2\n");
    assert_eq!(told(&machine), ["disk_degraded"]);
    machine.run(&["accept"]);
    errors("3\n");
    assert_eq!(
        told(&machine),
        Vec::<String>::new(),
        "accepted, however many"
    );
    machine.write(
        "smart.json",
        r#"{"sda":{"smart":"SMART says that it is about to fail"}}"#,
    );
    let ended = machine.run(&["changes"]);
    let [event] = ended.lines().try_into().unwrap();
    let about = &event["labtools"];
    assert_eq!(
        (&about["subject"], &about["fault"]),
        (&json!("WD-WCC2EKP12345"), &json!("smart"))
    );

    // The file system is not mounted, the disk sleeps: neither is well again.
    machine.remove("sys/fs/ext4/sda1");
    machine.remove("smart.json");
    assert_eq!(
        machine.run(&["changes"]).status,
        1,
        "what cannot be read is not gone"
    );
    machine.write(
        "smart.json",
        r#"{"sda":{"smart":"SMART says that it is about to fail"}}"#,
    );
    errors("3\n");
    assert_eq!(machine.run(&["changes"]).stdout, "", "nor told again");

    // Accepted while they cannot be read, it is the same.
    machine.run(&["accept"]);
    machine.remove("smart.json");
    errors("0\n");
    machine.run(&["changes"]);
    machine.run(&["accept"]);
    machine.write(
        "smart.json",
        r#"{"sda":{"smart":"SMART says that it is about to fail"}}"#,
    );
    assert_eq!(told(&machine), Vec::<String>::new(), "it was accepted");
    errors("1\n");
    assert_eq!(
        told(&machine),
        ["disk_degraded"],
        "this was repaired in between"
    );
}

/// A disk that could not be asked when the baseline was taken was not well then.
#[test]
fn a_fault_that_was_not_asked_for_before_is_told() {
    let machine = Machine::optiplex();
    machine.remove("smart.json");
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.write(
        "smart.json",
        r#"{"sda":{"smart":"SMART says that it is about to fail","worn":null}}"#,
    );
    assert_eq!(told(&machine), ["disk_degraded"]);
}

/// The first look takes what is there, but not what is wrong with it.
#[test]
fn the_first_look_tells_what_is_wrong() {
    let machine = Machine::optiplex();
    machine.intrusion(true);
    machine.write(
        "smart.json",
        r#"{"sda":{"smart":"SMART says that it is about to fail","worn":null}}"#,
    );
    machine.speed("eth0", Some(100));
    assert_eq!(told(&machine), ["chassis_opened", "disk_degraded"]);
    machine.boot(FIRST_BOOT, 3600 + 60);
    assert_eq!(actions(&machine.run(&["changes"])), ["link_degraded"]);
    assert_eq!(machine.read(LOG).lines().count(), 3);
    machine.run(&["accept"]);
    machine.boot(FIRST_BOOT, 9000);
    assert_eq!(told(&machine), Vec::<String>::new());

    // A technician who accepts before anybody looked is told, too.
    let machine = Machine::optiplex();
    machine.intrusion(true);
    let accepted = machine.run(&["accept"]).document();
    assert_eq!(accepted["baseline"]["accepted"][0]["action"], "opened");
    assert_eq!(machine.read(LOG).lines().count(), 1);
    assert_eq!(told(&machine), Vec::<String>::new());
}

/// A second-hand disk is new, and about to fail.
#[test]
fn a_new_disk_is_told_with_its_faults() {
    let machine = known();
    machine.sata_disk("sdb", "ata2/host1/target1:0:0/1:0:0:0", "WDC", "WD-2", 1000);
    machine.write(
        "smart.json",
        r#"{"sda":{"smart":null},"sdb":{"smart":"SMART says that it is about to fail"}}"#,
    );
    assert_eq!(told(&machine), ["disk_added", "disk_degraded"]);
}

#[test]
fn a_dry_run_tells_and_writes_nothing() {
    let machine = Machine::optiplex();
    assert_eq!(machine.run(&["changes", "--dry-run"]).stdout, "");
    assert!(
        !machine
            .path("var")
            .join("lib/labtools/baseline.json")
            .exists()
            && !machine.path("run").exists()
    );
    let machine = known();
    let before = machine.read(BASELINE);
    machine.intrusion(true);
    let dry = machine.run(&["changes", "--dry-run"]);
    assert_eq!(
        (dry.status, actions(&dry)),
        (1, vec!["chassis_opened".to_owned()])
    );
    assert_eq!(machine.read(BASELINE), before);
    assert!(!machine.path(LOG).exists());
    assert_eq!(told(&machine), ["chassis_opened"]);
}
