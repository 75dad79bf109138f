//! `cowvol release` and `discard`: the end of a session, and of a user's volumes.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use jsonpipe::testkit::{feed, redirected};
use serde_json::{Value, json};

use crate::machine::{ALICE, BOB, Machine, request};
use crate::prune::end;

/// The section of a subcommand that must succeed.
fn section(machine: &Machine, arguments: &[&str], name: &str) -> Value {
    let ended = machine.run(arguments);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
    serde_json::from_str::<Value>(&ended.stdout).unwrap()[name].take()
}

fn held(machine: &Machine, user: &str) -> u64 {
    machine.held_bytes(user, "windows")
}

#[test]
fn release_gives_the_room_back_and_keeps_the_files_and_the_last_login() {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    let disk = machine.disk(ALICE, "windows");
    disk.io(&["write -q -P 0x77 1M 1M"]);
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    machine.set_last_login(ALICE, "windows", long_ago);
    assert!(held(&machine, ALICE) > 32 << 20);

    let would = section(&machine, &["release", "--dry-run"], "released");
    assert!(held(&machine, ALICE) > 32 << 20);
    let released = section(&machine, &["release"], "released");
    assert_eq!(
        would["volumes"][0]["token"],
        released["volumes"][0]["token"]
    );
    assert!(
        released["volumes"][0]["freed_bytes"].as_u64() > Some(29 << 20),
        "{released}"
    );
    assert!(held(&machine, ALICE) < 3 << 20);
    assert_eq!(machine.last_login(ALICE, "windows"), long_ago);
    assert_eq!(disk.faults(), None);
    disk.io(&["read -q -P 0x77 1M 1M"]);
    let again = section(&machine, &["release"], "released");
    assert_eq!(
        again,
        json!({"schema": 1, "changed": false, "volumes": [], "in_use": [], "failed": []})
    );
    let listed = &machine.list()["catalog"]["bases"][1]["volumes"][0];
    assert_eq!(
        (&listed["reserved_bytes"], &listed["in_use"]),
        (&json!(0), &json!(false))
    );

    machine.volume(ALICE, Some("windows"));
    assert!(
        held(&machine, ALICE) > 32 << 20,
        "the next login holds it again"
    );
}

#[test]
fn release_leaves_an_open_volume_its_room() {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    let qemu = machine.disk(ALICE, "windows").open();
    let released = section(&machine, &["release"], "released");
    assert_eq!(
        (&released["changed"], &released["volumes"]),
        (&json!(false), &json!([]))
    );
    assert_eq!(released["in_use"].as_array().unwrap().len(), 1);
    assert!(held(&machine, ALICE) > 32 << 20);
    end(qemu);
    assert_eq!(section(&machine, &["release"], "released")["changed"], true);
}

#[test]
fn a_login_that_nobody_heard_of_gives_the_room_and_the_last_login_back() {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    section(&machine, &["release"], "released");
    let now = || (held(&machine, ALICE), machine.last_login(ALICE, "windows"));
    let before = now();
    let command = machine.command(&["clone"]);
    let ended = feed(
        &mut redirected(">/dev/full", &command),
        &request(ALICE, None),
    );
    assert_eq!(ended.status, 74, "{ended:?}");
    assert_eq!(now(), before);
    assert_eq!(
        section(&machine, &["release"], "released")["changed"],
        false
    );
}

#[test]
fn a_login_that_nobody_heard_of_leaves_the_session_before_its_promise() {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    let command = machine.command(&["clone"]);
    let ended = feed(
        &mut redirected(">/dev/full", &command),
        &request(ALICE, Some("windows")),
    );
    assert_eq!(ended.status, 74, "{ended:?}");
    let listed = &machine.list()["catalog"]["bases"][1]["volumes"][0];
    assert_eq!(listed["in_use"], true, "{listed}");
    assert!(held(&machine, ALICE) > 32 << 20);
}

#[test]
fn discard_removes_the_volumes_of_one_user() {
    let machine = Machine::new();
    for base in ["windows", "linux"] {
        machine.volume(ALICE, Some(base));
        machine.volume(BOB, Some(base));
    }
    let refused = |reason: &str| {
        for more in [&["--dry-run"][..], &[]] {
            let ended = machine.run(&[&["discard", "--user", ALICE], more].concat());
            assert_eq!((ended.status, ended.stdout.as_str()), (75, ""), "{ended:?}");
            assert!(ended.stderr.contains(reason), "{ended:?}");
            assert_eq!(machine.left().len(), 6);
        }
    };
    // QEMU has not opened it yet. A session that was killed leaves the same.
    refused("its session has not ended; end it, or if it was killed, run cowvol release; ");
    assert_eq!(machine.run(&["release"]).status, 0);
    let qemu = machine.disk(ALICE, "windows").open();
    refused("a program has it open; end that session, or wait for the end of its export; ");
    end(qemu);

    let arguments = ["discard", "--user", ALICE, "--base", "windows"];
    let would = section(
        &machine,
        &[&arguments[..], &["--dry-run"]].concat(),
        "discarded",
    );
    assert!(machine.has(ALICE, "windows"));
    let discarded = section(&machine, &arguments, "discarded");
    assert_eq!(would, discarded);
    assert_eq!(
        (
            &discarded["user"],
            &discarded["volumes"][0]["base"],
            &discarded["volumes"][0]["what"]
        ),
        (&json!(ALICE), &json!("windows"), &json!("volume"))
    );
    assert!(!machine.has(ALICE, "windows") && machine.has_home(ALICE));
    section(&machine, &["discard", "--user", ALICE], "discarded");
    assert!(!machine.has_home(ALICE) && machine.has(BOB, "windows"));
    let nothing = machine.run(&["discard", "--user", ALICE]);
    assert_eq!(nothing.status, 0, "{nothing:?}");
    assert!(
        nothing.stderr.starts_with(
            "cowvol: discarding the volumes of alice@uni-a.example: there is none on this machine; "
        ),
        "{nothing:?}"
    );
    assert!(
        nothing.stdout.contains(r#""changed":false"#) && nothing.stdout.contains(r#""volumes":[]"#)
    );
    let log = fs::read_to_string(machine.root().join("var/log/labtools/events.jsonl")).unwrap();
    assert_eq!(
        log.lines()
            .filter(|line| line.contains(r#""event":"discard""#))
            .count(),
        2
    );
}

/// Only a file can be immutable.
mod on_qcow2 {
    use cowvol::Token;

    use super::*;
    use crate::machine::disk::chattr;

    #[test]
    fn release_goes_on_after_a_volume_that_fails() {
        let machine = Machine::on_a_disk("ext4", 160);
        let users = [ALICE, BOB, "carol@uni-a.example"];
        for user in users {
            machine.volume(user, Some("windows"));
        }
        let mut in_order = users;
        in_order.sort_by_key(|user| Token::of(user).to_string());
        let [first, bad, last] = in_order;
        let before = held(&machine, bad);
        chattr("+i", &machine.disk(bad, "windows").path);
        let ended = machine.run(&["release"]);
        chattr("-i", &machine.disk(bad, "windows").path);
        assert_eq!(ended.status, 1, "{ended:?}");
        let released = &serde_json::from_str::<Value>(&ended.stdout).unwrap()["released"];
        let token = |user: &str| json!(Token::of(user).as_str());
        let [failed] = &released["failed"].as_array().unwrap()[..] else {
            panic!("{released}")
        };
        assert_eq!(failed["token"], token(bad));
        let reason = failed["reason"].as_str().unwrap();
        assert!(reason.contains("Operation not permitted"), "{reason}");
        assert_eq!(ended.stderr, format!("cowvol: {reason}\n"));
        let gave_back = released["volumes"].as_array().unwrap().iter();
        assert!(
            gave_back
                .map(|of| &of["token"])
                .eq([&token(first), &token(last)])
        );
        assert!(held(&machine, first) < before && held(&machine, last) < before);
        assert_eq!(held(&machine, bad), before);

        let again = section(&machine, &["release"], "released");
        assert_eq!(again["volumes"][0]["token"], token(bad), "{again}");
    }
}
