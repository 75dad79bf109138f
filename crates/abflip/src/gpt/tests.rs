use std::path::{Path, PathBuf};

use gptman::GPT;
use proptest::prelude::*;

use super::*;
use crate::disk::Access;

const SECTORS: usize = 2048;

/// A disk of 2048 sectors with an empty table, changed by a test.
fn image(directory: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut disk = std::io::Cursor::new(vec![0; SECTORS * 512]);
    let mut gpt = GPT::new_from(&mut disk, 512, [7; 16]).unwrap();
    gpt.write_into(&mut disk).unwrap();
    GPT::write_protective_mbr_into(&mut disk, 512).unwrap();
    let mut bytes = disk.into_inner();
    change(&mut bytes);
    let path = directory.join("image");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn tables(change: impl FnOnce(&mut Vec<u8>)) -> Tables {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = image(directory.path(), change);
    Tables::read(&Disk::open(&path, Access::Read).unwrap()).unwrap()
}

/// Puts a number into the primary header, whose checksum is right.
fn with_field(at: usize, value: &[u8]) -> Tables {
    tables(|bytes| {
        bytes[512 + at..][..value.len()].copy_from_slice(value);
        seal(&mut bytes[512..1024]);
    })
}

#[test]
fn a_header_that_cannot_be_is_refused_before_it_is_parsed() {
    for (at, value, fault) in [
        (0, b"EFI PARS".to_vec(), "there is no header"),
        (
            8,
            0x0002_0000u32.to_le_bytes().to_vec(),
            "the header is not of revision 1.0",
        ),
        (
            12,
            96u32.to_le_bytes().to_vec(),
            "the header is 96 bytes long, not 92",
        ),
        (
            12,
            u32::MAX.to_le_bytes().to_vec(),
            "the header is 4294967295 bytes long, not 92",
        ),
        (
            24,
            2u64.to_le_bytes().to_vec(),
            "the header is of sector 2, not 1",
        ),
        (
            32,
            2048u64.to_le_bytes().to_vec(),
            "its copy is said to be in sector 2048, and the disk has 2048",
        ),
        (
            32,
            1u64.to_le_bytes().to_vec(),
            "its copy is said to be in sector 1, and the disk has 2048",
        ),
        (
            32,
            100u64.to_le_bytes().to_vec(),
            "its copy is said to be in sector 100, among the partitions",
        ),
        (
            48,
            u64::MAX.to_le_bytes().to_vec(),
            "it is for sectors 34 to 18446744073709551615, and the disk has 2048",
        ),
        (
            40,
            2040u64.to_le_bytes().to_vec(),
            "it is for sectors 2040 to 2014, and the disk has 2048",
        ),
        (
            72,
            1u64.to_le_bytes().to_vec(),
            "its entries, in sector 1, are not between sectors 2 and 34",
        ),
        (
            72,
            3u64.to_le_bytes().to_vec(),
            "its entries, in sector 3, are not between sectors 2 and 34",
        ),
        (
            72,
            u64::MAX.to_le_bytes().to_vec(),
            "its entries, in sector 18446744073709551615, are not between sectors 2 and 34",
        ),
        (
            80,
            4_000_000_000u32.to_le_bytes().to_vec(),
            "it has 4000000000 entries, not 1 to 32768",
        ),
        (
            80,
            0u32.to_le_bytes().to_vec(),
            "it has 0 entries, not 1 to 32768",
        ),
        (
            84,
            256u32.to_le_bytes().to_vec(),
            "entries are 256 bytes long, not 128",
        ),
        (
            84,
            0u32.to_le_bytes().to_vec(),
            "entries are 0 bytes long, not 128",
        ),
        (88, vec![0; 4], "the checksum of the entries is wrong"),
    ] {
        assert_eq!(
            with_field(at, &value).primary.unwrap_err().to_string(),
            fault
        );
    }
    let wrong = tables(|bytes| bytes[512 + 60] ^= 1);
    assert_eq!(
        wrong.primary.unwrap_err().to_string(),
        "the checksum of the header is wrong"
    );
    assert!(wrong.backup.is_ok(), "the backup is in the last sector");
}

#[test]
fn the_size_of_sectors_is_told_by_the_table() {
    let of_4096 = |bytes: &mut Vec<u8>| {
        let mut disk = std::io::Cursor::new(vec![0; SECTORS * 512]);
        GPT::new_from(&mut disk, 4096, [7; 16])
            .unwrap()
            .write_into(&mut disk)
            .unwrap();
        *bytes = disk.into_inner();
    };
    assert_eq!(tables(of_4096).sector_bytes, 4096);
    let only_backup = tables(|bytes| {
        of_4096(bytes);
        bytes[4096..8192].fill(0);
    });
    assert_eq!(
        (only_backup.sector_bytes, only_backup.backup.is_ok()),
        (4096, true)
    );
    let none = tables(|bytes| bytes.fill(0));
    assert_eq!(none.sector_bytes, 512);
    assert!(none.primary.is_err() && none.backup.is_err() && none.protective_mbr() == Mbr::Free);
    assert!(tables(|bytes| bytes.truncate(512)).primary.is_err());
}

#[test]
fn the_backup_is_where_the_primary_says_and_must_be_its_copy() {
    let grown = tables(|bytes| bytes.extend(vec![0; 512 * 100]));
    assert!(grown.agree(), "{grown:?}");
    for (at, what) in [(56, "the disk's GUID"), (40, "the first sector")] {
        let other = tables(|bytes| {
            let header = (SECTORS - 1) * 512;
            bytes[header + at] ^= 1;
            seal(&mut bytes[header..]);
        });
        assert!(
            other.backup.is_ok() && !other.agree(),
            "{what}: {:?}",
            other.backup
        );
    }
}

#[test]
fn the_mbr_protects_only_with_its_signature_and_from_the_first_sector() {
    assert_eq!(tables(|_| {}).protective_mbr(), Mbr::Protects);
    // A type of its own; elsewhere; no signature.
    for (at, found) in [
        (446 + 4, Mbr::Foreign),
        (446 + 8, Mbr::Free),
        (510, Mbr::Free),
        (511, Mbr::Free),
    ] {
        assert_eq!(
            tables(|bytes| bytes[at] ^= 1).protective_mbr(),
            found,
            "{at}"
        );
    }
    // Other partitions beside it: a hybrid MBR protects, and an entry that begins elsewhere does
    // not.
    let beside = |bytes: &mut Vec<u8>| bytes[446 + 16 + 4] = 0x83;
    assert_eq!(tables(beside).protective_mbr(), Mbr::Protects);
    let elsewhere = |bytes: &mut Vec<u8>| {
        beside(bytes);
        bytes[446 + 8] = 63;
    };
    assert_eq!(tables(elsewhere).protective_mbr(), Mbr::Foreign);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A header with the right checksum may contain anything: no panic, and never more memory than
    /// the largest table takes.
    #[test]
    fn hostile_headers_are_read(
        fields in proptest::collection::vec((0usize..92, any::<[u8; 8]>()), 1..5),
        small in any::<bool>(),
        lba in prop_oneof![Just(1usize), Just(SECTORS - 1)],
    ) {
        let read = tables(|bytes| {
            let header = &mut bytes[lba * 512..][..512];
            for (at, value) in fields {
                let length = if small { 1 } else { 8 };
                header[at..(at + length).min(92)].copy_from_slice(&value[..length.min(92 - at)]);
            }
            seal(header);
        });
        // The copy that was not touched is found, unless the other one places it elsewhere.
        prop_assert!(lba == 1 || read.primary.is_ok());
        for table in [&read.primary, &read.backup].into_iter().flatten() {
            prop_assert!(table.array.len() <= ENTRIES_MAX as usize * ENTRY_BYTES);
            prop_assert_eq!(table.entries.len() * ENTRY_BYTES, table.array.len());
        }
    }
}
