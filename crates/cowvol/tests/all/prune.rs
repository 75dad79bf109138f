//! `cowvol prune`: what nothing uses goes, and what something uses stays until it ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use jsonpipe::testkit::stepped::Call;
use nix::libc::{F_OFD_SETLK, SYS_fcntl};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use serde_json::{Value, json};

use crate::evict::events;
use crate::machine::signed::describe;
use crate::machine::{ALICE, BOB, Machine, base_path, faults, make_base, tree, write_bases_ini};

const NOTHING: &[Value] = &[];

/// alice and bob have volumes of windows@7, and windows@8 is current.
fn after_a_switch_over() -> Machine {
    let machine = Machine::with_windows_8();
    for ending in ["manifest", "sig", "blocks", "torrent", "blocks.torrent"] {
        fs::write(
            base_path(machine.root(), "windows", 7).with_extension(ending),
            ending,
        )
        .unwrap();
    }
    machine.volume(ALICE, None);
    machine.volume(BOB, None);
    machine.volume(BOB, Some("linux"));
    write_bases_ini(
        machine.root(),
        &machine
            .bases_ini()
            .replace("generation = 7", "generation = 8"),
    );
    machine
}

/// The reason for which windows@7 stays.
fn reason(pruned: &Value) -> String {
    let [retained] = pruned["retained"].as_array().unwrap().as_slice() else {
        panic!("{pruned}")
    };
    assert_eq!(
        (
            &retained["base"],
            &retained["generation"],
            &retained["volumes"]
        ),
        (&json!("windows"), &json!(7), &json!(2)),
        "{pruned}"
    );
    assert_eq!(
        (&pruned["removed"], &pruned["freed_bytes"]),
        (&json!([]), &json!(0)),
        "{pruned}"
    );
    retained["reason"].as_str().unwrap().to_owned()
}

/// windows@7 goes, with two volumes.
fn goes(machine: &Machine) {
    let before = events(machine).len();
    let would = machine.pruned(&["--dry-run"]);
    assert_eq!(events(machine).len(), before);
    let pruned = machine.pruned(&[]);
    assert_eq!(would, pruned);
    assert_eq!(
        (&pruned["removed"][0]["volumes"], &pruned["retained"]),
        (&json!(2), &json!([])),
        "{pruned}"
    );
    let events = &events(machine)[before..];
    let mut tokens: Vec<_> = events.iter().map(|event| event["token"].clone()).collect();
    tokens.sort_by_key(ToString::to_string);
    let mut users = [ALICE, BOB].map(|user| json!(cowvol::Token::of(user).as_str()));
    users.sort_by_key(ToString::to_string);
    assert_eq!(tokens, users, "each volume has an event");
    for event in events {
        assert_eq!(
            (&event["event"], &event["base"], &event["generation"]),
            (&json!("prune"), &json!("windows"), &json!(7)),
            "{event}"
        );
    }
    assert!(!base_path(machine.root(), "windows", 7).exists() && !machine.home(ALICE).exists());
    assert_eq!(tree(&machine.home(BOB)), ["linux@3.qcow2"]);
    assert_eq!(
        machine.pruned(&[]),
        json!({"schema": 1, "changed": false, "removed": [], "retained": [], "freed_bytes": 0, "idle": []})
    );
}

#[test]
fn prune_removes_unused_files() {
    let machine = after_a_switch_over();
    fs::write(
        machine.home(BOB).join(".windows@7.qcow2.tmp"),
        "what a power cut left",
    )
    .unwrap();
    fs::remove_file(machine.home(BOB).join("windows@7.qcow2")).unwrap();
    goes(&machine);
}

#[test]
fn a_session_or_a_guest_keeps_everything() {
    let machine = after_a_switch_over();
    for (lock, expected) in [
        ("session.lock", "a session is running on this machine"),
        ("guest.lock", "a guest is running on this machine"),
    ] {
        let held = machine.hold(lock);
        assert_eq!(reason(&machine.pruned(&[])), expected);
        assert_eq!(reason(&machine.pruned(&["--dry-run"])), expected);
        drop(held);
    }
    goes(&machine);
}

#[test]
fn a_disk_that_qemu_has_open_keeps_its_generation() {
    let machine = after_a_switch_over();
    assert_eq!(machine.run(&["release"]).status, 0);
    let overlay = machine.home(ALICE).join("windows@7.qcow2");
    let qemu = open_in_qemu(&[], &overlay);
    let locked = reason(&machine.pruned(&[]));
    assert!(
        locked.starts_with("/qcow2/") && locked.ends_with(" is in use"),
        "{locked}"
    );
    let installed = machine.installed(&describe(machine.root(), "windows", 8), &[]);
    assert_eq!(
        (reason(&installed), &installed["generation"]),
        (locked, &json!(8))
    );
    assert_eq!(
        machine.volume(BOB, None)["generation"],
        8,
        "the next session starts from the new one"
    );
    end(qemu);
    assert_eq!(faults(&overlay), None);
    let pruned = machine.pruned(&[]);
    assert_eq!(
        (&pruned["removed"][0]["volumes"], &pruned["retained"]),
        (&json!(1), &json!([]))
    );
    assert_eq!(
        tree(&machine.home(BOB)),
        ["linux@3.qcow2", "windows@8.qcow2"]
    );
}

#[test]
fn a_disk_that_anything_has_locked_keeps_its_generation() {
    let machine = after_a_switch_over();
    let file = fs::File::open(base_path(machine.root(), "windows", 7)).unwrap();
    file.lock_shared().unwrap();
    assert_eq!(
        reason(&machine.pruned(&[])),
        "/qcow2/backing/windows/7.qcow2 is in use"
    );
    file.unlock().unwrap(); // a child that another test has just forked may have the file open
    let qemu = open_in_qemu(&["-r"], &base_path(machine.root(), "windows", 7));
    assert_eq!(
        reason(&machine.pruned(&[])),
        "/qcow2/backing/windows/7.qcow2 is in use"
    );
    end(qemu);
    goes(&machine);
}

/// Another program may look at any time, as `cowvol list` does.
#[test]
fn a_disk_that_a_program_looks_at_is_not_in_use() {
    let machine = Machine::new();
    machine.volume(BOB, Some("windows"));
    let overlay = machine.home(BOB).join("windows@7.qcow2");
    let file = fs::File::open(&overlay).unwrap();
    file.lock_shared().unwrap();
    assert_eq!(machine.volume(BOB, Some("windows"))["created"], false);
    file.unlock().unwrap();
    file.lock().unwrap();
    assert_eq!(machine.refusal(BOB, Some("windows")).0, 75);
    file.unlock().unwrap();
}

/// It answers a command when it has the image open.
pub fn open_in_qemu(flags: &[&str], image: &Path) -> Child {
    let mut qemu = Command::new("qemu-io")
        .args(flags)
        .args(["-f", "qcow2"])
        .arg(image)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("qemu-io, from qemu-utils, is needed by this test");
    qemu.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
    let mut answer = String::new();
    BufReader::new(qemu.stdout.as_mut().unwrap())
        .read_line(&mut answer)
        .unwrap();
    assert!(answer.contains("MiB"), "{answer}");
    qemu
}

/// Ends it.
pub fn end(mut qemu: Child) {
    drop(qemu.stdin.take());
    assert!(qemu.wait().unwrap().success());
}

#[test]
fn only_what_is_below_the_current_generation_of_a_base_that_is_named() {
    let machine = after_a_switch_over();
    make_base(machine.root(), "windows", 9, &["48M"]);
    fs::write(
        machine.root().join("qcow2/backing/windows/.10.qcow2"),
        "on its way",
    )
    .unwrap();
    fs::write(
        machine.root().join("qcow2/backing/windows/.7.qcow2.aria2"),
        "on its way",
    )
    .unwrap();
    fs::write(
        machine.root().join("qcow2/backing/windows/7.qcow2.bak"),
        "an administrator's",
    )
    .unwrap();
    fs::write(
        machine.root().join("qcow2/backing/windows/notes"),
        "an administrator's",
    )
    .unwrap();
    make_base(machine.root(), "macos", 1, &["1M"]);
    let ini = machine.bases_ini();
    write_bases_ini(machine.root(), ini.split("\n[base.linux]").next().unwrap());
    let pruned = machine.pruned(&[]);
    let reasons: Vec<_> = pruned["retained"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kept| (&kept["base"], &kept["reason"]))
        .collect();
    let unnamed = json!("bases.ini does not name this base");
    let newer =
        json!("newer than the current generation, 8; cowvol install-base makes it the current one");
    assert_eq!(
        reasons,
        [
            (&json!("linux"), &unnamed),
            (&json!("macos"), &unnamed),
            (&json!("windows"), &newer)
        ]
    );
    assert_eq!(pruned["removed"].as_array().unwrap().len(), 1);
    assert_eq!(
        tree(&machine.root().join("qcow2/backing/windows")),
        [
            ".10.qcow2",
            ".7.qcow2.aria2",
            "7.qcow2.bak",
            "8.blocks",
            "8.blocks.torrent",
            "8.manifest",
            "8.qcow2",
            "8.sig",
            "8.torrent",
            "9.qcow2",
            "notes",
        ]
    );
    assert_eq!(tree(&machine.home(BOB)), ["linux@3.qcow2"]);
}

#[test]
fn prune_keeps_everything_without_bases_ini() {
    let machine = after_a_switch_over();
    let ini = machine.bases_ini();
    let left = machine.left();
    for (text, status) in [
        (Some("[base.windows]\n"), 78),
        (Some("[x]\n"), 78),
        (None, 66),
    ] {
        match text {
            Some(text) => write_bases_ini(machine.root(), text),
            None => fs::remove_file(machine.root().join("qcow2/backing/bases.ini")).unwrap(),
        }
        let ended = machine.run(&["prune"]);
        assert_eq!(
            (ended.status, ended.stdout.as_str(), machine.left()),
            (status, "", left.clone()),
            "{text:?}"
        );
    }
    write_bases_ini(machine.root(), "");
    assert_eq!(machine.pruned(&[])["removed"], json!(NOTHING));
    write_bases_ini(machine.root(), &ini);
    let image = base_path(machine.root(), "windows", 8);
    fs::rename(&image, machine.root().join("8")).unwrap();
    let lost = reason(&machine.pruned(&[]));
    assert!(
        lost.starts_with("the current generation, 8, is not right: "),
        "{lost}"
    );
    fs::rename(machine.root().join("8"), &image).unwrap();
    goes(&machine);
}

#[test]
fn prune_has_nothing_to_do_before_the_first_base() {
    let machine = Machine::bare();
    let before = machine.left();
    let nothing = json!({"schema": 1, "changed": false, "removed": [], "retained": [], "freed_bytes": 0, "idle": []});
    assert_eq!(machine.pruned(&[]), nothing);
    assert_eq!(machine.pruned(&["--dry-run"]), nothing);
    assert_eq!(machine.left(), before);
    make_base(machine.root(), "windows", 7, &["1M"]);
    let ended = machine.run(&["prune"]);
    assert_eq!(ended.status, 66, "its list was lost: {ended:?}");
}

#[test]
fn a_linked_directory_for_volumes_is_refused() {
    let machine = after_a_switch_over();
    fs::rename(machine.users(), machine.root().join("elsewhere")).unwrap();
    symlink(machine.root().join("elsewhere"), machine.users()).unwrap();
    assert_eq!(machine.run(&["prune"]).status, 78);
    assert!(base_path(machine.root(), "windows", 7).exists());
}

#[test]
fn prune_reports_stuck_files_and_removes_the_rest() {
    let machine = after_a_switch_over();
    let stuck = machine.home(ALICE).join("windows@7.qcow2");
    fs::remove_file(&stuck).unwrap();
    fs::create_dir(&stuck).unwrap();
    let ended = machine.run(&["prune"]);
    let pruned = &serde_json::from_str::<Value>(&ended.stdout).unwrap()["pruned"];
    let reason = pruned["retained"][0]["reason"].as_str().unwrap();
    assert!(
        ended.status == 1 && reason.starts_with("removing it failed: removing "),
        "{ended:?}"
    );
    assert!(
        base_path(machine.root(), "windows", 7).exists(),
        "the base stays under what could not be removed"
    );
    fs::remove_dir(&stuck).unwrap();
    assert_eq!(machine.pruned(&[])["retained"], json!(NOTHING));
    assert!(!base_path(machine.root(), "windows", 7).exists());
}

#[test]
fn more_volumes_than_go_at_once_all_go() {
    let machine = after_a_switch_over();
    let one = fs::read(machine.home(ALICE).join("windows@7.qcow2")).unwrap();
    for user in 0..600 {
        let home = machine.home(&format!("user{user}"));
        fs::create_dir(&home).unwrap();
        fs::write(home.join("windows@7.qcow2"), &one[..4096]).unwrap();
    }
    let pruned = machine.pruned(&[]);
    assert_eq!(
        (&pruned["removed"][0]["volumes"], &pruned["retained"]),
        (&json!(602), &json!([]))
    );
    assert_eq!(machine.left().len(), 2, "bob's linux: {:?}", machine.left());
}

#[test]
fn a_signal_at_any_moment_leaves_nothing_without_its_base() {
    ended_at_any_moment(Signal::SIGTERM, 1..4);
}

#[test]
fn a_kill_at_any_moment_leaves_nothing_without_its_base() {
    ended_at_any_moment(Signal::SIGKILL, 8..20);
}

/// `expected`: how many different states that leaves.
fn ended_at_any_moment(signal: Signal, expected: Range<usize>) {
    let untouched = after_a_switch_over();
    let state = |machine: &Machine| tree(&machine.root().join("qcow2"));
    let mut seen = Vec::new();
    let mut machine = untouched.copy();
    for moment in 0.. {
        let mut prune = machine.stepped(&["prune"], "");
        if !prune.steps(moment) {
            break;
        }
        prune.end_by(signal);
        let found = state(&machine);
        if found == state(&untouched) {
            continue; // it had done nothing yet
        }
        let (base, volumes) = (base_path(machine.root(), "windows", 7), machine.left());
        let some_left = volumes.iter().any(|name| name.ends_with("windows@7.qcow2"));
        assert!(base.exists() || !some_left, "{moment}: {volumes:?}");
        assert!(
            base.exists() || !base.with_extension("manifest").exists(),
            "{moment}: a description of nothing"
        );
        if !seen.contains(&found) {
            machine.pruned(&[]);
            let left: Vec<String> = state(&machine)
                .into_iter()
                .filter(|name| name.contains("/7.") || name.contains("@7"))
                .collect();
            assert_eq!(
                (left, tree(&machine.home(BOB))),
                (vec![], vec!["linux@3.qcow2".into()])
            );
            seen.push(found);
        }
        machine = untouched.copy();
    }
    assert!(expected.contains(&seen.len()), "{signal}: {seen:#?}");
}

#[test]
fn a_volume_that_a_program_opens_while_prune_runs_stays() {
    let machine = after_a_switch_over();
    let mut prune = machine.stepped(&["prune"], "");
    let opened = loop {
        let Call { number, arguments } = prune.next_call();
        if number == SYS_fcntl && arguments[1] == F_OFD_SETLK as u64 {
            break prune.file(arguments[0]);
        }
        assert!(prune.steps(1), "it ended without a lock");
    };
    assert!(opened.ends_with("windows@7.qcow2"), "{opened:?}");
    let qemu = open_in_qemu(&[], &opened);
    let WaitStatus::Exited(_, status) = prune.end() else {
        panic!("it ended by a signal")
    };
    assert_eq!((status, opened.exists()), (1, true));
    assert!(base_path(machine.root(), "windows", 7).exists());
    end(qemu);
    machine.pruned(&[]);
    assert!(!opened.exists());
}

#[test]
fn prune_gives_reasons_for_later_steps() {
    let machine = after_a_switch_over();
    let right = machine.bases_ini();
    let mut prune = machine.stepped(&["prune"], "");
    let is_of_users = |path: PathBuf| path.starts_with(machine.users());
    while !prune.syncs().is_some_and(is_of_users) {
        assert!(prune.steps(1));
    }
    assert_eq!(
        machine.left().len(),
        2,
        "the volumes are gone: {:?}",
        machine.left()
    );
    write_bases_ini(machine.root(), "[base.windows]\n");
    let WaitStatus::Exited(_, status) = prune.end() else {
        panic!("it ended by a signal")
    };
    assert_eq!(status, 1, "not 78, which says that nothing was changed");
    write_bases_ini(machine.root(), &right);
    assert_eq!(machine.pruned(&[])["removed"][0]["volumes"], 0);
}

#[test]
fn standard_input_is_left_alone() {
    let machine = after_a_switch_over();
    let mut child = machine
        .command(&["prune"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(
        child.wait().unwrap().success(),
        "it ended while its input was open"
    );
}
