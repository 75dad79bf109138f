//! Parts that are alike: the same serial number, or none. Where they are tells them apart.

use super::{known, told};
use crate::machine::Machine;
use crate::machine::smbios::{Slot, Tables};

fn slot(label: &'static str, bank: &'static str, mib: u32, serial: &'static str) -> Slot {
    Slot {
        label,
        bank,
        mib,
        serial,
    }
}

/// A machine with these slots, and one of them empty after its baseline was taken; what is told to
/// be gone.
fn taken_out(slots: &[Slot], out: usize) -> String {
    let machine = Machine::optiplex();
    let mut tables = Tables {
        slots: slots.to_vec(),
        ..Tables::optiplex()
    };
    machine.firmware(&tables);
    assert_eq!(told(&machine), Vec::<String>::new());
    tables.slots[out].mib = 0;
    machine.firmware(&tables);
    let [event] = machine.run(&["changes"]).lines().try_into().unwrap();
    assert_eq!(
        (
            &event["event"]["action"],
            machine.run(&["changes"]).stdout.as_str()
        ),
        (&"memory_removed".into(), "")
    );
    assert_eq!(
        machine.host()["changes"][0]["before"],
        event["labtools"]["before"]
    );
    event["labtools"]["before"]
        .as_str()
        .unwrap()
        .split_once(" in ")
        .unwrap()
        .1
        .to_owned()
}

/// As public tables have it: 00000000 or nothing (Lenovo, Asus, Gigabyte), or 160412A2 four times
/// (Synology).
#[test]
fn modules_that_are_alike_are_missed_where_they_were() {
    for serial in ["00000000", "Not Specified", "160412A2"] {
        let names = [
            "ChannelA-DIMM0",
            "ChannelA-DIMM1",
            "ChannelB-DIMM0",
            "ChannelB-DIMM1",
        ];
        let slots = names.map(|name| slot(name, "", 4096, serial));
        for (out, name) in names.into_iter().enumerate() {
            assert_eq!(taken_out(&slots, out), name, "{serial:?}");
        }
    }
}

/// As on an ASRock or a Gigabyte X399: `DIMM 0` in each bank; and where not even the banks differ,
/// the slot is counted.
#[test]
fn slots_of_one_name_are_told_by_their_bank() {
    let slots = ["P0 CHANNEL A", "P0 CHANNEL B"].map(|bank| slot("DIMM 0", bank, 4096, "160412A2"));
    assert_eq!(taken_out(&slots, 0), "DIMM 0, P0 CHANNEL A");
    assert_eq!(taken_out(&slots, 1), "DIMM 0, P0 CHANNEL B");
    let slots = ["BANK 0", "BANK 0"].map(|bank| slot("DIMM1", bank, 4096, "160412A2"));
    assert_eq!(taken_out(&slots, 1), "DIMM1, BANK 0, slot 2 of 2");
    assert_eq!(
        taken_out(&["", ""].map(|name| slot(name, name, 4096, "160412A2")), 0),
        "slot 1 of 2"
    );
}

/// Another one of the same kind is gone than the one that was told: a technician is to look
/// elsewhere.
#[test]
fn another_module_of_the_kind_is_another_event() {
    let slots = ["DIMM1", "DIMM2", "DIMM3"].map(|name| slot(name, "", 4096, "160412A2"));
    let machine = Machine::optiplex();
    let without = |out: usize| {
        let mut tables = Tables {
            slots: slots.to_vec(),
            ..Tables::optiplex()
        };
        tables.slots[out].mib = 0;
        machine.firmware(&tables);
        told(&machine)
    };
    machine.firmware(&Tables {
        slots: slots.to_vec(),
        ..Tables::optiplex()
    });
    assert_eq!(told(&machine), Vec::<String>::new());
    assert_eq!(without(0), ["memory_removed"]);
    assert_eq!(without(2), ["memory_removed"]);
    let changes = machine.host()["changes"].clone();
    assert_eq!(changes.as_array().unwrap().len(), 1);
    assert!(
        changes[0]["before"]
            .as_str()
            .unwrap()
            .ends_with(" in DIMM3"),
        "{changes}"
    );
}

/// A module that was moved without a word is missed where it was last.
#[test]
fn a_module_that_was_moved_is_missed_where_it_was_last() {
    let machine = known();
    let mut tables = Tables::optiplex();
    (tables.slots[2].label, tables.slots[3].label) = ("DIMM4", "DIMM3");
    machine.firmware(&tables);
    assert_eq!(told(&machine), Vec::<String>::new());
    tables.slots[2].mib = 0;
    machine.firmware(&tables);
    let [event] = machine.run(&["changes"]).lines().try_into().unwrap();
    assert_eq!(
        event["message"],
        "the memory module 0A00B002 is gone (4 GiB Hynix HMT351U6CFR8C in DIMM4)"
    );
}

#[test]
fn devices_that_are_alike_are_missed_where_they_were() {
    let machine = Machine::optiplex();
    for address in ["0000:01:00.0", "0000:02:00.0"] {
        machine.pci(address, "0x10de", "0x128b", "0x030000", None);
    }
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.remove("sys/bus/pci/devices/0000:01:00.0");
    let [event] = machine.run(&["changes"]).lines().try_into().unwrap();
    assert_eq!(
        event["labtools"]["before"],
        "PCI device 10de:128b of class 030000 at 0000:01:00.0"
    );
}

#[test]
fn disks_that_are_alike_are_missed_where_they_were() {
    let disk = |machine: &Machine, name: &str, port: u32| {
        let place = format!("ata{port}/host{0}/target{0}:0:0/{0}:0:0:0", port - 1);
        machine.sata_disk(
            name,
            &place,
            "WDC WD5000AAKX-7",
            "WD-WCC2EKP12345",
            976_773_168,
        );
    };
    let machine = Machine::optiplex();
    disk(&machine, "sdb", 2);
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.remove("sys/block/sda");
    let [event] = machine.run(&["changes"]).lines().try_into().unwrap();
    assert_eq!(
        event["labtools"]["before"],
        "WDC WD5000AAKX-7 465.7617 GiB at 0000:00:1f.2 ata1"
    );
}

/// Two interfaces with one Ethernet address, as those of a bond whose kernel does not tell what
/// they were made with.
#[test]
fn interfaces_of_one_address_are_missed_by_their_name() {
    let machine = Machine::optiplex();
    machine.wired("eth1", "00:1b:21:0a:0b:0c", Some(1000));
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.remove("sys/class/net/eth0");
    let [event] = machine.run(&["changes"]).lines().try_into().unwrap();
    assert_eq!(event["labtools"]["before"], "eth0");
}

/// The name spaces of an NVMe disk have its serial number, and names by which the world knows each.
#[test]
fn name_spaces_of_a_disk_are_told_apart() {
    let machine = Machine::optiplex();
    for number in [1, 2] {
        let device = "sys/devices/pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/nvme0";
        for (file, value) in [("model", "Samsung SSD 980"), ("serial", "S64ANX0R1")] {
            machine.write(&format!("{device}/{file}"), format!("{value}\n"));
        }
        machine.write(&format!("{device}/nvme0n{number}/size"), "1000215216\n");
        machine.write(
            &format!("{device}/nvme0n{number}/wwid"),
            format!("eui.000000000000000{number}\n"),
        );
        machine.link(&format!("{device}/nvme0n{number}/device"), "../../nvme0");
        machine.link(
            &format!("sys/block/nvme0n{number}"),
            &format!("../../{device}/nvme0n{number}"),
        );
    }
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.remove("sys/block/nvme0n1");
    let [event] = machine.run(&["changes"]).lines().try_into().unwrap();
    let before = "Samsung SSD 980 476.9398 GiB at 0000:01:00.0 name space 1";
    assert_eq!(
        (&event["event"]["action"], &event["labtools"]["before"]),
        (&"disk_removed".into(), &before.into())
    );
}

/// A baseline of an older release does not know places; what it says of each part has them.
#[test]
fn an_older_baseline_misses_the_right_one() {
    let names = ["DIMM1", "DIMM2", "DIMM3"];
    let mut tables = Tables {
        slots: names.map(|name| slot(name, "", 4096, "160412A2")).to_vec(),
        ..Tables::optiplex()
    };
    let machine = Machine::optiplex();
    machine.firmware(&tables);
    assert_eq!(told(&machine), Vec::<String>::new());
    let baseline = "var/lib/labtools/baseline.json";
    let older: String = machine
        .read(baseline)
        .lines()
        .filter(|line| !line.contains("\"place\":"))
        .collect();
    machine.write(baseline, older);
    tables.slots[1].mib = 0;
    machine.firmware(&tables);
    let [event] = machine.run(&["changes"]).lines().try_into().unwrap();
    assert!(
        event["labtools"]["before"]
            .as_str()
            .unwrap()
            .ends_with(" in DIMM2"),
        "{event}"
    );
}

/// A maker who numbers all alike, and a larger module in the slot of another: it is no longer the
/// same.
#[test]
fn a_module_of_another_size_is_another_one() {
    let machine = Machine::optiplex();
    let mut tables = Tables {
        slots: ["DIMM1", "DIMM2"]
            .map(|name| slot(name, "", 8192, "160412A2"))
            .to_vec(),
        ..Tables::optiplex()
    };
    machine.firmware(&tables);
    assert_eq!(told(&machine), Vec::<String>::new());
    tables.slots[0].mib = 4096;
    machine.firmware(&tables);
    let messages: Vec<_> = machine
        .run(&["changes"])
        .lines()
        .iter()
        .map(|event| event["message"].clone())
        .collect();
    let removed = "the memory module 160412A2 is gone (8 GiB Hynix HMT351U6CFR8C in DIMM1)";
    assert_eq!(
        messages,
        [
            removed,
            "the memory module 160412A2 is new (4 GiB Hynix HMT351U6CFR8C in DIMM1)"
        ]
    );
}

/// Another card moves the others to other addresses: the one that was gone is gone still.
#[test]
fn devices_that_are_numbered_anew_are_gone_once() {
    let machine = Machine::optiplex();
    let add = |address: &str| machine.pci(address, "0x10de", "0x128b", "0x030000", None);
    let take = |address: &str| machine.remove(&format!("sys/bus/pci/devices/{address}"));
    add("0000:01:00.0");
    add("0000:02:00.0");
    assert_eq!(told(&machine), Vec::<String>::new());
    take("0000:01:00.0");
    assert_eq!(told(&machine), ["device_removed"]);
    take("0000:02:00.0");
    add("0000:03:00.0");
    assert_eq!(
        machine.run(&["changes"]).stdout,
        "",
        "it is the one that is there"
    );
    assert_eq!(
        machine.host()["changes"][0]["before"],
        "PCI device 10de:128b of class 030000 at 0000:01:00.0"
    );
}

#[test]
fn faults_of_disks_that_are_alike_are_told_of_each() {
    let machine = Machine::optiplex();
    machine.sata_disk(
        "sdb",
        "ata2/host1/target1:0:0/1:0:0:0",
        "WDC WD5000AAKX-7",
        "WD-WCC2EKP12345",
        976_773_168,
    );
    let faults = |a: &str, b: &str| {
        machine.write(
            "smart.json",
            format!(r#"{{"sda":{{"smart":{a}}},"sdb":{{"smart":{b}}}}}"#),
        )
    };
    faults("null", "null");
    assert_eq!(told(&machine), Vec::<String>::new());
    faults("null", "\"it fails\"");
    assert_eq!(told(&machine), ["disk_degraded"]);
    machine.run(&["accept"]);
    faults("\"it fails\"", "null");
    let [event] = machine.run(&["changes"]).lines().try_into().unwrap();
    assert_eq!(
        event["labtools"]["before"],
        "WDC WD5000AAKX-7 465.7617 GiB at 0000:00:1f.2 ata1"
    );
    faults("null", "\"it fails\"");
    let [event] = machine.run(&["changes"]).lines().try_into().unwrap();
    assert_eq!(
        event["labtools"]["before"],
        "WDC WD5000AAKX-7 465.7617 GiB at 0000:00:1f.2 ata2"
    );
}

/// A disk whose serial number could not be read when its fault was told.
#[test]
fn a_disk_that_got_its_number_late_is_well_again() {
    let machine = Machine::optiplex();
    let page = "sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/vpd_pg80";
    let number = std::fs::read(machine.path(page)).unwrap();
    machine.remove(page);
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.write("smart.json", r#"{"sda":{"smart":"it fails"}}"#);
    assert_eq!(told(&machine), ["disk_degraded"]);
    machine.write(page, number);
    assert_eq!(machine.run(&["changes"]).stdout, "");
    assert_eq!(machine.host()["changes"].as_array().unwrap().len(), 1);
    machine.write("smart.json", r#"{"sda":{"smart":null}}"#);
    assert_eq!(told(&machine), Vec::<String>::new());
    assert_eq!(machine.host()["changes"], serde_json::json!([]));
}
