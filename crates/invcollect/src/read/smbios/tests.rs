//! Tests with faulty firmware.

use proptest::prelude::*;

use super::*;
use made::{Slot, Tables as Made, structure};

#[path = "../../../tests/all/machine/smbios.rs"]
mod made;

fn parse(version: Option<(u8, u8)>, table: &[u8]) -> Tables {
    super::parse(
        &EntryPoint {
            version,
            ..EntryPoint::default()
        },
        table,
    )
}

fn modules(table: &[u8]) -> Vec<Option<u64>> {
    parse(Some((3, 0)), table)
        .memory
        .unwrap_or_default()
        .modules
        .iter()
        .map(|module| module.bytes)
        .collect()
}

/// A memory device of version 2.8 with these bytes for its size and its extended size.
fn device(size: u16, extended: u32) -> Vec<u8> {
    let mut bytes = Slot {
        label: "DIMM1",
        bank: "",
        mib: 1,
        serial: "0A00B001",
    }
    .structure(0x1100);
    bytes[0x0c..0x0e].copy_from_slice(&size.to_le_bytes());
    bytes[0x1c..0x20].copy_from_slice(&extended.to_le_bytes());
    bytes
}

#[test]
fn sizes_are_told_in_four_ways() {
    for (size, extended, expected) in [
        (4096, 0, vec![Some(4 << 30)]),
        (0, 0, vec![]),
        (0xffff, 0, vec![None]),
        (0x7fff, 65536, vec![Some(64 << 30)]),
        (0x7fff, 0x8000_0000 | 65536, vec![Some(64 << 30)]), // the highest bit is reserved
        (0x7fff, 0, vec![None]),
        (0x8000 | 512, 0, vec![Some(512 << 10)]),
    ] {
        assert_eq!(
            modules(&device(size, extended)),
            expected,
            "{size:#x} {extended:#x}"
        );
    }
    // Version 2.3 ends before the extended size.
    let old = structure(17, 1, &device(0x7fff, 65536)[4..0x1b], &["DIMM1"]);
    assert_eq!(modules(&old), [None]);
    let flash = structure(
        17,
        1,
        &[&device(16, 0)[4..0x12], &[9], &device(16, 0)[0x13..0x28]].concat(),
        &[],
    );
    assert_eq!(parse(None, &flash).memory, None);
}

#[test]
fn strings_that_are_not_there_are_not_told() {
    let system =
        |body: &[u8], strings: &[&str]| parse(Some((3, 0)), &structure(1, 1, body, strings)).system;
    let body = |numbers: [u8; 4]| [&numbers[..], &[0; 19]].concat();
    assert_eq!(
        system(&body([1, 2, 0, 3]), &["Dell\u{1} Inc. ", "\t"])
            .manufacturer
            .as_deref(),
        Some("Dell Inc.")
    );
    assert_eq!(system(&body([1, 2, 0, 3]), &["Dell"]).model, None);
    assert_eq!(system(&body([255, 0, 0, 9]), &["Dell"]), System::default());
    assert_eq!(system(&[], &[]), System::default());
    // An empty string ends the list, whatever follows it.
    assert_eq!(system(&body([1, 2, 0, 3]), &["", "x"]), System::default());
    let latin = structure(1, 1, &body([1, 0, 0, 0]), &["X"])
        .iter()
        .map(|byte| if *byte == b'X' { 0xe9 } else { *byte })
        .collect::<Vec<_>>();
    assert_eq!(
        parse(None, &latin).system.manufacturer.as_deref(),
        Some("\u{fffd}")
    );
}

/// Two modules whose serial numbers differ only in bytes that are not UTF-8 are two.
#[test]
fn serial_numbers_keep_what_is_not_utf_8() {
    assert_eq!(serial(b" 12\xe934\0").as_deref(), Some("12\\xe934"));
    assert_ne!(serial(b"12\xe934"), serial(b"12\xe834"));
    assert_eq!(
        serial("12\u{e9}34".as_bytes()).as_deref(),
        Some("12\u{e9}34")
    );
    for none in [
        &b"\xff\xff\xff\xff"[..],
        b"\xff\xff\xff\0",
        b" ",
        b"",
        b"00000000",
    ] {
        assert_eq!(serial(none), None, "{none:?}");
    }
}

#[test]
fn uuids_are_in_the_order_of_their_version() {
    let made = Made {
        uuid: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16],
        ..Made::optiplex()
    };
    let uuid = |version| parse(version, &made.table()).system.uuid;
    assert_eq!(
        uuid(Some((2, 5))).as_deref(),
        Some("00010203-0405-0607-0809-0a0b0c0d0e10")
    );
    for version in [Some((2, 6)), Some((3, 0)), None] {
        assert_eq!(
            uuid(version).as_deref(),
            Some("03020100-0504-0706-0809-0a0b0c0d0e10")
        );
    }
    assert!(!is_uuid_of_one("00000000-0000-0000-0000-000000000000") && !is_uuid_of_one("nonsense"));
}

#[test]
fn versions_are_read_of_both_entry_points() {
    let version = |entry: &[u8]| EntryPoint::read(entry).version;
    assert_eq!(version(&Made::optiplex().entry_point(0)), Some((3, 0)));
    assert_eq!(version(b"_SM_\0\x1f\x02\x07"), Some((2, 7)));
    for other in [&b"_SM3_"[..], b"_SM_\0\x1f\x02", b"", b"_DMI_\0\0\0\0"] {
        assert_eq!(version(other), None);
    }
}

/// Entry points of version 2 and of version 3 for these lengths.
fn entry_points(bytes: usize, structures: u16) -> [EntryPoint; 2] {
    let mut old = b"_SM_\0\x1f\x02\x07".to_vec();
    old.resize(0x1f, 0);
    old[0x16..0x18].copy_from_slice(&(bytes as u16).to_le_bytes());
    old[0x1c..0x1e].copy_from_slice(&structures.to_le_bytes());
    let mut new = b"_SM3_\0\x18\x03\0\0\x01\0".to_vec();
    new.extend((bytes as u32).to_le_bytes());
    new.resize(0x18, 0);
    [old, new].map(|entry| EntryPoint::read(&entry))
}

/// The start of each structure, and the end.
fn starts(table: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    let mut rest = table;
    while let Ok((_, after)) = Structure::split(rest) {
        starts.push(table.len() - after.len());
        rest = after;
    }
    starts
}

/// A module that was cut off looks like a stolen one.
#[test]
fn a_table_that_was_cut_between_two_structures_tells_no_memory() {
    let table = Made::optiplex().table();
    let starts = starts(&table);
    let all = starts.len() - 1;
    for entry in entry_points(table.len(), all as u16) {
        assert_eq!(
            super::parse(&entry, &table).memory.unwrap().modules.len(),
            2
        );
        for end in &starts[..all] {
            let cut = super::parse(&entry, &table[..*end]);
            assert_eq!((cut.memory, cut.damage.is_some()), (None, true), "{end}");
        }
    }
}

/// One table in fifteen has no end structure; the entry point gives its length.
#[test]
fn a_whole_table_without_an_end_is_read() {
    let table = Made::optiplex().table();
    let starts = starts(&table);
    let (all, end) = (starts.len() - 2, starts[starts.len() - 2]);
    let read = |entry: &EntryPoint, table: &[u8]| {
        super::parse(entry, table)
            .memory
            .map(|memory| memory.modules.len())
    };
    for entry in entry_points(end, all as u16) {
        assert_eq!(read(&entry, &table[..end]), Some(2));
    }
    assert_eq!(
        read(&EntryPoint::default(), &table[..end]),
        Some(2),
        "and without an entry point"
    );
    // Version 2 counts the structures: anything may follow the last one.
    let filled = [&table[..end], &[0; 32]].concat();
    let [old, new] = entry_points(filled.len(), all as u16);
    assert_eq!((read(&old, &filled), read(&new, &filled)), (Some(2), None));
    // Since version 3 a table may be shorter than its maximum.
    assert_eq!(read(&entry_points(0x1_0000, 0)[1], &table), Some(2));
}

#[test]
fn a_table_that_ends_too_early_tells_no_memory() {
    let table = Made::optiplex().table();
    let whole = parse(Some((3, 0)), &table);
    assert_eq!(whole.memory.as_ref().unwrap().modules.len(), 2);
    let ends: Vec<usize> = (0..table.len())
        .filter(|length| parse(None, &table[..*length]).damage.is_none())
        .collect();
    for length in 0..table.len() {
        let cut = parse(Some((3, 0)), &table[..length]);
        if cut.memory.is_some() {
            assert!(
                ends.contains(&length),
                "{length}: cut within a structure, and memory is reported"
            );
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..512), major in 0u8..4) {
        let _ = parse(Some((major, 0)), &bytes);
        let _ = EntryPoint::read(&bytes);
    }

    /// Nearly valid firmware reaches more paths than noise.
    #[test]
    fn changed_tables_are_read_or_not(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..16)) {
        let mut table = Made::optiplex().table();
        for (at, byte) in changes {
            let at = at.index(table.len());
            table[at] = byte;
        }
        let tables = parse(Some((3, 0)), &table);
        prop_assert!(tables.damage.is_none() || tables.memory.is_none());
    }

    #[test]
    fn serials_have_several_characters(c in any::<char>(), count in 0usize..9) {
        prop_assert!(!is_serial(&c.to_string().repeat(count)));
    }
}
