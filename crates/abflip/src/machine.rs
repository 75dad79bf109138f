//! The machine: its disk, its slots, the running root, and the records.

use std::fs::File;
use std::path::Path;

use jsonpipe::{Common, Exit, lock};

use crate::disk::{Access, Disk};
use crate::efi::Variables;
use crate::gpt::{Table, Tables};
use crate::record::Records;
use crate::request::Slot;
use crate::running::{self, Running};
use crate::slots::{self, Places, Slots};
use crate::target;

const LOCK: &str = "/run/labtools/abflip.lock";

/// Takes the lock on the slots, which is held until the file is closed: only one run at a time
/// writes, flips, tries or repairs. Status 75 when another run holds it.
pub fn lock(common: &Common) -> anyhow::Result<File> {
    lock::take(
        common,
        LOCK,
        "another abflip is running; try again when it has ended",
    )
}

/// A machine's disk, or another disk in its place.
#[derive(Debug)]
pub struct Machine {
    /// abflip.ini.
    pub slots: Slots,
    /// The disk.
    pub disk: Disk,
    /// The root that is mounted, or why it is not known.
    running: Result<Running, String>,
    /// The records of both slots.
    pub records: Records,
    /// The firmware's variables of the running machine.
    pub variables: Variables,
}

impl Machine {
    /// Opens `disk`, otherwise the disk that holds the root.
    pub fn open(common: &Common, disk: Option<&Path>, access: Access) -> anyhow::Result<Machine> {
        let slots = slots::configured(common)?;
        let running = running::find(common)?;
        let records = Records::read(common)?;
        let disk = match (disk, &running) {
            (Some(disk), _) => Disk::open(disk, access)?,
            (None, Ok(running)) => Disk::open(&running.disk, access)?,
            (None, Err(why)) => {
                return Err(Exit::Config.error(format_args!(
                    "finding the disk: {why}; name one with --disk"
                )));
            }
        };
        Ok(Machine {
            slots,
            disk,
            running,
            records,
            variables: Variables::of(common),
        })
    }

    /// Opens the disk for changes; a dry run only checks that this is possible.
    pub fn open_to_change(
        common: &Common,
        disk: Option<&Path>,
        dry_run: bool,
    ) -> anyhow::Result<Machine> {
        let machine = Machine::open(
            common,
            disk,
            if dry_run { Access::Read } else { Access::Write },
        )?;
        target::check_changeable(common, &machine.disk)?;
        Ok(machine)
    }

    /// Whether the root that is mounted is on this disk.
    pub fn is_running(&self) -> bool {
        self.running
            .as_ref()
            .is_ok_and(|running| running.is_on(self.disk.path()))
    }

    /// The partition of this table that is the mounted root, if that is on this disk.
    pub fn runs_by(&self, table: &Table, sector_bytes: u64) -> bool {
        let running = self
            .running
            .as_ref()
            .ok()
            .filter(|running| running.is_on(self.disk.path()));
        running.is_none_or(|running| running.entry(table, sector_bytes).is_some())
    }

    /// The slot that runs, or why it is not known.
    pub fn booted(&self, tables: &Tables) -> Result<Slot, String> {
        let running = self.running.as_ref().map_err(Clone::clone)?;
        let path = self.disk.path().display();
        if !running.is_on(self.disk.path()) {
            return Err(format!("nothing runs from {path}"));
        }
        let partition = running.partition;
        let table = either(tables).ok_or_else(|| format!("{path} has no valid table"))?;
        let index = running
            .entry(table, tables.sector_bytes)
            .ok_or_else(|| format!("the table has no partition {partition} where the root is"))?;
        let places = Places::find(table, &self.slots)?;
        let slot = Slot::ALL
            .into_iter()
            .find(|&slot| places.root(slot) == index);
        slot.ok_or_else(|| format!("the root, partition {partition}, is not a slot of abflip.ini"))
    }

    /// The root of a slot, by abflip.ini.
    pub fn partuuid(&self, slot: Slot) -> uuid::Uuid {
        match slot {
            Slot::A => self.slots.a,
            Slot::B => self.slots.b,
        }
    }
}

/// The primary table, otherwise the backup.
pub fn either(tables: &Tables) -> Option<&Table> {
    tables.primary.as_ref().ok().or(tables.backup.as_ref().ok())
}
