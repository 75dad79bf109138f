//! Parts are the same part, whatever can be read of them.

use std::fs;

use serde_json::json;

use super::{known, told};
use crate::machine::Machine;
use crate::machine::smbios::Tables;

/// A fault that a technician was told of is accepted, though the disk sleeps just then.
#[test]
fn a_fault_that_cannot_be_read_now_is_accepted_as_it_was_told() {
    let machine = known();
    let fault = r#"{"sda":{"smart":"SMART says that it is about to fail"}}"#;
    machine.write("smart.json", fault);
    assert_eq!(told(&machine), ["disk_degraded"]);
    machine.remove("smart.json");
    assert_eq!(
        machine.run(&["accept"]).document()["baseline"]["accepted"][0]["fault"],
        "smart"
    );
    machine.write("smart.json", fault);
    assert_eq!(told(&machine), Vec::<String>::new());
}

/// Half of what the firmware tells is not another machine.
#[test]
fn a_serial_number_that_cannot_be_read_is_no_other_machine() {
    let machine = known();
    machine.firmware(&Tables {
        uuid: [0; 16],
        ..Tables::optiplex()
    });
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.firmware(&Tables {
        uuid: *b"0123456789abcdef",
        serial: "XYZ9876",
        ..Tables::optiplex()
    });
    assert_eq!(
        told(&machine),
        ["system_replaced", "system_replaced"],
        "the serial number and the UUID"
    );
    machine.firmware(&Tables {
        uuid: [0; 16],
        serial: "XYZ9876",
        ..Tables::optiplex()
    });
    assert_eq!(
        machine.run(&["changes"]).stdout,
        "",
        "the UUID is neither so nor not"
    );
    assert_eq!(machine.host()["changes"].as_array().unwrap().len(), 2);
}

/// A serial number that is not read this time is no module taken out and none put in.
#[test]
fn things_stay_the_same_without_their_serial_numbers() {
    let machine = known();
    let page = "sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/vpd_pg80";
    let serial = fs::read(machine.path(page)).unwrap();
    let mut unread = Tables::optiplex();
    unread
        .slots
        .iter_mut()
        .filter(|slot| slot.mib > 0)
        .for_each(|slot| slot.serial = "To Be Filled By O.E.M.");
    machine.firmware(&unread);
    machine.remove(page);
    assert_eq!(told(&machine), Vec::<String>::new());
    let metrics = machine.path("labtools.prom");
    machine.run(&["metrics", metrics.to_str().unwrap()]);
    let metrics = fs::read_to_string(metrics).unwrap();
    assert!(
        !metrics
            .lines()
            .any(|line| line.starts_with("labtools_disk_present{") && line.ends_with(" 0")),
        "{metrics}"
    );

    // Accepted like that, they are not forgotten.
    machine.run(&["accept"]);
    machine.firmware(&Tables::optiplex());
    machine.write(page, &serial);
    assert_eq!(told(&machine), Vec::<String>::new(), "and are read again");
    machine.write(page, [&serial[..4], b"WD-OTHER"].concat());
    assert_eq!(
        told(&machine),
        ["disk_removed", "disk_added"],
        "this is another one"
    );

    // One of two of a kind is gone, and the other one has no serial number this time: one is gone.
    let mut half = unread;
    half.slots.iter_mut().find(|slot| slot.mib > 0).unwrap().mib = 0;
    machine.firmware(&half);
    assert_eq!(told(&machine), ["memory_removed"]);
}

/// A baseline that was taken without them learns them.
#[test]
fn a_serial_number_that_is_read_later_is_no_other_disk() {
    let machine = Machine::optiplex();
    let page = "sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/vpd_pg80";
    let serial = fs::read(machine.path(page)).unwrap();
    machine.remove(page);
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.write(page, &serial);
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.write(page, [&serial[..4], b"WD-OTHER"].concat());
    assert_eq!(told(&machine), ["disk_removed", "disk_added"]);
}

/// What is no longer in the table was cut off with its end: nobody took it out.
#[test]
fn a_table_that_was_cut_tells_no_removal() {
    let machine = known();
    let table = fs::read(machine.path("sys/firmware/dmi/tables/DMI")).unwrap();
    let second = table
        .windows(6)
        .rposition(|bytes| bytes == b"DIMM3\0")
        .unwrap()
        - 40;
    assert_eq!(table[second], 17);
    machine.write("sys/firmware/dmi/tables/DMI", &table[..second]);
    assert_eq!(told(&machine), Vec::<String>::new());
    let reason = machine.reason("memory.installed_bytes").unwrap();
    assert!(
        reason.ends_with(
            "DMI: damaged: it ends before the entry point says, without its last structure"
        ),
        "{reason}"
    );
    assert_eq!(machine.host()["memory"].get("installed_bytes"), None);
}

/// Firmware and disks write serial numbers in any bytes.
#[test]
fn serial_numbers_that_differ_in_bytes_are_two() {
    let machine = Machine::optiplex();
    let table = fs::read(machine.path("sys/firmware/dmi/tables/DMI")).unwrap();
    let at = table
        .windows(8)
        .position(|bytes| bytes == b"0A00B001")
        .unwrap();
    let page = "sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/vpd_pg80";
    let write = |byte: u8| {
        let mut table = table.clone();
        table[at] = byte;
        machine.write("sys/firmware/dmi/tables/DMI", table);
        machine.write(
            page,
            [&[0, 0x80, 0, 5], &b"12"[..], &[byte], b"34"].concat(),
        );
    };
    write(0xe9);
    assert_eq!(told(&machine), Vec::<String>::new());
    assert_eq!(machine.host()["disks"][0]["serial"], "12\\xe934");
    write(0xe8);
    assert_eq!(
        told(&machine),
        [
            "memory_removed",
            "memory_added",
            "disk_removed",
            "disk_added"
        ]
    );
}

/// A number of JEDEC says to nobody who made a module.
#[test]
fn makers_and_kinds_of_modules_are_told_by_name() {
    let machine = Machine::optiplex();
    let table = fs::read(machine.path("sys/firmware/dmi/tables/DMI")).unwrap();
    let at = table
        .windows(6)
        .position(|bytes| bytes == b"Hynix\0")
        .unwrap();
    let table = [&table[..at], b"80AD000080AD", &table[at + 5..]].concat();
    machine.write("sys/firmware/dmi/tables/DMI", table);
    let module = &machine.host()["memory"]["modules"][0];
    let expected = json!(["SK hynix", "80AD000080AD", 24, "DDR3"]);
    assert_eq!(
        json!([
            module["manufacturer"],
            module["manufacturer_id"],
            module["kind"],
            module["kind_name"]
        ]),
        expected
    );
}
