//! What starts a slot: a verified write says what is in the root, and not that anything starts it.
//!
//! BIOS: gptmbr starts the root's own extlinux, which came with the image. UEFI: the firmware starts a file of the slot's own EFI
//! system partition, and a write does not put it there; `try` does, and records it.

use jsonpipe::Common;

use crate::esp;
use crate::extlinux::Extlinux;
use crate::gpt::{Table, Tables};
use crate::machine::Machine;
use crate::request::{Firmware, Slot};
use crate::slots::Places;

/// What is said against starting a slot, with the way out, or `None`. By UEFI the file is looked at on a disk, which needs root; of an
/// image what `try` recorded is believed. Status 74 when the disk cannot be read, 77 without root, 78 when the partition cannot be mounted.
pub fn fault(
    common: &Common,
    machine: &Machine,
    tables: &Tables,
    (table, places): (&Table, &Places),
    slot: Slot,
) -> anyhow::Result<Option<String>> {
    let place = |index| table.place(index, tables.sector_bytes);
    match machine.slots.firmware {
        Firmware::Bios => {
            let found = Extlinux::find(&machine.disk, place(places.root(slot)))?;
            Ok(found.err().map(|why| format!("nothing starts slot {slot}: {why}")))
        }
        Firmware::Uefi => {
            let record = machine.records.of(slot, machine.partuuid(slot), table.disk_guid());
            let recorded = record.and_then(|record| record.loader_sha256.as_deref());
            let is_there = match recorded {
                Some(_) if machine.disk.device == 0 => true,
                Some(recorded) => {
                    esp::default_loader(common, &machine.disk, place(places.mark(slot)))?.as_deref() == Some(recorded)
                }
                None => false,
            };
            let partition = places.mark(slot) + 1;
            let way_out =
                if machine.booted(tables) == Ok(slot) { "run abflip rollback, and try it again" } else { "run abflip try" };
            let why =
                format!("nothing starts slot {slot}: its EFI system partition, {partition}, does not have its loader; {way_out}");
            Ok((!is_there).then_some(why))
        }
    }
}
