//! The machine as it is found: its disk, its slots, what runs, and what was written.

use std::fmt;
use std::path::Path;

use jsonpipe::{Common, Exit, Missing};

use crate::digest;
use crate::disk::{Access, Disk};
use crate::efi::Variables;
use crate::gpt::{Mbr, Table, Tables};
use crate::record::Records;
use crate::report::{self, Listed, Slots, State};
use crate::request::{Configured, Slot};
use crate::running::{self, Running};
use crate::slots::{self, Marked, Places};
use crate::target;
use crate::trial::{self, Trial};

/// A machine's disk, or another one that is looked at or changed in its place.
#[derive(Debug)]
pub struct Machine {
    /// abflip.ini.
    pub slots: Configured,
    /// The disk.
    pub disk: Disk,
    /// The root that is mounted, or why it cannot be told.
    running: Result<Running, String>,
    /// What was written to the slots.
    pub records: Records,
    /// The firmware's variables of the machine that runs.
    pub variables: Variables,
}

/// Whether the slots are read and compared with their records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Believed.
    Recorded,
    /// Read and compared.
    Compared,
}

impl Machine {
    /// Opens `disk`, else the disk that holds the root.
    pub fn open(common: &Common, disk: Option<&Path>, access: Access) -> anyhow::Result<Machine> {
        let slots = slots::configured(common)?;
        let running = running::find(common)?;
        let records = Records::read(common)?;
        let disk = match (disk, &running) {
            (Some(disk), _) => Disk::open(disk, access)?,
            (None, Ok(running)) => Disk::open(&running.disk, access)?,
            (None, Err(why)) => return Err(Exit::Config.error(format_args!("finding the disk: {why}; name one with --disk"))),
        };
        Ok(Machine { slots, disk, running, records, variables: Variables::of(common) })
    }

    /// The same, to change it; in a dry run only looks whether that can be.
    pub fn open_to_change(common: &Common, disk: Option<&Path>, dry_run: bool) -> anyhow::Result<Machine> {
        let machine = Machine::open(common, disk, if dry_run { Access::Read } else { Access::Write })?;
        target::check_changeable(common, &machine.disk)?;
        Ok(machine)
    }

    /// Whether the root that is mounted is on this disk.
    pub fn is_running(&self) -> bool {
        self.running.as_ref().is_ok_and(|running| running.is_on(self.disk.path()))
    }

    /// Whether the root that is mounted, if it is on this disk, is a partition of this table.
    pub fn runs_by(&self, table: &Table, sector_bytes: u64) -> bool {
        let running = self.running.as_ref().ok().filter(|running| running.is_on(self.disk.path()));
        running.is_none_or(|running| running.entry(table, sector_bytes).is_some())
    }

    /// The slot that runs, or why it cannot be told.
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
        let slot = Slot::ALL.into_iter().find(|&slot| places.root(slot) == index);
        slot.ok_or_else(|| format!("the root, partition {partition}, is not a slot of abflip.ini"))
    }

    /// The section `slots` of what is on the disk.
    pub fn report(&self, tables: &Tables, changed: bool, content: Content) -> anyhow::Result<Slots> {
        let mut missing = Vec::new();
        let mut faults = faults(tables);
        let table = either(tables);
        let places = table.map(|table| Places::find(table, &self.slots)).transpose().unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        let mut list = |slot| {
            let partuuid = self.partuuid(slot);
            let record = table.and_then(|table| self.records.of(slot, partuuid, table.disk_guid()));
            if record.is_none() {
                let reason = "no verified write of it is recorded".into();
                missing.push(Missing { key: format!("{slot}.version"), reason });
            }
            let intact = match (table.zip(places.as_ref()), record, content) {
                (Some((table, places)), Some(record), Content::Compared) => {
                    let start = table.entries[places.root(slot)].starting_lba * tables.sector_bytes;
                    Some(digest::of_slot(&self.disk, start, record, format_args!("comparing slot {slot}"))? == record.sha256)
                }
                _ => None,
            };
            if intact == Some(false) {
                faults.push(format!("slot {slot} differs from the image written to it; write it again"));
            }
            anyhow::Ok(Listed {
                partuuid,
                partition: places.as_ref().map(|places| places.root(slot) as u32 + 1),
                version: record.map(|record| record.version),
                sha256: record.map(|record| record.sha256.clone()),
                rejected: record.map(|record| self.records.is_rejected(&record.sha256)),
                intact,
            })
        };
        let mut trial_unknown = None;
        let (mut a, mut b) = (list(Slot::A)?, list(Slot::B)?);
        let trial = trial::find(self, tables).unwrap_or_else(|error| {
            trial_unknown = Some(format!("{error:#}"));
            None
        });
        if let Some(Trial { slot, state: State::Failed, .. }) = &trial {
            let of = if *slot == Slot::A { &mut a } else { &mut b };
            of.rejected = of.rejected.map(|_| true);
        }
        let next = match table.zip(places).map(|(table, places)| places.marked(table)) {
            Some(Marked::One(slot)) => Ok(slot),
            Some(Marked::None) => Err("no slot is marked"),
            Some(Marked::Several) => Err("more than one partition is marked"),
            None => Err("the slots are not known"),
        };
        // A digest is rejected, and may be that of what has been active all the time.
        if let Ok(slot) = next {
            let active = if slot == Slot::A { &mut a } else { &mut b };
            active.rejected = active.rejected.map(|_| false);
        }
        if let Err(why) = next {
            faults.push(format!("{why}; it may be that nothing boots"));
            missing.push(Missing { key: "next".into(), reason: why.into() });
        }
        missing.extend(trial_unknown.map(|reason| Missing { key: "trial".into(), reason }));
        let booted = self.booted(tables);
        if let Err(reason) = &booted {
            missing.push(Missing { key: "booted".into(), reason: reason.clone() });
        }
        let backup_lba = tables.backup.as_ref().ok().map(|backup| backup.header.primary_lba);
        Ok(Slots {
            changed,
            disk: self.disk.path().display().to_string(),
            firmware: self.slots.firmware,
            a,
            b,
            booted: booted.ok(),
            next: next.ok(),
            trial: trial.as_ref().map(|trial| trial.slot),
            trial_state: trial.map(|trial| trial.state),
            table: report::Table {
                sector_bytes: self.disk.sector_bytes.or(table.map(|_| tables.sector_bytes)),
                protective_mbr: tables.protective_mbr() == Mbr::Protects,
                primary: tables.primary.is_ok(),
                backup: tables.backup.is_ok(),
                agree: tables.agree(),
                backup_at_end: backup_lba.is_some_and(|lba| lba + 1 == tables.sectors),
                faults,
            },
            missing,
        })
    }

    /// The root of a slot, by abflip.ini.
    pub fn partuuid(&self, slot: Slot) -> uuid::Uuid {
        match slot {
            Slot::A => self.slots.a,
            Slot::B => self.slots.b,
        }
    }
}

/// The primary table, else the backup.
pub fn either(tables: &Tables) -> Option<&Table> {
    tables.primary.as_ref().ok().or(tables.backup.as_ref().ok())
}

/// What is wrong with the tables.
fn faults(tables: &Tables) -> Vec<String> {
    let mut faults = Vec::new();
    if tables.protective_mbr() != Mbr::Protects {
        faults.push("there is no protective MBR".to_owned());
    }
    let of = |name: &str, fault: &dyn fmt::Display| format!("{name} table: {fault}");
    match &tables.primary {
        Err(fault) => faults.push(of("primary", fault)),
        Ok(table) => faults.extend(table.conflicts().iter().map(|conflict| of("primary", conflict))),
    }
    match &tables.backup {
        Err(fault) => faults.push(of("backup", fault)),
        // It says the same.
        Ok(_) if tables.agree() => {}
        Ok(table) => {
            if tables.primary.is_ok() {
                faults.push(of("backup", &"it differs from the primary one"));
            }
            faults.extend(table.conflicts().iter().map(|conflict| of("backup", conflict)));
        }
    }
    faults
}
