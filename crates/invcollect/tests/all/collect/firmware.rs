//! The tables and the settings of the firmware, and the clock that it sets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::machine::smbios::{Slot, Tables};
use crate::machine::{ID, Machine};

#[test]
fn dmidecode_reads_the_same() {
    let tables = Tables {
        slots: vec![
            Slot {
                label: "DIMM A",
                bank: "",
                mib: 4096,
                serial: "0A00B001",
            },
            Slot {
                label: "DIMM B",
                bank: "",
                mib: 0,
                serial: "",
            },
            Slot {
                label: "DIMM C",
                bank: "",
                mib: 65536,
                serial: "0A00B003",
            },
        ],
        ..Tables::optiplex()
    };
    let machine = Machine::optiplex();
    machine.firmware(&tables);
    let host = machine.host();
    let mut dump = tables.entry_point(32);
    dump.resize(32, 0);
    dump.extend(tables.table());
    machine.write("dump", dump);
    let decoded = Command::new("dmidecode")
        .arg("--from-dump")
        .arg(machine.path("dump"))
        .output()
        .unwrap();
    let decoded = String::from_utf8(decoded.stdout).unwrap();
    let value = |kind: &str, key: &str| -> Vec<String> {
        let of_kind = decoded
            .split("\n\n")
            .filter(|structure| structure.lines().any(|line| line == kind));
        of_kind
            .flat_map(|structure| structure.lines())
            .filter_map(|line| {
                line.trim()
                    .strip_prefix(key)?
                    .strip_prefix(": ")
                    .map(str::to_owned)
            })
            .collect()
    };
    let ours = |pointer: &str| vec![host.pointer(pointer).unwrap().as_str().unwrap().to_owned()];
    for (kind, key, pointer) in [
        ("BIOS Information", "Version", "/firmware/version"),
        ("BIOS Information", "Release Date", "/firmware/date"),
        ("System Information", "Manufacturer", "/system/manufacturer"),
        ("System Information", "Product Name", "/system/model"),
        ("System Information", "Serial Number", "/system/serial"),
        ("System Information", "UUID", "/system/uuid"),
        ("Base Board Information", "Product Name", "/board/product"),
        ("Base Board Information", "Serial Number", "/board/serial"),
        ("Chassis Information", "Asset Tag", "/chassis/asset_tag"),
    ] {
        assert_eq!(value(kind, key), ours(pointer), "{decoded}");
    }
    assert_eq!(
        value("Memory Device", "Size"),
        ["4 GB", "No Module Installed", "64 GB"]
    );
    assert_eq!(host["memory"]["installed_bytes"], 68u64 << 30);
    assert_eq!(
        value("Memory Device", "Serial Number")[0],
        host["memory"]["modules"][0]["serial"]
    );
    assert_eq!(
        (
            value("Memory Device", "Type")[0].as_str(),
            &host["memory"]["modules"][0]["kind"]
        ),
        ("DDR3", &json!(24))
    );
    assert_eq!(host["memory"]["slots"], 3);
}

#[test]
fn a_damaged_table_tells_no_memory_at_all() {
    let machine = Machine::optiplex();
    let table = Tables::optiplex().table();
    machine.write("sys/firmware/dmi/tables/DMI", &table[..table.len() - 100]);
    let host = machine.host();
    assert_eq!(
        (
            &host["memory"]["installed_bytes"],
            &host["memory"]["modules"]
        ),
        (&Value::Null, &json!([]))
    );
    assert_eq!(host["system"]["serial"], "ABC1234");
    assert!(
        machine
            .reason("memory.installed_bytes")
            .unwrap()
            .contains("damaged")
    );
}

#[test]
fn serials_that_many_machines_have_are_refused() {
    let machine = Machine::optiplex();
    for serial in [
        "To Be Filled By O.E.M.",
        "Default string",
        "0000000",
        "System Serial Number",
        "........",
        " ",
    ] {
        machine.firmware(&Tables {
            serial,
            uuid: [0xff; 16],
            ..Tables::optiplex()
        });
        let host = machine.host();
        assert_eq!(
            (&host["system"]["serial"], &host["system"]["uuid"]),
            (&Value::Null, &Value::Null),
            "{serial}"
        );
        assert!(machine.reason("system.serial").is_some());
    }
    assert_eq!(
        machine.host()["id"],
        ID,
        "who it is does not depend on that"
    );
    machine.write("persistent/inventory/uuid", "to be filled\n");
    assert_eq!(
        machine.reason("id").unwrap(),
        "/persistent/inventory/uuid: not a UUID in lower case; uuidgen makes one"
    );
}

/// As thinklmi and hp-bioscfg have them; what is not asked for is not read.
#[test]
fn settings_of_other_makers_are_told_by_their_names() {
    let machine = Machine::optiplex();
    for (driver, name) in [
        ("thinklmi", "WakeOnLAN"),
        ("thinklmi", "VirtualizationTechnology"),
        ("thinklmi", "SecureBoot"),
        ("thinklmi", "UserPassword"),
        ("hp-bioscfg", "Wake On LAN"),
        ("hp-bioscfg", "Virtualization Technology (VTx)"),
    ] {
        machine.write(
            &format!("sys/class/firmware-attributes/{driver}/attributes/{name}/current_value"),
            "Enable\n",
        );
    }
    let host = machine.host();
    let attributes = host["firmware"]["attributes"].as_array().unwrap();
    let names: Vec<_> = attributes
        .iter()
        .map(|attribute| attribute["name"].as_str().unwrap())
        .collect();
    let expected = [
        "SecureBoot",
        "Virtualization Technology (VTx)",
        "VirtualizationTechnology",
        "Wake On LAN",
        "WakeOnLAN",
    ];
    assert_eq!(names, expected);
}

#[test]
fn the_switch_in_the_case_is_read_where_it_is_told() {
    let machine = Machine::optiplex();
    let opened = || {
        let chassis = machine.host()["chassis"].clone();
        (
            chassis["opened"].as_bool(),
            chassis["opened_by"].as_str().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(opened(), (Some(false), "hwmon".into()));
    machine.intrusion(true);
    assert_eq!(opened(), (Some(true), "hwmon".into()));
    let status = "sys/class/firmware-attributes/dell-wmi-sysman/attributes/ChassisIntrusionStatus/current_value";
    machine.write(status, "DoorClosed\n");
    assert_eq!(opened(), (Some(false), "firmware".into()));
    machine.write(status, "Tripped\n");
    assert_eq!(opened(), (Some(true), "firmware".into()));
    machine.write(status, "Sunny\n");
    machine.remove("sys/class/hwmon/hwmon1");
    assert_eq!(opened(), (None, String::new()));
    assert_eq!(
        machine.reason("chassis.opened").unwrap(),
        "ChassisIntrusionStatus is Sunny, which is not known"
    );
    assert_eq!(
        machine.read(status),
        "Sunny\n",
        "nothing is ever written there"
    );
}

#[test]
fn cctk_is_asked_once_an_hour_where_there_is_nothing_else() {
    let machine = Machine::optiplex();
    machine.remove("sys/class/hwmon/hwmon1");
    let cctk = "opt/dell/dcc/cctk";
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{}\nprintf '[cctk]\\r\\n;svctag=ABC1234\\r\\nchassisintrusionstatus=tripped\\r\\nwakeonlan=lanonly\\r\\n'\n",
        machine.path("calls").display()
    );
    machine.write(cctk, script);
    fs::set_permissions(machine.path(cctk), fs::Permissions::from_mode(0o755)).unwrap();
    for _ in 0..2 {
        let host = machine.host();
        assert_eq!(
            (&host["chassis"]["opened"], &host["chassis"]["opened_by"]),
            (&json!(true), &json!("cctk"))
        );
        let expected = json!([{"name": "ChassisIntrusionStatus", "value": "tripped"}, {"name": "WakeOnLan", "value": "lanonly"}]);
        assert_eq!(host["firmware"]["attributes"], expected);
    }
    assert_eq!(machine.read("calls"), "-o /dev/stdout\n");
    let cache = fs::File::options()
        .write(true)
        .open(machine.path("run/labtools/cctk"))
        .unwrap();
    cache
        .set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3601))
        .unwrap();
    machine.host();
    assert_eq!(machine.read("calls").lines().count(), 2);

    // One that does not work is asked no more often.
    for (script, reason) in [
        (
            format!(
                "#!/bin/sh\necho >>{}\nexit 1\n",
                machine.path("calls").display()
            ),
            "cctk printed no setting",
        ),
        (
            "no program".into(),
            "running /opt/dell/dcc/cctk: Exec format error (os error 8)",
        ),
    ] {
        machine.remove("run/labtools/cctk");
        machine.remove("calls");
        machine.write("calls", "");
        machine.write(cctk, script);
        for _ in 0..2 {
            let said = machine.reason("firmware.attributes").unwrap();
            assert!(said.ends_with(reason), "{said}");
        }
        assert!(machine.read("calls").lines().count() <= 1);
        // By then somebody has put a good one there.
        machine.write(cctk, "#!/bin/sh\necho wakeonlan=disabled\n");
        assert!(machine.reason("firmware.attributes").is_some());
    }
}

#[test]
fn the_hardware_clock_at_boot_tells_a_weak_battery() {
    let machine = Machine::optiplex();
    assert_eq!(machine.host()["boot"]["clock_before_image"], false);
    machine.write(
        "dev/kmsg",
        "6,300,1,-;rtc_cmos 00:05: setting system clock to 2012-01-01T00:00:04 UTC (1325376004)\n",
    );
    let boot = machine.host()["boot"].clone();
    assert_eq!(
        (&boot["clock_before_image"], &boot["clock_at_boot"]),
        (&json!(true), &json!("2012-01-01T00:00:04Z"))
    );
}
