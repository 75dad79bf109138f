//! A week of nine rooms, a part of it, and the text of the thesis.

use std::fs;

use serde_json::{Value, json};

use super::page::assert_one_page;
use super::{WEEK, fleet, of_host, run};
use crate::cases::case;
use crate::store::{DAY, HOUR, MONDAY, Machine, QUARTER, Store, time};
use jsonpipe::testkit::assert_expected;

/// Three buildings of three rooms of three machines, and what is the matter with some.
pub fn campus() -> Store {
    let mut store = Store::new();
    store.write_config(
        "models.ini",
        "[model.OptiPlex 7010]\ndevices=00:02.0 8086:0152\nmemory_installed=8G\nbios=A16\nmemory=6910M\n",
    );
    for (building, room) in ["at1", "at2", "at3"]
        .into_iter()
        .flat_map(|building| (1..=3).map(move |room| (building, room)))
    {
        for number in 1..=3 {
            let (room, name) = (
                format!("{building}-r{room}"),
                format!("{building}-r{room}-h{number}"),
            );
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
        "at1-r2-h3" => machine.week(MONDAY, |host| host["firmware"]["version"] = "A07".into()),
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

/// All that is said of it: a file for each list of the section, a line for each item, and the page
/// without its style.
///
/// Computed by hand from [`trouble`]: `at3-r1` has three machines on for five mornings of four
/// hours, 60 h, and in use from half an hour on, 52.5 h; 85 reports each; quiet from noon to 8:00.
/// Half of the machines have each version of a program.
#[test]
fn fleet_tells_a_week_of_nine_rooms() {
    let store = campus();
    let page = store.path().join("page.html");
    let mut fleet = fleet(&store, &["--html", page.to_str().unwrap()]);
    let found = tempfile::tempdir().unwrap();
    let mut rest = serde_json::Map::new();
    for (key, value) in std::mem::take(fleet.as_object_mut().unwrap()) {
        match value {
            Value::Array(items) => {
                let lines: String = items.iter().map(|item| format!("{item}\n")).collect();
                fs::write(found.path().join(format!("{key}.jsonl")), lines).unwrap();
            }
            value => drop(rest.insert(key, value)),
        }
    }
    fs::write(
        found.path().join("rest.json"),
        format!("{:#}\n", Value::Object(rest)),
    )
    .unwrap();
    let page = fs::read_to_string(page).unwrap();
    assert_one_page(&page);
    // For scripts/dev/pictures.
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/fleet.html"), &page).unwrap();
    let main = page
        .split("<main>")
        .nth(1)
        .unwrap()
        .split("</main>")
        .next()
        .unwrap();
    fs::write(found.path().join("main.html"), format!("{main}\n")).unwrap();
    assert_expected(&case("fleet", "week"), found.path());
}

#[test]
fn a_room_a_building_and_a_period_are_chosen() {
    let store = campus();
    let names = |fleet: &Value| -> Vec<String> {
        fleet["machines"]
            .as_array()
            .unwrap()
            .iter()
            .map(|machine| machine["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(&fleet(&store, &["--room", "at2-r3"])),
        ["at2-r3-h1", "at2-r3-h2", "at2-r3-h3"]
    );
    assert_eq!(names(&fleet(&store, &["--building", "at3"])).len(), 9);
    for (arguments, said) in [
        (&["--room", "nosuch"][..], "none is in room nosuch"),
        (&["--building", "at9"], "none is in building at9"),
        (
            &["--building", "at1", "--room", "at2-r3"],
            "none is in building at1, room at2-r3",
        ),
    ] {
        let nobody = run(&store, &[&WEEK[..], arguments].concat());
        assert_eq!((nobody.status.code(), nobody.stdout.len()), (Some(66), 0));
        let errors = String::from_utf8_lossy(&nobody.stderr);
        assert!(
            errors.contains(&format!(
                "choosing machines: {said}; without --room and --building, rooms lists all"
            )),
            "{errors}"
        );
    }
    // Of Tuesday alone; on Monday nobody is known to be silent yet.
    let output = run(
        &store,
        &["--since", "2024-11-19T00:00:00Z", "--period", "1day"],
    );
    let fleet: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        of_host(&fleet["fleet"], "at3-r1-h1")["on_seconds"],
        4 * HOUR
    );
    let silent = of_host(&fleet["fleet"], "at2-r2-h1");
    assert_eq!(
        (&silent["on_seconds"], &silent["reports"], &silent["model"]),
        (&json!(0), &json!(0), &json!("OptiPlex 7010"))
    );
    assert_eq!(silent["silent_seconds"], 36 * HOUR - 1);
    for wrong in [
        &["--since", "soon"][..],
        &["--since", "2999-01-01T00:00:00Z"],
        &["--prometheus", "ftp://u:s3cret@x"],
        &["--prometheus", "http://u:s3cret@127.0.0.1:1/"],
        &["--by", "room"],
    ] {
        let output = run(&store, wrong);
        assert!(
            !String::from_utf8_lossy(&output.stderr).contains("s3cret"),
            "{output:?}"
        );
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(2), 0),
            "{wrong:?}"
        );
    }
}

/// As it was recorded; see testdata/README.md.
#[test]
fn fleet_has_the_thesis_text_in_the_same_table() {
    let store = Store::new();
    let case = case("fleet", "text");
    let text = fs::read_to_string(case.join("in/report.txt")).unwrap();
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
    let found = json!({"machine": of_host(&fleet, "lab7"), "visit": fleet["visit"], "rejected": fleet["rejected"]});
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("found.json"), format!("{found:#}\n")).unwrap();
    assert_expected(&case, directory.path());
}
