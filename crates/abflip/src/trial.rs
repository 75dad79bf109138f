//! A trial: one boot of the other slot. Then the active slot boots again, unless the trial
//! committed.
//!
//! The table does not change, so the active slot remains the one that boots next. BIOS: the
//! boot-once area of the active slot's extlinux names the label `try-a` or `try-b`, which extlinux
//! clears before it starts that label. UEFI: the slot's loader is copied to the visible EFI system
//! partition, and `BootNext` names it; the firmware removes `BootNext` before it starts the loader.
//! The state of a trial follows from these, from the mounted root, and, once it has ended by
//! itself, from the record that `try` wrote.

use std::fs;

use jsonpipe::{Common, Exit, ExitContext, io_error};

use crate::disk::Access;
use crate::efi::SystemPartition;
use crate::esp::Mounted;
use crate::extlinux::{self, BootOnce, Extlinux};
use crate::gpt::{Place, Table, Tables};
use crate::machine::{Machine, either};
use crate::record::{Image, Tried};
use crate::report::State;
use crate::request::{Firmware, Slot};
use crate::running;
use crate::slots::{Marked, Places};
use crate::writes::{self, Change, Failure};

/// A trial of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The slot on trial.
    pub slot: Slot,
    /// Its state.
    pub state: State,
    /// The image in the slot when `try` began; `None` for a trial that `try` did not begin.
    pub image: Option<Image>,
}

/// A table that marks one slot as active.
pub struct Active<'a> {
    /// The table.
    pub table: &'a Table,
    /// The slots' entries in it.
    pub places: Places,
    /// The active slot.
    pub slot: Slot,
    sector_bytes: u64,
}

impl<'a> Active<'a> {
    /// `None` without a valid table, or when it does not mark exactly one slot.
    pub fn of(machine: &Machine, tables: &'a Tables) -> Option<Active<'a>> {
        let table = either(tables)?;
        let places = Places::find(table, &machine.slots).ok()?;
        let Marked::One(slot) = places.marked(table) else {
            return None;
        };
        Some(Active {
            table,
            places,
            slot,
            sector_bytes: tables.sector_bytes,
        })
    }

    /// The verified image in a slot.
    pub fn image(&self, machine: &Machine, slot: Slot) -> Option<Image> {
        machine
            .records
            .of(slot, machine.partuuid(slot), self.table.disk_guid())
            .map(Image::from)
    }

    fn place(&self, index: usize) -> Place {
        self.table.place(index, self.sector_bytes)
    }

    /// The partition where the firmware finds the trial's loader: the active slot's EFI system
    /// partition.
    fn visible(&self) -> SystemPartition {
        let index = self.places.mark(self.slot);
        let entry = &self.table.entries[index];
        SystemPartition {
            number: index as u32 + 1,
            first_lba: entry.starting_lba,
            sectors: entry.ending_lba - entry.starting_lba + 1,
            guid: uuid::Uuid::from_bytes_le(entry.unique_partition_guid),
        }
    }

    /// The slot's extlinux, and its boot-once area.
    fn boot_once(&self, machine: &Machine) -> anyhow::Result<Result<(Extlinux, BootOnce), String>> {
        match Extlinux::find(&machine.disk, self.place(self.places.root(self.slot)))? {
            Ok(extlinux) => Ok(extlinux
                .boot_once(&machine.disk)?
                .map(|found| (extlinux, found))),
            Err(why) => Ok(Err(why)),
        }
    }
}

/// The label of extlinux.conf that starts a slot.
fn label(slot: Slot) -> String {
    format!("try-{slot}")
}

/// The current trial, if there is one.
pub fn find(machine: &Machine, tables: &Tables) -> anyhow::Result<Option<Trial>> {
    let Some(active) = Active::of(machine, tables) else {
        return Ok(None);
    };
    let other = active.slot.other();
    let booted = machine.booted(tables).ok();
    let tried = machine
        .records
        .trial(active.table.disk_guid())
        .filter(|tried| tried.slot == other);
    let image = active.image(machine, other);
    let is_armed = match machine.slots.firmware {
        Firmware::Bios => {
            let found = active.boot_once(machine)?;
            found.is_ok_and(|(_, found)| found.label() == Some(label(other).as_bytes()))
        }
        // The variables do not belong to another machine's disk.
        Firmware::Uefi => booted.is_some() && machine.variables.is_armed(&active.visible())?,
    };
    let state = match tried {
        // It runs, even if the arming is still in place.
        Some(_) if booted == Some(other) => State::Running,
        _ if is_armed => State::Armed,
        // An image written later has not failed.
        Some(tried)
            if booted == Some(active.slot)
                && tried.armed
                && image.as_ref() == Some(&tried.image) =>
        {
            State::Failed
        }
        _ => return Ok(None),
    };
    Ok(Some(Trial {
        slot: other,
        state,
        image: tried.map(|tried| tried.image.clone()),
    }))
}

/// Whether a recorded trial is of the now active slot: it committed, and the power failed before
/// the record was removed.
pub fn committed<'a>(machine: &'a Machine, active: &Active) -> Option<&'a Tried> {
    machine
        .records
        .trial(active.table.disk_guid())
        .filter(|tried| tried.slot == active.slot)
}

/// The state after a failure that could not be undone, by the tables it left, and the way out
/// before `verb` can be repeated.
pub fn way_out(machine: &Machine, left: Option<&Tables>, verb: &str) -> String {
    match left.and_then(|tables| Some((tables, Active::of(machine, tables)?))) {
        Some((tables, Active { slot, .. })) if tables.agree() => {
            format!("slot {slot} boots next; run abflip {verb} again")
        }
        Some((_, Active { slot, .. })) => {
            format!("slot {slot} boots next; run abflip repair, and abflip {verb} again")
        }
        None => "which slot boots next is not known; run abflip repair".into(),
    }
}

/// The checked means to arm a trial.
pub enum Arming {
    /// The boot-once area of the active slot.
    Bios(BootOnce),
    /// The file systems, and the partition that the entry starts.
    Uefi(Mounted, SystemPartition),
}

/// Makes all possible checks before anything is written.
pub fn prepare(
    common: &Common,
    machine: &Machine,
    tables: &Tables,
    active: &Active,
    access: Access,
) -> anyhow::Result<Arming> {
    let path = machine.disk.path().display();
    let (slot, other) = (active.slot, active.slot.other());
    let refuse = |why: String| {
        Exit::Config.error(format_args!(
            "refusing to try slot {other} of {path}: {why}"
        ))
    };
    match machine.slots.firmware {
        Firmware::Bios => {
            let found = active.boot_once(machine)?;
            let (extlinux, found) = found.map_err(|why| refuse(format!("slot {slot}: {why}")))?;
            if machine.booted(tables) == Ok(slot) {
                // Without the label extlinux would wait at its prompt.
                let file = common.path(extlinux.directory().join("extlinux.conf"));
                let failed = |error| {
                    io_error(
                        error,
                        |_| Exit::Config,
                        format_args!("reading {}", file.display()),
                    )
                };
                let text = running::text(&file).map_err(failed)?;
                if let Some(why) =
                    extlinux::label_fault(&text, &label(other), machine.partuuid(other))
                {
                    return Err(refuse(format!(
                        "{}: {why}; correct the image",
                        file.display()
                    )));
                }
                for module in extlinux::MODULES {
                    let file = common.path(extlinux.directory().join(module));
                    if !fs::metadata(&file).is_ok_and(|found| found.is_file() && found.len() > 0) {
                        return Err(refuse(format!(
                            "{} is not there; correct the image",
                            file.display()
                        )));
                    }
                }
            }
            if found.changes(Some(&label(other))).is_none() {
                return Err(refuse(
                    "there is no room in the boot-once area; see extlinux(1), --reset-adv".into(),
                ));
            }
            Ok(Arming::Bios(found))
        }
        Firmware::Uefi => {
            if machine.booted(tables) != Ok(slot) {
                return Err(refuse(
                    "the firmware's variables are another machine's; try it on the machine itself"
                        .into(),
                ));
            }
            machine.variables.require()?;
            let [root, own, visible] = [
                active.places.root(other),
                active.places.mark(other),
                active.places.mark(slot),
            ];
            let mounted = Mounted::open(
                common,
                &machine.disk,
                [root, own, visible].map(|index| active.place(index)),
                access,
            )?;
            Ok(Arming::Uefi(mounted, active.visible()))
        }
    }
}

/// Whether both copies of the boot-once area hold the armed trial.
pub fn is_whole(machine: &Machine, active: &Active) -> anyhow::Result<bool> {
    Ok(match machine.slots.firmware {
        Firmware::Bios => {
            let found = active.boot_once(machine)?.ok();
            found
                .and_then(|(_, found)| found.changes(Some(&label(active.slot.other()))))
                .is_some_and(|changes| changes.is_empty())
        }
        Firmware::Uefi => true,
    })
}

/// Makes the other slot boot next. A failure is undone unless it reports otherwise. The records
/// stay: by UEFI they describe the content of the slot's EFI system partition.
pub fn arm(
    common: &Common,
    machine: &mut Machine,
    arming: Arming,
    other: Slot,
) -> Result<(), Failure> {
    match arming {
        Arming::Bios(found) => {
            let changes = found.changes(Some(&label(other))).unwrap_or_default(); // prepare() has checked the room
            writes::make(&machine.disk, &changes, || Ok(()))
        }
        Arming::Uefi(mounted, visible) => {
            let installed = mounted
                .install()
                .and_then(|sha256| machine.records.set_loader(common, other, sha256));
            installed.map_err(Failure::Undone)?;
            arm_variables(machine, &visible)
        }
    }
}

fn arm_variables(machine: &Machine, visible: &SystemPartition) -> Result<(), Failure> {
    machine
        .variables
        .arm(visible)
        .map_err(|error| match machine.variables.disarm() {
            Ok(_) => Failure::Undone(error),
            Err(undoing) => Failure::stays(error, &undoing),
        })
}

/// Arms the other slot again, after [`disarm`] of the active one: the files for it are still in
/// place.
pub fn arm_again(machine: &Machine, tables: &Tables) -> anyhow::Result<()> {
    let active = Active::of(machine, tables).exit(
        Exit::Software,
        || "a trial that was armed has an active slot",
    )?;
    let armed = match machine.slots.firmware {
        Firmware::Bios => {
            let found = active
                .boot_once(machine)?
                .map_err(|why| Exit::Io.error(why))?;
            let changes = found
                .1
                .changes(Some(&label(active.slot.other())))
                .unwrap_or_default(); // there was room
            writes::make(&machine.disk, &changes, || Ok(()))
        }
        Firmware::Uefi => arm_variables(machine, &active.visible()),
    };
    armed.map_err(|failure| match failure {
        Failure::Undone(error) | Failure::Stays(error) => error,
    })
}

/// Makes the active slot boot next: removes the rest of a trial from `of`'s boot-once area and from
/// the firmware. Returns whether there was any.
pub fn disarm(machine: &Machine, tables: &Tables, of: Slot) -> Result<bool, Failure> {
    let Some(active) = Active::of(machine, tables).map(|active| Active { slot: of, ..active })
    else {
        return Ok(false);
    };
    match machine.slots.firmware {
        Firmware::Bios => {
            let Ok((_, found)) = active.boot_once(machine).map_err(Failure::Undone)? else {
                return Ok(false);
            };
            // Another label is not a trial's.
            if found
                .label()
                .is_some_and(|found| found != label(of.other()).as_bytes())
            {
                return Ok(false);
            }
            let changes = found.changes(None).unwrap_or_default(); // less needs no room
            writes::make(&machine.disk, &changes, || Ok(!changes.is_empty()))
        }
        Firmware::Uefi if machine.booted(tables).is_ok() => {
            machine.variables.disarm().map_err(Failure::Stays)
        }
        Firmware::Uefi => Ok(false),
    }
}

/// The changes that remove the trial's label from a slot's boot-once area, by BIOS; empty where it
/// has none.
pub fn disarming(
    machine: &Machine,
    table: &Table,
    places: Places,
    slot: Slot,
    sector_bytes: u64,
) -> anyhow::Result<Vec<Change>> {
    if machine.slots.firmware != Firmware::Bios {
        return Ok(Vec::new());
    }
    let active = Active {
        table,
        places,
        slot,
        sector_bytes,
    };
    let found = active
        .boot_once(machine)?
        .ok()
        .filter(|(_, found)| found.label() == Some(label(slot.other()).as_bytes()));
    Ok(found
        .and_then(|(_, found)| found.changes(None))
        .unwrap_or_default()) // less needs no room
}

/// The record of `try`.
pub fn tried(active: &Active, image: Image, armed: bool) -> Tried {
    Tried {
        disk_guid: active.table.disk_guid(),
        slot: active.slot.other(),
        image,
        armed,
    }
}
