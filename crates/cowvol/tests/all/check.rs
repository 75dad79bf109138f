//! `cowvol check` and `repair`: what is named, what is mended, and that no user's files go.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use cowvol::Token;
use jsonpipe::testkit::feed;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::evict::{events, used_volume};
use crate::machine::{ALICE, BOB, Machine, base_path, tree};
use crate::prune::end;

const CAROL: &str = "carol@uni-a.example";

/// The section of a subcommand, which ends with this status.
fn section(machine: &Machine, arguments: &[&str], name: &str, status: i32) -> Value {
    let ended = machine.run(arguments);
    assert_eq!(
        (ended.status, ended.stderr.as_str()),
        (status, ""),
        "{ended:?}"
    );
    serde_json::from_str::<Value>(&ended.stdout).unwrap()[name].take()
}

/// Each fault as `kind path`, where a token is the user's first letter.
fn faults(list: &Value) -> Vec<String> {
    let short = |path: &str| {
        let mut path = path.replace("/qcow2/user/", "");
        for user in [ALICE, BOB, CAROL] {
            path = path.replace(Token::of(user).as_str(), &user[..1]);
        }
        path.replace("/qcow2/backing/", "")
    };
    let faults = list.as_array().unwrap().iter();
    faults
        .map(|fault| {
            let (kind, path) = (fault["kind"].as_str(), fault["path"].as_str());
            for key in ["what", "way_out"] {
                assert!(!fault[key].as_str().unwrap().is_empty(), "{fault}");
            }
            format!("{} {}", kind.unwrap(), short(path.unwrap()))
        })
        .collect()
}

pub fn checked(machine: &Machine) -> Vec<String> {
    let before = (tree(machine.root()), machine.left());
    let ended = machine.run(&["check"]);
    let mut section = serde_json::from_str::<Value>(&ended.stdout).unwrap()["checked"].take();
    let faults = faults(&section["faults"].take());
    assert_eq!(ended.status, i32::from(!faults.is_empty()), "{ended:?}");
    assert_eq!(section["changed"], false);
    let lock = |name: &String| !name.starts_with("run");
    let after = (tree(machine.root()), machine.left());
    assert_eq!(
        after.0.into_iter().filter(lock).collect::<Vec<_>>(),
        before.0.into_iter().filter(lock).collect::<Vec<_>>()
    );
    assert_eq!(after.1, before.1);
    faults
}

#[test]
fn check_finds_nothing_where_nothing_is_wrong() {
    let machine = Machine::new();
    assert_eq!(checked(&machine), [""; 0]);
    used_volume(&machine, ALICE, 3, 1);
    assert_eq!(checked(&machine), [""; 0]);
    // A session whose guest has not started, and one whose guest runs.
    let _session = machine.hold("session.lock");
    machine.volume(ALICE, Some("windows"));
    assert_eq!(checked(&machine), [""; 0]);
    let qemu = machine.disk(ALICE, "windows").open();
    assert_eq!(checked(&machine), [""; 0]);
    let nothing = section(&machine, &["repair"], "repaired", 0);
    assert_eq!(
        nothing,
        json!({"schema": 1, "changed": false, "repaired": [], "left": []})
    );
    end(qemu);
}

#[test]
fn repair_gives_back_the_room_of_sessions_that_are_over() {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    machine.volume(BOB, Some("linux"));
    let held = machine.held_bytes(ALICE, "windows");
    let promised = machine.root().join("run/labtools/promised");
    let gone = format!("{}.windows@7", Token::of(CAROL).as_str());
    fs::write(promised.join(gone), "").unwrap();
    let kinds = |list: &Value| -> Vec<String> {
        let faults = faults(list).into_iter();
        faults
            .map(|fault| fault.split(' ').next().unwrap().to_owned())
            .collect()
    };
    let checked = section(&machine, &["check"], "checked", 1);
    assert_eq!(kinds(&checked["faults"]), ["promise"; 3]);
    let repaired = section(&machine, &["repair"], "repaired", 0);
    assert_eq!(kinds(&repaired["repaired"]), ["promise"; 3]);
    assert!(machine.held_bytes(ALICE, "windows") < held && !promised.exists());

    machine.volume(ALICE, Some("windows"));
    fs::remove_dir_all(machine.root().join("run")).unwrap(); // a power cut
    let would = section(&machine, &["repair", "--dry-run"], "repaired", 0);
    assert_eq!(machine.held_bytes(ALICE, "windows"), held);
    let repaired = section(&machine, &["repair"], "repaired", 0);
    assert_eq!(would, repaired);
    assert_eq!(kinds(&repaired["repaired"]), ["room"]);
    assert!(machine.held_bytes(ALICE, "windows") < held);
    assert_eq!(
        section(&machine, &["check"], "checked", 0)["faults"],
        json!([])
    );
}

#[test]
fn repair_removes_the_volume_of_an_exam_that_is_over_with_an_event() {
    let machine = Machine::new();
    let document = json!({"login": {"user": ALICE, "authenticated": true}}).to_string();
    let mut clone = machine.command(&["clone", "--ephemeral"]);
    assert_eq!(feed(&mut clone, &document).status, 0);
    let exam = machine.list()["catalog"]["bases"][1]["volumes"][0].take();
    assert_eq!(exam["ephemeral"], true);
    fs::remove_dir_all(machine.root().join("run")).unwrap(); // a power cut
    let before = events(&machine).len();
    let repaired = section(&machine, &["repair"], "repaired", 0);
    assert_eq!(repaired["repaired"][0]["kind"], "room");
    assert_eq!(machine.list()["catalog"]["bases"][1]["volumes"], json!([]));
    let [event] = &events(&machine)[before..] else {
        panic!("one event")
    };
    assert_eq!(
        [&event["event"], &event["what"]],
        [&json!("repair"), &json!("ephemeral")]
    );
}

/// What can lie among files.
mod on_qcow2 {
    use super::*;

    #[test]
    fn repair_mends_what_is_safe_and_names_the_rest() {
        let machine = Machine::new();
        for user in [ALICE, BOB, CAROL] {
            used_volume(&machine, user, 1, 1);
        }
        machine.volume(BOB, Some("linux"));
        assert_eq!(machine.run(&["release"]).status, 0);
        let (alice, bob) = (machine.home(ALICE), machine.home(BOB));
        let backing = machine.root().join("qcow2/backing");
        let write = |path: &Path| fs::write(path, "half").unwrap();

        write(&alice.join(".linux@3.qcow2.tmp"));
        write(&backing.join(".bases.ini.tmp"));
        fs::create_dir(machine.users().join("A".repeat(38))).unwrap();
        let mended = [
            "half_made .bases.ini.tmp".to_owned(),
            format!("empty_directory {}", "A".repeat(38)),
            "half_made a/.linux@3.qcow2.tmp".to_owned(),
        ];

        write(&alice.join("notes"));
        write(&machine.users().join("notes"));
        mkfifo(&alice.join(".windows@7.qcow2.tmp"), Mode::S_IRWXU).unwrap();
        fs::create_dir(machine.users().join("lost+found")).unwrap();
        fs::hard_link(bob.join("windows@7.qcow2"), machine.root().join("copy")).unwrap();
        fs::remove_file(base_path(machine.root(), "linux", 3)).unwrap();
        write(&base_path(machine.root(), "windows", 6).with_extension("manifest"));
        let file = File::options()
            .write(true)
            .open(machine.home(CAROL).join("windows@7.qcow2"));
        file.unwrap().write_all_at(&[0; 8], 24).unwrap(); // the size of its disk
        let left = [
            "base linux/3.qcow2",
            "generation windows/6.qcow2",
            "foreign a/.windows@7.qcow2.tmp",
            "foreign a/notes",
            "hard_link b/windows@7.qcow2",
            "volume c/windows@7.qcow2",
            "foreign notes",
        ];

        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        let left = sorted(left.map(str::to_owned).to_vec());
        let all = sorted([mended.to_vec(), left.clone()].concat());
        assert_eq!(sorted(checked(&machine)), all);
        let before = tree(&machine.root().join("qcow2"));
        let would = section(&machine, &["repair", "--dry-run"], "repaired", 1);
        assert_eq!(tree(&machine.root().join("qcow2")), before);
        let repaired = section(&machine, &["repair"], "repaired", 1);
        assert_eq!(would, repaired);
        assert_eq!(
            sorted(faults(&repaired["repaired"])),
            sorted(mended.to_vec())
        );
        assert_eq!(sorted(faults(&repaired["left"])), left);
        let gone: Vec<_> = before
            .into_iter()
            .filter(|name| !machine.root().join("qcow2").join(name).exists())
            .collect();
        assert_eq!(
            gone,
            [
                "backing/.bases.ini.tmp".to_owned(),
                format!("user/{}", "A".repeat(38)),
                format!("user/{}/.linux@3.qcow2.tmp", Token::of(ALICE).as_str()),
            ]
        );
        let [event] = &events(&machine)[..] else {
            panic!("one event")
        };
        assert_eq!(
            [&event["event"], &event["what"]],
            [&json!("repair"), &json!("remains")]
        );
        assert_eq!(sorted(checked(&machine)), left);
    }

    /// Nobody has to know whose it is.
    #[test]
    fn the_way_out_of_a_damaged_volume_removes_it_alone() {
        let machine = Machine::new();
        for user in [ALICE, BOB] {
            used_volume(&machine, user, 1, 1);
        }
        let damaged = machine.disk(BOB, "windows").path;
        fs::write(&damaged, "no volume").unwrap();
        let checked = section(&machine, &["check"], "checked", 1);
        let way_out = checked["faults"][0]["way_out"].as_str().unwrap();
        let (_, command) = way_out.split_once("cowvol ").unwrap();
        let words: Vec<&str> = command.split(' ').collect();
        let discarded = section(&machine, &words, "discarded", 0);
        assert_eq!(discarded["token"], Token::of(BOB).as_str());
        assert_eq!(discarded.get("user"), None);
        assert!(!damaged.exists() && machine.has(ALICE, "windows"));
        for wrong in [
            &["discard"][..],
            &["discard", "--token=bob@uni-b.example"],
            &["discard", "--user", BOB, words[1]],
        ] {
            assert_eq!(machine.run(wrong).status, 2, "{wrong:?}");
        }
    }

    /// The file of a login at work is locked, until it has its name.
    #[test]
    fn check_leaves_a_login_at_work_alone() {
        let machine = Machine::new();
        used_volume(&machine, ALICE, 1, 1);
        let remains = machine.home(ALICE).join(".linux@3.qcow2.tmp");
        let file = File::create(&remains).unwrap();
        file.lock().unwrap();
        assert_eq!(checked(&machine), [""; 0]);
        assert_eq!(
            section(&machine, &["repair"], "repaired", 0)["changed"],
            false
        );
        assert!(remains.exists());
        file.unlock().unwrap();
        assert_eq!(checked(&machine), ["half_made a/.linux@3.qcow2.tmp"]);
    }

    /// The room of a volume with a restore point is that of both.
    #[test]
    fn repair_holds_the_room_of_a_restore_point() {
        let machine = Machine::on_a_disk("ext4", 200);
        let session = machine.hold("session.lock");
        used_volume(&machine, ALICE, 2, 16);
        let volume = machine.volume(ALICE, Some("windows"));
        assert!(volume["restore_point_at"].is_string(), "{volume}");
        let held = machine.held_bytes(ALICE, "windows");
        assert_eq!(checked(&machine), [""; 0]);
        let path = machine.home(ALICE).join("windows@7.qcow2");
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len()).unwrap();
        drop(file);
        assert_eq!(checked(&machine), ["reservation a/windows@7.qcow2"]);
        section(&machine, &["repair"], "repaired", 0);
        assert_eq!(machine.held_bytes(ALICE, "windows"), held);
        drop(session);
    }

    #[test]
    fn repair_holds_the_lost_room_of_a_session_again() {
        let machine = Machine::on_a_disk("ext4", 160);
        let session = machine.hold("session.lock");
        machine.volume(ALICE, Some("windows"));
        let held = machine.held_bytes(ALICE, "windows");
        let lose = || {
            let file = File::options()
                .write(true)
                .open(machine.home(ALICE).join("windows@7.qcow2"));
            let file = file.unwrap();
            file.set_len(file.metadata().unwrap().len()).unwrap();
        };
        lose();
        let qemu = machine.disk(ALICE, "windows").open();
        assert_eq!(checked(&machine), ["reservation a/windows@7.qcow2"]);
        let repaired = section(&machine, &["repair"], "repaired", 0);
        assert_eq!(
            faults(&repaired["repaired"]),
            ["reservation a/windows@7.qcow2"]
        );
        assert_eq!(machine.held_bytes(ALICE, "windows"), held);
        end(qemu);
        assert_eq!(checked(&machine), [""; 0]);

        lose();
        let _filler = machine.fill_the_disk();
        let repaired = section(&machine, &["repair"], "repaired", 1);
        assert_eq!(
            faults(&repaired["left"]),
            ["reservation a/windows@7.qcow2", "foreign filler"]
        );
        drop(session);
    }
}

/// What can lie among datasets, where scripts/lab/test-zfs-volumes gives the tests a pool.
mod zfs {
    use super::*;
    use crate::machine::disk::succeed;

    /// The faults, with paths below the pool.
    fn below_the_pool(machine: &Machine, list: &Value) -> Vec<String> {
        let pool = format!("{}/", machine.pool().0);
        let short = |fault: String| fault.replace("/dev/zvol/", "").replace(&pool, "");
        faults(list).into_iter().map(short).collect()
    }

    #[test]
    #[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
    fn repair_mends_what_is_safe_and_names_the_rest() {
        let machine = Machine::new();
        for user in [ALICE, BOB] {
            used_volume(&machine, user, 1, 1);
        }
        let of = |name: &str| format!("{}/{name}", machine.pool().0);
        let volume = |user| of(&format!("user/{}/windows", Token::of(user).as_str()));
        let base = of("base/windows@7");
        // An import that was killed before the new volume had its name, and one that was after it.
        succeed("zfs", &["clone", &base, &(volume(ALICE) + ":7:tmp")]);
        succeed("zfs", &["clone", &base, &(volume(BOB) + ":7")]);
        let empty = format!("user/{}", "A".repeat(38));
        succeed("zfs", &["create", &of(&empty)]);
        let mended = [
            format!("empty_directory {empty}"),
            "half_made user/a/windows:7:tmp".to_owned(),
            "half_made user/b/windows:7".to_owned(),
        ];
        let make = |name: &str| succeed("zfs", &["create", "-s", "-V", "8M", &of(name)]);
        make("user/notes");
        make("base/windows:8:tmp");
        let left = ["layout base/windows:8:tmp", "layout user/notes"];

        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        let before = machine.left();
        let checked = section(&machine, &["check"], "checked", 1);
        let all = [&mended[..], &left.map(str::to_owned)[..]].concat();
        assert_eq!(
            sorted(below_the_pool(&machine, &checked["faults"])),
            sorted(all)
        );
        let would = section(&machine, &["repair", "--dry-run"], "repaired", 1);
        assert_eq!(machine.left(), before);
        let repaired = section(&machine, &["repair"], "repaired", 1);
        assert_eq!(would, repaired);
        assert_eq!(
            sorted(below_the_pool(&machine, &repaired["repaired"])),
            sorted(mended.to_vec())
        );
        assert_eq!(below_the_pool(&machine, &repaired["left"]), left);
        assert_eq!(machine.left().len(), 5, "{:?}", machine.left());
        for user in [ALICE, BOB] {
            let disk = machine.disk(user, "windows");
            disk.io(&["read -q -P 0x77 0 1M"]);
        }
        let checked = section(&machine, &["check"], "checked", 1);
        assert_eq!(below_the_pool(&machine, &checked["faults"]), left);
    }

    /// An installation that a power cut ended between the switch-over and the names of the datasets.
    #[test]
    #[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
    fn check_names_a_base_without_its_name_and_prune_gives_it() {
        let machine = Machine::new();
        machine.switches_to_windows_8();
        let checked = section(&machine, &["check"], "checked", 1);
        let found = below_the_pool(&machine, &checked["faults"]);
        assert!(
            !found.is_empty() && found.iter().all(|fault| fault == "layout base/windows:8"),
            "{found:?}"
        );
        let way_out = checked["faults"][0]["way_out"].as_str().unwrap();
        assert!(way_out.contains("cowvol prune"), "{way_out}");
        assert_eq!(machine.run(&["prune"]).status, 0);
        let checked = section(&machine, &["check"], "checked", 0);
        assert_eq!(checked["faults"], json!([]));
        let bases = succeed(
            "zfs",
            &["list", "-Hro", "name", "-t", "snapshot", &machine.pool().0],
        );
        let current = format!("{}/base/windows@8", machine.pool().0);
        assert!(bases.lines().any(|base| base == current), "{bases}");
    }
}
