//! `cowvol clone` on machines that are directories; qemu-img and qemu-io say whether it did right.

mod bases;
mod failing;

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonpipe::testkit::{Ended, feed};
use serde_json::json;

use crate::machine::{
    ALICE, BOB, CLONE, Machine, base_path, faults, make_base, qemu_img, qemu_io, request, tree,
    volume, write_bases_ini,
};

const ALICES_TOKEN: &str = "T36T7_9pSGo3VWMdGbk9-qTCynRXmZCZlGbo-w";

/// What is held for a disk of 32 MiB: `qemu-img measure`, and the slack.
const ROOM_BYTES: u64 = (32 << 20) + 5 * 65536 + (1 << 20) + 65536;

#[test]
fn the_first_login_creates_and_the_second_reuses() {
    let machine = Machine::new();
    let first = machine.volume(ALICE, Some("windows"));
    let path = format!("/qcow2/user/{ALICES_TOKEN}/windows@7.qcow2");
    assert_eq!(
        first,
        json!({
            "schema": 1, "user": ALICE, "token": ALICES_TOKEN, "base": "windows", "ostype": "windows", "generation": 7,
            "backend": "qcow2", "format": "qcow2", "path": path,
            "backing_path": "/qcow2/backing/windows/7.qcow2", "backing_format": "qcow2",
            "virtual_bytes": 32 << 20, "room_bytes": ROOM_BYTES, "reserved": true, "held_bytes": first["held_bytes"],
            "evicted": [], "replaced": [], "ephemeral": false,
            "missing": [{"key": "restore_point_at", "reason": "the volume is new"}],
            "created": true, "changed": true,
        })
    );
    // Perhaps with a block in which the file system lists the pieces.
    let held_bytes = first["held_bytes"].as_u64().unwrap();
    assert!(
        (ROOM_BYTES..=ROOM_BYTES + 65536).contains(&held_bytes),
        "{first}"
    );

    let file = machine.home(ALICE).join("windows@7.qcow2");
    assert_eq!(faults(&file), None);
    qemu_io(&file, &["write -q -P 0x77 1M 64k"]);
    let second = machine.volume(ALICE, Some("windows"));
    assert_eq!(
        (&second["created"], &second["changed"], &second["path"]),
        (&json!(false), &json!(false), &first["path"])
    );
    assert_eq!(
        second["held_bytes"], first["held_bytes"],
        "it was written within its room"
    );
    qemu_io(
        &file,
        &[
            "read -q -P 0x77 1M 64k",
            "read -q -P 0x55 2M 64k",
            "read -q -P 0xaa 16M 1M",
            "read -q -P 0 5M 64k",
        ],
    );
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    for directory in [
        machine.home(ALICE),
        machine.users(),
        machine.root().join("run/labtools"),
    ] {
        assert_eq!(fs::metadata(directory).unwrap().mode() & 0o7777, 0o700);
    }
}

#[test]
fn users_and_the_base_do_not_see_each_others_writes() {
    let machine = Machine::new();
    let base = base_path(machine.root(), "windows", 7);
    let before = fs::read(&base).unwrap();
    for user in [ALICE, BOB] {
        machine.volume(user, Some("windows"));
    }
    qemu_io(
        &machine.home(ALICE).join("windows@7.qcow2"),
        &["write -q -P 0x77 0 4M"],
    );
    let bobs = machine.home(BOB).join("windows@7.qcow2");
    qemu_img(&[
        "compare",
        "-q",
        base.to_str().unwrap(),
        bobs.to_str().unwrap(),
    ]);
    assert!(fs::read(&base).unwrap() == before);
    assert_ne!(fs::metadata(&bobs).unwrap().blocks(), 0);
}

#[test]
fn the_default_is_taken_where_nothing_is_chosen() {
    let machine = Machine::new();
    assert_eq!(machine.volume(ALICE, None)["base"], "windows");
    assert_eq!(
        machine.volume(ALICE, Some("linux"))["path"],
        format!("/qcow2/user/{ALICES_TOKEN}/linux@3.qcow2")
    );
    let ended = CLONE.run(
        machine.root(),
        r#"{"login":{"user":"alice","authenticated":true},"choice":{}}"#,
    );
    assert_eq!(volume(&ended)["base"], "windows");
}

#[test]
fn names_stay_in_the_directory_for_volumes() {
    let machine = Machine::new();
    let long = "a".repeat(4096);
    for user in [
        "../../x",
        "/etc/passwd",
        "a\0b",
        "João.Ação@uni-a.example",
        "\n",
        ".",
        &long,
    ] {
        let token = machine.volume(user, None)["token"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(token.len(), 38);
        assert!(
            machine.left().contains(&format!("{token}/windows@7.qcow2")),
            "{user:?}"
        );
    }
    assert_eq!(machine.left().len(), 14);
    assert_eq!(
        tree(machine.root())
            .iter()
            .filter(|name| !name.contains('/'))
            .collect::<Vec<_>>(),
        ["qcow2", "run"]
    );
    // Whether these are the same person is for the realm's file to say, in the login before.
    assert_ne!(
        machine.volume("ALICE@uni-a.example", None)["token"],
        ALICES_TOKEN
    );
    assert_eq!(machine.refusal("", None).0, 65);
}

#[test]
fn a_dry_run_says_what_it_would_do_and_writes_nothing() {
    let machine = Machine::new();
    let dry = || {
        let mut command = Command::new(CLONE.binary);
        command
            .args(["clone", "--dry-run", "--root"])
            .arg(machine.root());
        volume(&feed(&mut command, &request(ALICE, None)))
    };
    let before = tree(machine.root());
    let would = dry();
    assert_eq!(
        (&would["changed"], &would["created"], &would["held_bytes"]),
        (&json!(true), &json!(true), &json!(0))
    );
    assert_eq!(tree(machine.root()), before);

    let real = machine.volume(ALICE, None);
    let file = machine.home(ALICE).join("windows@7.qcow2");
    let used = fs::metadata(&file).unwrap().modified().unwrap();
    let would = dry();
    assert_eq!(
        (&would["changed"], &would["held_bytes"]),
        (&json!(false), &real["held_bytes"])
    );
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), used);
}

#[test]
fn each_login_is_the_last_use() {
    let machine = Machine::new();
    machine.volume(ALICE, None);
    let file = File::open(machine.home(ALICE).join("windows@7.qcow2")).unwrap();
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    file.set_times(FileTimes::new().set_modified(long_ago))
        .unwrap();
    let before = SystemTime::now();
    machine.volume(ALICE, None);
    let used = file.metadata().unwrap().modified().unwrap();
    assert!(used > before - Duration::from_secs(1), "{used:?}"); // the clock of files is a coarse one
}

#[test]
fn a_new_generation_has_its_own_volumes() {
    let machine = Machine::new();
    machine.volume(ALICE, None);
    assert_eq!(machine.run(&["release"]).status, 0);
    write_bases_ini(
        machine.root(),
        "[base.windows]\nname=Windows 11\nostype=windows\ngeneration=8\n",
    );
    make_base(machine.root(), "windows", 8, &["48M"]);
    let volume = machine.volume(ALICE, None);
    assert_eq!(
        (
            &volume["generation"],
            &volume["virtual_bytes"],
            &volume["created"]
        ),
        (&json!(8), &json!(48u64 << 20), &json!(true))
    );
    let token = ALICES_TOKEN;
    assert_eq!(
        machine.left(),
        [token.into(), format!("{token}/windows@8.qcow2")]
    );
}

#[test]
fn logins_that_are_not_whole() {
    let machine = Machine::new();
    for (document, message) in [
        (r#"{"choice":{"base":"windows"}}"#, "login: missing"),
        (
            r#"{"login":{"user":"alice"}}"#,
            "login.authenticated: missing",
        ),
        (
            r#"{"login":{"user":"alice","authenticated":"perhaps"}}"#,
            "login.authenticated: expected true or false",
        ),
        (
            r#"{"login":{"authenticated":true}}"#,
            "login.user: missing or empty, though login.authenticated is true",
        ),
        (
            r#"{"login":{"schema":2,"user":"alice","authenticated":true}}"#,
            "login.schema: not 1, the one that this release knows",
        ),
        (
            r#"{"login":{"user":"alice","authenticated":true},"choice":{"bse":"windows"}}"#,
            "choice.bse: unknown key",
        ),
    ] {
        let ended = CLONE.run(machine.root(), document);
        let expected = Ended {
            status: 65,
            signal: None,
            stdout: String::new(),
            stderr: format!("cowvol: {message}\n"),
        };
        assert_eq!(ended, expected, "{document}");
    }
    assert_eq!(machine.left(), [""; 0]);
}
