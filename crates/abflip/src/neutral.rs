//! Toggles attribute bits without changing the table's checksum.
//!
//! A header holds the CRC-32 of the entries, so a changed entry would need a changed header in
//! another sector, and between the two writes the table would be invalid. But CRC-32 is linear: the
//! effect of toggled bits depends only on these bits and their places, and a second change of 32
//! bits elsewhere can have the same effect, which cancels the first. The last four bytes of an
//! entry's name are free for that wherever they lie behind the NUL that ends the name (UEFI
//! specification 2.10, table 5.6: the name is null-terminated). Both changes lie in one sector, and
//! no header changes.
//!
//! Everything here is arithmetic on the bytes of one sector. All other bits, the ranges, types and
//! GUIDs of entries, and names up to their NUL stay as they are, and the same change a second time
//! restores every byte.

/// The length of an entry. UEFI allows longer ones, which are unused in practice.
pub const ENTRY_BYTES: usize = 128;

const ATTRIBUTES_AT: usize = 48;
const NAME_AT: usize = 56;
/// The name's last two UTF-16 code units: as many bits as the checksum has.
const FREE_BYTES: usize = 4;
const FREE_AT: usize = ENTRY_BYTES - FREE_BYTES;

/// An attribute bit of an entry to toggle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toggle {
    /// The entry in the sector, from 0.
    pub entry: usize,
    /// The bit, from 0.
    pub bit: u32,
}

/// No entry of the sector has four free bytes behind its name: names of 34 to 36 characters have
/// none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// The error text of [`NoRoom`].
pub const NO_ROOM: &str = "no partition in the slots' sector of the table has a name shorter than 34 characters; shorten one, with sgdisk -c";

/// Toggles these bits of a sector of whole entries, and leaves the sector's part of any checksum
/// unchanged.
///
/// Types and names, which no toggle changes, select the entry that takes the other half of the
/// change: the first toggled entry that has room, otherwise the first used entry of the sector.
pub fn toggle(sector: &[u8], toggles: &[Toggle]) -> Result<Vec<u8>, NoRoom> {
    let in_use =
        (0..sector.len() / ENTRY_BYTES).filter(|&entry| entry_of(sector, entry)[..16] != [0; 16]);
    let candidates = toggles.iter().map(|toggle| toggle.entry).chain(in_use);
    let entry = candidates
        .into_iter()
        .find(|&entry| has_room(entry_of(sector, entry)))
        .ok_or(NoRoom)?;

    let mut change = vec![0; sector.len()];
    for toggle in toggles {
        change[toggle.entry * ENTRY_BYTES + ATTRIBUTES_AT + toggle.bit as usize / 8] ^=
            1 << (toggle.bit % 8);
    }
    cancel(&mut change, entry * ENTRY_BYTES + FREE_AT);
    Ok(sector
        .iter()
        .zip(&change)
        .map(|(byte, change)| byte ^ change)
        .collect())
}

/// The attributes of an entry of the sector.
pub fn attributes(sector: &[u8], entry: usize) -> u64 {
    let bytes = &entry_of(sector, entry)[ATTRIBUTES_AT..NAME_AT];
    bytes
        .iter()
        .rev()
        .fold(0, |attributes, &byte| attributes << 8 | u64::from(byte))
}

fn entry_of(sector: &[u8], entry: usize) -> &[u8] {
    &sector[entry * ENTRY_BYTES..][..ENTRY_BYTES]
}

/// Whether the name ends before its last two code units.
fn has_room(entry: &[u8]) -> bool {
    entry[NAME_AT..FREE_AT]
        .chunks_exact(2)
        .any(|unit| unit == [0, 0])
}

/// Sets four bytes of a change, at `at`, so that the whole change leaves the checksum as it was.
///
/// The checksum's register, run from zero over the change alone, must end at zero. The register
/// before the four bytes comes from the bytes before them; the register after them must be the one
/// that the remaining bytes turn into zero.
fn cancel(change: &mut [u8], at: usize) {
    let before = change[..at]
        .iter()
        .fold(0, |register, &byte| advance(register, byte));
    let after = change[at + FREE_BYTES..]
        .iter()
        .rev()
        .fold(0, |register, &byte| retreat(register, byte));
    let free = before ^ (0..FREE_BYTES).fold(after, |register, _| retreat(register, 0));
    change[at..at + FREE_BYTES].copy_from_slice(&free.to_le_bytes());
}

/// The polynomial of CRC-32 (ISO-HDLC), the lowest bit first.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// The register after one more byte.
fn advance(register: u32, byte: u8) -> u32 {
    (0..8).fold(register ^ u32::from(byte), |register, _| {
        register >> 1 ^ (POLYNOMIAL * (register & 1))
    })
}

/// The register before that byte. The polynomial's highest bit is set, so the bit that was shifted
/// out shows in the register's highest bit.
fn retreat(register: u32, byte: u8) -> u32 {
    let before = (0..8).fold(register, |register, _| match register >> 31 {
        0 => register << 1,
        _ => (register ^ POLYNOMIAL) << 1 | 1,
    });
    before ^ u32::from(byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sector(entries: usize) -> impl Strategy<Value = Vec<u8>> {
        // Types and names of any content: some names fill their field, some entries are unused.
        proptest::collection::vec(
            (
                any::<[u8; 16]>(),
                any::<[u8; 16]>(),
                any::<[u8; 24]>(),
                0usize..=36,
                any::<bool>(),
            ),
            entries,
        )
        .prop_map(|entries| {
            let mut sector = Vec::new();
            for (kind, guid, rest, name, used) in entries {
                let mut entry = [if used { kind } else { [0; 16] }, guid].concat();
                entry.extend(rest);
                entry.extend((0..36).flat_map(|unit| if unit < name { [b'x', 0] } else { [0, 0] }));
                sector.extend(entry);
            }
            sector
        })
    }

    fn toggles(entries: usize) -> impl Strategy<Value = Vec<Toggle>> {
        (
            proptest::sample::subsequence((0..entries).collect::<Vec<_>>(), 1..=2.min(entries)),
            0u32..64,
        )
            .prop_map(|(entries, bit)| {
                entries
                    .into_iter()
                    .map(|entry| Toggle { entry, bit })
                    .collect()
            })
    }

    fn any_case() -> impl Strategy<Value = (Vec<u8>, Vec<Toggle>)> {
        prop_oneof![Just(4usize), Just(32)]
            .prop_flat_map(|entries| (sector(entries), toggles(entries)))
    }

    proptest! {
        #[test]
        fn only_the_bits_and_four_bytes_behind_a_name_change((before, toggles) in any_case(), around in any::<[u8; 512]>()) {
            match toggle(&before, &toggles) {
                Err(NoRoom) => {
                    let possible = (0..before.len() / ENTRY_BYTES).any(|entry| {
                        let asked = toggles.iter().any(|toggle| toggle.entry == entry);
                        has_room(entry_of(&before, entry)) && (asked || entry_of(&before, entry)[..16] != [0; 16])
                    });
                    prop_assert!(!possible);
                }
                Ok(after) => {
                    // The sector may stand anywhere among the others.
                    let array = |sector: &[u8]| crc32fast::hash(&[&around, sector, &around[..128]].concat());
                    prop_assert_eq!(array(&before), array(&after));
                    let mut filled = 0;
                    for entry in 0..before.len() / ENTRY_BYTES {
                        let (before, after) = (entry_of(&before, entry), entry_of(&after, entry));
                        prop_assert_eq!(&before[..ATTRIBUTES_AT], &after[..ATTRIBUTES_AT]);
                        prop_assert_eq!(&before[NAME_AT..FREE_AT], &after[NAME_AT..FREE_AT]);
                        if before[FREE_AT..] != after[FREE_AT..] {
                            filled += 1;
                            prop_assert!(has_room(before));
                        }
                    }
                    prop_assert_eq!(filled, 1);
                    for entry in 0..before.len() / ENTRY_BYTES {
                        let asked = toggles.iter().filter(|toggle| toggle.entry == entry).fold(0, |bits, toggle| bits | 1u64 << toggle.bit);
                        prop_assert_eq!(attributes(&before, entry) ^ attributes(&after, entry), asked);
                    }
                    prop_assert_eq!(toggle(&after, &toggles).unwrap(), before);
                }
            }
        }

        #[test]
        fn the_register_runs_backwards(register in any::<u32>(), byte in any::<u8>()) {
            prop_assert_eq!(retreat(advance(register, byte), byte), register);
        }
    }

    #[test]
    fn names_of_up_to_33_characters_have_room() {
        let entry = |name: usize| {
            let mut entry = vec![1; ENTRY_BYTES];
            entry[NAME_AT + 2 * name..].fill(0);
            entry
        };
        let both = [Toggle { entry: 0, bit: 2 }, Toggle { entry: 1, bit: 2 }];
        for (first, second, room) in [
            (36, 36, false),
            (34, 36, false),
            (35, 34, false),
            (33, 36, true),
            (36, 0, true),
        ] {
            let sector = [entry(first), entry(second)].concat();
            assert_eq!(toggle(&sector, &both).is_ok(), room, "{first} {second}");
        }
        // If neither has room, another entry in the sector is used.
        let sector = [entry(36), entry(36), entry(8)].concat();
        let after = toggle(&sector, &both).unwrap();
        assert_ne!(after[3 * ENTRY_BYTES - 4..], sector[3 * ENTRY_BYTES - 4..]);
    }
}
