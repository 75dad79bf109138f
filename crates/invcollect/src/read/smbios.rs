//! The firmware's tables (DSP0134, System Management BIOS), types 0, 1, 2, 3 and 17.
//!
//! Firmware is unreliable: strings are missing, tables end too early, sizes are elsewhere. Nothing
//! here fails; unknown values are absent. A table that ends too early gives no memory at all,
//! because a module that was cut off looks like a stolen one.

pub mod kinds;

use crate::report::{Board, Chassis, Firmware, Module, System};

use envelope::identity::{is_name, is_serial, is_uuid_of_one};

const MIB: u64 = 1 << 20;

/// The content of the tables.
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
    /// Type 17; absent when there are none, or the tables could not be read completely.
    pub memory: Option<Slots>,
    /// Why they could not be read completely.
    pub damage: Option<&'static str>,
}

/// The slots for memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// The number of slots, including empty ones.
    pub count: u64,
    /// The modules in them.
    pub modules: Vec<Module>,
}

/// The content of an entry point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryPoint {
    /// The version of the standard that it claims, `(major, minor)`.
    pub version: Option<(u8, u8)>,
    /// The length of the table; since version 3 it may be shorter.
    bytes: Option<usize>,
    /// The number of structures; until version 3.
    structures: Option<usize>,
}

impl EntryPoint {
    /// Reads one of its three forms: `_SM3_`, `_SM_`, and the older `_DMI_`.
    pub fn read(entry: &[u8]) -> EntryPoint {
        let field = |at: usize, length: usize| {
            let bytes = entry.get(at..at + length)?;
            Some(
                bytes
                    .iter()
                    .rev()
                    .fold(0, |number, byte| number << 8 | usize::from(*byte)),
            )
        };
        let version = |at: usize| Some((*entry.get(at)?, *entry.get(at + 1)?));
        if entry.starts_with(b"_SM3_") {
            EntryPoint {
                version: version(7),
                bytes: field(0x0c, 4),
                structures: None,
            }
        } else if entry.starts_with(b"_SM_") {
            EntryPoint {
                version: version(6),
                bytes: field(0x16, 2),
                structures: field(0x1c, 2),
            }
        } else if entry.starts_with(b"_DMI_") {
            EntryPoint {
                version: None,
                bytes: field(0x06, 2),
                structures: field(0x0c, 2),
            }
        } else {
            EntryPoint::default()
        }
    }
}

/// Reads the structures.
pub fn parse(entry: &EntryPoint, table: &[u8]) -> Tables {
    let mut tables = Tables::default();
    let mut slots = Slots::default();
    let mut names = Vec::new();
    let mut seen = [false; 4];
    let mut count = 0;
    let mut is_ended = false;
    let mut rest = table;
    while !rest.is_empty() {
        let (structure, after) = match Structure::split(rest) {
            Ok(split) => split,
            // Some tables are padded behind the last structure.
            Err(_)
                if entry
                    .structures
                    .is_some_and(|structures| structures > 0 && count >= structures) =>
            {
                break;
            }
            Err(damage) => {
                tables.damage = Some(damage);
                break;
            }
        };
        rest = after;
        count += 1;
        let kind = structure.byte(0);
        if let Some(seen) = seen.get_mut(usize::from(kind)) {
            // The main board and the case come first; further ones are riser cards and docks.
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
                    uuid: structure
                        .field(0x08)
                        .and_then(|bytes| uuid(entry.version, bytes)),
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
                tables.chassis.kind = structure
                    .field(0x05)
                    .map(|[kind]| kind & 0x7f)
                    .filter(|kind| *kind > 2);
                tables.chassis.serial = structure.serial(0x07);
                tables.chassis.asset_tag = structure.string(0x08).filter(|tag| is_name(tag));
                tables.chassis.kind_name = tables.chassis.kind.and_then(kinds::chassis);
            }
            17 if !structure.is_read_only_memory() => {
                slots.count += 1;
                let name = (structure.string(0x10), structure.string(0x11));
                slots
                    .modules
                    .extend(structure.module().map(|module| Module {
                        number: slots.count,
                        ..module
                    }));
                names.push(name);
            }
            127 => {
                is_ended = true;
                break;
            }
            _ => {}
        }
    }
    // The last structure marks the end. Some tables lack it; then the table must be as long as the
    // entry point's length, otherwise it was cut off.
    let announces_more = entry.bytes.is_some_and(|bytes| bytes > table.len())
        || entry.structures.is_some_and(|all| all > count);
    if !is_ended && announces_more {
        tables.damage = tables.damage.or(Some(
            "it ends before the entry point says, without its last structure",
        ));
    }
    if slots.count > 0 && tables.damage.is_none() {
        for module in &mut slots.modules {
            module.place = place(&names, module);
        }
        tables.memory = Some(slots);
    }
    tables
}

/// The slot of a module, as short as is unique: many boards have `DIMM 0` in each bank, and some
/// repeat it in one.
fn place(slots: &[(Option<String>, Option<String>)], module: &Module) -> Option<String> {
    let number = format!("slot {} of {}", module.number, slots.len());
    let Some(slot) = &module.slot else {
        return Some(number);
    };
    if slots
        .iter()
        .filter(|(name, _)| name.as_ref() == Some(slot))
        .count()
        == 1
    {
        return Some(slot.clone());
    }
    let bank = module.bank.iter().map(|bank| format!(", {bank}"));
    let is_alone = slots
        .iter()
        .filter(|slot| **slot == (module.slot.clone(), module.bank.clone()))
        .count()
        == 1;
    let number = (!is_alone).then(|| format!(", {number}"));
    Some(
        bank.chain(number)
            .fold(slot.clone(), |place, more| place + &more),
    )
}

/// A structure: its formatted part, and the strings behind it.
struct Structure<'a> {
    formatted: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Structure<'a> {
    /// The first structure of a table, and the rest.
    fn split(table: &'a [u8]) -> Result<(Structure<'a>, &'a [u8]), &'static str> {
        let length = match table.get(1) {
            Some(length) if *length >= 4 => usize::from(*length),
            Some(_) => return Err("a structure that is shorter than its header"),
            None => return Err("the table ends within a structure"),
        };
        let (formatted, behind) = table
            .split_at_checked(length)
            .ok_or("the table ends within a structure")?;
        // Each string ends with a NUL, and the list with one more; an empty list is two NULs.
        let end = behind
            .windows(2)
            .position(|pair| pair == [0, 0])
            .ok_or("the table ends within a structure's strings")?;
        let (strings, rest) = behind.split_at(end + 2);
        Ok((Structure { formatted, strings }, rest))
    }

    fn byte(&self, at: usize) -> u8 {
        self.formatted.get(at).copied().unwrap_or(0)
    }

    /// The bytes of a field; `None` in a shorter structure of an older version.
    fn field<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.formatted.get(at..at + N)?.try_into().ok()
    }

    /// The string whose number is at `at`; `None` for no string, an empty one or a missing one.
    fn string(&self, at: usize) -> Option<String> {
        let text: String = String::from_utf8_lossy(self.bytes(at)?)
            .chars()
            .filter(|c| !jsonpipe::is_hidden(*c))
            .collect();
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn bytes(&self, at: usize) -> Option<&'a [u8]> {
        let number = usize::from(self.byte(at)).checked_sub(1)?;
        self.strings
            .split(|byte| *byte == 0)
            .take_while(|string| !string.is_empty())
            .nth(number)
    }

    /// The same, for a string that must be unique among its kind.
    fn serial(&self, at: usize) -> Option<String> {
        serial(self.bytes(at)?)
    }

    /// For a memory device: flash and other ROM, which some firmware also lists.
    fn is_read_only_memory(&self) -> bool {
        (0x08..=0x0c).contains(&self.byte(0x12))
    }

    /// For a memory device: the module in it, if any.
    fn module(&self) -> Option<Module> {
        let number = |at| self.field(at).map(u16::from_le_bytes).unwrap_or(0);
        let long = |at| self.field(at).map(u32::from_le_bytes);
        let bytes = match number(0x0c) {
            0 => return None,
            0xffff => None,
            0x7fff => long(0x1c)
                .map(|size| u64::from(size & 0x7fff_ffff) * MIB)
                .filter(|size| *size > 0),
            small if small & 0x8000 != 0 => Some(u64::from(small & 0x7fff) << 10),
            size => Some(u64::from(size) * MIB),
        };
        let speed = |at, long_at| match number(at) {
            0 => None,
            0xffff => long(long_at).map(u64::from).filter(|speed| *speed > 0),
            speed => Some(u64::from(speed)),
        };
        let said = self.string(0x17).filter(|name| is_name(name));
        let maker = said.as_deref().and_then(kinds::maker);
        Some(Module {
            slot: self.string(0x10),
            bank: self.string(0x11),
            number: 0,
            place: None,
            bytes,
            kind: Some(self.byte(0x12)).filter(|kind| *kind > 2),
            kind_name: kinds::memory(self.byte(0x12)),
            manufacturer: maker.map(str::to_owned).or_else(|| said.clone()),
            manufacturer_id: said.filter(|_| maker.is_some()),
            serial: self.serial(0x18),
            part: self.string(0x1a).filter(|part| is_name(part)),
            megatransfers_per_second: speed(0x20, 0x58).or_else(|| speed(0x15, 0x54)),
        })
    }
}

/// A serial number as text; `None` for a placeholder. Bytes that are not UTF-8 are escaped
/// (`\xe9`), because they may be the only difference.
pub fn serial(bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().chars().filter(|c| !jsonpipe::is_hidden(*c)));
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    let text = text.trim();
    let shown: String = String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| !jsonpipe::is_hidden(*c))
        .collect();
    is_serial(&shown).then(|| text.to_owned())
}

/// A UUID as text; `None` for values that many machines share.
///
/// Since version 2.6 the first three fields are in the order of the processor's bytes (DSP0134,
/// 7.2.1).
fn uuid(version: Option<(u8, u8)>, mut bytes: [u8; 16]) -> Option<String> {
    if version.is_none_or(|version| version >= (2, 6)) {
        bytes[0..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-");
    is_uuid_of_one(&uuid).then_some(uuid)
}

#[cfg(test)]
mod tests;
