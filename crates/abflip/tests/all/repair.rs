//! `abflip repair`: what it heals, and from what.

use crate::machine::extlinux::empty;
use crate::machine::{self, A, B, Machine, PARTITION, Partition, bios, program, uefi};
use jsonpipe::testkit::stepped::killed_before;

/// A run that must heal everything, as a dry run says before; sgdisk then finds nothing wrong.
fn heals(machine: &Machine, arguments: &[&str], says: &[&str]) {
    let broken = machine.bytes();
    let dry = machine.run(&[&["repair", "--dry-run"], arguments].concat());
    assert!(machine.bytes() == broken, "a dry run wrote");
    let ended = machine.run(&[&["repair"], arguments].concat());
    assert_eq!(ended.status, 0, "{ended:?}");
    for what in says {
        assert!(
            dry.stderr.contains(&format!("would write {what} of")),
            "{what}: {dry:?}"
        );
        assert!(
            ended.stderr.contains(&format!("writing {what} of")),
            "{what}: {ended:?}"
        );
    }
    assert_eq!(ended.stderr.lines().count(), says.len(), "{ended:?}");
    assert_eq!(
        (
            dry.section("slots")["changed"].clone(),
            ended.section("slots")["changed"].clone()
        ),
        (true.into(), true.into())
    );
    if machine.sector_bytes == 512 {
        let (ok, said) = program(
            "sgdisk",
            "gdisk",
            &["-v", &machine.disk().display().to_string()],
            "",
        );
        assert!(ok && said.contains("No problems found"), "{said}");
    }
    // And then there is nothing left.
    let again = machine.run(&["repair"]);
    assert_eq!(
        (
            again.status,
            again.stderr.as_str(),
            &again.section("slots")["changed"]
        ),
        (0, "", &false.into()),
        "{again:?}"
    );
}

const BACKUP: [&str; 2] = [
    "the entries of the backup table",
    "the header of the backup table",
];
const PRIMARY: [&str; 2] = [
    "the entries of the primary table",
    "the header of the primary table",
];

#[test]
fn either_table_is_made_from_the_other_one() {
    for sector in [512, 4096] {
        let machine = Machine::with(sector, &bios());
        let whole = machine.bytes();
        let last = machine.last() * sector;
        for (place, bytes, says) in [
            (last, b"x".as_slice(), BACKUP),
            (last + 16, b"wrong", BACKUP),
            (last - 16384, b"wrong", BACKUP),
            (last - 1, b"x", BACKUP),
            (sector, b"x", PRIMARY),
            (sector + 16, b"wrong", PRIMARY),
            (2 * sector + 48, b"x", PRIMARY),
            (2 * sector + 16383, b"x", PRIMARY),
        ] {
            machine.poke(place, bytes);
            heals(&machine, &[], &says);
            assert!(machine.bytes() == whole, "{sector} {place}");
        }
        // A table of zeros.
        machine.poke(sector, &vec![0; sector as usize + 16384]);
        heals(&machine, &[], &PRIMARY);
        assert!(machine.bytes() == whole);
    }
}

#[test]
fn half_of_a_foreign_flip_is_finished_or_taken_back() {
    let machine = Machine::new();
    let path = machine.disk().display().to_string();
    let before = machine.bytes();
    assert!(
        program(
            "sgdisk",
            "gdisk",
            &[&path, "-A", "1:clear:2", "-A", "2:set:2"],
            ""
        )
        .0
    );
    let after = machine.bytes();
    let last = (machine.last() * 512) as usize;
    // The primary entries are new, and the header is not.
    machine.poke(0, &before);
    machine.poke(1024, &after[1024..1024 + 16384]);
    machine.poke(last as u64 - 16384, &after[last - 16384..]);
    machine.refused(
        &["flip"],
        78,
        "its primary table is not valid (the checksum of the entries is wrong); run abflip repair",
    );
    heals(&machine, &[], &PRIMARY);
    assert!(machine.bytes() == after);
    // Only the backup is new: what boots counts.
    machine.poke(0, &before);
    machine.poke(last as u64 - 16384, &after[last - 16384..]);
    heals(&machine, &[], &BACKUP);
    assert!(machine.bytes() == before);
}

#[test]
fn entries_that_are_not_at_lba_2_are_found_again() {
    let machine = Machine::new();
    assert!(
        program(
            "sgdisk",
            "gdisk",
            &["-j", "40", &machine.disk().display().to_string()],
            ""
        )
        .0
    );
    let whole = machine.bytes();
    machine.poke(512 + 16, b"torn");
    heals(&machine, &[], &PRIMARY);
    assert!(machine.bytes() == whole);
}

#[test]
fn the_protective_mbr_comes_back_without_its_boot_code_being_touched() {
    let machine = Machine::new();
    let whole = machine.bytes();
    machine.poke(446, &[0; 66]);
    heals(&machine, &[], &["the protective MBR"]);
    assert!(machine.bytes() == whole);
    // One that is to protect a table, and begins elsewhere, is nobody's own.
    machine.poke(446 + 8, &[63]);
    machine.refused(&["flip"], 78, "it has no protective MBR; run abflip repair");
    heals(&machine, &[], &["the protective MBR"]);
    assert!(machine.bytes() == whole);
    // Somebody's own partitions are not ours to remove: who is refused is not sent from one to the
    // other.
    machine.poke(446 + 4, &[0x83]);
    for verb in ["repair", "flip"] {
        let words = "its MBR has partitions, and none that protects the table; if they are not needed, make a protective MBR";
        machine.refused(&[verb], 78, words);
    }
}

#[test]
fn a_table_that_others_read_is_not_called_broken() {
    // As many entries as sgdisk makes and Linux reads.
    let machine = Machine::new();
    let path = machine.disk().display().to_string();
    assert!(program("sgdisk", "gdisk", &["-S", "2000", &path], "").0);
    assert_eq!(machine.slots(&["flip"])["next"], "b");
    machine.poke(512 + 16, b"torn");
    assert_eq!(machine.slots(&["repair"])["table"]["agree"], true);
    // Entries of another length, with all checksums: not read here, and not written over.
    let machine = Machine::new();
    for (lba, backup) in [(1, false), (machine.last(), true)] {
        machine.poke(
            lba * 512 + 80,
            &[64u32.to_le_bytes(), 256u32.to_le_bytes()].concat(),
        );
        machine.seal(lba);
        if !backup {
            machine.refused(
                &["flip"],
                78,
                "nothing of it is broken, but abflip reads only",
            );
            machine.refused(
                &["repair"],
                78,
                "its primary table is not valid (entries are 256 bytes long, not 128); nothing of it is",
            );
        }
    }
    machine.refused(
        &["repair"],
        78,
        "neither table is valid (primary: entries are 256 bytes long, not 128; backup: entries are",
    );
    machine.refused(
        &["repair"],
        78,
        "nothing of it is broken, but abflip reads only 1 to 32768 entries of 128 bytes",
    );
}

/// The sectors at the end of a disk of so many bytes that has these partitions and this GUID: the
/// backup of its table.
fn backup_of(partitions: &[Partition], guid: &str, length: u64) -> Vec<u8> {
    let other = Machine::with(512, partitions);
    std::fs::File::options()
        .write(true)
        .open(other.disk())
        .unwrap()
        .set_len(length)
        .unwrap();
    let last = length / 512 - 1;
    if last != other.last() {
        assert!(
            program(
                "sgdisk",
                "gdisk",
                &["-e", &other.disk().display().to_string()],
                ""
            )
            .0
        );
    }
    other.poke(last * 512 + 56, &machine::guid(guid));
    other.seal(last);
    other.bytes()[((last - 32) * 512) as usize..].to_vec()
}

const OTHER_GUID: &str = "22222222-2222-4222-8222-222222222222";

fn others() -> Vec<Partition> {
    vec![machine::partition(
        1,
        "eeeeeeee-0000-4000-8000-000000000001",
        "Basic data partition",
        0,
    )]
}

#[test]
fn repair_follows_the_header_to_its_backup() {
    const GROWN: u64 = 9 << 20;
    let machine = Machine::new();
    std::fs::File::options()
        .write(true)
        .open(machine.disk())
        .unwrap()
        .set_len(GROWN)
        .unwrap();
    // Nothing is in the last sector; then what was on the disk before, of another GUID or of the
    // same, with the slots or without.
    let stale = [
        (others(), OTHER_GUID),
        (others(), machine::DISK_GUID),
        (bios(), machine::DISK_GUID),
    ];
    let stale: Vec<Vec<u8>> = stale
        .iter()
        .map(|(partitions, guid)| backup_of(partitions, guid, GROWN))
        .collect();
    for last in [vec![0; 33 * 512]].iter().chain(&stale) {
        machine.poke(GROWN - 33 * 512, last);
        let whole = machine.bytes();
        for at in [1024 + 60, 1024 + 16383] {
            machine.poke(at, b"Z");
            let ended = machine.run(&["repair"]);
            assert_eq!(
                (ended.status, &ended.section("slots")["table"]["faults"]),
                (0, &serde_json::json!([])),
                "{ended:?}"
            );
            assert!(machine.bytes() == whole, "{at}");
        }
    }
}

#[test]
fn a_torn_header_is_believed_before_the_last_sector() {
    const GROWN: u64 = 9 << 20;
    let machine = Machine::new();
    std::fs::remove_file(machine.root().join("var/lib/labtools/slots.json")).unwrap();
    std::fs::remove_file(machine.root().join("proc/self/mountinfo")).unwrap();
    let disk = machine.disk().display().to_string();
    std::fs::File::options()
        .write(true)
        .open(machine.disk())
        .unwrap()
        .set_len(GROWN)
        .unwrap();
    let whole = machine.bytes();
    let own_last = machine.last();
    let moved = [
        machine::partition(2, B, "rootB", 0),
        machine::partition(1, A, "rootA", 4),
    ];
    let stale = [
        (others(), OTHER_GUID),
        (bios(), OTHER_GUID),
        (moved.to_vec(), machine::DISK_GUID),
    ];
    let stale = stale
        .iter()
        .map(|(partitions, guid)| backup_of(partitions, guid, GROWN));
    for last in stale {
        machine.poke(0, &whole);
        machine.poke(GROWN - 33 * 512, &last);
        let before = machine.bytes();
        // The signature, the checksum, the header's own sector with the right checksum.
        for (at, bytes, is_sealed) in [
            (512, b"Z".as_slice(), false),
            (512 + 16, b"Z", false),
            (512 + 24, b"\x07", true),
        ] {
            machine.poke(at, bytes);
            if is_sealed {
                machine.seal(1);
            }
            let ended = machine.run(&["repair", "--disk", &disk]);
            assert_eq!(ended.status, 0, "{at}: {ended:?}");
            assert!(machine.bytes() == before, "{at}");
        }
        // Where the header does not tell, the protective MBR says how long the image is that was
        // put here.
        machine.poke(446 + 12, &(own_last as u32).to_le_bytes());
        machine.poke(512, &[0; 512]);
        machine.refused(
            &["repair", "--disk", &disk],
            78,
            "have two tables that differ",
        );
        // And where nothing is left of its own backup, what the header says of it is not in the
        // last sector.
        machine.poke(0, &whole);
        machine.poke(512 + 16, b"Z");
        machine.poke(own_last * 512, &[0; 512]);
        machine.poke(GROWN - 33 * 512, &last);
        let ended = machine.run(&["repair", "--disk", &disk]);
        let is_own = last[32 * 512 + 56..][..16] == machine::guid(machine::DISK_GUID);
        assert_eq!(ended.status == 78, !is_own, "{ended:?}");
    }
}

#[test]
fn entries_that_are_whole_are_not_written_over() {
    let machine = Machine::new();
    let moved: Vec<_> = bios().into_iter().take(2).collect();
    machine.poke(
        (machine.last() - 32) * 512,
        &backup_of(&moved, machine::DISK_GUID, (machine.last() + 1) * 512),
    );
    // Where the copy is, the header cannot tell; of what is at the end it does not tell.
    for copy in [1_u64, 1 << 40] {
        machine.poke(512 + 32, &copy.to_le_bytes());
        machine.seal(1);
        machine.refused(
            &["repair"],
            78,
            "the entries of the backup table are not those that the primary header expects",
        );
    }
}

#[test]
fn a_header_of_sectors_of_4096_bytes_counts_before_a_table_at_the_end_of_512() {
    let machine = Machine::with(4096, &bios());
    std::fs::remove_file(machine.root().join("var/lib/labtools/slots.json")).unwrap();
    let stale = backup_of(&bios(), OTHER_GUID, (machine.last() + 1) * 4096);
    let whole = machine.bytes();
    machine.poke(whole.len() as u64 - stale.len() as u64, &stale);
    machine.poke(2 * 4096 + 60, b"Z");
    machine.refused(
        &["repair"],
        78,
        "neither table is valid (primary: the checksum of the entries is wrong",
    );
}

#[test]
fn repair_puts_no_table_of_another_disk_over_this_one() {
    let refused = |prepare: &dyn Fn(&Machine), verbs: &[&str], words: &str| {
        let machine = Machine::new();
        prepare(&machine);
        assert_eq!(machine.run(&["status"]).status, 1, "{words}");
        for verb in verbs {
            machine.refused(&[verb], 78, words);
        }
        machine.refused(
            &["repair"],
            78,
            "look at both tables with gdisk, and restore the right one by its menu for recovery",
        );
    };
    let end = |machine: &Machine, partitions: &[Partition], guid: &str| {
        machine.poke(
            (machine.last() - 32) * 512,
            &backup_of(partitions, guid, (machine.last() + 1) * 512),
        );
    };
    let no_header = |machine: &Machine| machine.poke(512, &[0; 512]);
    let records = |machine: &Machine| machine.root().join("var/lib/labtools/slots.json");
    refused(
        &|machine| {
            no_header(machine);
            end(machine, &others(), machine::DISK_GUID);
        },
        &["repair"],
        "the backup table can be another disk's: there is no partition aaaaaaaa-",
    );
    refused(
        &|machine| {
            machine.poke(1024 + 60, b"Z");
            end(machine, &bios(), OTHER_GUID);
            std::fs::remove_file(records(machine)).unwrap();
        },
        &["repair"],
        "it is of disk 22222222-2222-4222-8222-222222222222, and the header of the primary one of disk 11111111-",
    );
    refused(
        &|machine| {
            no_header(machine);
            end(machine, &bios(), OTHER_GUID);
        },
        &["repair"],
        "it is of disk 22222222-2222-4222-8222-222222222222, and slots.json names disk 11111111-",
    );
    // Nothing tells but the kernel, which has the root elsewhere.
    refused(
        &|machine| {
            no_header(machine);
            let moved = [
                machine::partition(2, B, "rootB", 0),
                machine::partition(1, A, "rootA", 4),
            ];
            end(machine, &moved, machine::DISK_GUID);
            std::fs::remove_file(records(machine)).unwrap();
        },
        &["repair"],
        "it has no partition at the place of the running root",
    );
    // The other way round: the first sectors are another disk's, and the backup is what is left of
    // this one's.
    let begin = |machine: &Machine, partitions: &[Partition], guid: &str| {
        let other = Machine::with(512, partitions);
        other.poke(512 + 56, &machine::guid(guid));
        other.seal(1);
        machine.poke(0, &other.bytes()[..34 * 512]);
    };
    refused(
        &|machine| begin(machine, &others(), machine::DISK_GUID),
        &["repair"],
        "the primary table can be another disk's: there is no partition aaaaaaaa-",
    );
    refused(
        &|machine| begin(machine, &bios(), OTHER_GUID),
        &["repair", "flip"],
        "it is of disk 22222222-2222-4222-8222-222222222222, and the header of the backup one of disk 11111111-",
    );
    // A valid copy by which partitions overlap takes the place of none.
    refused(
        &|machine| {
            machine.move_partition(4, 4096 + 10, 4096 + 20);
            no_header(machine);
        },
        &["repair"],
        "the backup table: partitions 2 and 4 overlap",
    );
}

#[test]
fn a_slot_is_marked_only_by_name() {
    for (partitions, marks) in [(bios(), [[4, 4], [0, 0]]), (uefi(), [[2, 2], [0, 0]])] {
        for bits in marks {
            let wrong: Vec<Partition> = partitions.clone();
            let mut wrong = wrong;
            wrong
                .iter_mut()
                .zip(bits)
                .for_each(|(partition, bits)| partition.attributes = bits);
            let machine = Machine::with(512, &wrong);
            let before = machine.bytes();
            let unnamed = machine.run(&["repair"]);
            assert_eq!(unnamed.status, 1, "{unnamed:?}");
            assert!(
                unnamed.section("slots")["table"]["faults"][0]
                    .as_str()
                    .unwrap()
                    .contains("marked"),
                "{unnamed:?}"
            );
            assert!(machine.bytes() == before);
            heals(
                &machine,
                &["--active", "b"],
                &[
                    "the marks in the backup table",
                    "the marks in the primary table",
                ],
            );
            assert_eq!(machine.run(&["status"]).section("slots")["next"], "b");
        }
    }
    // A third one has the bit, in another sector; and the backup is torn, too.
    let mut partitions = bios();
    partitions.push(machine::partition(
        6,
        "eeeeeeee-0000-4000-8000-000000000006",
        "spare",
        4,
    ));
    let machine = Machine::with(512, &partitions);
    machine.poke(machine.last() * 512 + 16, b"torn");
    let marks = [
        "the marks in the backup table",
        "the marks in the primary table",
    ];
    heals(
        &machine,
        &["--active", "a"],
        &[BACKUP.as_slice(), &marks].concat(),
    );
    assert_eq!((machine.attributes(6), machine.attributes(1)), (0, 4));
    machine.refused(
        &["repair", "--active", "b"],
        78,
        "slot a is marked, which needs no repair; see abflip flip",
    );
}

#[test]
fn repair_refuses_hopeless_tables() {
    let machine = Machine::new();
    machine.poke(512, b"x");
    machine.poke(machine.last() * 512, b"x");
    machine.refused(
        &["repair"],
        78,
        "neither table is valid (primary: there is no header; backup: there is no header)",
    );
    let full = "123456789012345678901234567890123456";
    let partitions: Vec<_> = bios()
        .into_iter()
        .map(|of| Partition {
            name: full,
            attributes: 0,
            ..of
        })
        .collect();
    Machine::with(512, &partitions).refused(
        &["repair", "--active", "a"],
        78,
        "has a name shorter than 34 characters",
    );
}

#[test]
fn the_backup_of_a_disk_that_has_grown_is_made_again_where_it_was() {
    let machine = Machine::new();
    let last = machine.last();
    std::fs::File::options()
        .write(true)
        .open(machine.disk())
        .unwrap()
        .set_len(9 << 20)
        .unwrap();
    let whole = machine.bytes();
    machine.poke(last * 512 - 16384 + 60, b"torn");
    machine.poke(last * 512, &[0; 512]);
    assert_eq!(machine.slots(&["repair"])["table"]["backup_at_end"], false);
    assert!(machine.bytes() == whole);
    // The primary alone knows where it was.
    machine.poke(512, &[0; 512]);
    machine.refused(&["repair"], 78, "neither table is valid");
}

#[test]
fn killed_before_any_system_call_the_next_run_heals() {
    let last = Machine::new().last() * 512;
    for place in [1024 + 60, last + 16] {
        let machine = Machine::new();
        let whole = machine.tables();
        machine.poke(place, b"torn");
        let torn = machine.tables();
        let mut healed = 0;
        for call in 0.. {
            machine.poke(0, &torn[0]);
            machine.poke(last - 32 * 512, &torn[1]);
            if !killed_before(&mut machine.command(&["repair"]), call, |_| true) {
                break;
            }
            if machine.tables() == torn {
                continue; // which is another one's state
            }
            healed += 1;
            machine.slots(&["repair"]);
            assert!(machine.tables() == whole, "{place} {call}");
        }
        assert!(healed > 5, "{place}: {healed}");
    }
}

#[test]
fn a_write_that_fails_is_taken_back() {
    let machine = Machine::new();
    machine.poke(512 + 16, b"torn");
    let before = machine.bytes();
    for step in 1..=2 {
        let ended = machine.traced(
            &["repair"],
            &["-e", &format!("inject=pwritev2:error=EIO:when={step}")],
        );
        assert_eq!((ended.status, ended.stdout.as_str()), (74, ""), "{ended:?}");
        assert!(machine.bytes() == before, "{step}");
    }
    heals(&machine, &[], &PRIMARY);
}

#[test]
fn a_slot_is_marked_only_if_something_of_it_starts() {
    for (partitions, marks) in [(bios(), [0, 0]), (uefi(), [0, 0])] {
        let mut wrong = partitions;
        wrong
            .iter_mut()
            .zip(marks)
            .for_each(|(partition, bits)| partition.attributes = bits);
        let machine = Machine::with(512, &wrong);
        machine.record(&["a"]);
        machine.refused(
            &["repair", "--active", "b"],
            78,
            "no verified write of slot b is recorded; name the other slot",
        );
        // The one that runs does start.
        machine.record(&["b"]);
        assert_eq!(machine.slots(&["repair", "--active", "a"])["next"], "a");
    }
    let mut wrong = bios();
    wrong[0].attributes = 0;
    let machine = Machine::with(512, &wrong);
    machine.poke(2 * PARTITION, &[0; 512]);
    machine.refused(
        &["repair", "--active", "b"],
        78,
        "nothing starts slot b: no extlinux is installed in it",
    );
}

#[test]
fn marked_slots_do_not_start_the_other_slot() {
    let machine = Machine::new();
    machine.configure_extlinux();
    machine.slots(&["try"]);
    let entries = 1024 + 48;
    for table in [entries, (machine.last() * 512 - 16384) + 48] {
        machine.poke(table, &[0]);
    }
    for lba in [1, machine.last()] {
        machine.seal(lba);
    }
    assert_eq!(
        machine.run(&["status"]).section("slots")["missing"][0]["reason"],
        "no slot is marked"
    );
    let label = "a boot-once sector";
    heals(
        &machine,
        &["--active", "a"],
        &[
            label,
            label,
            "the marks in the backup table",
            "the marks in the primary table",
        ],
    );
    assert_eq!(machine.boot_once(), [empty(), empty()]);
}
