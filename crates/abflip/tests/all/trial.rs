//! `abflip try`, `commit` and `rollback`: what becomes of the disk and the records, by BIOS. The
//! machines themselves, and UEFI, are in lab/test-update.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::machine::extlinux::empty;
use crate::machine::{Machine, PARTITION, bios, uefi};
use jsonpipe::testkit::stepped::killed_before;

/// A machine that runs slot a, whose extlinux knows how to start either; both slots are written.
fn tryable() -> Machine {
    let machine = Machine::new();
    machine.configure_extlinux();
    machine
}

/// The slot that is tried, and how far that is.
fn trial(slots: &Value) -> (&str, &str) {
    (
        slots["trial"].as_str().unwrap_or("none"),
        slots["trial_state"].as_str().unwrap_or("none"),
    )
}

fn armed(machine: &Machine) -> bool {
    let copies = machine.boot_once();
    assert_eq!(copies[0], copies[1]);
    assert!(copies[0] == empty() || copies[0][8..15] == *b"\x01\x05try-b");
    copies[0] != empty()
}

fn records(machine: &Machine) -> PathBuf {
    machine.root().join("var/lib/labtools/slots.json")
}

/// The machine starts slot b, once.
fn boot_the_trial(machine: &Machine) {
    machine.set_boot_once(&[empty(), empty()]);
    machine.run_from(2);
}

#[test]
fn a_trial_that_is_healthy_becomes_permanent() {
    let machine = tryable();
    let before = machine.bytes();
    let slots = machine.slots(&["try", "--dry-run"]);
    assert_eq!(
        (trial(&slots), &slots["changed"]),
        (("b", "armed"), &true.into()),
        "{slots}"
    );
    assert!(machine.bytes() == before);
    assert_eq!(trial(&machine.slots(&["status"])), ("none", "none"));

    let slots = machine.slots(&["try"]);
    assert_eq!(
        (trial(&slots), &slots["next"], &slots["changed"]),
        (("b", "armed"), &"a".into(), &true.into()),
        "{slots}"
    );
    // Nothing but the boot-once area.
    assert!(armed(&machine));
    let after = machine.bytes();
    machine.set_boot_once(&[empty(), empty()]);
    assert!(machine.bytes() == before);
    machine.poke(0, &after);
    let slots = machine.slots(&["try"]);
    assert_eq!(
        (trial(&slots), &slots["changed"]),
        (("b", "armed"), &false.into())
    );
    assert!(machine.bytes() == after);
    machine.refused(
        &["commit"],
        78,
        "slot a runs, and slot b is armed; reboot, or run abflip rollback",
    );

    boot_the_trial(&machine);
    let slots = machine.slots(&["status"]);
    assert_eq!(
        (trial(&slots), &slots["booted"], &slots["next"]),
        (("b", "running"), &"b".into(), &"a".into())
    );
    machine.refused(
        &["try"],
        78,
        "slot b, which runs, is itself on trial; run abflip commit, or abflip rollback and reboot",
    );
    assert_eq!(machine.slots(&["commit", "--dry-run"])["next"], "b");
    assert!(machine.bytes() == before);
    let slots = machine.slots(&["commit"]);
    assert_eq!(
        (trial(&slots), &slots["next"], &slots["changed"]),
        (("none", "none"), &"b".into(), &true.into()),
        "{slots}"
    );
    assert_eq!(slots["table"]["agree"], true);
    let slots = machine.slots(&["commit"]);
    assert_eq!(
        (&slots["next"], &slots["changed"]),
        (&"b".into(), &false.into())
    );
    assert_eq!(machine.slots(&["rollback"])["changed"], false);
    assert_eq!(machine.slots(&["status"])["next"], "b");
}

#[test]
fn a_trial_that_was_booted_and_did_not_commit_is_not_repeated() {
    // It ends by itself, or by its own word, or from the slot before.
    for by_itself in [true, false] {
        let machine = tryable();
        machine.slots(&["try"]);
        boot_the_trial(&machine);
        if by_itself {
            machine.run_from(1);
            let slots = machine.slots(&["status"]);
            assert_eq!(
                (trial(&slots), &slots["b"]["rejected"]),
                (("b", "failed"), &true.into()),
                "{slots}"
            );
            machine.refused(
                &["commit"],
                78,
                "slot a runs, and slot b was tried and failed; run abflip rollback",
            );
            machine.refused(&["try"], 78, "version 7 in slot b was tried and did not commit; write another one, or use --again");
        }
        assert_eq!(machine.slots(&["rollback", "--dry-run"])["changed"], true);
        let slots = machine.slots(&["rollback"]);
        assert_eq!(
            (trial(&slots), &slots["next"], &slots["changed"]),
            (("none", "none"), &"a".into(), &true.into())
        );
        assert_eq!(machine.slots(&["rollback"])["changed"], false);
        if !by_itself {
            machine.refused(
                &["commit"],
                78,
                "slot b runs, but is not on trial; run abflip flip --active b",
            );
            machine.run_from(1);
        }
        assert_eq!(machine.slots(&["status"])["b"]["rejected"], true);
        machine.refused(
            &["try"],
            78,
            "version 7 in slot b was tried and did not commit",
        );
        assert_eq!(trial(&machine.slots(&["try", "--again"])), ("b", "armed"));
        boot_the_trial(&machine);
        let slots = machine.slots(&["commit"]);
        assert_eq!(
            (&slots["next"], &slots["b"]["rejected"]),
            (&"b".into(), &false.into())
        );
    }
}

#[test]
fn a_trial_that_was_not_booted_can_be_had_again() {
    let machine = tryable();
    let before = machine.bytes();
    machine.slots(&["try"]);
    let slots = machine.slots(&["rollback"]);
    assert_eq!(
        (trial(&slots), &slots["b"]["rejected"]),
        (("none", "none"), &false.into())
    );
    assert!(machine.bytes() == before);
    assert_eq!(trial(&machine.slots(&["try"])), ("b", "armed"));
    // A flip ends it, too: what is armed would strike when slot a is active again.
    assert_eq!(machine.slots(&["flip"])["next"], "b");
    assert!(!armed(&machine));
    assert_eq!(
        trial(&machine.slots(&["flip", "--active", "a"])),
        ("none", "none")
    );
    assert!(machine.bytes() == before);
}

#[test]
fn trials_of_another_image_do_not_count() {
    let machine = tryable();
    machine.slots(&["try"]);
    boot_the_trial(&machine);
    machine.run_from(1);
    let records = records(&machine);
    let text = fs::read_to_string(&records).unwrap();
    // As abflip write leaves it, which was given another image.
    let (written, rest) = text.split_once("\"trial\"").unwrap();
    fs::write(
        &records,
        format!(
            "{}\"trial\"{rest}",
            written.replace(
                "\"version\":7,\"sha256\":\"00\"",
                "\"version\":8,\"sha256\":\"08\""
            )
        ),
    )
    .unwrap();
    let slots = machine.slots(&["status"]);
    assert_eq!(
        (trial(&slots), &slots["b"]["rejected"]),
        (("none", "none"), &false.into())
    );
    assert_eq!(trial(&machine.slots(&["try"])), ("b", "armed"));
    // And the first one is still known.
    assert!(
        fs::read_to_string(&records)
            .unwrap()
            .contains(r#""rejected":[{"version":7,"sha256":"00"}]"#)
    );
    boot_the_trial(&machine);
    let text = fs::read_to_string(&records).unwrap().replace(
        "\"version\":8,\"sha256\":\"08\",\"size",
        "\"version\":9,\"sha256\":\"09\",\"size",
    );
    fs::write(&records, text).unwrap();
    machine.refused(
        &["commit"],
        78,
        "slot b was written to since its trial began; run abflip rollback",
    );
}

#[test]
fn try_refuses_before_it_writes() {
    let machine = tryable();
    machine.record(&["a"]);
    machine.refused(&["try"], 78, "refusing to try");
    machine.refused(
        &["try"],
        78,
        "no verified write of slot b is recorded; run abflip write",
    );
    machine.record(&["a", "b"]);
    machine.slots(&["flip"]);
    machine.refused(
        &["try"],
        78,
        "slot a runs, and slot b boots next; reboot first",
    );
    machine.slots(&["flip", "--active", "a"]);
    machine.run_from(3);
    for verb in ["try", "commit"] {
        machine.refused(
            &[verb],
            78,
            "the root, partition 3, is not a slot of abflip.ini",
        );
    }
    machine.run_from(1);
    let backup = (machine.last() * 512 - 16384) as usize;
    let byte = machine.bytes()[backup + 56];
    machine.poke(backup as u64 + 56, b"R");
    machine.refused(
        &["try"],
        78,
        "its backup table is not valid (the checksum of the entries is wrong); run abflip repair",
    );
    machine.poke(backup as u64 + 56, &[byte]);

    let configuration = machine.root().join("boot/extlinux/extlinux.conf");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("try-b", "b")).unwrap();
    machine.refused(
        &["try"],
        78,
        "extlinux.conf: it has no label try-b; correct the image",
    );
    fs::write(&configuration, text.replace("com32", "#com32")).unwrap();
    machine.refused(
        &["try"],
        78,
        "extlinux.conf: its label try-b does not start com32 chain.c32; correct the image",
    );
    fs::remove_file(&configuration).unwrap();
    machine.refused(&["try"], 78, "extlinux.conf: No such file");
    fs::write(&configuration, text).unwrap();
    for module in ["chain.c32", "libcom32.c32", "libutil.c32"] {
        let module = configuration.with_file_name(module);
        let content = fs::read(&module).unwrap();
        fs::write(&module, "").unwrap();
        machine.refused(
            &["try"],
            78,
            &format!("{} is not there; correct the image", module.display()),
        );
        fs::remove_file(&module).unwrap();
        machine.refused(
            &["try"],
            78,
            &format!("{} is not there; correct the image", module.display()),
        );
        fs::write(&module, content).unwrap();
    }

    machine.set_boot_once(&[vec![1; 512], vec![2; 512]]);
    machine.refused(
        &["try"],
        78,
        "slot a: its extlinux has no valid boot-once area; see extlinux(1), --reset-adv",
    );
    // Either of them may be anything else, where ldlinux.sys has moved since it was installed.
    for copies in [[empty(), vec![2; 512]], [vec![0; 512], empty()]] {
        machine.set_boot_once(&copies);
        machine.refused(
            &["try"],
            78,
            "slot a: its extlinux has no valid boot-once area; see extlinux(1), --reset-adv",
        );
        assert_eq!(
            machine.slots(&["flip", "--dry-run"])["next"],
            "b",
            "which starts nevertheless"
        );
    }
    machine.set_boot_once(&[empty(), empty()]);
    // Not whole: a byte of the loader; not there: the pointer to it.
    machine.poke(PARTITION + 65 * 512, b"x");
    machine.refused(
        &["try"],
        78,
        "slot a: no extlinux is installed in it, in one piece; see extlinux(1), --install",
    );
    machine.poke(PARTITION + 65 * 512, &[0]);
    assert_eq!(trial(&machine.slots(&["try"])), ("b", "armed"));

    // A slot that nothing starts is neither tried nor committed.
    let none = tryable();
    none.poke(2 * PARTITION, &[0; 512]);
    none.refused(
        &["try"],
        78,
        "nothing starts slot b: no extlinux is installed in it",
    );
    none.put_extlinux(2 * PARTITION);
    none.poke(PARTITION, &[0; 512]);
    none.refused(&["try"], 78, "slot a: no extlinux is installed in it");
    none.put_extlinux(PARTITION);
    none.slots(&["try"]);
    boot_the_trial(&none);
    none.poke(2 * PARTITION, &[0; 512]);
    none.refused(
        &["commit"],
        78,
        "nothing starts slot b: no extlinux is installed in it",
    );
    let none = Machine::with(512, &bios());
    none.refused(
        &["commit", "--disk", "/dev/null"],
        65,
        "neither a disk nor an image file",
    );
    assert_eq!(none.slots(&["commit"])["changed"], false);
    let uefi = Machine::with(512, &uefi());
    uefi.refused(
        &["try"],
        69,
        "efivars: there are none; boot by UEFI, and mount efivarfs there",
    );
    assert_eq!(uefi.slots(&["rollback"])["changed"], false);
}

#[test]
fn a_label_of_somebody_else_stays_and_one_torn_copy_is_healed() {
    let machine = tryable();
    machine.slots(&["try"]);
    let [ours, _] = machine.boot_once();
    let mut torn = ours.clone();
    torn[256..508].fill(1);
    // As a cut leaves it between the two: the first one counts where it is whole.
    for (copies, is_armed) in [
        ([ours.clone(), empty()], true),
        ([empty(), ours.clone()], false),
        ([torn.clone(), ours.clone()], true),
        ([ours.clone(), torn.clone()], true),
    ] {
        machine.set_boot_once(&copies);
        assert_eq!(trial(&machine.slots(&["status"])).1 == "armed", is_armed);
        machine.slots(&["try", "--again"]);
        assert!(armed(&machine));
        machine.set_boot_once(&copies);
        machine.slots(&["rollback"]);
    }
    let mut other = empty();
    other[8..14].copy_from_slice(b"\x01\x04else");
    let sum = (8..508).step_by(4).fold(0xa304_1767_u32, |sum, at| {
        sum.wrapping_sub(u32::from_le_bytes(other[at..at + 4].try_into().unwrap()))
    });
    other[4..8].copy_from_slice(&sum.to_le_bytes());
    machine.set_boot_once(&[other.clone(), other.clone()]);
    machine.slots(&["rollback"]);
    assert_eq!(machine.boot_once(), [other.clone(), other]);
    machine.slots(&["try", "--again"]);
    assert!(armed(&machine));
}

#[test]
fn a_write_that_fails_is_taken_back() {
    for nth in 1..=2 {
        let machine = tryable();
        let before = machine.bytes();
        let ended = machine.traced(
            &["try"],
            &["-e", &format!("inject=pwritev2:error=EIO:when={nth}")],
        );
        assert_eq!((ended.status, ended.stdout.as_str()), (74, ""), "{ended:?}");
        assert!(
            ended.stderr.contains("a boot-once sector: writing"),
            "{ended:?}"
        );
        assert!(machine.bytes() == before);
        assert_eq!(trial(&machine.slots(&["status"])), ("none", "none"));
        assert_eq!(trial(&machine.slots(&["try"])), ("b", "armed"));
    }
    // And from then on: it cannot be taken back either, which is said.
    let machine = tryable();
    let ended = machine.traced(&["try"], &["-e", "inject=pwritev2:error=EIO:when=2+"]);
    assert_eq!(
        (ended.status, trial(&ended.section("slots"))),
        (1, ("b", "armed")),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains("undoing it also failed")
            && ended.stderr.contains("; run abflip rollback"),
        "{ended:?}"
    );
    machine.slots(&["rollback"]);
    assert!(!armed(&machine));
}

#[test]
fn a_commit_that_is_cut_before_it_is_recorded_is_a_commit() {
    let committed = || {
        let machine = tryable();
        machine.slots(&["try"]);
        boot_the_trial(&machine);
        let recorded = fs::read_to_string(records(&machine)).unwrap();
        machine.slots(&["commit"]);
        fs::write(records(&machine), &recorded).unwrap();
        (machine, recorded)
    };
    // The next version is tried in the other slot: what runs has not failed.
    let (machine, recorded) = committed();
    let (written, rest) = recorded.split_once("\"b\":").unwrap();
    fs::write(
        records(&machine),
        format!(
            "{}\"b\":{rest}",
            written.replace("\"sha256\":\"00\"", "\"sha256\":\"08\"")
        ),
    )
    .unwrap();
    let slots = machine.slots(&["try"]);
    assert_eq!(
        (trial(&slots), &slots["b"]["rejected"]),
        (("a", "armed"), &false.into()),
        "{slots}"
    );
    assert!(
        !fs::read_to_string(records(&machine))
            .unwrap()
            .contains("rejected")
    );
    // Nor has it when it is left again.
    let (machine, _) = committed();
    machine.slots(&["flip", "--active", "a"]);
    machine.run_from(1);
    let slots = machine.slots(&["status"]);
    assert_eq!(
        (trial(&slots), &slots["b"]["rejected"], &slots["next"]),
        (("none", "none"), &false.into(), &"a".into()),
        "{slots}"
    );
    for verb in ["commit", "rollback"] {
        let (machine, _) = committed();
        assert_eq!(machine.slots(&[verb])["next"], "b");
        assert!(
            !fs::read_to_string(records(&machine))
                .unwrap()
                .contains("trial"),
            "{verb}"
        );
    }
}

#[test]
fn trial_survives_changes_of_another_disk() {
    let machine = tryable();
    machine.slots(&["try"]);
    let image = machine.root().join("other.img");
    fs::copy(machine.disk(), &image).unwrap();
    let (mut bytes, last) = (fs::read(&image).unwrap(), machine.last() as usize * 512);
    for header in [512, last] {
        bytes[header + 56] ^= 1; // the disk's GUID
        bytes[header + 16..header + 20].fill(0);
        let checksum = crc32fast::hash(&bytes[header..header + 92]);
        bytes[header + 16..header + 20].copy_from_slice(&checksum.to_le_bytes());
    }
    fs::write(&image, &bytes).unwrap();
    let recorded = fs::read_to_string(records(&machine)).unwrap();
    let other = machine.slots(&["rollback", "--disk", image.to_str().unwrap()]);
    assert_eq!(
        (trial(&other), &other["changed"]),
        (("none", "none"), &true.into()),
        "{other}"
    );
    assert_eq!(fs::read_to_string(records(&machine)).unwrap(), recorded);
    boot_the_trial(&machine);
    assert_eq!(machine.slots(&["commit"])["next"], "b");
}

#[test]
fn a_status_from_65_on_means_that_the_trial_is_what_it_was() {
    let fails = |call: &str, when: &str| format!("inject={call}:error=EIO:when={when}");
    // flip takes two writes to disarm, and two for the tables; the records are renamed twice.
    for (verb, injected) in [
        ("flip", vec![fails("pwritev2", "1")]),
        ("flip", vec![fails("pwritev2", "2")]),
        ("flip", vec![fails("pwritev2", "3")]),
        ("flip", vec![fails("pwritev2", "4")]),
        ("flip", vec![fails("rename", "1")]),
        ("flip", vec![fails("rename", "2")]),
        ("rollback", vec![fails("pwritev2", "1")]),
        ("rollback", vec![fails("pwritev2", "2")]),
    ] {
        let machine = tryable();
        machine.slots(&["try"]);
        let (before, recorded) = (
            machine.bytes(),
            fs::read_to_string(records(&machine)).unwrap(),
        );
        let inject: Vec<&str> = injected.iter().flat_map(|inject| ["-e", inject]).collect();
        let ended = machine.traced(&[verb], &inject);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (74, ""),
            "{verb} {inject:?}: {ended:?}"
        );
        assert!(machine.bytes() == before, "{verb} {inject:?}");
        assert_eq!(
            fs::read_to_string(records(&machine)).unwrap(),
            recorded,
            "{verb} {inject:?}"
        );
        assert_eq!(trial(&machine.slots(&["status"])), ("b", "armed"));
    }
    // What cannot be taken back is told.
    for (verb, injected) in [
        ("flip", vec![fails("pwritev2", "2+")]),
        ("flip", vec![fails("pwritev2", "3+")]),
        ("flip", vec![fails("pwritev2", "1"), fails("rename", "2")]),
        ("flip", vec![fails("pwritev2", "3"), fails("rename", "3")]),
        (
            "rollback",
            vec![fails("pwritev2", "1"), fails("rename", "2")],
        ),
    ] {
        let machine = tryable();
        machine.slots(&["try"]);
        let inject: Vec<&str> = injected.iter().flat_map(|inject| ["-e", inject]).collect();
        let ended = machine.traced(&[verb], &inject);
        assert_eq!(
            (ended.status, &ended.section("slots")["changed"]),
            (1, &true.into()),
            "{verb} {inject:?}: {ended:?}"
        );
        assert!(
            ended.stderr.contains("undoing it also failed"),
            "{verb} {inject:?}: {ended:?}"
        );
        let slots = machine.slots(&["status"]);
        assert_eq!(
            (&slots["next"], &slots["b"]["rejected"]),
            (&"a".into(), &false.into()),
            "{verb} {inject:?}: {slots}"
        );
    }
    // try, of another image than the one that has failed before.
    let machine = tryable();
    machine.slots(&["try"]);
    boot_the_trial(&machine);
    machine.run_from(1);
    let text = fs::read_to_string(records(&machine)).unwrap();
    let (written, rest) = text.split_once("\"trial\"").unwrap();
    let recorded = format!(
        "{}\"trial\"{rest}",
        written.replace("\"sha256\":\"00\"", "\"sha256\":\"08\"")
    );
    fs::write(records(&machine), &recorded).unwrap();
    for nth in ["1", "2"] {
        let ended = machine.traced(&["try"], &["-e", &fails("pwritev2", nth)]);
        assert_eq!((ended.status, ended.stdout.as_str()), (74, ""), "{ended:?}");
        assert_eq!(
            fs::read_to_string(records(&machine)).unwrap().trim(),
            recorded.trim()
        );
    }
}

#[test]
fn killed_at_any_system_call_it_is_one_or_the_other_and_goes_on() {
    // Of each run: how it begins, and what it is when it is done.
    type Prepare = fn(&Machine);
    let runs: [(&str, Prepare, (&str, &str)); 3] = [
        ("try", |_| {}, ("b", "armed")),
        (
            "commit",
            |machine| {
                machine.slots(&["try"]);
                boot_the_trial(machine);
            },
            ("none", "none"),
        ),
        (
            "rollback",
            |machine| drop(machine.slots(&["try"])),
            ("none", "none"),
        ),
    ];
    for (verb, prepare, done) in runs {
        let machine = tryable();
        prepare(&machine);
        let (boot_once, tables) = (machine.boot_once(), machine.tables());
        let records = records(&machine);
        let recorded = fs::read(&records).unwrap();
        let before = machine.slots(&["status"]);
        let mut states = Vec::new();
        let mut call = 0;
        while killed_before(&mut machine.command(&[verb]), call, |_| true) {
            call += 1;
            // What is not another state needs no other judgement.
            if fs::read(&records).unwrap() == recorded
                && machine.boot_once() == boot_once
                && machine.tables() == tables
            {
                continue;
            }
            let slots = machine.run(&["status"]).section("slots");
            let state = (trial(&slots).0.to_owned(), trial(&slots).1.to_owned());
            assert!(
                [trial(&before), done].contains(&trial(&slots)),
                "{verb}, before call {call}: {slots}"
            );
            states.push((state, slots["next"].clone()));
            // And the same again.
            let slots = machine.slots(&[verb]);
            assert_eq!(trial(&slots), done, "{verb}, before call {call}: {slots}");
            assert_eq!(slots["next"], if verb == "commit" { "b" } else { "a" });
            armed(&machine);
            // Both tables, and the boot-once area.
            machine.poke(0, &tables[0]);
            machine.poke((machine.last() - 32) * 512, &tables[1]);
            machine.set_boot_once(&boot_once);
            fs::write(&records, &recorded).unwrap();
        }
        states.dedup();
        assert!(
            !states.is_empty() && call > 50,
            "{verb}: {states:?} in {call} calls"
        );
    }
}

/// By UEFI with a fake of the firmware's variables.
#[test]
fn a_trial_that_runs_is_running_though_what_armed_it_is_still_there() {
    for by_uefi in [false, true] {
        for verb in ["commit", "rollback"] {
            let machine = if by_uefi {
                Machine::with(512, &uefi())
            } else {
                tryable()
            };
            if by_uefi {
                machine.arm_by_uefi();
            } else {
                machine.slots(&["try"]);
            }
            assert_eq!(trial(&machine.slots(&["status"])), ("b", "armed"));
            machine.run_from(if by_uefi { 4 } else { 2 });
            assert_eq!(trial(&machine.slots(&["status"])), ("b", "running"));
            let slots = machine.slots(&[verb]);
            assert_eq!(trial(&slots), ("none", "none"), "{slots}");
            assert_eq!(slots["next"], if verb == "commit" { "b" } else { "a" });
            assert_eq!(slots["b"]["rejected"], verb == "rollback", "{slots}");
            assert!(!if by_uefi {
                machine.has_variable("BootNext")
            } else {
                armed(&machine)
            });
        }
    }
}

/// As an older abflip has left it: it did not record what it copied.
#[test]
fn by_uefi_a_trial_commits_though_its_loader_is_not_recorded() {
    let machine = Machine::with(512, &uefi());
    machine.arm_by_uefi();
    let text = fs::read_to_string(records(&machine)).unwrap();
    fs::write(
        records(&machine),
        text.replace("\"loader_sha256\":\"0e\",", ""),
    )
    .unwrap();
    machine.run_from(4);
    let ended = machine.run(&["commit"]);
    assert_eq!(
        (ended.status, &ended.section("slots")["next"]),
        (0, &"b".into()),
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .contains("the loader of slot b is not recorded"),
        "{ended:?}"
    );
}

#[test]
fn a_commit_that_is_not_cleared_up_says_that_it_is_one() {
    let machine = tryable();
    machine.slots(&["try"]);
    boot_the_trial(&machine);
    // The records cannot be written; the table can.
    let ended = machine.traced(&["commit"], &["-e", "inject=rename:error=EIO:when=1+"]);
    assert_eq!(
        (ended.status, &ended.section("slots")["next"]),
        (1, &"b".into()),
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .contains("slot b boots next; run abflip commit again"),
        "{ended:?}"
    );
    machine.slots(&["commit"]);
    assert!(
        !fs::read_to_string(records(&machine))
            .unwrap()
            .contains("trial")
    );
}
