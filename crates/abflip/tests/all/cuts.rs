//! Where a flip can be cut: every prefix, every torn write, every order of what was not flushed.
//!
//! `LABTOOLS_SABOTAGE=header-first` hands the judge the flip of another tool, headers and all;
//! `skip-backup`, in a debug build, forgets the backup. Then `ours_boots_wherever_it_is_cut` must
//! fail.

use abflip::request::{Firmware, Slot};

use crate::judge::flips::record_flip;
use crate::judge::model::Slots;
use crate::judge::replay::{Event, State};
use crate::judge::{self, Verdict, judge};
use crate::machine::{A, B, ESP_A, ESP_B, Machine, bios, guid, uefi};

fn slots(firmware: Firmware, sector_bytes: u64) -> Slots {
    let roots = [guid(A), guid(B)];
    let marks = if firmware == Firmware::Bios {
        roots
    } else {
        [guid(ESP_A), guid(ESP_B)]
    };
    Slots {
        firmware,
        sector_bytes,
        marks,
        roots,
    }
}

fn of_tool(tool: &str, firmware: Firmware) -> Verdict {
    let machine = if firmware == Firmware::Bios {
        Machine::new()
    } else {
        Machine::with(512, &uefi())
    };
    let base = machine.bytes();
    let log = record_flip(tool, &machine, firmware);
    // The log is all that happened: played to its end it gives what is there, and there slot b
    // boots.
    let end = log.prefixes(&base).pop().unwrap();
    let after = machine.bytes();
    assert!(
        end.read(&base, 0, base.len()).unwrap() == after,
        "{tool}: something was written that is not in the log"
    );
    let judged = slots(firmware, 512).judge(&after, &State::default());
    assert_eq!(
        (judged.boots, judged.tables_valid),
        (Ok(Slot::B), true),
        "{tool}"
    );
    judge(&base, &log, &slots(firmware, 512))
}

#[test]
fn ours_boots_wherever_it_is_cut() {
    for (firmware, partitions) in [(Firmware::Bios, bios()), (Firmware::Uefi, uefi())] {
        for sector_bytes in [512, 4096] {
            let machine = Machine::with(sector_bytes, &partitions);
            let slots = slots(firmware, sector_bytes);
            for (active, from) in [("b", Slot::A), ("a", Slot::B)] {
                let base = machine.bytes();
                assert_eq!(slots.judge(&base, &State::default()).boots, Ok(from));
                let (log, succeeded) = if jsonpipe::sabotaged("header-first") {
                    (record_flip("sgdisk", &machine, firmware), true)
                } else {
                    judge::recorder::record(
                        &machine.command(&["flip", "--active", active]),
                        "",
                        &machine.disk(),
                    )
                };
                let verdict = judge(&base, &log, &slots);
                let what = format!("{firmware:?} {sector_bytes} to {active}: {verdict:?}");
                assert_eq!(
                    (verdict.in_order.0, verdict.reordered.0, verdict.invalid),
                    (0, 0, 0),
                    "a cut is bad: {what}"
                );
                let after = machine.run(&["status"]).section("slots");
                assert_eq!(
                    (&after["next"], &after["table"]["agree"]),
                    (&active.into(), &true.into()),
                    "left unfinished: {what}"
                );
                assert!(succeeded, "{what}");
                assert_eq!(verdict.states.len(), 3, "old, backup only, new: {what}");
                let durable = |event: &Event| matches!(event, Event::Write { durable: true, .. });
                assert_eq!(log.events.iter().filter(|event| durable(event)).count(), 2);
                // Each is followed by a flush.
                assert!(
                    log.events
                        .chunks(2)
                        .all(|pair| durable(&pair[0]) && pair[1] == Event::Flush),
                    "{:?}",
                    log.events.len()
                );
            }
        }
    }
}

#[test]
fn healing_boots_wherever_it_is_cut() {
    for (firmware, partitions) in [(Firmware::Bios, bios()), (Firmware::Uefi, uefi())] {
        for (run, torn, slot) in [
            (&["flip"][..], "the backup's entries", Slot::B),
            (&["flip"], "the backup's header", Slot::B),
            (&["repair"], "the backup's entries", Slot::A),
            (&["repair"], "the backup's header", Slot::A),
            (&["repair"], "the primary's header", Slot::A),
        ] {
            let machine = Machine::with(512, &partitions);
            let last = machine.last() * 512;
            let place = match torn {
                "the backup's entries" => last - 16384 + 60,
                "the backup's header" => last + 16,
                _ => 512 + 16,
            };
            machine.poke(place, b"torn");
            let base = machine.bytes();
            let slots = slots(firmware, 512);
            let (log, succeeded) =
                judge::recorder::record(&machine.command(run), "", &machine.disk());
            let verdict = judge(&base, &log, &slots);
            let what = format!("{firmware:?} {run:?}, {torn}: {verdict:?}");
            assert!(succeeded, "{what}");
            let end = slots.judge(&machine.bytes(), &State::default());
            assert_eq!((end.boots, end.tables_valid), (Ok(slot), true), "{what}");
            if torn == "the primary's header" && firmware == Firmware::Bios {
                // Linux reads no other table by itself: nothing boots before, and then with the
                // last write.
                let bad = verdict.in_order.1 - 1;
                assert_eq!(
                    (verdict.in_order.0, verdict.reordered),
                    (bad, (1, 2)),
                    "{what}"
                );
            } else {
                assert_eq!(
                    (verdict.in_order.0, verdict.reordered.0),
                    (0, 0),
                    "a cut is bad: {what}"
                );
            }
        }
    }
}

#[test]
fn the_judge_finds_what_is_wrong_with_the_others() {
    let sgdisk = of_tool("sgdisk", Firmware::Bios);
    assert_eq!(
        (sgdisk.in_order, sgdisk.reordered),
        ((32, 68), (8, 16)),
        "what was measured by hand"
    );
    let gptman = of_tool("gptman", Firmware::Bios);
    assert_eq!(gptman.reordered, (24, 36), "what was measured by hand");
    for tool in ["sfdisk", "parted"] {
        let verdict = of_tool(tool, Firmware::Bios);
        assert!(
            verdict.in_order.0 > 0 && verdict.reordered.0 > 0,
            "{tool}: {verdict:?}"
        );
    }
    let ours = of_tool("abflip", Firmware::Bios);
    assert_eq!((ours.in_order, ours.reordered), ((0, 3), (0, 4)));
    // EDK2 takes the backup where the primary is not valid, so less is bad; scripts/lab/test-cuts
    // boots what is said here.
    let by_uefi = |tool| {
        (
            of_tool(tool, Firmware::Uefi).in_order,
            of_tool(tool, Firmware::Uefi).reordered,
        )
    };
    assert_eq!(by_uefi("sgdisk"), ((0, 68), (4, 16)));
    assert_eq!(by_uefi("abflip"), ((0, 3), (0, 4)));
}

#[test]
fn the_model_stops_where_the_programs_stop() {
    let machine = Machine::new();
    let base = machine.bytes();
    let slots = slots(Firmware::Bios, 512);
    let last = (machine.last() * 512) as usize;
    let boots = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut disk = base.clone();
        change(&mut disk);
        slots.judge(&disk, &State::default())
    };
    assert_eq!(boots(&|_| {}).boots, Ok(Slot::A));
    for (place, byte, who) in [
        (1024 + 48, 0, "gptmbr: Missing OS"),
        (1024 + 128 + 48, 4, "gptmbr: Multiple active partitions"),
        (512, 0, "gptmbr: no header"),
        (510, 0, "grub: no partitions"),
        (512 + 16, 0, "linux: no partitions"),
        (1024 + 3 * 128 + 100, 1, "linux: no partitions"),
    ] {
        assert_eq!(
            boots(&|disk| disk[place] = byte).boots,
            Err(who.to_owned()),
            "{place}"
        );
    }
    let no_backup = boots(&|disk| disk[last] = 0);
    assert_eq!(
        (no_backup.boots, no_backup.tables_valid),
        (Ok(Slot::A), false)
    );
}
