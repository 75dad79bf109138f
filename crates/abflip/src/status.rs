//! `abflip status`, and the section `slots` of the other subcommands: the slot that runs, the slot
//! that boots next, and the state of the table.

use std::fmt;
use std::path::Path;

use jsonpipe::{Answer, Common, Document, Missing};

use crate::disk::Access;
use crate::gpt::{Mbr, Tables};
use crate::machine::{Machine, either};
use crate::report::{self, Listed, Slots, State};
use crate::request::Slot;
use crate::slots::{Marked, Places};
use crate::trial::{self, Trial};
use crate::{TOOL, digest};

/// How a slot's content is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The record counts.
    Recorded,
    /// The slot is read and compared with its record.
    Compared,
}

/// Reports the slots, without any change. Status 1 when something needs repair.
pub fn status(common: &Common, disk: Option<&Path>, content: Content) -> anyhow::Result<Answer> {
    let machine = Machine::open(common, disk, Access::Read)?;
    let report = report(&machine, &Tables::read(&machine.disk)?, false, content)?;
    let mut document = Document::default();
    document.set(TOOL.section, &report)?;
    Ok(if report.table.faults.is_empty() {
        Answer::yes(document)
    } else {
        Answer::no(document)
    })
}

/// The section `slots` for the disk.
pub fn report(
    machine: &Machine,
    tables: &Tables,
    changed: bool,
    content: Content,
) -> anyhow::Result<Slots> {
    let mut missing = Vec::new();
    let mut faults = faults(tables);
    let table = either(tables);
    let places = table
        .map(|table| Places::find(table, &machine.slots))
        .transpose()
        .unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
    let mut list = |slot| {
        let partuuid = machine.partuuid(slot);
        let record = table.and_then(|table| machine.records.of(slot, partuuid, table.disk_guid()));
        if record.is_none() {
            let reason = "no verified write is recorded".into();
            missing.push(Missing {
                key: format!("{slot}.version"),
                reason,
            });
        }
        let intact = match (table.zip(places.as_ref()), record, content) {
            (Some((table, places)), Some(record), Content::Compared) => {
                let start = table.entries[places.root(slot)].starting_lba * tables.sector_bytes;
                Some(
                    digest::of_slot(
                        &machine.disk,
                        start,
                        record,
                        format_args!("comparing slot {slot}"),
                    )? == record.sha256,
                )
            }
            _ => None,
        };
        if intact == Some(false) {
            faults.push(format!(
                "slot {slot} differs from the image written to it; write it again"
            ));
        }
        anyhow::Ok(Listed {
            partuuid,
            partition: places.as_ref().map(|places| places.root(slot) as u32 + 1),
            version: record.map(|record| record.version),
            sha256: record.map(|record| record.sha256.clone()),
            rejected: record.map(|record| machine.records.is_rejected(&record.sha256)),
            intact,
        })
    };
    let mut trial_unknown = None;
    let (mut a, mut b) = (list(Slot::A)?, list(Slot::B)?);
    let trial = trial::find(machine, tables).unwrap_or_else(|error| {
        trial_unknown = Some(format!("{error:#}"));
        None
    });
    if let Some(Trial {
        slot,
        state: State::Failed,
        ..
    }) = &trial
    {
        let of = if *slot == Slot::A { &mut a } else { &mut b };
        of.rejected = of.rejected.map(|_| true);
    }
    let next = match table
        .zip(places)
        .map(|(table, places)| places.marked(table))
    {
        Some(Marked::One(slot)) => Ok(slot),
        Some(Marked::None) => Err("no slot is marked"),
        Some(Marked::Several) => Err("more than one partition is marked"),
        None => Err("the slots are not known"),
    };
    // A digest is rejected, even if the slot that boots next has held the same image all along.
    if let Ok(slot) = next {
        let active = if slot == Slot::A { &mut a } else { &mut b };
        active.rejected = active.rejected.map(|_| false);
    }
    if let Err(why) = next {
        faults.push(format!("{why}; possibly nothing boots"));
        missing.push(Missing {
            key: "next".into(),
            reason: why.into(),
        });
    }
    missing.extend(trial_unknown.map(|reason| Missing {
        key: "trial".into(),
        reason,
    }));
    let booted = machine.booted(tables);
    if let Err(reason) = &booted {
        missing.push(Missing {
            key: "booted".into(),
            reason: reason.clone(),
        });
    }
    let backup_lba = tables
        .backup
        .as_ref()
        .ok()
        .map(|backup| backup.header.primary_lba);
    Ok(Slots {
        changed,
        disk: machine.disk.path().display().to_string(),
        firmware: machine.slots.firmware,
        a,
        b,
        booted: booted.ok(),
        next: next.ok(),
        trial: trial.as_ref().map(|trial| trial.slot),
        trial_state: trial.map(|trial| trial.state),
        table: report::Table {
            sector_bytes: machine
                .disk
                .sector_bytes
                .or(table.map(|_| tables.sector_bytes)),
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

/// The faults of the tables.
fn faults(tables: &Tables) -> Vec<String> {
    let mut faults = Vec::new();
    if tables.protective_mbr() != Mbr::Protects {
        faults.push("there is no protective MBR".to_owned());
    }
    let of = |name: &str, fault: &dyn fmt::Display| format!("{name} table: {fault}");
    match &tables.primary {
        Err(fault) => faults.push(of("primary", fault)),
        Ok(table) => faults.extend(
            table
                .conflicts()
                .iter()
                .map(|conflict| of("primary", conflict)),
        ),
    }
    match &tables.backup {
        Err(fault) => faults.push(of("backup", fault)),
        // It agrees.
        Ok(_) if tables.agree() => {}
        Ok(table) => {
            if tables.primary.is_ok() {
                faults.push(of("backup", &"it differs from the primary one"));
            }
            faults.extend(
                table
                    .conflicts()
                    .iter()
                    .map(|conflict| of("backup", conflict)),
            );
        }
    }
    faults
}
