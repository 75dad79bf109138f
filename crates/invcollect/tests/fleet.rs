//! `invcollect fleet` on a week of nine rooms, and on what machines send that are broken or hostile.

mod store;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use invcollect::envelope::Kind;
use serde_json::{Value, json};
use store::{DAY, HOUR, MONDAY, Machine, QUARTER, Store, put, time};

/// The week that is looked at.
const WEEK: [&str; 4] = ["--since", "2024-11-18T00:00:00Z", "--period", "7days"];

fn run(store: &Store, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_invcollect"));
    command.arg("fleet").arg(store.store()).arg("--config").arg(store.config()).args(arguments).env("TZ", "UTC").output().unwrap()
}

fn fleet(store: &Store, arguments: &[&str]) -> Value {
    let output = run(store, &[&WEEK, arguments].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["fleet"].take()
}

fn findings<'a>(fleet: &'a Value, list: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let text = |finding: &'a Value, key: &str| finding[key].as_str().unwrap();
    fleet[list]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| (text(finding, "host"), text(finding, "what"), text(finding, "seen")))
        .collect()
}

fn of_host<'a>(fleet: &'a Value, name: &str) -> &'a Value {
    fleet["machines"]
        .as_array()
        .unwrap()
        .iter()
        .find(|machine| machine["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {fleet}"))
}

/// Three buildings of three rooms of three machines, and what is the matter with some.
fn campus() -> Store {
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

    assert_eq!(fleet["read"]["rejected_reports"], 0);
    assert_eq!(fleet["rejected"], json!([]));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("at1-r2, room") || page.contains("at1, room at1-r2"), "{page}");
    assert_one_page(&page);
}

/// Nothing that is loaded or run, and every element closed.
fn assert_one_page(page: &str) {
    for forbidden in ["<script", "http://", "https://", "src=", "url(", "@import", "javascript:", "<iframe", "onload"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for element in ["table", "tbody", "thead", "tr", "section", "details", "figure", "main", "svg", "ul"] {
        let opened = page.matches(&format!("<{element} ")).count() + page.matches(&format!("<{element}>")).count();
        assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
    }
}

#[test]
fn a_room_a_building_and_a_period_are_chosen() {
    let store = campus();
    let names = |fleet: &Value| -> Vec<String> {
        fleet["machines"].as_array().unwrap().iter().map(|machine| machine["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&fleet(&store, &["--room", "at2-r3"])), ["at2-r3-h1", "at2-r3-h2", "at2-r3-h3"]);
    assert_eq!(names(&fleet(&store, &["--building", "at3"])).len(), 9);
    let nobody = run(&store, &[&WEEK[..], &["--room", "no such room"]].concat());
    assert_eq!((nobody.status.code(), nobody.stdout.len()), (Some(66), 0));
    // Of Tuesday alone; on Monday nobody is known to be silent yet.
    let output = run(&store, &["--since", "2024-11-19T00:00:00Z", "--period", "1day"]);
    let fleet: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(of_host(&fleet["fleet"], "at3-r1-h1")["on_seconds"], 4 * HOUR);
    let silent = of_host(&fleet["fleet"], "at2-r2-h1");
    assert_eq!((&silent["on_seconds"], &silent["reports"], &silent["model"]), (&json!(0), &json!(0), &json!("OptiPlex 7010")));
    assert_eq!(silent["silent_seconds"], 36 * HOUR - 1);
    for wrong in [&["--since", "soon"][..], &["--since", "2999-01-01T00:00:00Z"], &["--prometheus", "ftp://x"], &["--by", "room"]]
    {
        let output = run(&store, wrong);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{wrong:?}");
    }
}

#[test]
fn what_is_not_signed_by_its_host_is_counted_and_not_believed() {
    let mut store = Store::new();
    let mut victim = store.machine("at1", "101", "victim");
    let mut other = store.machine("at1", "101", "other");
    victim.on(MONDAY + 8 * HOUR, MONDAY + 10 * HOUR, |_| ());
    other.on(MONDAY + 8 * HOUR, MONDAY + 10 * HOUR, |_| ());
    let directory = store.store().join("reports").join(&victim.id);
    let document = victim.document(MONDAY, MONDAY + DAY).to_string().replace("TAG0001", "forged");
    assert!(document.contains("forged"));

    // Another machine's report, under its own name, the victim's, and with the victim's name in it.
    other.sequence += 500;
    let theirs = fs::read(other.send(Kind::Snapshot, document.as_bytes(), MONDAY + DAY, MONDAY + DAY)).unwrap();
    put(&directory.join("001000000509"), &theirs, MONDAY + DAY);
    put(&directory.join("001000009000"), &theirs, MONDAY + DAY);
    let theirs = fs::read(other.send(Kind::Snapshot, document.as_bytes(), MONDAY + DAY, MONDAY + DAY)).unwrap();
    let sealed = String::from_utf8(theirs).unwrap().replace(&other.id, &victim.id);
    put(&directory.join("001000000510"), sealed.as_bytes(), MONDAY + DAY + 1);
    // Its own: cut off at every place, changed, not a document, of another schema, of the wrong length.
    let whole = fs::read(directory.join("001000000000")).unwrap();
    for (index, length) in [0, 1, 50, 300, whole.len() / 2, whole.len() - 1].into_iter().enumerate() {
        put(&directory.join(format!("00100000002{index}")), &whole[..length], MONDAY + DAY);
    }
    put(&directory.join("001000000030"), &vec![b'a'; (1 << 20) + 1], MONDAY + DAY);
    for payload in [
        "",
        "{}",
        "[]",
        "{\"host\":{\"schema\":2,\"collected_at\":\"2024-11-18T09:00:00Z\"}}",
        "{\"host\":{\"schema\":1,\"collected_at\":7}}",
    ] {
        victim.send(Kind::Snapshot, payload.as_bytes(), MONDAY + DAY, MONDAY + DAY);
    }
    // A stranger that nobody enrolled, a text in the name of a host that signs, names that are none.
    let stranger = store.store().join("reports/00000000-dead-4000-8000-000000000000");
    fs::create_dir(&stranger).unwrap();
    put(&stranger.join("001000000000"), &whole, MONDAY + DAY);
    store.text(&victim.id, MONDAY + DAY, "---- df ----\n");
    for name in ["reports/.x.expelled.1", "reports/..%2f", "reports/UPPER", "reports/a b"] {
        fs::create_dir(store.store().join(name)).unwrap();
    }
    std::os::unix::fs::symlink("/dev/zero", directory.join("001000000099")).unwrap();

    let fleet = fleet(&store, &[]);
    let rejected: Vec<_> = fleet["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["id"].as_str().unwrap(), one["reason"].as_str().unwrap(), one["reports"].as_u64().unwrap()))
        .collect();
    // What the other says of itself is its own: that it has the victim's Ethernet address.
    let serial_of =
        |id: &str| fleet["machines"].as_array().unwrap().iter().find(|machine| machine["id"] == id).unwrap()["serial"].clone();
    assert_eq!(serial_of(&other.id), "forged");
    assert_eq!(serial_of(&victim.id), "TAG0001", "WRONG  forged: a report that its host did not sign was believed");
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
    assert_eq!((&machine["reports"], &machine["on_seconds"]), (&json!(9), &json!(2 * HOUR)));
    let remote: Vec<_> = findings(&fleet, "remote")
        .into_iter()
        .filter(|(_, what, _)| *what == "rejected_reports")
        .map(|(host, ..)| host)
        .collect();
    assert_eq!(remote, [stranger, "victim", "victim", "victim", "victim"]);
}

#[test]
fn clones_and_exchanged_boards_are_told_apart() {
    let mut store = Store::new();
    // One id on two machines: both boot, and report by turns.
    let mut clone = store.machine("at1", "101", "clone");
    for at in (MONDAY + 8 * HOUR..MONDAY + 10 * HOUR).step_by(QUARTER as usize) {
        for (board, offset) in [("one", 0), ("two", 7)] {
            let mut document = clone.document(MONDAY + offset, at + offset);
            document["host"]["system"] = json!({"serial": board, "uuid": board});
            clone.snapshot(&document, at + offset);
        }
    }
    // The same board under two ids at the same time, and one after the other.
    for (name, ids, apart) in [("both", 2, 0), ("again", 2, 2 * DAY)] {
        let number = store.list("at1", "102", name);
        for index in 0..ids {
            let mut machine = store.enroll(number, "at1", "102", name);
            let from = MONDAY + 8 * HOUR + index * apart;
            machine.on(from, from + HOUR, |_| ());
        }
    }
    // Another board, for good.
    let mut exchanged = store.machine("at1", "103", "exchanged");
    exchanged.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |_| ());
    exchanged.on(MONDAY + DAY, MONDAY + DAY + HOUR, |host| host["system"]["uuid"] = "new".into());
    // Another machine that says to be one of hosts.ini.
    let mut honest = store.machine("at1", "104", "honest");
    honest.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |_| ());
    let mut liar = store.enroll(999, "at1", "104", "honest");
    liar.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |_| ());

    let fleet = fleet(&store, &[]);
    let mut found: Vec<_> = fleet["duplicates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["kind"].as_str().unwrap(),
                one["hosts"].as_array().unwrap().iter().map(|host| host.as_str().unwrap()).collect::<Vec<_>>(),
            )
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            ("board_exchanged", vec!["exchanged"]),
            ("one_board_two_ids", vec!["both", "both"]),
            ("one_id_two_machines", vec!["clone"]),
            ("one_name_two_ids", vec!["honest"]),
            ("reinstalled", vec!["again", "again"]),
        ]
    );
}

#[test]
fn a_wrong_clock_is_told_and_spoils_no_hours() {
    let mut store = Store::new();
    let mut ahead = store.machine("at1", "101", "ahead");
    let mut late = store.machine("at1", "101", "late");
    for quarter in 0..=16 {
        let at = MONDAY + 8 * HOUR + quarter * QUARTER;
        let mut document = ahead.document(MONDAY + 8 * HOUR, at);
        document["host"]["collected_at"] = time(at + 3 * DAY).into();
        ahead.send(Kind::Snapshot, document.to_string().as_bytes(), at + 3 * DAY, at + 1);
        // The collector was away, and takes all at once in the evening; then one more comes at its time.
        let document = late.document(MONDAY + 8 * HOUR, at);
        late.send(Kind::Snapshot, document.to_string().as_bytes(), at, MONDAY + 20 * HOUR);
    }
    let document = late.document(MONDAY + 20 * HOUR - 1, MONDAY + 20 * HOUR);
    late.snapshot(&document, MONDAY + 20 * HOUR);

    let fleet = fleet(&store, &[]);
    let machine = of_host(&fleet, "ahead");
    assert_eq!((&machine["clock_ahead_seconds"], &machine["on_seconds"]), (&json!(3 * DAY - 1), &json!(4 * HOUR)));
    let machine = of_host(&fleet, "late");
    assert_eq!((machine.get("clock_ahead_seconds"), &machine["on_seconds"]), (None, &json!(4 * HOUR + 1)));
    let skewed: Vec<_> = findings(&fleet, "remote").into_iter().filter(|(_, what, _)| *what == "clock_skewed").collect();
    assert_eq!(skewed, [("ahead", "clock_skewed", "its clock is 2 days ahead")]);
}

#[test]
fn no_text_of_a_machine_is_markup() {
    const EVIL: &str = "<script>alert(1)</script>\" onload=\"x' & \u{202e}\u{0} https://evil.example/";
    let mut store = Store::new();
    let mut machine = store.enroll(7, "<b>building", "<i>room", "evil");
    machine.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |host| {
        host["hostname"] = EVIL.into();
        host["system"] = json!({"model": EVIL, "serial": EVIL, "uuid": EVIL});
        host["interfaces"] = json!([{"name": EVIL, "hardware": true, "wireless": true, "carrier": true, "station": {"ssid": EVIL}, "addresses": [EVIL]}]);
        host["bases"] = json!([{"name": EVIL, "generation": u64::MAX, "programs": [{"name": EVIL, "version": EVIL}]}]);
        host["filesystems"] = json!([{"path": EVIL, "source": EVIL, "hanging": true, "total_bytes": u64::MAX, "used_bytes": u64::MAX, "available_bytes": 0}]);
        host["changes"] = json!([{"id": EVIL, "told_at": EVIL, "part": "disk", "action": "removed", "subject": EVIL, "before": EVIL}]);
        host["memory"] = json!({"installed_bytes": u64::MAX, "usable_bytes": u64::MAX, "available_bytes": 0});
        host["place"] = json!({"net": EVIL, "campus": EVIL, "building": EVIL, "room": EVIL});
    });
    machine.event(MONDAY + 9 * HOUR, "disk_removed", EVIL);
    let page = store.path().join("page.html");
    fleet(&store, &["--html", page.to_str().unwrap()]);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&quot;x&#39; &amp; \u{fffd}\u{fffd}"));
    assert_one_page(&page.replace("https://evil.example/", "").replace("onload=&quot;", "").replace("&lt;script", ""));
}

#[test]
fn what_did_not_wake_is_said_with_its_causes() {
    let mut store = Store::new();
    store.list("at1", "101", "asleep");
    let mut awake = store.machine("at1", "101", "awake");
    awake.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |_| ());
    let wake = store.path().join("wake.json");
    let likely = json!(["its power cable or network cable is not plugged in"]);
    let document = json!({"wake": {"schema": 1, "changed": true, "hosts": [
        {"name": "asleep", "building": "at1", "room": "101", "state": "no_link", "likely": likely},
        {"name": "awake", "building": "at1", "room": "101", "state": "awake", "likely": []}]}});
    fs::write(&wake, document.to_string()).unwrap();
    let fleet = fleet(&store, &["--wake", wake.to_str().unwrap()]);
    let asleep: Vec<_> = findings(&fleet, "visit").into_iter().filter(|(host, ..)| *host == "asleep").collect();
    assert_eq!(asleep, [("asleep", "not_woken", "it was woken, and nothing is on the wire")]);
    assert_eq!(fleet["visit"][0]["likely"], likely);
    for (text, status) in [(None, 66), (Some("{}"), 65), (Some("{\"wake\":{\"schema\":1,\"hosts\":[{}]}}"), 65)] {
        match text {
            Some(text) => fs::write(&wake, text).unwrap(),
            None => fs::remove_file(&wake).unwrap(),
        }
        let output = run(&store, &["--wake", wake.to_str().unwrap()]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(status), 0), "{text:?}");
    }
}

#[test]
fn the_rest_is_as_good_without_prometheus() {
    let store = Store::new();
    let output = run(&store, &[&WEEK[..], &["--prometheus", "http://127.0.0.1:1"]].concat());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && errors.starts_with("invcollect: asking http://127.0.0.1:1/api/v1/query_range: "),
        "{errors}"
    );
    let fleet: Value = serde_json::from_slice(&output.stdout).unwrap();
    let missing: Vec<_> =
        fleet["fleet"]["missing"].as_array().unwrap().iter().map(|missing| missing["key"].as_str().unwrap()).collect();
    assert_eq!(missing, ["machines", "traffic"]);
}

/// The same as versions of images, and who signed them.
#[test]
fn what_machines_should_have_says_a_signed_manifest() {
    let mut store = Store::new();
    let mut machine = store.machine("at1", "101", "one");
    machine.week(MONDAY, |_| ());
    let key = store.path().join("publisher.key");
    let sign = |kind: &str| {
        let manifest = store.path().join(format!("{kind}.manifest"));
        let script = format!(
            "openssl genpkey -algorithm ed25519 -out {key} && mkdir -p {keys} && openssl pkey -in {key} -pubout -out {keys}/{kind}-1.pub && \
             openssl pkeyutl -sign -rawin -inkey {key} -in {manifest} -out {signature}",
            key = key.display(),
            keys = store.config().join("keys").display(),
            manifest = manifest.display(),
            signature = manifest.with_extension("sig").display()
        );
        assert!(Command::new("sh").args(["-c", &script]).output().unwrap().status.success());
        manifest
    };
    let digest = "0".repeat(64);
    let host = json!({"schema": 1, "kind": "host", "name": "lab", "version": 13, "size_bytes": 4096, "sha256": digest, "models": [], "slot_fields": [], "created_at": "2024-11-01T00:00:00Z"});
    fs::write(store.path().join("host.manifest"), host.to_string()).unwrap();
    let manifest = sign("host");
    let fleet = fleet(&store, &["--manifest", manifest.to_str().unwrap()]);
    assert_eq!(findings(&fleet, "remote"), [("one", "behind", "host image: 12, the newest is 13")]);
    let image = &fleet["versions"][0];
    assert_eq!(
        (&image["kind"], &image["newest"], &image["given"], &image["current"]),
        (&json!("image"), &json!(13), &json!(true), &json!(0))
    );

    fs::write(&manifest, host.to_string().replace("13", "14")).unwrap();
    let status = || run(&store, &[&WEEK[..], &["--manifest", manifest.to_str().unwrap()]].concat()).status.code();
    assert_eq!(status(), Some(65), "it is not what was signed");
    fs::remove_file(manifest.with_extension("sig")).unwrap();
    assert_eq!(status(), Some(66));
}

#[test]
fn what_is_not_there_or_not_right_is_said() {
    let store = Store::new();
    let status = |store: &Store| run(store, &WEEK).status.code();
    assert_eq!(status(&store), Some(0), "nobody reported yet");
    store.write_config("hosts.ini", "[host.x]\n");
    assert_eq!(status(&store), Some(78));
    store.write_config("hosts.ini", "");
    fs::remove_dir_all(store.config().join("collector/keys")).unwrap();
    assert_eq!(status(&store), Some(66));
    fs::remove_dir_all(store.store()).unwrap();
    assert_eq!(status(&store), Some(66));
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

#[test]
fn the_man_page_examples_work() {
    let page = include_str!("../../../man/invcollect-fleet.8");
    jsonpipe::testkit::man_page_examples_work(env!("CARGO_BIN_EXE_invcollect"), page, campus().path());
}
