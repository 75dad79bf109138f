//! The tables of the firmware (DSP0134, System Management BIOS), types 0, 1, 2, 3 and 17.
//!
//! Firmware is full of surprises: strings that are not there, tables that end too early, sizes that are told elsewhere. Nothing
//! here fails; what cannot be told is not told. A table that ends too early tells no memory at all, for a module that was cut off
//! looks like one that was stolen.

use crate::report::{Board, Chassis, Firmware, Module, System};

const MIB: u64 = 1 << 20;

/// What the tables say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Type 0.
    pub firmware: Firmware,
    /// Type 1.
    pub system: System,
    /// Type 2, the first one.
    pub board: Board,
    /// Type 3, the first one.
    pub chassis: Chassis,
    /// Type 17; absent when there is none, or not all of the tables could be read.
    pub memory: Option<Slots>,
    /// Why not all of them could be read.
    pub damage: Option<&'static str>,
}

/// The slots for memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// How many, empty ones included.
    pub count: u64,
    /// What is in them.
    pub modules: Vec<Module>,
}

/// The version of the standard that an entry point claims, `(major, minor)`: `_SM3_` at 7 and 8, `_SM_` at 6 and 7.
pub fn version(entry_point: &[u8]) -> Option<(u8, u8)> {
    let at = if entry_point.starts_with(b"_SM3_") {
        7
    } else if entry_point.starts_with(b"_SM_") {
        6
    } else {
        return None;
    };
    Some((*entry_point.get(at)?, *entry_point.get(at + 1)?))
}

/// Reads the structures.
pub fn parse(version: Option<(u8, u8)>, table: &[u8]) -> Tables {
    let mut tables = Tables::default();
    let mut slots = Slots::default();
    let mut names = Vec::new();
    let mut seen = [false; 4];
    let mut rest = table;
    while !rest.is_empty() {
        let (structure, after) = match Structure::split(rest) {
            Ok(split) => split,
            Err(damage) => {
                tables.damage = Some(damage);
                break;
            }
        };
        rest = after;
        let kind = structure.byte(0);
        if let Some(seen) = seen.get_mut(usize::from(kind)) {
            // The main board and the case come first; more of them are riser cards and docks.
            if std::mem::replace(seen, true) {
                continue;
            }
        }
        match kind {
            0 => {
                tables.firmware.vendor = structure.string(0x04);
                tables.firmware.version = structure.string(0x05);
                tables.firmware.date = structure.string(0x08);
            }
            1 => {
                tables.system = System {
                    manufacturer: structure.string(0x04),
                    model: structure.string(0x05),
                    serial: structure.serial(0x07),
                    uuid: structure.field(0x08).and_then(|bytes| uuid(version, bytes)),
                }
            }
            2 => {
                tables.board = Board {
                    manufacturer: structure.string(0x04),
                    product: structure.string(0x05),
                    serial: structure.serial(0x07),
                }
            }
            3 => {
                tables.chassis.manufacturer = structure.string(0x04);
                tables.chassis.kind = structure.field(0x05).map(|[kind]| kind & 0x7f).filter(|kind| *kind > 2);
                tables.chassis.serial = structure.serial(0x07);
                tables.chassis.asset_tag = structure.serial(0x08);
            }
            17 if !structure.is_read_only_memory() => {
                slots.count += 1;
                let name = (structure.string(0x10), structure.string(0x11));
                slots.modules.extend(structure.module().map(|module| Module { number: slots.count, ..module }));
                names.push(name);
            }
            127 => break,
            _ => {}
        }
    }
    if slots.count > 0 && tables.damage.is_none() {
        for module in &mut slots.modules {
            module.place = place(&names, module);
        }
        tables.memory = Some(slots);
    }
    tables
}

/// The slot of a module by as much as tells it from the others: many a board has `DIMM 0` in each bank, and some in one.
fn place(slots: &[(Option<String>, Option<String>)], module: &Module) -> Option<String> {
    let number = format!("slot {} of {}", module.number, slots.len());
    let Some(slot) = &module.slot else { return Some(number) };
    if slots.iter().filter(|(name, _)| name.as_ref() == Some(slot)).count() == 1 {
        return Some(slot.clone());
    }
    let bank = module.bank.iter().map(|bank| format!(", {bank}"));
    let is_alone = slots.iter().filter(|slot| **slot == (module.slot.clone(), module.bank.clone())).count() == 1;
    let number = (!is_alone).then(|| format!(", {number}"));
    Some(bank.chain(number).fold(slot.clone(), |place, more| place + &more))
}

/// A structure: its formatted part, and the strings behind it.
struct Structure<'a> {
    formatted: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Structure<'a> {
    /// The first structure of a table, and what comes after it.
    fn split(table: &'a [u8]) -> Result<(Structure<'a>, &'a [u8]), &'static str> {
        let length = match table.get(1) {
            Some(length) if *length >= 4 => usize::from(*length),
            Some(_) => return Err("a structure that is shorter than its header"),
            None => return Err("the table ends within a structure"),
        };
        let (formatted, behind) = table.split_at_checked(length).ok_or("the table ends within a structure")?;
        // Strings end with a NUL each, and all of them with one more; no string at all is two NULs.
        let end = behind.windows(2).position(|pair| pair == [0, 0]).ok_or("the table ends within a structure's strings")?;
        let (strings, rest) = behind.split_at(end + 2);
        Ok((Structure { formatted, strings }, rest))
    }

    fn byte(&self, at: usize) -> u8 {
        self.formatted.get(at).copied().unwrap_or(0)
    }

    /// The bytes of a field; `None` in a structure of an older version that ends before.
    fn field<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.formatted.get(at..at + N)?.try_into().ok()
    }

    /// The string whose number stands at `at`; `None` for no string, an empty one or one that is not there.
    fn string(&self, at: usize) -> Option<String> {
        let number = usize::from(self.byte(at)).checked_sub(1)?;
        let bytes = self.strings.split(|byte| *byte == 0).take_while(|string| !string.is_empty()).nth(number)?;
        let text: String = String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect();
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The same, of a string that is to tell one thing from others of its kind.
    fn serial(&self, at: usize) -> Option<String> {
        self.string(at).filter(|serial| is_serial(serial))
    }

    /// Of a memory device: flash and other ROM, which some firmware lists, too.
    fn is_read_only_memory(&self) -> bool {
        (0x08..=0x0c).contains(&self.byte(0x12))
    }

    /// Of a memory device: what is plugged in, if anything is.
    fn module(&self) -> Option<Module> {
        let number = |at| self.field(at).map(u16::from_le_bytes).unwrap_or(0);
        let long = |at| self.field(at).map(u32::from_le_bytes);
        let bytes = match number(0x0c) {
            0 => return None,
            0xffff => None,
            0x7fff => long(0x1c).map(|size| u64::from(size & 0x7fff_ffff) * MIB).filter(|size| *size > 0),
            small if small & 0x8000 != 0 => Some(u64::from(small & 0x7fff) << 10),
            size => Some(u64::from(size) * MIB),
        };
        let speed = |at, long_at| match number(at) {
            0 => None,
            0xffff => long(long_at).map(u64::from).filter(|speed| *speed > 0),
            speed => Some(u64::from(speed)),
        };
        Some(Module {
            slot: self.string(0x10),
            bank: self.string(0x11),
            number: 0,
            place: None,
            bytes,
            kind: Some(self.byte(0x12)).filter(|kind| *kind > 2),
            manufacturer: self.string(0x17).filter(|name| is_serial(name)),
            serial: self.serial(0x18),
            part: self.string(0x1a).filter(|part| is_serial(part)),
            megatransfers_per_second: speed(0x20, 0x58).or_else(|| speed(0x15, 0x54)),
        })
    }
}

/// Whether that can be somebody's serial number: not what makers leave in when they forget to put one in.
pub fn is_serial(text: &str) -> bool {
    const FILLERS: &[&str] = &[
        "to be filled by o.e.m.",
        "to be filled by oem",
        "default string",
        "default",
        "system serial number",
        "serial number",
        "system product name",
        "base board serial number",
        "chassis serial number",
        "asset tag",
        "asset-1234567890",
        "no asset tag",
        "no asset information",
        "no serial number",
        "not specified",
        "not provided",
        "not available",
        "not applicable",
        "not present",
        "none",
        "n/a",
        "na",
        "null",
        "unknown",
        "undefined",
        "invalid",
        "empty",
        "o.e.m.",
        "oem",
        "sernum",
        "partnum",
        "no dimm",
        "nodimm",
        "[empty]",
        "manufacturer",
        "part number",
        "0123456789",
        "123456789",
        "1234567890",
        "12345678",
        "1234567",
        "0123456789abcdef",
        "xxxxxxx",
        "evaluation copy",
    ];
    let text = text.trim().to_lowercase();
    let Some(first) = text.chars().next() else { return false };
    // 00000000, FFFFFFFF, ........, XXXXXXXX; a single letter or digit is none, either.
    !text.chars().all(|c| c == first)
        && text.chars().any(char::is_alphanumeric)
        && !FILLERS.contains(&text.as_str())
        && !["serialnum", "manufacturer", "partnum", "assettag"].iter().any(|filler| text.starts_with(filler))
}

/// A UUID as text; `None` for those that many machines have.
///
/// Since version 2.6 the first three fields are in the order of the processor's bytes (DSP0134, 7.2.1).
fn uuid(version: Option<(u8, u8)>, mut bytes: [u8; 16]) -> Option<String> {
    if version.is_none_or(|version| version >= (2, 6)) {
        bytes[0..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    is_uuid_of_one(&uuid).then_some(uuid)
}

/// Whether a UUID can be of one machine: not all bytes the same, and not one that boards leave the factory with.
pub fn is_uuid_of_one(uuid: &str) -> bool {
    const OF_MANY: &[&str] = &[
        "03000200-0400-0500-0006-000700080009",
        "00020003-0004-0005-0006-000700080009",
        "12345678-1234-5678-90ab-cddeefaabbcc",
        "01234567-8910-1112-1314-151617181920",
        "11111111-2222-3333-4444-555555555555",
        "03020100-0504-0706-0809-0a0b0c0d0e0f",
        "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "4c4c4544-0000-2010-8020-80c04f202020",
        "ffffffff-ffff-ffff-ffff-fffffffffffe",
        "49434d53-0200-9033-2500-33902500a000",
        "58585858-5858-5858-5858-585858585858",
        "d88a7baa-0000-0000-0000-000000000000",
    ];
    let uuid = uuid.to_ascii_lowercase();
    let digits: Vec<&[u8]> = uuid.as_bytes().split(|byte| *byte == b'-').collect();
    let pairs: Vec<&[u8]> = digits.iter().flat_map(|group| group.chunks(2)).collect();
    pairs.len() == 16 && pairs.iter().any(|pair| *pair != pairs[0]) && !OF_MANY.contains(&uuid.as_str())
}

#[cfg(test)]
mod tests;
