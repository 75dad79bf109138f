//! The loader of a slot. A verified write covers the root, but does not prove that anything starts
//! it.
//!
//! BIOS: gptmbr starts the root's own extlinux, which came with the image. UEFI: the firmware
//! starts a file on the slot's own EFI system partition, where `try`, not `write`, puts and records
//! it.

use jsonpipe::{Common, Exit};

use crate::esp;
use crate::extlinux::Extlinux;
use crate::gpt::{Table, Tables};
use crate::machine::Machine;
use crate::request::{Firmware, Slot};
use crate::slots::Places;

/// The state of a slot's loader.
#[derive(Debug)]
pub enum Loader {
    /// It exists.
    There,
    /// It does not: why, with the way out.
    Missing(String),
    /// It cannot be read or compared: why.
    Unknown(anyhow::Error),
}

/// Finds the loader of a slot. By UEFI the file is read from the disk, which needs root; in an
/// image, the record of `try` counts instead. Status 74 when the disk cannot be read; that of
/// [`Loader::Unknown`] is 77 without root, otherwise 78.
pub fn find(
    common: &Common,
    machine: &Machine,
    tables: &Tables,
    (table, places): (&Table, &Places),
    slot: Slot,
) -> anyhow::Result<Loader> {
    let place = |index| table.place(index, tables.sector_bytes);
    if machine.slots.firmware == Firmware::Bios {
        let found = Extlinux::find(&machine.disk, place(places.root(slot)))?;
        return Ok(found.err().map_or(Loader::There, |why| {
            Loader::Missing(format!("nothing starts slot {slot}: {why}"))
        }));
    }
    let record = machine
        .records
        .of(slot, machine.partuuid(slot), table.disk_guid());
    let recorded = record.and_then(|record| record.loader_sha256.as_deref());
    let (root, own) = (place(places.root(slot)), place(places.mark(slot)));
    let (is_image, runs) = (machine.disk.device == 0, machine.booted(tables) == Ok(slot));
    let way_out = if runs {
        "run abflip rollback, and try it again"
    } else {
        "run abflip try"
    };
    let not_recorded = |why: &str| {
        Loader::Unknown(Exit::Config.error(format_args!(
            "the loader of slot {slot} is not recorded{why}"
        )))
    };
    let found = match recorded {
        Some(_) if is_image => return Ok(Loader::There),
        // The slot that runs may lack the record: an older `try` did not write it.
        None if runs => return Ok(not_recorded("")),
        None if is_image => {
            return Ok(not_recorded(&format!(
                ", and it cannot be read in an image; {way_out}"
            )));
        }
        Some(recorded) => esp::default_loader(common, &machine.disk, own)
            .map(|found| found.as_deref() == Some(recorded)),
        None => esp::has_loader_of(common, &machine.disk, root, own),
    };
    let of = if recorded.is_some() {
        "the one that try took from it"
    } else {
        "that of its root"
    };
    Ok(match found {
        Ok(true) => Loader::There,
        Ok(false) => Loader::Missing(format!(
            "nothing starts slot {slot}: the loader in its EFI system partition, {}, differs from {of}, or is not there; {way_out}",
            own.number
        )),
        Err(error) => {
            Loader::Unknown(error.context(format!("the loader of slot {slot} cannot be read")))
        }
    })
}

/// The fault in the firmware's boot order if `target` becomes active, with the way out, or `None`.
/// The order may name the EFI system partitions of both slots, or of neither: then the firmware
/// searches for a loader itself. If it names only one, the firmware may never find the other slot.
/// Nothing is known about another machine's disk.
pub fn order_fault(
    machine: &Machine,
    tables: &Tables,
    places: &Places,
    target: Slot,
) -> anyhow::Result<Option<String>> {
    let Some([a, b]) = machine.slots.esps else {
        return Ok(None);
    };
    if machine.booted(tables).is_err() {
        return Ok(None);
    }
    let named = machine.variables.ordered_partitions()?;
    let other = target.other();
    let [is_named, is_other_named] =
        [target, other].map(|slot| named.contains(if slot == Slot::A { &a } else { &b }));
    Ok((is_other_named && !is_named).then(|| {
        format!(
            "the firmware's boot order names only slot {other}'s EFI system partition; let it name \
             neither, so that the firmware looks for \\EFI\\BOOT\\BOOTX64.EFI: efibootmgr \
             --delete-bootnum; or, if the firmware keeps unusable entries, also name slot \
             {target}'s: efibootmgr --create --disk {} --part {} --label root-{target} --loader \
             '\\EFI\\BOOT\\BOOTX64.EFI'",
            machine.disk.path().display(),
            places.mark(target) + 1
        )
    }))
}
