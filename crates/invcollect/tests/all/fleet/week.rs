//! A week of nine rooms, a part of it, and the text of the thesis.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::page::assert_one_page;
use super::{WEEK, findings, fleet, of_host, run};
use crate::store::{DAY, HOUR, MONDAY, Machine, QUARTER, Store, time};

/// Three buildings of three rooms of three machines, and what is the matter with some.
pub fn campus() -> Store {
    let mut store = Store::new();
    store.write_config("models.ini", "[model.OptiPlex 7010]\ndevices=00:02.0\nmemory=6910M\n");
    store.write_config("invcollect.ini", "[expected.OptiPlex 7010]\nmemory_mib=8192\n");
    for (building, room) in ["at1", "at2", "at3"].into_iter().flat_map(|building| (1..=3).map(move |room| (building, room))) {
        for number in 1..=3 {
            let (room, name) = (format!("{building}-r{room}"), format!("{building}-r{room}-h{number}"));
            if name == "at3-r3-h3" {
                store.list(building, &room, &name);
                continue;
            }
            let mut machine = store.machine(building, &room, &name);
            trouble(&mut machine);
        }
    }
    store
}

fn trouble(machine: &mut Machine) {
    let change = |part: &str, action: &str, subject: &str, before: &str| json!([{"id": "c", "told_at": time(MONDAY), "part": part, "action": action, "subject": subject, "before": before}]);
    let name = machine.name.clone();
    match &*name {
        "at1-r1-h1" => {
            machine.week(MONDAY, |host| {
                host["chassis"]["opened"] = true.into();
                host["changes"] = change("memory", "removed", "B1", "4 GiB in DIMM2");
                host["memory"]["installed_bytes"] = (4u64 << 30).into();
            });
            machine.event(MONDAY + 9 * HOUR, "memory_removed", "memory removed: B1, 4 GiB in DIMM2");
        }
        "at1-r1-h2" => machine.week(MONDAY, |host| host["interfaces"][0]["speed_bits_per_second"] = 100_000_000.into()),
        "at1-r1-h3" => machine.week(MONDAY, |host| host["memory"]["installed_bytes"] = (4u64 << 30).into()),
        "at1-r2-h1" => machine.week(MONDAY, |host| {
            host["interfaces"][0]["carrier"] = false.into();
            host["interfaces"][0].as_object_mut().unwrap().remove("speed_bits_per_second");
            host["interfaces"].as_array_mut().unwrap().push(
                json!({"name": "wlan0", "hardware": true, "wireless": true, "carrier": true, "station": {"ssid": "eduroam"}}),
            );
        }),
        "at1-r2-h2" => machine.week(MONDAY, |host| {
            host["devices"]
                .as_array_mut()
                .unwrap()
                .push(json!({"address": "0000:01:00.0", "id": "10de:1c82", "class": "030000"}));
        }),
        "at1-r3-h1" => machine.week(MONDAY, |host| host["boot"]["clock_before_image"] = true.into()),
        "at2-r1-h1" => machine.week(MONDAY, |host| {
            host["image"]["version"] = 11.into();
            host["bases"][0]["generation"] = 6.into();
        }),
        "at2-r1-h2" => machine.week(MONDAY, |host| host["disks"][0]["healthy"] = false.into()),
        "at2-r2-h1" => machine.on(MONDAY + 8 * HOUR, MONDAY + 12 * HOUR, |_| ()), // and never again
        "at2-r2-h2" => machine
            .week(MONDAY, |host| host["guest_failures"] = json!([{"cause": "memory", "at": time(MONDAY + 7 * DAY - 3 * HOUR)}])),
        _ => machine.week(MONDAY, |_| ()),
    }
}

#[test]
fn a_week_of_nine_rooms() {
    let store = campus();
    let page = store.path().join("page.html");
    let fleet = fleet(&store, &["--html", page.to_str().unwrap()]);
    assert_eq!(
        findings(&fleet, "visit"),
        [
            ("at1-r1-h1", "case_opened", "the case was opened"),
            ("at1-r1-h1", "hardware_changed", "memory removed, B1: 4 GiB in DIMM2"),
            ("at1-r1-h3", "memory_missing", "4 GiB of memory, and it left the factory with 8 GiB"),
            ("at1-r1-h2", "slow_link", "eth0 runs at 100 Mb/s, and could at 1000"),
            ("at1-r2-h1", "wireless_only", "on wireless, and its wired port has no link"),
            (
                "at1-r2-h2",
                "unfit_devices",
                "graphics card 10de:1c82 at 0000:01:00.0, which [model.OptiPlex 7010] does not hand to guests"
            ),
            ("at1-r3-h1", "weak_battery", "at boot the clock was older than the system that it booted"),
            ("at2-r1-h2", "disk_faulty", "disk sda: "),
            ("at2-r2-h1", "silent", "silent for 6 days"),
            ("at3-r3-h3", "silent", "it never reported"),
        ]
    );
    assert_eq!(
        findings(&fleet, "remote"),
        [
            ("at2-r1-h1", "behind", "base windows: 6, the newest is 7"),
            ("at2-r1-h1", "behind", "host image: 11, the newest is 12"),
            ("at2-r2-h2", "guest_failed", "the kernel killed a guest for want of memory"),
        ]
    );
    let slow = fleet["visit"].as_array().unwrap().iter().find(|finding| finding["what"] == "slow_link").unwrap();
    assert_eq!(slow["likely"], json!(["a damaged cable", "a bad wall point", "a bad port of the switch"]));

    // Five mornings of four hours on three machines, in use from half an hour on.
    let room = fleet["rooms"].as_array().unwrap().iter().find(|room| room["room"] == "at3-r1").unwrap();
    assert_eq!((&room["machines"], &room["heard"], &room["campus"]), (&json!(3), &json!(3), &json!("north")));
    assert_eq!(room["on_seconds"], 5 * 4 * 3 * HOUR);
    assert_eq!(room["use_seconds"], 5 * 3 * (4 * HOUR - 2 * QUARTER));
    assert_eq!(room["disk_used_bytes"], 3 * (106_000_000_000 + 1000 * (4 * DAY + 12 * HOUR)));
    assert_eq!(room["disk_grown_bytes"], 3 * 1000 * (4 * DAY + 4 * HOUR));
    assert_eq!(room["in_use_by_hour"][0].as_array().unwrap()[7..13], [0.0, 1.5, 3.0, 3.0, 3.0, 0.0]);
    assert_eq!(
        room["quiet"],
        json!([
            {"days": ["friday"], "from_hour": 12, "to_hour": 8, "hours": 68},
            {"days": ["monday", "tuesday", "wednesday", "thursday"], "from_hour": 12, "to_hour": 8, "hours": 20},
        ])
    );
    assert_eq!(fleet["rooms"].as_array().unwrap().len(), 9);

    let machine = of_host(&fleet, "at3-r1-h1");
    assert_eq!((&machine["reports"], &machine["signed"], &machine["serial"]), (&json!(5 * 17), &json!(true), &json!("TAG0019")));
    assert_eq!(
        (&machine["memory_bytes"], &machine["disks"], &machine["gateways"]),
        (&json!(8u64 << 30), &json!(1), &json!(["10.0.0.1"]))
    );
    assert_eq!(fleet["events"].as_array().unwrap().len(), 1);
    assert_eq!(fleet["events"][0]["message"], "memory removed: B1, 4 GiB in DIMM2");

    // Which labs have program 03, in which version? Half of the machines have each.
    let where_is: Vec<_> =
        fleet["software"].as_array().unwrap().iter().filter(|program| program["name"] == "program-03").collect();
    assert_eq!(where_is.len(), 2);
    assert_eq!(where_is.iter().map(|program| program["machines"].as_u64().unwrap()).sum::<u64>(), 26);

    assert_eq!(fleet["read"]["unbelieved_reports"], 0);
    assert_eq!(fleet["rejected"], json!([]));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("at1-r2, room") || page.contains("at1, room at1-r2"), "{page}");
    assert_one_page(&page);
}

#[test]
fn a_room_a_building_and_a_period_are_chosen() {
    let store = campus();
    let names = |fleet: &Value| -> Vec<String> {
        fleet["machines"].as_array().unwrap().iter().map(|machine| machine["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&fleet(&store, &["--room", "at2-r3"])), ["at2-r3-h1", "at2-r3-h2", "at2-r3-h3"]);
    assert_eq!(names(&fleet(&store, &["--building", "at3"])).len(), 9);
    for (arguments, said) in [
        (&["--room", "nosuch"][..], "none is in room nosuch"),
        (&["--building", "at9"], "none is in building at9"),
        (&["--building", "at1", "--room", "at2-r3"], "none is in building at1, room at2-r3"),
    ] {
        let nobody = run(&store, &[&WEEK[..], arguments].concat());
        assert_eq!((nobody.status.code(), nobody.stdout.len()), (Some(66), 0));
        let errors = String::from_utf8_lossy(&nobody.stderr);
        assert!(
            errors.contains(&format!("choosing machines: {said}; without --room and --building, rooms lists all")),
            "{errors}"
        );
    }
    // Of Tuesday alone; on Monday nobody is known to be silent yet.
    let output = run(&store, &["--since", "2024-11-19T00:00:00Z", "--period", "1day"]);
    let fleet: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(of_host(&fleet["fleet"], "at3-r1-h1")["on_seconds"], 4 * HOUR);
    let silent = of_host(&fleet["fleet"], "at2-r2-h1");
    assert_eq!((&silent["on_seconds"], &silent["reports"], &silent["model"]), (&json!(0), &json!(0), &json!("OptiPlex 7010")));
    assert_eq!(silent["silent_seconds"], 36 * HOUR - 1);
    for wrong in [
        &["--since", "soon"][..],
        &["--since", "2999-01-01T00:00:00Z"],
        &["--prometheus", "ftp://u:s3cret@x"],
        &["--prometheus", "http://u:s3cret@127.0.0.1:1/"],
        &["--by", "room"],
    ] {
        let output = run(&store, wrong);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("s3cret"), "{output:?}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{wrong:?}");
    }
}

/// As it was recorded; see testdata/README.md.
#[test]
fn the_text_of_the_thesis_stands_in_the_same_table() {
    let store = Store::new();
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/invcollect/text");
    let text = fs::read_to_string(recorded.join("report.txt")).unwrap();
    let id = "3f0c1c52-8a3e-4d0e-9a43-0f3b6f3a1e77";
    store.write_config(
        "hosts.ini",
        "[host.lab7]\nmac=18:03:73:AA:BB:CC\naddress=10.3.7.21\nbuilding=AT10\nroom=103\nmodel=OptiPlex 7010\n",
    );
    for quarter in 0..=4 {
        store.text(id, MONDAY + 8 * HOUR + quarter * QUARTER, &text);
    }
    store.text(id, MONDAY + 12 * HOUR, "<html>nothing of this kind");
    let fleet = fleet(&store, &[]);
    let expected: Value = serde_json::from_str(&fs::read_to_string(recorded.join("expected.json")).unwrap()).unwrap();
    let found = json!({"machine": of_host(&fleet, "lab7"), "visit": fleet["visit"], "rejected": fleet["rejected"]});
    assert_eq!(found, expected, "{found:#}");
}
