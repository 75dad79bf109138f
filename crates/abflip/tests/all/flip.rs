//! `abflip flip`: what it changes, what it refuses, and what it leaves when it is cut short.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use crate::machine::{self, A, B, Machine, PARTITION, bios, partition, program, uefi};
use jsonpipe::testkit::Ended;
use jsonpipe::testkit::stepped::{Stepped, killed_before};
use nix::libc::SYS_pwritev2;

/// The bytes that differ, by their place.
fn difference(before: &[u8], after: &[u8]) -> Vec<usize> {
    (0..before.len())
        .filter(|&at| before[at] != after[at])
        .collect()
}

#[test]
fn two_bits_and_four_name_bytes_change_in_each_table_and_twice_is_never() {
    for (sector, partitions) in [(512, bios()), (4096, bios()), (512, uefi()), (4096, uefi())] {
        let machine = Machine::with(sector, &partitions);
        let before = machine.bytes();
        let slots = machine.slots(&["flip"]);
        assert_eq!(
            (&slots["next"], &slots["booted"], &slots["changed"]),
            (&"b".into(), &"a".into(), &true.into()),
            "{slots}"
        );
        let after = machine.bytes();
        let at_most_six = difference(&before, &after);
        for (name, array) in [
            ("primary", 2 * sector),
            ("backup", machine.last() * sector - 16384),
        ] {
            let there: Vec<usize> = at_most_six
                .iter()
                .filter(|&&at| (array as usize..array as usize + 512).contains(&at))
                .map(|at| at - array as usize)
                .collect();
            assert!(
                there.starts_with(&[48]) && there.contains(&(128 + 48)),
                "{name}: {there:?}"
            );
            assert!(
                there
                    .iter()
                    .all(|at| [48, 128 + 48].contains(at) || (124..128).contains(at)),
                "{name}: {there:?}"
            );
        }
        assert!(at_most_six.len() <= 12, "{at_most_six:?}");
        // Again does nothing; another way back, and every byte is as it was.
        assert_eq!(machine.slots(&["flip"])["changed"], false);
        assert!(machine.bytes() == after);
        assert_eq!(machine.slots(&["flip", "--active", "a"])["next"], "a");
        assert!(machine.bytes() == before, "{sector}");
    }
}

#[test]
fn sgdisk_and_the_others_read_what_they_would_have_written_themselves() {
    let (ours, theirs) = (Machine::new(), Machine::new());
    let (ours_path, theirs_path) = (
        ours.disk().display().to_string(),
        theirs.disk().display().to_string(),
    );
    ours.slots(&["flip"]);
    let (ok, said) = program(
        "sgdisk",
        "gdisk",
        &[&theirs_path, "-A", "1:clear:2", "-A", "2:set:2"],
        "",
    );
    assert!(ok, "{said}");
    let (ok, said) = program("sgdisk", "gdisk", &["-v", &ours_path], "");
    assert!(ok && said.contains("No problems found"), "{said}");
    let (ok, said) = program("sfdisk", "fdisk", &["-V", &ours_path], "");
    assert!(ok && said.contains("No errors detected"), "{said}");
    let (ok, said) = program("parted", "parted", &["-s", &ours_path, "print"], "");
    assert!(
        ok && !said.contains("Warning") && !said.contains("Error"),
        "{said}"
    );
    for number in ["1", "2", "3", "4"] {
        let told = |path: &str| program("sgdisk", "gdisk", &["-i", number, path], "").1;
        assert_eq!(told(&ours_path), told(&theirs_path));
        let (number, told) = (number.parse().unwrap(), |machine: &Machine, number| {
            machine.attributes(number)
        });
        assert_eq!(told(&ours, number), told(&theirs, number));
    }
    // Only the names' ends differ, and the headers, which theirs had to change.
    for at in difference(&ours.bytes(), &theirs.bytes()) {
        let (header, last) = (512..1024, (ours.last() * 512) as usize);
        let entries = [1024, last - 16384]
            .into_iter()
            .find(|entries| (*entries..entries + 16384).contains(&at));
        let is_name_end = entries.is_some_and(|entries| (at - entries) % 128 >= 124);
        assert!(is_name_end || header.contains(&at) || at >= last, "{at}");
    }
}

#[test]
fn flip_refuses_before_it_writes() {
    let long = "123456789012345678901234567890123456";
    // The root is another partition, or on another disk.
    let machine = Machine::new();
    machine.run_from(3);
    machine.refused(
        &["flip"],
        78,
        "the root, partition 3, is not a slot of abflip.ini; boot one of its slots",
    );
    machine.refused(
        &["flip", "--active", "b"],
        78,
        "the root, partition 3, is not a slot",
    );
    machine.run_from(9);
    machine.refused(
        &["flip"],
        78,
        "finding the disk: the root, 8:9, is not on a disk; name one with --disk",
    );
    // What was not written and verified, here.
    let machine = Machine::new();
    machine.record(&["a"]);
    machine.refused(
        &["flip"],
        78,
        "no verified write of slot b is recorded; run abflip write",
    );
    let records = machine.root().join("var/lib/labtools/slots.json");
    let text = fs::read_to_string(&records).unwrap();
    machine.record(&["a", "b"]);
    let of_another = fs::read_to_string(&records)
        .unwrap()
        .replace("11111111-", "22222222-");
    fs::write(&records, of_another).unwrap();
    machine.refused(&["flip"], 78, "no verified write of slot b is recorded");
    fs::write(&records, text.replace("\"schema\":1", "\"schema\":2")).unwrap();
    machine.refused(
        &["flip"],
        78,
        "slots.json; remove it, and write the slots again: not of schema 1",
    );
    // Written, verified, and nothing that starts it: no boot sector, one that is none, half of a
    // loader, none at all.
    for (at, bytes) in [
        (510, &[0, 0][..]),
        (0, &[0]),
        (65 * 512, b"x"),
        (282, &[0; 4]),
    ] {
        let machine = Machine::new();
        machine.poke(2 * PARTITION + at, bytes);
        machine.refused(&["flip"], 78, "refusing to flip");
        machine.refused(
            &["flip"],
            78,
            "nothing starts slot b: no extlinux is installed in it, in one piece; see extlinux(1)",
        );
        machine.put_extlinux(2 * PARTITION);
        assert_eq!(machine.slots(&["flip"])["next"], "b");
    }
    // By UEFI what starts it comes by a trial.
    let machine = Machine::with(512, &uefi());
    let recorded = fs::read_to_string(machine.root().join("var/lib/labtools/slots.json")).unwrap();
    fs::write(
        machine.root().join("var/lib/labtools/slots.json"),
        recorded.replace("\"loader_sha256\":\"0e\",", ""),
    )
    .unwrap();
    machine.refused(
        &["flip"],
        78,
        "the loader of slot b is not recorded, and it cannot be read in an image; run abflip try",
    );
    // Marks.
    for (bits, words) in [
        (
            [4, 4],
            "more than one partition is marked; run abflip repair",
        ),
        ([0, 0], "no slot is marked"),
    ] {
        let mut partitions = bios();
        partitions
            .iter_mut()
            .zip(bits)
            .for_each(|(partition, bits)| partition.attributes = bits);
        Machine::with(512, &partitions).refused(&["flip"], 78, words);
    }
    let mut partitions = bios();
    (partitions[0].attributes, partitions[3].attributes) = (0, 4);
    Machine::with(512, &partitions).refused(&["flip"], 78, "no slot is marked");
    for (bits, words) in [
        ([2, 2], "no slot is marked"),
        ([0, 0], "more than one partition is marked"),
    ] {
        let mut partitions = uefi();
        partitions
            .iter_mut()
            .zip(bits)
            .for_each(|(partition, bits)| partition.attributes = bits);
        Machine::with(512, &partitions).refused(&["flip"], 78, words);
    }
    // Places: 4 and 5 are in two sectors, by 512 bytes; a PARTUUID that is not there, or there
    // twice.
    let apart = vec![partition(4, A, "rootA", 4), partition(5, B, "rootB", 0)];
    Machine::with(512, &apart).refused(
        &["flip"],
        78,
        "its slots are not in one sector of the table",
    );
    assert_eq!(Machine::with(4096, &apart).slots(&["flip"])["next"], "b");
    Machine::with(512, &bios()[..1]).refused(&["flip"], 78, "there is no partition bbbbbbbb-");
    // gptman itself makes no such table.
    let machine = Machine::new();
    for (lba, entries) in [(1, 1024), (machine.last(), machine.last() * 512 - 16384)] {
        machine.poke(entries + 2 * 128 + 16, &machine::guid(B));
        machine.seal(lba);
    }
    machine.refused(&["flip"], 78, "there are two partitions bbbbbbbb-");
    // Names.
    let full: Vec<_> = bios()
        .into_iter()
        .map(|of| machine::Partition { name: long, ..of })
        .collect();
    Machine::with(512, &full).refused(
        &["flip"],
        78,
        "has a name shorter than 34 characters; shorten one, with sgdisk -c",
    );
    let mut one_free = full.clone();
    one_free[3].name = "log";
    assert_eq!(Machine::with(512, &one_free).slots(&["flip"])["next"], "b");
}

#[test]
fn a_table_that_is_not_right_is_refused() {
    let machine = Machine::new();
    let whole = machine.bytes();
    let again = || machine.poke(0, &whole);
    let last = machine.last();
    // The primary: what gptman would panic at, and what would make it abort.
    for (at, value, words) in [
        (
            84,
            256u32,
            "its primary table is not valid (entries are 256 bytes long, not 128); run abflip repair",
        ),
        (80, 4_000_000_000, "it has 4000000000 entries"),
        (88, 0, "the checksum of the entries is wrong"),
    ] {
        machine.poke(512 + at, &value.to_le_bytes());
        let (header, mut sealed) = (512, machine.bytes()[512..604].to_vec());
        sealed[16..20].fill(0);
        let checksum = crc32fast::hash(&sealed);
        machine.poke(header + 16, &checksum.to_le_bytes());
        machine.refused(&["flip"], 78, words);
        again();
    }
    machine.poke(510, &[0, 0]);
    machine.refused(&["flip"], 78, "it has no protective MBR; run abflip repair");
    again();
    // The backup is healed, unless told not to.
    for place in [last * 512, last * 512 - 16384 + 500] {
        machine.poke(place, b"EFI TRAP");
        machine.refused(
            &["flip", "--no-repair"],
            78,
            "its backup table is not valid",
        );
        let slots = machine.slots(&["flip"]);
        assert_eq!(
            (&slots["table"]["agree"], &slots["next"]),
            (&true.into(), &"b".into())
        );
        assert!(
            program(
                "sgdisk",
                "gdisk",
                &["-v", &machine.disk().display().to_string()],
                ""
            )
            .0
        );
        again();
    }
    // Valid, and another one: half of a flip.
    machine.slots(&["flip"]);
    let flipped = machine.bytes()[(last * 512 - 16384) as usize..].to_vec();
    again();
    machine.poke(last * 512 - 16384, &flipped);
    machine.refused(
        &["flip", "--no-repair"],
        78,
        "its backup table is not the same as the primary",
    );
    assert_eq!(machine.slots(&["flip"])["table"]["agree"], true);
}

#[test]
fn partitions_that_overlap_are_a_fault_and_refused() {
    let sectors = PARTITION / 512;
    let (a, b, log) = (sectors, 2 * sectors, 4 * sectors);
    let usable = Machine::new().last() - 33;
    for (number, first, last, fault) in [
        (2, a + 500, a + 600, "partitions 1 and 2 overlap"),
        (2, a + sectors - 1, b + 100, "partitions 1 and 2 overlap"),
        (3, b, b, "partitions 2 and 3 overlap"),
        (4, a, log + sectors - 1, "partitions 1 and 4 overlap"),
        // Neither is a slot.
        (3, log, log, "partitions 3 and 4 overlap"),
        // Over the tables, or backwards.
        (
            3,
            2,
            40,
            "partition 3, sectors 2 to 40, does not lie between sectors 34 and ",
        ),
        (4, log, usable + 1, "partition 4, sectors 8192 to "),
        (
            4,
            log,
            log - 1,
            "partition 4, sectors 8192 to 8191, does not lie",
        ),
    ] {
        let machine = Machine::new();
        machine.configure_extlinux();
        machine.move_partition(number, first, last);
        let ended = machine.run(&["status"]);
        let faults = ended.section("slots")["table"]["faults"].to_string();
        assert!(
            ended.status == 1 && faults.contains(&format!("primary table: {fault}")),
            "{fault}: {faults}"
        );
        for arguments in [&["flip"][..], &["flip", "--dry-run"], &["try"]] {
            machine.refused(arguments, 78, fault);
        }
        // Nothing of it can be repaired by a machine.
        let ended = machine.run(&["repair"]);
        assert_eq!(
            (ended.status, &ended.section("slots")["changed"]),
            (1, &false.into()),
            "{ended:?}"
        );
        machine.poke(1024 + 48, &[0]);
        machine.seal(1);
        machine.refused(&["repair", "--active", "a"], 78, fault);
    }
    // By the backup alone.
    let machine = Machine::new();
    let primary = machine.bytes()[..34 * 512].to_vec();
    machine.move_partition(4, b, b);
    machine.poke(0, &primary);
    assert!(
        machine.run(&["status"]).section("slots")["table"]["faults"]
            .to_string()
            .contains("backup table: partitions 2 and 4 overlap")
    );
    machine.refused(&["flip"], 78, "partitions 2 and 4 overlap");
    assert_eq!(
        machine.slots(&["repair"])["table"]["faults"],
        serde_json::json!([])
    );
}

#[test]
fn slots_4_and_3_gaps_entries_elsewhere_and_a_disk_that_has_grown() {
    // A gap before, between and behind; the other order.
    let machine = Machine::with(
        512,
        &[partition(4, A, "rootA", 4), partition(2, B, "rootB", 0)],
    );
    assert_eq!(machine.slots(&["flip"])["next"], "b");
    assert_eq!((machine.attributes(4), machine.attributes(2)), (0, 4));
    // The entries at LBA 40, as boards with a loader at LBA 2 have them; in both tables' headers
    // there is room for it.
    let machine = Machine::new();
    let path = machine.disk().display().to_string();
    let (ok, said) = program("sgdisk", "gdisk", &["-j", "40", &path], "");
    assert!(ok, "{said}");
    let before = machine.bytes();
    assert_eq!(machine.slots(&["flip"])["next"], "b");
    let changed = difference(&before, &machine.bytes());
    assert_eq!(changed[0], 40 * 512 + 48);
    assert!(program("sgdisk", "gdisk", &["-v", &path], "").0);
    // Grown: the backup stays where it is.
    let machine = Machine::new();
    File::options()
        .write(true)
        .open(machine.disk())
        .unwrap()
        .set_len(9 << 20)
        .unwrap();
    let slots = machine.slots(&["flip"]);
    assert_eq!(
        (&slots["table"]["backup_at_end"], &slots["table"]["agree"]),
        (&false.into(), &true.into())
    );
    assert_eq!(slots["next"], "b");
}

#[test]
fn an_image_is_told_which_slot_and_needs_no_machine() {
    let machine = Machine::new();
    let image = machine.root().join("lab.img");
    fs::copy(machine.disk(), &image).unwrap();
    let image = image.to_str().unwrap();
    machine.refused(&["flip", "--disk", image], 2, "nothing runs from");
    assert_eq!(
        machine.slots(&["flip", "--disk", image, "--active", "b"])["next"],
        "b"
    );
    assert_eq!(
        machine.slots(&["status"])["next"],
        "a",
        "the machine's own disk is as it was"
    );
}

#[test]
fn a_dry_run_says_the_same_and_writes_nothing() {
    let machine = Machine::new();
    let before = machine.bytes();
    let dry = machine.slots(&["flip", "--dry-run"]);
    assert!(machine.bytes() == before && !machine.root().join("run").exists());
    assert_eq!(dry, machine.slots(&["flip"]));
}

/// Runs a flip to its end, and does something between its `nth` durable write, from 1, and whatever
/// it does next.
fn after_write(machine: &Machine, nth: u32, act: impl FnOnce()) -> Ended {
    let mut flip = Stepped::start(
        machine
            .command(&["flip"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut writes = 0;
    while writes < nth {
        writes += u32::from(flip.next_call().number == SYS_pwritev2);
        assert!(flip.steps(1), "it ended before write {nth}");
    }
    act();
    Ended::of(flip.output())
}

#[test]
fn two_at_once_one_is_told_to_come_later() {
    let machine = Machine::new();
    machine.configure_extlinux();
    // One that has written the backup's sector, and not the primary's.
    let others = || {
        for verb in ["flip", "repair", "try", "commit", "rollback"] {
            machine.refused(
                &[verb],
                75,
                "another abflip is running; try again when it has ended",
            );
        }
        assert_eq!(
            machine.run(&["status"]).section("slots")["table"]["agree"],
            false
        );
    };
    let ended = after_write(&machine, 1, others);
    assert_eq!(
        (ended.status, &ended.section("slots")["next"]),
        (0, &"b".into()),
        "{ended:?}"
    );
    machine.slots(&["flip", "--active", "a"]);
}

#[test]
fn killed_before_any_system_call_one_slot_boots_and_the_next_run_heals() {
    let machine = Machine::new();
    let before = machine.bytes();
    let mut seen = [0, 0];
    for call in 0.. {
        machine.poke(0, &before);
        if !killed_before(&mut machine.command(&["flip"]), call, |_| true) {
            break;
        }
        let status = machine.run(&["status"]).section("slots");
        let table = &status["table"];
        assert_eq!(
            (&table["primary"], &table["backup"]),
            (&true.into(), &true.into()),
            "{call}: {status}"
        );
        seen[usize::from(status["next"] == "b")] += 1;
        let slots = machine.slots(&[if call % 2 == 0 { "flip" } else { "repair" }]);
        assert_eq!(slots["table"]["agree"], true, "{call}");
        if call % 2 == 0 {
            assert_eq!(slots["next"], "b", "{call}");
        }
    }
    assert!(seen[0] > 50 && seen[1] > 5, "{seen:?}");
}

#[test]
fn a_write_that_fails_is_taken_back() {
    let machine = Machine::new();
    let before = machine.bytes();
    for (error, status) in [("EIO", 74), ("ENOSPC", 73)] {
        for (call, steps) in [("pwritev2", 2), ("fdatasync", 2)] {
            for step in 1..=steps {
                let inject = format!("inject={call}:error={error}:when={step}");
                let ended = machine.traced(&["flip"], &["-e", &inject]);
                // No room is an answer to a write only.
                let expected = if call == "pwritev2" { status } else { 74 };
                assert_eq!(
                    (ended.status, ended.stdout.as_str()),
                    (expected, ""),
                    "{inject}: {ended:?}"
                );
                assert!(machine.bytes() == before, "{inject}");
            }
        }
    }
    // Nor can it be taken back: then it is said, and the tables are valid.
    for step in [1, 2] {
        let ended = machine.traced(
            &["flip"],
            &["-e", &format!("inject=pwritev2:error=EIO:when={step}+")],
        );
        assert_eq!(ended.status, 1, "{ended:?}");
        let way_out = if step == 1 {
            "slot a boots next; run abflip flip again"
        } else {
            "run abflip repair"
        };
        assert!(
            ended.stderr.contains("undoing it also failed") && ended.stderr.contains(way_out),
            "{step}: {ended:?}"
        );
        let slots = machine.run(&["status"]).section("slots");
        assert_eq!(
            (
                &slots["table"]["primary"],
                &slots["table"]["backup"],
                &slots["next"]
            ),
            (&true.into(), &true.into(), &"a".into())
        );
        machine.slots(&["repair"]);
        assert!(machine.bytes() == before, "{step}");
    }
    // Half a sector.
    let ended = machine.traced(&["flip"], &["-e", "inject=pwritev2:retval=256:when=1"]);
    assert_eq!(ended.status, 74, "{ended:?}");
    assert!(ended.stderr.contains("only 256 bytes of"), "{ended:?}");
    // A disk that says yes and writes nothing.
    let ended = machine.traced(&["flip"], &["-e", "inject=pwritev2:retval=512:when=2"]);
    assert_eq!(ended.status, 74, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("the disk returns other bytes than were written; replace the disk"),
        "{ended:?}"
    );
    assert!(machine.bytes() == before);
}

#[test]
fn a_read_that_fails_before_or_after_the_commit_leaves_everything_as_it_was() {
    let machine = Machine::new();
    let before = machine.bytes();
    for step in 1.. {
        let path = machine.disk().display().to_string();
        let ended = machine.traced(
            &["flip"],
            &[
                "-P",
                &path,
                "-e",
                &format!("inject=pread64:error=EIO:when={step}"),
            ],
        );
        if ended.status == 0 {
            assert!(step > 10, "{step}");
            break;
        }
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (74, ""),
            "{step}: {ended:?}"
        );
        assert!(machine.bytes() == before, "{step}");
    }
}

/// A fake: the disk of the tests keeps what it is given, so this program changes it behind the
/// run's back.
#[test]
fn a_bit_that_the_medium_flips_after_a_write_is_noticed() {
    let machine = Machine::new();
    let before = machine.bytes();
    let (primary, backup) = (1024, (machine.last() * 512 - 16384) as usize);
    // After the write of the backup's sector, and of the primary's: in what was written, and in
    // what was verified before.
    for (write, place, words) in [
        (1, backup + 48, "the slots' sector of the backup table: "),
        (1, backup + 511, "the slots' sector of the backup table: "),
        (
            2,
            primary + 128 + 48,
            "the slots' sector of the primary table: ",
        ),
        (2, primary + 300, "the slots' sector of the primary table: "),
        (
            2,
            backup + 130,
            "its tables differ from what was written; replace the disk",
        ),
    ] {
        for bit in [0, 7] {
            let flip = || {
                let found = machine.bytes()[place];
                machine.poke(place as u64, &[found ^ 1 << bit]);
            };
            let ended = after_write(&machine, write, flip);
            assert_eq!(
                (ended.status, ended.stdout.as_str()),
                (74, ""),
                "{write} {place}: {ended:?}"
            );
            assert!(
                ended.stderr.contains(words) && ended.stderr.contains("replace the disk"),
                "{write} {place}: {ended:?}"
            );
            assert!(machine.bytes() == before, "{write} {place}");
        }
    }
    // Before the commit nothing else of the tables may change either; what did is not ours to take
    // back.
    let elsewhere = backup + 600;
    let flip = || machine.poke(elsewhere as u64, &[before[elsewhere] ^ 1]);
    let ended = after_write(&machine, 1, flip);
    assert_eq!(ended.status, 74, "{ended:?}");
    assert_eq!(difference(&before, &machine.bytes()), [elsewhere]);
}

#[test]
fn a_signal_waits_until_both_tables_say_the_same() {
    for step in [1, 2] {
        let machine = Machine::new();
        let ended = machine.traced(
            &["flip"],
            &["-e", &format!("inject=pwritev2:signal=SIGTERM:when={step}")],
        );
        // strace ends as what it runs did.
        assert_eq!(ended.status, -1, "{ended:?}");
        assert_eq!(ended.section("slots")["next"], "b");
        let slots = machine.slots(&["status"]);
        assert_eq!(
            (&slots["next"], &slots["table"]["agree"]),
            (&"b".into(), &true.into()),
            "{step}: {slots}"
        );
    }
}

#[test]
fn the_rest_of_the_disk_is_not_touched() {
    let machine = Machine::new();
    let mut noise = vec![0; 4 * PARTITION as usize];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut noise)
        .unwrap();
    File::options()
        .write(true)
        .open(machine.disk())
        .unwrap()
        .write_all_at(&noise, PARTITION)
        .unwrap();
    machine.put_extlinux(2 * PARTITION);
    let before = machine.bytes();
    machine.slots(&["flip"]);
    assert!(
        machine.bytes()[PARTITION as usize..][..noise.len()]
            == before[PARTITION as usize..][..noise.len()]
    );
}

#[test]
fn the_slot_that_runs_can_be_marked_again_whatever_is_recorded_of_it() {
    for (partitions, roots) in [(bios(), [1, 2]), (uefi(), [3, 4])] {
        // As a machine is that was installed, and not by abflip write.
        let machine = Machine::with(512, &partitions);
        machine.record(&["b"]);
        machine.slots(&["flip"]);
        machine.poke(PARTITION, &[0; 512]); // by BIOS, its boot sector
        assert_eq!(machine.slots(&["flip", "--active", "a"])["next"], "a");
        // Another slot than the one that runs needs both.
        machine.record(&["a", "b"]);
        machine.slots(&["flip"]);
        machine.run_from(roots[1]);
        machine.record(&["b"]);
        machine.refused(&["flip"], 78, "no verified write of slot a is recorded");
    }
}

#[test]
fn by_uefi_the_firmware_has_to_know_both_of_our_partitions_or_none() {
    let machine = Machine::with(512, &uefi());
    let order = |numbers: &[u16]| {
        machine.set_variable(
            "BootOrder",
            &numbers
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect::<Vec<u8>>(),
        );
    };
    let flips = |is_allowed: bool| {
        if is_allowed {
            assert_eq!(machine.slots(&["flip", "--dry-run"])["next"], "b");
            return;
        }
        let words = "the firmware's boot order names only slot a's EFI system partition; let it name neither";
        machine.refused(&["flip"], 78, words);
        machine.refused(
            &["flip"],
            78,
            "--part 2 --label root-b --loader '\\EFI\\BOOT\\BOOTX64.EFI'",
        );
        machine.refused(&["try"], 78, words);
    };
    // Entries that are not ours: no device, a description without an end, an entry that is not
    // there.
    machine.set_variable(
        "Boot0000",
        b"\x01\0\0\0\x04\0s\0e\0t\0u\0p\0\0\0\x7f\xff\x04\0",
    );
    machine.set_variable("Boot0001", b"\x01\0\0\0\x04\0s\0");
    order(&[0, 1, 9]);
    flips(true);
    machine.set_entry(2, "root-a", 1, "\\EFI\\BOOT\\BOOTX64.EFI");
    flips(true); // which is not in the order
    order(&[0, 2]);
    flips(false);
    // An image is started by another machine.
    let image = machine.root().join("lab.img");
    fs::copy(machine.disk(), &image).unwrap();
    machine.slots(&[
        "flip",
        "--dry-run",
        "--active",
        "b",
        "--disk",
        image.to_str().unwrap(),
    ]);
    machine.set_entry(3, "root-b", 2, "\\EFI\\BOOT\\BOOTX64.EFI");
    flips(false);
    order(&[0, 2, 3]);
    flips(true);
    // The way back is open.
    order(&[0, 2]);
    machine.run_from(4);
    assert_eq!(machine.slots(&["flip", "--active", "a"])["changed"], false);
}
