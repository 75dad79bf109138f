//! Only on ZFS: `scripts/lab/test-zfs-volumes` runs these in a machine that has it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::machine::disk::succeed;
use crate::machine::store::get;
use crate::machine::{ALICE, BOB, Machine, write_bases_ini};
use crate::prune::end;

const LASTLOGIN: &str = "br.ufscar:lastlogin";

fn layout(machine: &Machine, arguments: &[&str]) -> (i32, Value) {
    let ended = machine.run(&[&["layout"], arguments].concat());
    (ended.status, ended.section("layout"))
}

/// The datasets that layout finds wrong, relative to the pool, each with a word of the reason.
fn wrong(machine: &Machine) -> Vec<(String, String)> {
    let (status, layout) = layout(machine, &[]);
    let wrong = layout["wrong"].as_array().unwrap();
    assert_eq!(status, i32::from(!wrong.is_empty()), "{layout}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let below = format!("{}/", machine.pool().0);
    wrong
        .iter()
        .map(|wrong| {
            let dataset = text(&wrong["dataset"]);
            (
                dataset.strip_prefix(&below).unwrap_or("").to_owned(),
                text(&wrong["reason"]),
            )
        })
        .collect()
}

#[test]
#[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
fn layout_makes_the_datasets_and_a_dry_run_does_not() {
    let machine = Machine::bare();
    machine.configure("");
    let pool = &machine.pool().0;
    let made = json!([format!("{pool}/base"), format!("{pool}/user")]);
    for (arguments, changed, expected) in [
        (&["--dry-run"][..], true, made.clone()),
        (&[], true, made),
        (&[], false, json!([])),
    ] {
        let (status, layout) = layout(&machine, arguments);
        assert_eq!(
            (
                status,
                &layout["changed"],
                &layout["made"],
                &layout["wrong"]
            ),
            (0, &json!(changed), &expected, &json!([]))
        );
    }
    assert_eq!(get(&format!("{pool}/user"), "mountpoint"), "none");
}

#[test]
#[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
fn layout_names_each_thing_that_is_wrong() {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    assert_eq!(wrong(&machine), []);
    let pool = &machine.pool().0;
    let of = |name: &str| format!("{pool}/{name}");
    succeed("zfs", &["set", "checksum=off", &of("user")]);
    succeed("zfs", &["set", "mountpoint=/nowhere", &of("base")]);
    succeed("zfs", &["set", "readonly=off", &of("base/linux")]);
    succeed(
        "zfs",
        &["set", "br.ufscar:ostype=linux", &of("base/windows")],
    );
    succeed("zfs", &["create", "-V", "8M", "-s", &of("base/debian")]);
    succeed("zfs", &["create", "-V", "8M", "-s", &of("user/notes")]);
    succeed("zfs", &["create", &of("user/lost+found").replace('+', "-")]);
    let found = wrong(&machine);
    let token = cowvol::Token::of(ALICE);
    let token = token.as_str();
    for (dataset, word) in [
        ("base", "zfs set mountpoint=none "),
        ("base/debian", "no snapshot"),
        ("base/debian", "zfs set readonly=on "),
        ("base/linux", "zfs set readonly=on "),
        ("base/windows", "zfs set br.ufscar:ostype='windows' "),
        ("user", "zfs set checksum=on "),
        (&format!("user/{token}/windows"), "zfs set checksum=on "),
        ("user/lost-found", "not a user's volume"),
        ("user/notes", "not a user's volume"),
    ] {
        assert!(
            found
                .iter()
                .any(|(name, reason)| name == dataset && reason.contains(word)),
            "{dataset} {word}: {found:?}"
        );
    }
    // It has mended nothing.
    assert_eq!(wrong(&machine), found);
    write_bases_ini(
        machine.root(),
        "[base.windows]\nname=Windows 10\nostype=linux\ngeneration=8\n",
    );
    assert!(
        wrong(&machine)
            .iter()
            .any(|(name, reason)| name == "base/windows@8" && reason.contains("no such snapshot"))
    );
}

#[test]
#[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
fn a_volume_on_another_snapshot_is_not_handed_out() {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    let pool = machine.pool();
    let base = |name: &str| format!("{}/base/{name}", pool.0);
    // The base was made anew under the same name.
    succeed("zfs", &["rename", &base("windows"), &base("kept")]);
    pool.make_base("windows", 7, 32, &[]);
    let (status, error) = machine.refusal(ALICE, Some("windows"));
    assert!(
        status == 65 && error.contains("not a clone of a base"),
        "{error}"
    );
    assert!(machine.has(ALICE, "windows"));
}

#[test]
#[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
fn a_base_whose_snapshot_was_taken_anew_is_not_handed_out() {
    let machine = Machine::new();
    let base = format!("{}/base/windows", machine.pool().0);
    let (snapshot, kept) = (format!("{base}@7"), format!("{base}@kept"));
    // As install-base records it.
    let guid = get(&snapshot, "guid");
    succeed(
        "zfs",
        &["set", &format!("br.ufscar:snapshot=7:{guid}"), &base],
    );
    machine.volume(ALICE, Some("windows"));
    succeed("zfs", &["rename", &snapshot, &kept]);
    succeed("zfs", &["snapshot", &snapshot]);
    let (status, error) = machine.refusal(BOB, Some("windows"));
    assert!(
        status == 65 && error.contains("/base/windows@7: it was taken anew"),
        "{error}"
    );
    // A generation that was received into the same volume has no record there.
    succeed("zfs", &["snapshot", &format!("{base}@8")]);
    let bases = machine.bases_ini();
    write_bases_ini(
        machine.root(),
        &bases.replace("generation = 7", "generation = 8"),
    );
    assert_eq!(machine.volume(BOB, Some("windows"))["generation"], 8);
}

#[test]
#[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
fn a_last_login_that_is_inherited_or_garbage_is_none() {
    let machine = Machine::new();
    for user in [ALICE, BOB] {
        machine.volume(user, Some("windows"));
    }
    assert_eq!(machine.run(&["release"]).status, 0);
    let users = format!("{}/user", machine.pool().0);
    let of = |user| format!("{users}/{}/windows", cowvol::Token::of(user).as_str());
    succeed(
        "zfs",
        &["set", "br.ufscar:lastlogin=2026-11-30T09:17:42Z", &users],
    );
    succeed("zfs", &["inherit", LASTLOGIN, &of(ALICE)]);
    succeed("zfs", &["set", "br.ufscar:lastlogin=x\ny\tz", &of(BOB)]);
    assert!(get(&of(ALICE), LASTLOGIN).starts_with("2026"));
    let arguments = ["discard", "--user"];
    for user in [ALICE, BOB] {
        let ended = machine.run(&[&arguments[..], &[user, "--dry-run"]].concat());
        let gone = &ended.section("discarded")["volumes"][0];
        assert_eq!(gone["what"], "volume", "{ended:?}");
        assert_eq!(gone.get("last_login_at"), None, "{ended:?}");
    }
    assert_eq!(machine.volume(BOB, Some("windows"))["created"], false);
}

/// ZFS keeps it, though no lock shows it.
#[test]
#[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
fn a_volume_that_is_open_without_a_lock_stays() {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    assert_eq!(machine.run(&["release"]).status, 0);
    let disk = machine.disk(ALICE, "windows");
    let open = File::open(&disk.path).unwrap();
    let ended = machine.run(&["discard", "--user", ALICE]);
    assert_eq!((ended.status, ended.stdout.as_str()), (75, ""), "{ended:?}");
    disk.io(&["read -q -P 0x55 0 1M"]);
    drop(open);
    assert_eq!(machine.run(&["discard", "--user", ALICE]).status, 0);
    assert!(!machine.has(ALICE, "windows"));
}

#[test]
#[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
fn clone_waits_until_the_link_leads_to_the_volume() {
    let machine = Machine::new();
    let disk = machine.disk(ALICE, "windows");
    // That of a volume that has gone, whose number another one has now.
    let base = Path::new("/dev/zvol").join(format!("{}/base/windows", machine.pool().0));
    fs::create_dir_all(disk.path.parent().unwrap()).unwrap();
    symlink(fs::canonicalize(base).unwrap(), &disk.path).unwrap();
    machine.volume(ALICE, Some("windows"));
    let named = succeed("zvol_id", &[disk.path.to_str().unwrap()]);
    assert_eq!(Path::new("/dev/zvol").join(named.trim()), disk.path);
}

#[test]
#[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
fn a_new_generation_pushes_the_old_volume_aside_until_it_is_unused() {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    assert_eq!(machine.run(&["release"]).status, 0);
    let pool = machine.pool();
    let base = |name: &str| format!("{}/base/{name}", pool.0);
    succeed("zfs", &["rename", &base("windows"), &base("windows:7")]);
    pool.make_base("windows", 8, 48, &[]);
    write_bases_ini(
        machine.root(),
        "[base.windows]\nname=Windows 11\nostype=windows\ngeneration=8\n",
    );
    let before = machine.left();
    let qemu = machine.disk(ALICE, "windows").open();
    assert_eq!(machine.refusal(ALICE, None).0, 75);
    end(qemu);
    assert_eq!(machine.left(), before);
    let volume = machine.volume(ALICE, None);
    assert_eq!(
        (&volume["generation"], &volume["virtual_bytes"]),
        (&json!(8), &json!(48 << 20))
    );
    assert_eq!(volume["replaced"][0]["generation"], 7, "{volume}");
    assert_eq!(machine.left(), before);
    let origin = get(&format!("{}/user/{}", pool.0, before[1]), "origin");
    assert_eq!(origin, base("windows@8"));
}
