//! Ephemeral volumes: an exam's disk, which ends with its session and is not the user's.

use std::fs;

use jsonpipe::testkit::{Ended, feed};
use serde_json::{Value, json};

use crate::evict::{events, used_volume};
use crate::machine::store::Disk;
use crate::machine::{ALICE, BOB, CLONE, Machine, request, volume};
use crate::prune::end;

fn clone_ephemeral(machine: &Machine, user: &str) -> Ended {
    feed(
        &mut machine.command(&["clone", "--ephemeral"]),
        &request(user, Some("windows")),
    )
}

fn exam(machine: &Machine, user: &str) -> Value {
    volume(&clone_ephemeral(machine, user))
}

/// The disk of a volume, by its document.
fn disk_of(machine: &Machine, volume: &Value) -> Disk {
    let path = volume["path"].as_str().unwrap();
    Disk {
        path: machine.root().join(path.trim_start_matches('/')),
        format: match volume["format"].as_str() {
            Some("raw") => "raw",
            _ => "qcow2",
        },
    }
}

fn released(machine: &Machine, arguments: &[&str]) -> Value {
    let ended = machine.run(arguments);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
    serde_json::from_str::<Value>(&ended.stdout).unwrap()["released"].take()
}

/// The power is cut: what is in /run is gone.
fn cut(machine: &Machine) {
    fs::remove_dir_all(machine.root().join("run")).unwrap();
}

#[test]
fn an_exam_leaves_the_users_volume_as_it_is() {
    let machine = Machine::new();
    used_volume(&machine, ALICE, 3, 2);
    let login = machine.last_login(ALICE, "windows");

    let exam = exam(&machine, ALICE);
    assert_eq!(
        (
            &exam["ephemeral"],
            &exam["created"],
            &exam["reserved"],
            &exam["token"]
        ),
        (
            &json!(true),
            &json!(true),
            &json!(true),
            &json!(cowvol::Token::of(ALICE).as_str())
        )
    );
    assert!(
        exam["held_bytes"].as_u64() >= exam["room_bytes"].as_u64(),
        "{exam}"
    );
    let disk = disk_of(&machine, &exam);
    assert_eq!(disk.faults(), None);
    disk.io(&["read -q -P 0x55 0 3M", "write -q -P 0x99 0 32M"]);

    // It is nobody's: neither listed as the user's nor discarded with them.
    let of_alice = machine.run(&["list", "--user", ALICE]).stdout;
    assert_eq!(of_alice.matches("\"token\"").count(), 1, "{of_alice}");
    let listed = machine.list();
    let listed = listed["catalog"]["bases"][1]["volumes"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(
        (&listed[0]["ephemeral"], &listed[1]["ephemeral"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(listed[1]["in_use"], true);

    let would = released(&machine, &["release", "--dry-run"]);
    assert!(disk.path.exists());
    let done = released(&machine, &["release"]);
    assert_eq!(would["volumes"][0]["token"], done["volumes"][0]["token"]);
    assert_eq!(done["volumes"][0]["ephemeral"], true);
    let events = events(&machine);
    assert_eq!(
        (&events[0]["event"], &events[0]["what"]),
        (&json!("release"), &json!("ephemeral"))
    );
    assert!(
        done["volumes"][0]["freed_bytes"].as_u64() > Some(32 << 20),
        "{done}"
    );
    assert!(!disk.path.exists());
    assert_eq!(machine.last_login(ALICE, "windows"), login);
    let own = machine.disk(ALICE, "windows");
    own.io(&[
        "read -q -P 0x77 0 2M",
        "read -q -P 0x55 2M 1M",
        "read -q -P 0 4M 1M",
    ]);
    assert_eq!(machine.left().len(), 2, "{:?}", machine.left());
}

#[test]
fn an_exam_can_be_chosen_in_the_document() {
    let machine = Machine::new();
    let choose = |choice: Value| {
        let document = json!({"login": {"user": ALICE, "authenticated": true}, "choice": choice});
        CLONE.run(machine.root(), &document.to_string())
    };
    let exam = volume(&choose(json!({"base": "windows", "ephemeral": true})));
    assert_eq!(exam["ephemeral"], true);
    assert_eq!(
        machine.list()["catalog"]["bases"][1]["volumes"][0]["ephemeral"],
        true
    );
    let ended = choose(json!({"ephemeral": true, "restore": "clean"}));
    assert_eq!((ended.status, ended.stdout.as_str()), (65, ""), "{ended:?}");
    assert!(ended.stderr.contains("choice.restore: "), "{ended:?}");
    let own = volume(&choose(json!({"base": "windows", "ephemeral": false})));
    assert_eq!(
        (&own["ephemeral"], &own["created"]),
        (&json!(false), &json!(true))
    );
    // Only the user's own stays.
    released(&machine, &["release"]);
    assert!(machine.has(ALICE, "windows") && !disk_of(&machine, &exam).path.exists());
}

#[test]
fn after_a_power_cut_an_exam_is_gone_with_the_next_release_or_login() {
    let machine = Machine::new();
    for next in ["release", "clone"] {
        let exam = exam(&machine, ALICE);
        cut(&machine);
        if next == "release" {
            let done = released(&machine, &["release"]);
            assert_eq!(done["volumes"][0]["ephemeral"], true, "{done}");
        } else {
            let mut dry = machine.command(&["clone", "--dry-run"]);
            let would = volume(&feed(&mut dry, &request(BOB, Some("windows"))));
            assert!(disk_of(&machine, &exam).path.exists());
            let other = machine.volume(BOB, Some("windows"));
            assert_eq!(other["evicted"][0]["what"], "ephemeral", "{other}");
            assert_eq!(other["evicted"], would["evicted"]);
            assert_eq!(other["evicted"].as_array().unwrap().len(), 1);
            let events = events(&machine);
            assert_eq!(events.last().unwrap()["what"], "ephemeral");
        }
        assert!(!disk_of(&machine, &exam).path.exists(), "{next}");
    }
}

#[test]
fn an_exam_begins_afresh_and_not_while_its_disk_is_open() {
    let machine = Machine::new();
    let first = exam(&machine, ALICE);
    let disk = disk_of(&machine, &first);
    disk.io(&["write -q -P 0x99 0 1M"]);
    let qemu = disk.open();
    let ended = clone_ephemeral(&machine, ALICE);
    assert_eq!((ended.status, ended.stdout.as_str()), (75, ""), "{ended:?}");
    let done = released(&machine, &["release"]);
    assert_eq!(done["in_use"][0]["ephemeral"], true, "{done}");
    machine.volume(BOB, Some("windows"));
    assert!(disk.path.exists());
    end(qemu);
    let again = exam(&machine, ALICE);
    assert_eq!(
        (&again["path"], &again["created"]),
        (&first["path"], &json!(true))
    );
    assert!(
        again["held_bytes"].as_u64() >= again["room_bytes"].as_u64(),
        "{again}"
    );
    disk.io(&["read -q -P 0x55 0 1M"]);
}

#[test]
fn an_exam_evicts_as_any_volume_does_and_goes_before_any() {
    let machine = Machine::on_a_disk("ext4", 160);
    machine.leave_room(100); // a volume needs 34
    for (user, days) in [("u1@uni-a.example", 2), (BOB, 3)] {
        used_volume(&machine, user, days, 30);
    }
    let first = exam(&machine, ALICE);
    assert_eq!(first["evicted"], json!([]));
    let (status, error) = {
        let own = machine.disk(BOB, "windows").open();
        let other = machine.disk("u1@uni-a.example", "windows").open();
        let refusal = machine.refusal(ALICE, Some("windows"));
        end(own);
        end(other);
        refusal
    };
    assert_eq!(status, 73, "the exam has not ended: {error}");
    cut(&machine);
    let own = machine.volume(ALICE, Some("windows"));
    let [gone] = own["evicted"].as_array().unwrap().as_slice() else {
        panic!("{own}")
    };
    assert_eq!(gone["what"], "ephemeral");
    assert!(!disk_of(&machine, &first).path.exists() && machine.has(BOB, "windows"));
    let evicting = exam(&machine, ALICE);
    assert_eq!(evicting["evicted"][0]["what"], "volume");
    assert!(!machine.has(BOB, "windows") && machine.has(ALICE, "windows"));
}

mod on_qcow2 {
    use super::*;

    #[test]
    fn what_a_power_cut_left_of_an_exam_is_gone_with_the_next_login() {
        let machine = Machine::new();
        let file = disk_of(&machine, &exam(&machine, ALICE)).path;
        let name = format!(".{}.tmp", file.file_name().unwrap().to_str().unwrap());
        let remains = file.with_file_name(name);
        fs::rename(&file, &remains).unwrap();
        cut(&machine);
        let other = machine.volume(BOB, Some("windows"));
        assert_eq!(other["evicted"][0]["what"], "remains", "{other}");
        assert!(!remains.exists());
    }

    #[test]
    fn check_names_what_is_no_volume_of_an_exam() {
        let machine = Machine::new();
        let file = disk_of(&machine, &exam(&machine, ALICE)).path;
        fs::write(file.with_file_name("notes"), "").unwrap();
        fs::write(file.with_file_name("windows@7.qcow2"), "").unwrap(); // as in a user's directory
        fs::hard_link(&file, machine.root().join("copy")).unwrap();
        let checked = machine.run(&["check"]);
        assert_eq!(checked.status, 1, "{checked:?}");
        let checked: Value = serde_json::from_str(&checked.stdout).unwrap();
        let faults = checked["checked"]["faults"].as_array().unwrap().iter();
        let mut kinds: Vec<_> = faults
            .map(|fault| fault["kind"].as_str().unwrap())
            .collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["foreign", "foreign", "hard_link", "promise"]);
    }

    #[test]
    fn an_exam_that_nobody_heard_of_is_taken_back() {
        let machine = Machine::new();
        let command = machine.command(&["clone", "--ephemeral"]);
        let mut command = jsonpipe::testkit::redirected(">/dev/full", &command);
        let ended = feed(&mut command, &request(ALICE, None));
        assert_eq!(ended.status, 74, "{ended:?}");
        assert_eq!(machine.left(), [""; 0]);
    }
}
