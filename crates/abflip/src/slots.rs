//! The two slots of abflip.ini, and their places in a table.

use gptman::GPTPartitionEntry;
use jsonpipe::{Common, Exit, ini};
use uuid::Uuid;

use crate::gpt::Table;
use crate::neutral::{ENTRY_BYTES, Toggle};
use crate::request::{Configured, Firmware, Slot};

/// The slots of abflip.ini, as this machine starts them.
#[derive(Clone, Debug)]
pub struct Slots {
    /// The program that starts the machine.
    pub firmware: Firmware,
    /// The root of slot a.
    pub a: Uuid,
    /// The root of slot b.
    pub b: Uuid,
    /// The EFI system partitions of both slots; with UEFI only.
    pub esps: Option<[Uuid; 2]>,
}

/// Reads abflip.ini. Status 66 when it does not exist, 78 when it is invalid.
pub fn configured(common: &Common) -> anyhow::Result<Slots> {
    let path = common.config("abflip.ini");
    ini::require(&path, "name the two roots there; abflip(8) describes it")?;
    let mut file = ini::Configuration::require(&path)?;
    let slots: Option<Configured> = file.section("slots")?;
    file.end()?;
    let wrong = |message: &str| Exit::Config.error(format_args!("{}: {message}", path.display()));
    let slots = slots.ok_or_else(|| wrong("[slots]: missing"))?;
    let firmware = slots.firmware.unwrap_or_else(|| running(common));
    for_firmware(&slots, firmware).map_err(wrong)
}

/// The program that started this machine: Linux has this directory only where that was UEFI.
fn running(common: &Common) -> Firmware {
    if common.path("/sys/firmware/efi").exists() {
        Firmware::Uefi
    } else {
        Firmware::Bios
    }
}

/// Checks that the types cannot express.
fn for_firmware(slots: &Configured, firmware: Firmware) -> Result<Slots, &'static str> {
    let esps = match (slots.firmware, slots.esp_a, slots.esp_b) {
        (Some(Firmware::Bios), None, None) => None,
        (Some(Firmware::Bios), ..) => {
            return Err("slots.esp_a, slots.esp_b: not with firmware=bios");
        }
        (_, Some(a), Some(b)) => Some([a, b]),
        (Some(Firmware::Uefi), ..) => {
            return Err("slots.esp_a, slots.esp_b: both are needed with firmware=uefi");
        }
        (None, ..) => return Err("slots.esp_a, slots.esp_b: both are needed without firmware"),
    };
    let mut all: Vec<Uuid> = [slots.a, slots.b]
        .into_iter()
        .chain(esps.into_iter().flatten())
        .collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    if all.len() < count {
        return Err("[slots]: a PARTUUID given twice");
    }
    Ok(Slots {
        firmware,
        a: slots.a,
        b: slots.b,
        esps: esps.filter(|_| firmware == Firmware::Uefi),
    })
}

/// The slots' entries in a table.
#[derive(Clone, Debug)]
pub struct Places {
    firmware: Firmware,
    /// The entries of the roots, from 0.
    roots: [usize; 2],
    /// The entries that carry the mark: the roots, or their EFI system partitions.
    marks: [usize; 2],
}

/// The slot that a table marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// One slot.
    One(Slot),
    /// None: no slot starts.
    None,
    /// More than one: gptmbr stops.
    Several,
}

impl Places {
    /// Finds the slots. The error names a PARTUUID that is missing, duplicate or outside of the
    /// disk.
    pub fn find(table: &Table, slots: &Slots) -> Result<Places, String> {
        let place = |guid: Uuid| {
            let mut found = table
                .used()
                .filter(|(_, entry)| Uuid::from_bytes_le(entry.unique_partition_guid) == guid);
            match (found.next(), found.next()) {
                (None, _) => Err(format!("there is no partition {guid}")),
                (Some((index, entry)), None) if is_within(table, entry) => Ok(index),
                (Some((index, _)), None) => Err(format!(
                    "partition {} does not lie within the disk",
                    index + 1
                )),
                (Some(_), Some(_)) => Err(format!("there are two partitions {guid}")),
            }
        };
        let roots = [place(slots.a)?, place(slots.b)?];
        let marks = match slots.esps {
            Some([a, b]) => [place(a)?, place(b)?],
            None => roots,
        };
        Ok(Places {
            firmware: slots.firmware,
            roots,
            marks,
        })
    }

    /// The entry of a slot's root, from 0.
    pub fn root(&self, slot: Slot) -> usize {
        self.roots[slot as usize]
    }

    /// The entry that carries a slot's mark, from 0: its root, or its EFI system partition.
    pub fn mark(&self, slot: Slot) -> usize {
        self.marks[slot as usize]
    }

    /// The slot that boots next.
    pub fn marked(&self, table: &Table) -> Marked {
        let has_bit =
            |index: usize| table.entries[index].attribute_bits >> self.firmware.bit() & 1 == 1;
        let one = match self.firmware {
            // gptmbr looks at every entry of the table.
            Firmware::Bios => match table.used().filter(|(index, _)| has_bit(*index)).count() {
                0 => return Marked::None,
                1 => Slot::ALL
                    .into_iter()
                    .find(|&slot| has_bit(self.marks[slot as usize])),
                _ => return Marked::Several,
            },
            // The firmware starts the one that is not hidden.
            Firmware::Uefi => match Slot::ALL.map(|slot| has_bit(self.marks[slot as usize])) {
                [true, true] => return Marked::None,
                [false, false] => return Marked::Several,
                [hidden_a, _] => Some(if hidden_a { Slot::B } else { Slot::A }),
            },
        };
        one.map_or(Marked::None, Marked::One)
    }

    /// The bits to toggle so that only `slot` boots next: the sector of the entries, from 0, and
    /// the toggles in it.
    pub fn toggles(
        &self,
        table: &Table,
        slot: Slot,
        sector_bytes: u64,
    ) -> Vec<(usize, Vec<Toggle>)> {
        let per_sector = sector_bytes as usize / ENTRY_BYTES;
        let bit = self.firmware.bit();
        let concerned =
            |index: &usize| self.firmware == Firmware::Bios || self.marks.contains(index);
        let mut by_sector: Vec<(usize, Vec<Toggle>)> = Vec::new();
        for (index, entry) in table.used().filter(|(index, _)| concerned(index)) {
            let is_ours = index == self.marks[slot as usize];
            let wanted = is_ours == (self.firmware == Firmware::Bios);
            if (entry.attribute_bits >> bit & 1 == 1) == wanted {
                continue;
            }
            let toggle = Toggle {
                entry: index % per_sector,
                bit,
            };
            match by_sector.last_mut() {
                Some((sector, toggles)) if *sector == index / per_sector => toggles.push(toggle),
                _ => by_sector.push((index / per_sector, vec![toggle])),
            }
        }
        by_sector
    }
}

fn is_within(table: &Table, entry: &GPTPartitionEntry) -> bool {
    let (first, last) = (entry.starting_lba, entry.ending_lba);
    first <= last && first >= table.header.first_usable_lba && last <= table.header.last_usable_lba
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::fs;

    fn read(text: &str) -> Result<Slots, (Exit, String)> {
        read_on(&[], text)
    }

    /// On a machine that has these directories.
    fn read_on(machine: &[&str], text: &str) -> Result<Slots, (Exit, String)> {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        for has in machine {
            fs::create_dir_all(directory.path().join(has)).unwrap();
        }
        let path = directory.path().join("abflip.ini");
        fs::write(&path, text).unwrap();
        let arguments = ["abflip", "--root", root, "--config", root, "status"];
        let common = crate::request::Arguments::parse_from(arguments).common;
        configured(&common).map_err(|error| {
            (
                Exit::of(&error),
                format!("{error:#}").replace(path.to_str().unwrap(), "ini"),
            )
        })
    }

    const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
    const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";
    const C: &str = "aaaaaaaa-0000-4000-8000-000000000003";
    const D: &str = "bbbbbbbb-0000-4000-8000-000000000004";

    #[test]
    fn slots_without_firmware_serve_both_kinds_of_machines() {
        let text = format!("[slots]\na={A}\nb={B}\nesp_a={C}\nesp_b={D}\n");
        let on = |machine: &[&str]| {
            let slots = read_on(machine, &text).unwrap();
            (
                slots.firmware,
                slots.esps.map(|esps| esps.map(|esp| esp.to_string())),
            )
        };
        assert_eq!(on(&["sys/firmware/acpi"]), (Firmware::Bios, None));
        let esps = Some([C.to_owned(), D.to_owned()]);
        assert_eq!(on(&["sys/firmware/efi"]), (Firmware::Uefi, esps));
    }

    #[test]
    fn slots_refuse_impossible_values() {
        let slots = read(&format!(
            "[slots]\nfirmware=bios\na={}\nb={B}\n",
            A.to_uppercase()
        ))
        .unwrap();
        assert_eq!(
            (slots.firmware, slots.a.to_string()),
            (Firmware::Bios, A.to_owned())
        );
        for (text, message) in [
            (String::new(), "ini: [slots]: missing"),
            (
                format!("[slots]\nfirmware=bios\na={A}\nb={A}\n"),
                "ini: [slots]: a PARTUUID given twice",
            ),
            (
                format!("[slots]\nfirmware=uefi\na={A}\nb={B}\n"),
                "ini: slots.esp_a, slots.esp_b: both are needed with firmware=uefi",
            ),
            (
                format!("[slots]\nfirmware=bios\na={A}\nb={B}\nesp_a={A}\n"),
                "ini: slots.esp_a, slots.esp_b: not with firmware=bios",
            ),
            (
                format!("[slots]\na={A}\nb={B}\n"),
                "ini: slots.esp_a, slots.esp_b: both are needed without firmware",
            ),
            (
                format!("[slots]\na={A}\nb={B}\nesp_a={A}\nesp_b={C}\n"),
                "ini: [slots]: a PARTUUID given twice",
            ),
            (
                format!("[slots]\nfirmware=coreboot\na={A}\nb={B}\n"),
                "ini: slots.firmware: expected one of bios, uefi",
            ),
            (
                format!("[slots]\nfirmware=bios\na={A}\n"),
                "ini: slots.b: missing",
            ),
            (
                format!("[slots]\nfirmware=bios\na={A}\nb={B}\nc={B}\n"),
                "ini: slots.c: unknown key",
            ),
        ] {
            assert_eq!(read(&text).unwrap_err(), (Exit::Config, message.to_owned()));
        }
    }
}
