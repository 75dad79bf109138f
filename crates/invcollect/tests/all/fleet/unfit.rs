//! Machines that are not as models.ini has their model, and a broken models.ini.

use serde_json::{Value, json};

use super::{WEEK, findings, fleet, run};
use crate::store::{MONDAY, Store};

/// A store with one machine, whose report is changed.
fn store(models: &str, change: fn(&mut Value)) -> Store {
    let mut store = Store::new();
    store.write_config("models.ini", models);
    let mut machine = store.machine("at1", "101", "one");
    machine.week(MONDAY, change);
    store
}

/// What is seen, and the kind of the finding.
fn seen(models: &str, change: fn(&mut Value)) -> Vec<(String, String)> {
    let fleet = fleet(&store(models, change), &[]);
    findings(&fleet, "visit")
        .into_iter()
        .map(|(_, what, seen)| (what.to_owned(), seen.to_owned()))
        .collect()
}

const MODEL: &str = "[model.OptiPlex 7010]\n\
    devices=00:02.0 8086:0152/8086:0162, 00:14.0 8086:1e31\n\
    parked=00:1f.3 8086:1e22\n\
    memory_installed=8G\n\
    bios=A16\n";

fn with_usb(host: &mut Value) {
    let devices = host["devices"].as_array_mut().unwrap();
    devices.push(json!({"address": "0000:00:14.0", "id": "8086:1e31", "class": "0c0330"}));
}

#[test]
fn a_machine_as_its_model_has_no_finding() {
    assert_eq!(seen(MODEL, with_usb), []);
    // An entry of another model, or without its hardware.
    assert_eq!(seen("[model.OptiPlex 9020]\nbios=A30\n", |_| ()), []);
    assert_eq!(seen("[model.OptiPlex 7010]\ncores=8\n", |_| ()), []);
}

#[test]
fn other_devices_and_missing_ones_are_unfit() {
    let found = seen(MODEL, |host| {
        host["devices"] = json!([
            {"address": "0000:00:02.0", "id": "8086:1912", "class": "030000"},
            {"address": "0000:00:1f.3", "id": "8086:a170", "class": "040300"},
            {"address": "0000:01:00.0", "id": "10de:1c82", "class": "030000"},
            // No device of sysfs.
            {"address": "0000:00:14.0", "id": "usb", "class": "0c0330"},
        ]);
    });
    let expected = [
        "PCI device 8086:1912 at 0000:00:02.0, where [model.OptiPlex 7010] has another",
        "PCI device 8086:a170 at 0000:00:1f.3, where [model.OptiPlex 7010] has another",
        "graphics card 10de:1c82 at 0000:01:00.0, which [model.OptiPlex 7010] does not hand to guests",
        "no PCI device at 0000:00:14.0, which [model.OptiPlex 7010] hands to guests",
    ];
    assert!(found.iter().all(|(what, _)| what == "unfit_devices"));
    let mut found: Vec<String> = found.into_iter().map(|(_, seen)| seen).collect();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn an_old_bios_is_found_and_one_that_cannot_be_compared_is_no_guess() {
    for (version, expected) in [
        (json!("A16"), None),
        (json!("A29"), None),
        (
            json!("A07"),
            Some("BIOS A07, and [model.OptiPlex 7010] was tested with A16 and later"),
        ),
        (
            json!("1.14.0"),
            Some("BIOS 1.14.0, which cannot be compared with A16 of [model.OptiPlex 7010]"),
        ),
        // Unknown is no task.
        (Value::Null, None),
        (json!(7), None),
        (json!(""), None),
    ] {
        let mut store = Store::new();
        store.write_config("models.ini", MODEL);
        let mut machine = store.machine("at1", "101", "one");
        machine.week(MONDAY, |host| {
            with_usb(host);
            host["firmware"]["version"] = version.clone();
        });
        let fleet = fleet(&store, &[]);
        let found = findings(&fleet, "visit");
        let expected: Vec<_> = expected
            .map(|seen| ("one", "old_bios", seen))
            .into_iter()
            .collect();
        assert_eq!(found, expected, "{version}");
    }
}

#[test]
fn the_memory_when_new_is_that_of_models_ini() {
    fn half(host: &mut Value) {
        with_usb(host);
        host["memory"]["installed_bytes"] = (4u64 << 30).into();
        host["memory"]["expected_bytes"] = Value::Null;
    }
    assert_eq!(
        seen(MODEL, half),
        [(
            "memory_missing".to_owned(),
            "4 GiB of memory, and the model has 8 GiB when new".to_owned()
        )]
    );
    let without = MODEL.replace("memory_installed=8G\n", "");
    assert_eq!(seen(&without, half), []);
}

#[test]
fn a_broken_table_is_78() {
    for (models, message) in [
        (
            "[model.M]\ndevices=00:02.0\n",
            "models.ini: model.M.devices[0]: the ids are missing",
        ),
        (
            "[model.M]\ndevices=00:02.0 8086:0152\nparked=00:02.0 8086:0152\n",
            "models.ini: model.M.parked[0]: 0000:00:02.0 is also in devices",
        ),
    ] {
        let output = run(&store(models, |_| ()), &WEEK);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(78), 0));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(message), "{stderr}");
    }
}

/// The machine's own event; the firmware is set from a desk.
#[test]
fn a_setting_of_the_firmware_that_drifted_is_a_task() {
    let mut store = Store::new();
    let mut machine = store.machine("at1", "101", "one");
    machine.week(MONDAY, |host| {
        host["changes"] = json!([{
            "id": "8f14e45f-ceea-467f-a9d6-9c1b5d2a7e12", "told_at": "2024-11-19T10:00:00Z", "part": "firmware",
            "action": "degraded", "subject": "VTdFeature", "fault": "vt_d", "before": "Enable", "after": "Disable",
        }]);
    });
    let fleet = fleet(&store, &[]);
    assert_eq!(
        findings(&fleet, "remote"),
        [(
            "one",
            "firmware_drifted",
            "VTdFeature is Disable, and firmware.ini wants Enable"
        )]
    );
}
