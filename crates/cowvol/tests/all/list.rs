//! `cowvol list`: what is there, and what is wrong with it.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::machine::{ALICE, BOB, CLONE, Machine, base_path, make_base, tree, write_bases_ini};

const ALICES: &str = "T36T7_9pSGo3VWMdGbk9-qTCynRXmZCZlGbo-w";
const BOBS: &str = "9o-xwKph7b1pRFcuLv8x3dDL6B1pky6AXYSBLQ";

/// A volume as it is listed, its size on the disk taken from `listed`.
fn listed(
    token: &str,
    base: &str,
    generation: u64,
    virtual_bytes: u64,
    held_bytes: &Value,
) -> Value {
    json!({
        "token": token, "base": base, "generation": generation,
        "path": format!("/qcow2/user/{token}/{base}@{generation}.qcow2"),
        "backing_path": format!("/qcow2/backing/{base}/{generation}.qcow2"),
        "held_bytes": held_bytes, "reserved_bytes": held_bytes.as_u64().unwrap() - 4 * 65536, "in_use": true, "ephemeral": false,
        "virtual_bytes": virtual_bytes, "last_login_at": "2001-09-09T01:46:40Z",
    })
}

#[test]
fn bases_with_their_volumes_and_the_volumes_without_a_base() {
    let machine = Machine::new();
    let offered = machine.bases_ini();
    make_base(machine.root(), "windows", 8, &["48M"]);
    write_bases_ini(
        machine.root(),
        &offered.replace("generation = 7", "generation = 8"),
    );
    let held_on_8 = machine.volume(BOB, Some("windows"))["held_bytes"].take();
    write_bases_ini(machine.root(), &offered);
    machine.volume(ALICE, Some("windows"));
    let held = machine.volume(BOB, Some("windows"))["held_bytes"].take();
    let linux_held = machine.volume(BOB, Some("linux"))["held_bytes"].take();
    // windows moves on to generation 8, linux is no longer offered, debian was never there.
    write_bases_ini(
        machine.root(),
        "[base.windows]\nname=Windows 10\nostype=windows\ngeneration=8\n[base.debian]\nname=Debian\nostype=linux\ngeneration=1\n",
    );
    let held_by_7 = fs::metadata(base_path(machine.root(), "windows", 7))
        .unwrap()
        .blocks()
        * 512;
    // What is not a volume.
    fs::create_dir(machine.users().join("lost+found")).unwrap();
    fs::write(
        machine.users().join("A".repeat(38)),
        "a file in place of a directory",
    )
    .unwrap();
    fs::write(machine.home(ALICE).join(".windows@9.qcow2.tmp"), "half").unwrap();
    fs::write(machine.home(ALICE).join("notes"), "").unwrap();
    for name in machine
        .left()
        .iter()
        .filter(|name| name.ends_with(".qcow2"))
    {
        let long_ago =
            FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000));
        File::open(machine.users().join(name))
            .unwrap()
            .set_times(long_ago)
            .unwrap();
    }

    let expected = json!({"catalog": {
        "schema": 2,
        "changed": false,
        "bases": [
            {
                "name": "debian", "title": "Debian", "ostype": "linux", "default": false, "generation": 1,
                "format": "qcow2", "path": "/qcow2/backing/debian/1.qcow2", "other_generations": [], "volumes": [],
            },
            {
                "name": "windows", "title": "Windows 10", "ostype": "windows", "default": false, "generation": 8,
                "format": "qcow2", "path": "/qcow2/backing/windows/8.qcow2", "virtual_bytes": 48u64 << 20,
                "other_generations": [{"generation": 7, "held_bytes": held_by_7}],
                "volumes": [
                    listed(BOBS, "windows", 7, 32 << 20, &held),
                    listed(BOBS, "windows", 8, 48 << 20, &held_on_8),
                    listed(ALICES, "windows", 7, 32 << 20, &held),
                ],
            },
        ],
        "orphans": [listed(BOBS, "linux", 3, 64 << 20, &linux_held)],
        "missing": [{
            "key": "bases[0].virtual_bytes",
            "reason": format!(
                "reading {}: No such file or directory (os error 2); put the image there, or mend generation in /qcow2/backing/bases.ini",
                base_path(machine.root(), "debian", 1).display()
            ),
        }],
    }});
    let before = tree(machine.root());
    assert_eq!(machine.list(), expected);
    assert_eq!(machine.list(), expected);
    let alices = machine.run(&["list", "--user", ALICE]);
    let alices: Value = serde_json::from_str(&alices.stdout).unwrap();
    let windows = &alices["catalog"]["bases"][1];
    assert_eq!(
        (&windows["volumes"], &alices["catalog"]["orphans"]),
        (
            &json!([listed(ALICES, "windows", 7, 32 << 20, &held)]),
            &json!([])
        )
    );
    assert_eq!(tree(machine.root()), before);
}

#[test]
fn list_says_that_a_user_has_no_volume() {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    assert_eq!(machine.run(&["list", "--user", ALICE]).stderr, "");
    let ended = machine.run(&["list", "--user", "alice"]);
    assert_eq!(
        (ended.status, ended.stderr.as_str()),
        (
            0,
            "cowvol: alice has no volume on this machine; the name is the full one, as in login.user\n"
        )
    );
    let catalog: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(catalog["catalog"]["bases"][1]["volumes"], json!([]));
    assert_eq!(machine.run(&["list"]).stderr, "");
}

#[test]
fn list_gives_reasons_for_broken_files() {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    machine.volume(BOB, Some("windows"));
    fs::write(machine.home(ALICE).join("windows@7.qcow2"), "junk").unwrap();
    fs::write(base_path(machine.root(), "windows", 7), "junk").unwrap();
    let catalog = machine.list()["catalog"].take();
    let missing: Vec<(&str, bool)> = catalog["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|missing| {
            (
                missing["key"].as_str().unwrap(),
                missing["reason"]
                    .as_str()
                    .unwrap()
                    .ends_with("not a qcow2 image"),
            )
        })
        .collect();
    assert_eq!(
        missing,
        [
            ("bases[1].virtual_bytes", true),
            ("bases[1].volumes[1].backing_path", true),
            ("bases[1].volumes[1].virtual_bytes", true),
        ]
    );
    assert_eq!(catalog["bases"][1].get("virtual_bytes"), None);
    assert_eq!(catalog["bases"][1]["volumes"][1].get("virtual_bytes"), None);
    assert_eq!(catalog["bases"][1]["volumes"][1]["token"], ALICES);
}

#[test]
fn a_machine_without_volumes_or_without_bases() {
    let machine = Machine::new();
    let catalog = machine.list()["catalog"].take();
    assert_eq!(
        (
            &catalog["bases"][1]["volumes"],
            &catalog["orphans"],
            &catalog["missing"]
        ),
        (&json!([]), &json!([]), &json!([]))
    );

    for (text, status, message) in [
        (
            None,
            66,
            "bases.ini: no such file; cowvol install-base makes it",
        ),
        (
            Some("[base.windows]\nname=W\nostype=windows\n"),
            78,
            "bases.ini: base.windows.generation: missing",
        ),
        (
            Some("[base.Windows]\nname=W\nostype=windows\ngeneration=1\n"),
            78,
            "bases.ini: [base.Windows]: not a name",
        ),
        (
            Some("[bases]\n"),
            78,
            "bases.ini: [bases]: expected [base.NAME]",
        ),
    ] {
        match text {
            Some(text) => write_bases_ini(machine.root(), text),
            None => fs::remove_file(machine.root().join("qcow2/backing/bases.ini")).unwrap(),
        }
        let output = Command::new(CLONE.binary)
            .arg("list")
            .arg("--root")
            .arg(machine.root())
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.is_empty()),
            (Some(status), true),
            "{error}"
        );
        assert!(
            error.contains(message) && error.lines().count() == 1,
            "{error}"
        );
    }
}
