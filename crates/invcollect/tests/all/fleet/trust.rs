//! What is broken, forged or hostile is counted, and hides nothing of others.

use std::fs;

use envelope::Kind;
use serde_json::{Value, json};

use super::{findings, fleet, of_host};
use crate::store::{DAY, HOUR, MONDAY, Store, put, time};

#[test]
fn fleet_counts_forged_reports() {
    let mut store = Store::new();
    let mut victim = store.machine("at1", "101", "victim");
    let mut other = store.machine("at1", "101", "other");
    victim.on(MONDAY + 8 * HOUR, MONDAY + 10 * HOUR, |_| ());
    other.on(MONDAY + 8 * HOUR, MONDAY + 10 * HOUR, |_| ());
    let directory = store.store().join("reports").join(&victim.id);
    let document = victim
        .document(MONDAY, MONDAY + DAY)
        .to_string()
        .replace("TAG0001", "forged");
    assert!(document.contains("forged"));

    // Another machine's report, under its own name, the victim's, and with the victim's name in it.
    other.sequence += 500;
    let theirs = fs::read(other.send(
        Kind::Snapshot,
        document.as_bytes(),
        MONDAY + DAY,
        MONDAY + DAY,
    ))
    .unwrap();
    put(&directory.join("001000000509"), &theirs, MONDAY + DAY);
    put(&directory.join("001000009000"), &theirs, MONDAY + DAY);
    let theirs = fs::read(other.send(
        Kind::Snapshot,
        document.as_bytes(),
        MONDAY + DAY,
        MONDAY + DAY,
    ))
    .unwrap();
    let sealed = String::from_utf8(theirs)
        .unwrap()
        .replace(&other.id, &victim.id);
    put(
        &directory.join("001000000510"),
        sealed.as_bytes(),
        MONDAY + DAY + 1,
    );
    // Its own: cut off at every place, changed, not a document, of another schema, of the wrong
    // length.
    let whole = fs::read(directory.join("001000000000")).unwrap();
    for (index, length) in [0, 1, 50, 300, whole.len() / 2, whole.len() - 1]
        .into_iter()
        .enumerate()
    {
        put(
            &directory.join(format!("00100000002{index}")),
            &whole[..length],
            MONDAY + DAY,
        );
    }
    put(
        &directory.join("001000000030"),
        &vec![b'a'; (1 << 20) + 1],
        MONDAY + DAY,
    );
    for payload in [
        "",
        "{}",
        "[]",
        "{\"host\":{\"schema\":2,\"collected_at\":\"2024-11-18T09:00:00Z\"}}",
        "{\"host\":{\"schema\":1,\"collected_at\":7}}",
    ] {
        victim.send(
            Kind::Snapshot,
            payload.as_bytes(),
            MONDAY + DAY,
            MONDAY + DAY,
        );
    }
    // A stranger that nobody enrolled, a text in the name of a host that signs, names that are
    // none.
    let stranger = store
        .store()
        .join("reports/00000000-dead-4000-8000-000000000000");
    fs::create_dir(&stranger).unwrap();
    put(&stranger.join("001000000000"), &whole, MONDAY + DAY);
    store.text(&victim.id, MONDAY + DAY, "---- df ----\n");
    for name in [
        "reports/.x.expelled.1",
        "reports/..%2f",
        "reports/UPPER",
        "reports/a b",
    ] {
        fs::create_dir(store.store().join(name)).unwrap();
    }
    std::os::unix::fs::symlink("/dev/zero", directory.join("001000000099")).unwrap();

    let fleet = fleet(&store, &[]);
    let rejected: Vec<_> = fleet["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["id"].as_str().unwrap(),
                one["reason"].as_str().unwrap(),
                one["reports"].as_u64().unwrap(),
            )
        })
        .collect();
    // What the other says of itself is its own: that it has the victim's Ethernet address.
    let serial_of = |id: &str| {
        fleet["machines"]
            .as_array()
            .unwrap()
            .iter()
            .find(|machine| machine["id"] == id)
            .unwrap()["serial"]
            .clone()
    };
    assert_eq!(serial_of(&other.id), "forged");
    assert_eq!(
        serial_of(&victim.id),
        "TAG0001",
        "WRONG  forged: a report that its host did not sign was believed"
    );
    let stranger = "00000000-dead-4000-8000-000000000000";
    let victim = &*victim.id;
    assert_eq!(
        rejected,
        [
            (stranger, "not_enrolled", 1),
            (victim, "wrong_signature", 1),
            (victim, "wrong_place", 2),
            (victim, "damaged", 7),
            (victim, "not_understood", 5),
            (victim, "unsigned_text", 1),
        ]
    );
    let machine = of_host(&fleet, "victim");
    assert_eq!(
        (&machine["reports"], &machine["on_seconds"]),
        (&json!(9), &json!(2 * HOUR))
    );
    let remote: Vec<_> = findings(&fleet, "remote")
        .into_iter()
        .filter(|(_, what, _)| *what == "unbelieved_reports")
        .map(|(host, ..)| host)
        .collect();
    assert_eq!(remote, [stranger, "victim", "victim", "victim", "victim"]);
}

/// Whom to visit, but for who is silent since the Monday.
fn visits(fleet: &Value) -> Vec<(&str, &str, &str)> {
    findings(fleet, "visit")
        .into_iter()
        .filter(|(_, what, _)| *what != "silent")
        .collect()
}

#[test]
fn whom_the_collector_expelled_is_counted() {
    let mut store = Store::new();
    let reports = store.store().join("reports");
    let mut gone = store.enroll(1, "at1", "101", "gone");
    gone.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |_| ());
    gone.event(MONDAY + 9 * HOUR, "memory_removed", "memory removed: B1");
    // As `collector expel` does it; twice, for it was enrolled anew between.
    fs::rename(
        reports.join(&gone.id),
        reports.join(format!(".{}.expelled.1731920000", gone.id)),
    )
    .unwrap();
    let again = reports.join(format!(".{}.expelled.1731930000", gone.id));
    fs::create_dir(&again).unwrap();
    put(&again.join("001000000000"), b"", MONDAY + DAY);
    fs::remove_file(
        store
            .config()
            .join(format!("collector/keys/{}.pub", gone.id)),
    )
    .unwrap();
    // Of this one `collector expire` has thrown everything away, and the others are nobody's.
    for name in [".old.expelled.1", ".expelled.1", ".UPPER.expelled.1"] {
        fs::create_dir(reports.join(name)).unwrap();
    }
    let page = store.path().join("page.html");
    let fleet = fleet(&store, &["--html", page.to_str().unwrap()]);
    assert_eq!(
        (
            &fleet["read"]["expelled_hosts"],
            &fleet["read"]["reports"],
            &fleet["machines"]
        ),
        (&json!(1), &json!(0), &json!([]))
    );
    let page = fs::read_to_string(page).unwrap();
    assert!(
        page.contains(
            "<li>1 host was expelled: its earlier reports are kept, and are not read here</li>"
        ),
        "{page}"
    );
}

#[test]
fn fleet_skips_foreign_files() {
    let mut store = Store::new();
    let mut machine = store.machine("at1", "101", "honest");
    machine.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |_| ());
    // A file where a host should be, a link to another host, and a directory where a report should
    // be.
    fs::write(store.store().join("reports/readme"), "").unwrap();
    fs::write(store.store().join("text/readme"), "").unwrap();
    let reports = store.store().join("reports");
    std::os::unix::fs::symlink(reports.join(&machine.id), reports.join("link")).unwrap();
    fs::create_dir(reports.join(&machine.id).join("001000000099")).unwrap();
    // Enrolled, and it never came: hosts.ini says whether it is missed.
    fs::create_dir(reports.join("new")).unwrap();

    let fleet = fleet(&store, &[]);
    assert_eq!(fleet["machines"].as_array().unwrap().len(), 1);
    assert_eq!(
        (
            of_host(&fleet, "honest")["reports"].as_u64(),
            &fleet["rejected"]
        ),
        (Some(5), &json!([]))
    );
    assert_eq!((visits(&fleet).len(), &fleet["remote"]), (0, &json!([])));
}

#[test]
fn fleet_plans_no_visit_to_strangers() {
    let mut store = Store::new();
    store.list("at1", "101", "one");
    let stranger = store
        .store()
        .join("reports/00000000-dead-4000-8000-000000000000");
    fs::create_dir(&stranger).unwrap();
    put(&stranger.join("001000000000"), b"nothing", MONDAY + DAY);
    let fleet = fleet(&store, &[]);
    assert_eq!(
        findings(&fleet, "visit"),
        [("one", "silent", "it never reported")]
    );
    let what: Vec<_> = findings(&fleet, "remote")
        .into_iter()
        .map(|(_, what, _)| what)
        .collect();
    assert_eq!(what, ["unbelieved_reports"]);
}

/// One that says as much as it can, and three that are all right.
#[test]
fn a_machine_that_says_too_much_hides_no_other() {
    let mut store = Store::new();
    let mut honest: Vec<_> = (1..=3)
        .map(|number| store.machine("at1", "101", &format!("honest-{number}")))
        .collect();
    for machine in &mut honest {
        machine.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |_| ());
    }
    honest[0].event(MONDAY + 9 * HOUR, "memory_removed", "memory removed: B1");
    let mut hostile = store.machine("at1", "101", "hostile");
    let long = "x".repeat(20_000);
    let many = |count: u64, one: &dyn Fn(u64) -> Value| (0..count).map(one).collect::<Value>();
    hostile.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |host| {
        // Of its machine's model, of an image and a base that nobody else has: nobody is behind for
        // that.
        host["image"]["version"] = u64::MAX.into();
        host["bases"] = many(3000, &|index| json!({"name": format!("base-{index}"), "generation": 1}));
        host["bases"][0] = json!({"name": "windows", "generation": u64::MAX, "programs": many(6000, &|index| json!({"name": format!("p{index}"), "version": "1"}))});
        host["changes"] = many(3000, &|index| json!({"id": "c", "told_at": time(MONDAY), "part": "disk", "action": "removed", "subject": format!("d{index}")}));
        host["interfaces"][0]["addresses"] = many(3000, &|index| index.to_string().into());
        host["system"]["model"] = "OptiPlex 7010".into();
        host["system"]["serial"] = long.clone().into();
        host["filesystems"][0]["total_bytes"] = u64::MAX.into();
    });
    for minute in 0..200 {
        let at = MONDAY + 9 * HOUR + minute;
        let text = json!({"@timestamp": "9999-12-31T23:59:59Z", "event": {"action": "disk_removed", "category": ["host"], "id": format!("e{minute}"), "kind": "alert", "type": ["change"], "provider": "invcollect"},
            "host": {"id": hostile.id, "name": "hostile"}, "labtools": {"part": "disk", "action": "removed", "subject": "A1"}, "message": "look at me"});
        hostile.send(Kind::Events, format!("{text}\n").as_bytes(), at, at);
    }

    let page = store.path().join("page.html");
    let fleet = fleet(&store, &["--html", page.to_str().unwrap()]);
    let behind: Vec<_> = findings(&fleet, "remote")
        .into_iter()
        .filter(|(_, what, _)| *what == "behind")
        .collect();
    assert_eq!(behind, []);
    let visits = visits(&fleet);
    assert!(
        visits.iter().all(|(host, ..)| *host == "hostile") && visits.len() == 17,
        "{visits:?}"
    );
    assert!(
        visits.contains(&("hostile", "hardware_changed", "… and 984 more")),
        "{visits:?}"
    );
    let machine = of_host(&fleet, "hostile");
    assert_eq!(
        machine["serial"].as_str().unwrap().len(),
        200 + '…'.len_utf8()
    );
    assert_eq!(
        (
            machine["addresses"].as_array().unwrap().len(),
            machine["bases"].as_object().unwrap().len()
        ),
        (16, 16)
    );
    assert!(
        fleet["rooms"][0]["disk_bytes"].as_u64().unwrap() < 4_000_000_000_000,
        "{}",
        fleet["rooms"][0]
    );
    // What the other told stands on the page, whatever the year of the rest.
    let told = fleet["events"].as_array().unwrap();
    assert!(
        told.len() == 51
            && told
                .iter()
                .all(|event| event["at"].as_str().unwrap() < "2024-11-19"),
        "{told:?}"
    );
    let page = fs::read_to_string(page).unwrap();
    assert!(
        page.contains("memory removed: B1") && page.len() < 400_000,
        "{}",
        page.len()
    );
}

#[test]
fn fleet_reads_the_rest_of_a_strange_report() {
    let mut store = Store::new();
    let mut machine = store.machine("at1", "101", "newer");
    machine.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |host| {
        host["memory"] = 7.into();
        host["disks"] = json!({"a": 1});
        host["place"] = json!([1, 2]);
        host["changes"] = json!([
            {"id": "c", "told_at": time(MONDAY), "part": "quantum", "action": "entangled", "subject": "x"},
            {"id": "c", "told_at": time(MONDAY), "part": "disk", "action": "removed", "subject": "S1"}]);
    });
    // Nor are its other reports lost with what every report is read for.
    store
        .machine("at1", "101", "odd")
        .on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |host| {
            host["boot"]["uptime_seconds"] = 1e308.into();
            host["guest"] = json!([7]);
            host["system"]["serial"] = json!({"a": 1});
            host["chassis"] = json!({"opened": true});
        });
    let fleet = fleet(&store, &[]);
    assert_eq!(
        visits(&fleet),
        [
            ("odd", "case_opened", "the case was opened"),
            ("newer", "hardware_changed", "disk removed, S1")
        ]
    );
    let machine = of_host(&fleet, "newer");
    assert_eq!(
        (
            &machine["serial"],
            machine.get("memory_bytes"),
            &fleet["rejected"]
        ),
        (&json!("TAG0001"), None, &json!([]))
    );
}

#[test]
fn how_deep_a_report_is_is_bounded() {
    let mut store = Store::new();
    let mut hostile = store.machine("at1", "101", "deep");
    let mut honest = store.machine("at1", "101", "honest");
    honest.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |_| ());
    let at = MONDAY + 9 * HOUR;
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let payload = format!(
        "{{\"host\":{{\"schema\":1,\"collected_at\":\"{}\",\"disks\":{deep}}}}}",
        time(at)
    );
    hostile.send(Kind::Snapshot, payload.as_bytes(), at, at);
    hostile.send(Kind::Snapshot, deep.as_bytes(), at, at);
    let fleet = fleet(&store, &[]);
    assert_eq!(
        (
            &fleet["rejected"][0]["reason"],
            &fleet["rejected"][0]["reports"],
            &fleet["read"]["reports"]
        ),
        (&json!("not_understood"), &json!(2), &json!(5))
    );
    assert_eq!(of_host(&fleet, "honest")["reports"], 5);
}

/// Who has root on a lab machine could hide or forge lines of a technician's list: `jq -r` prints
/// every text as it is.
#[test]
fn texts_of_machines_are_shown_and_move_no_terminal() {
    const EVIL: &str = "\u{1b}]0;owned\u{7}\n\u{202e}\u{200b}\u{9b}2J";
    fn spoil(value: &mut Value) {
        match value {
            // A time that is none is not read at all.
            Value::String(text) if text.len() != 20 || !text.ends_with('Z') => text.push_str(EVIL),
            Value::Array(items) => items.iter_mut().for_each(spoil),
            Value::Object(fields) => fields.values_mut().for_each(spoil),
            _ => {}
        }
    }
    fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::String(text) => found.push(text),
            Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
            Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                found.push(key);
                texts(value, found);
            }),
            _ => {}
        }
    }
    let mut store = Store::new();
    for name in ["first", "second"] {
        // By no name and address of hosts.ini, and the same board twice.
        let mut machine = store.enroll(1 << 24, "at1", "101", name);
        machine.on(MONDAY + 8 * HOUR, MONDAY + 10 * HOUR, |host| {
            host["interfaces"][0]["speed_bits_per_second"] = 100_000_000.into();
            host["interfaces"][0]["station"] = json!({"ssid": "lab"});
            host["filesystems"][1]["hanging"] = true.into();
            host["unmounted"] = json!(["/var/log"]);
            host["disks"][0]["healthy"] = false.into();
            host["disks"][0]["faults"] = json!(["worn"]);
            let about = |action: &str, subject: &str| json!({"id": subject, "told_at": time(MONDAY), "part": "memory", "action": action, "subject": subject, "before": "4 GiB"});
            host["bases"].as_array_mut().unwrap().push(json!({"name": "linux", "generation": 1, "programs": [{"name": "vi", "version": "9"}]}));
            spoil(host);
            host["changes"] = json!([about("removed", EVIL)]);
        });
        let mut event = json!({"event": {"action": "memory_removed", "category": [], "id": "e", "kind": "alert", "type": [], "provider": "p"},
            "host": {}, "message": "it is gone"});
        spoil(&mut event);
        event["@timestamp"] = time(MONDAY + 9 * HOUR).into();
        event["labtools"] = json!({"part": "memory", "action": "removed", "subject": EVIL});
        machine.send(
            Kind::Events,
            event.to_string().as_bytes(),
            MONDAY + 9 * HOUR,
            MONDAY + 9 * HOUR,
        );
    }
    store.text("3f0c1c52-8a3e-4d0e-9a43-0f3b6f3a1e77", MONDAY + DAY, "---- df ----\n/dev/sda1 9 9 0 100% /\u{1b}c\u{202e}\n---- ip addr ----\n2: e\u{9b}0: <BROADCAST,UP,LOWER_UP> mtu 1500\n    inet 10.0.0.1\u{1b}[2J/24\n---- cctk -o /dev/stdout ----\nsvctag=TAG\u{1b}[2J\n");
    let fleet = fleet(&store, &[]);
    let mut found = Vec::new();
    texts(&fleet, &mut found);
    let hidden: Vec<_> = found
        .iter()
        .filter(|text| text.contains(jsonpipe::is_hidden))
        .collect();
    assert!(hidden.is_empty(), "{hidden:#?}");
    // They were read and are shown, not left out.
    let seen: Vec<_> = found
        .iter()
        .filter(|text| text.contains('\u{fffd}'))
        .collect();
    for part in [
        "OptiPlex 7010",
        "memory_removed",
        "it is gone",
        "does not answer",
        "is not mounted",
        "linux",
        "10.0.0.1",
        "serial number TAG",
        "worn",
        "TAG\u{fffd}[2J",
    ] {
        assert!(
            seen.iter().any(|text| text.contains(part)),
            "{part}: {seen:#?}"
        );
    }
}
