//! `abflip repair`: makes both tables valid and equal, with one slot marked.

use std::path::Path;

use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Pipe, signals};

use crate::TOOL;
use crate::gpt::{FOREIGN, FOREIGN_MBR, MBR_PARTITIONS_AT, Mbr, Table, Tables};
use crate::loader::{self, Loader};
use crate::machine::{self, Machine};
use crate::neutral::{self, NO_ROOM, NoRoom};
use crate::request::Slot;
use crate::slots::{Marked, Places};
use crate::status::{self, Content};
use crate::writes::{self, Change, Failure};
use crate::{heal, trial};

/// The flags of `repair`.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The slot to mark, where both are marked or none is.
    pub active: Option<Slot>,
    /// Write nothing.
    pub dry_run: bool,
}

/// Repairs everything repairable, and reports each repair on standard error; a dry run only
/// reports. Status 1 when a fault remains.
pub fn repair(
    common: &Common,
    pipe: &Pipe,
    disk: Option<&Path>,
    options: Options,
) -> anyhow::Result<Answer> {
    let ending_signals = signals::defer()?;
    let _lock = if options.dry_run {
        None
    } else {
        Some(machine::lock(common)?)
    };
    let machine = Machine::open_to_change(common, disk, options.dry_run)?;
    let path = machine.disk.path().display();
    let tables = Tables::read(&machine.disk)?;
    let changes = plan(common, &machine, &tables, options)?;
    for change in &changes {
        let doing = if options.dry_run {
            "would write"
        } else {
            "writing"
        };
        pipe.warn(format_args!("{doing} {} of {path}", change.what));
    }
    let (mut failed, mut after) = (None, None);
    if !options.dry_run {
        let check = || {
            let tables = Tables::read(&machine.disk)?;
            let is_whole = tables.agree() && tables.protective_mbr() == Mbr::Protects;
            is_whole.then_some(tables).exit(Exit::Io, || {
                format!("verifying {path}: its tables are not as they were written")
            })
        };
        match writes::make(&machine.disk, &changes, check) {
            Ok(tables) => after = Some(tables),
            Err(Failure::Undone(error)) => return Err(error),
            Err(Failure::Stays(error)) => failed = Some(error),
        }
    }
    let changed = !changes.is_empty();
    let left = after.or_else(|| {
        failed
            .as_ref()
            .and_then(|_| Tables::read(&machine.disk).ok())
    });
    let report = status::report(
        &machine,
        &left.unwrap_or(tables),
        changed,
        Content::Recorded,
    )?;
    if let Some(error) = &failed {
        pipe.warn(format_args!("{error:#}"));
    }
    let mut document = Document::default();
    document.set(TOOL.section, &report)?;
    let answer = if report.table.faults.is_empty() && failed.is_none() {
        Answer::yes(document)
    } else {
        Answer::no(document)
    };
    Ok(answer
        .staying(changed && !options.dry_run)
        .holding(ending_signals))
}

/// Plans the changes that make both tables valid and equal, protect them, and mark the named slot.
/// All checks are made here, before anything is written.
fn plan(
    common: &Common,
    machine: &Machine,
    tables: &Tables,
    options: Options,
) -> anyhow::Result<Vec<Change>> {
    let refuse = |why: String| {
        Exit::Config.error(format_args!(
            "refusing to repair {}: {why}",
            machine.disk.path().display()
        ))
    };
    let entries_at = |table: &Table| table.header.partition_entry_lba * tables.sector_bytes;
    // The table that counts, the changes that make the other one agree, and the place of the
    // entries of each.
    let (table, mut changes, places) = match (&tables.primary, &tables.backup) {
        (Err(primary), Err(backup)) => {
            let is_foreign = primary.is_foreign || backup.is_foreign;
            let way_out = if is_foreign {
                FOREIGN
            } else {
                "restore one from a copy, with sgdisk -l"
            };
            return Err(refuse(format!(
                "neither table is valid (primary: {primary}; backup: {backup}); {way_out}"
            )));
        }
        (Ok(primary), Ok(backup)) if tables.agree() => (
            primary,
            Vec::new(),
            [entries_at(backup), entries_at(primary)],
        ),
        (Ok(primary), _) => {
            let changes = heal::backup(machine, tables, primary).map_err(refuse)?;
            let healed = changes[0].offset;
            (primary, changes, [healed, entries_at(primary)])
        }
        (Err(fault), Ok(_)) if fault.is_foreign => {
            return Err(refuse(format!(
                "its primary table is not valid ({fault}); {FOREIGN}"
            )));
        }
        (Err(_), Ok(backup)) => {
            let changes = heal::primary(machine, tables, backup)?.map_err(refuse)?;
            let healed = changes[0].offset;
            (backup, changes, [entries_at(backup), healed])
        }
    };
    match tables.protective_mbr() {
        Mbr::Protects => {}
        Mbr::Free => changes.push(protective_mbr(tables)),
        Mbr::Foreign => return Err(refuse(FOREIGN_MBR.into())),
    }
    if let Some(active) = options.active {
        let found = Places::find(table, &machine.slots).map_err(refuse)?;
        let marks = marks(table, &found, active, tables.sector_bytes).map_err(refuse)?;
        if !marks.is_empty() {
            if let Some(conflict) = tables.conflict() {
                return Err(refuse(conflict));
            }
            check_starts(common, machine, tables, (table, &found), active)?;
            changes.extend(trial::disarming(
                machine,
                table,
                found,
                active,
                tables.sector_bytes,
            )?);
        }
        for (at, bytes) in marks {
            for (what, entries) in [
                "the marks in the backup table",
                "the marks in the primary table",
            ]
            .into_iter()
            .zip(places)
            {
                changes.push(Change {
                    what,
                    offset: entries + at,
                    bytes: bytes.clone(),
                });
            }
        }
    }
    Ok(changes)
}

/// Where both slots are marked, either may boot. A slot may only be marked instead if it has a
/// loader; the running slot has one.
fn check_starts(
    common: &Common,
    machine: &Machine,
    tables: &Tables,
    (table, places): (&Table, &Places),
    slot: Slot,
) -> anyhow::Result<()> {
    if machine.booted(tables) == Ok(slot) {
        return Ok(());
    }
    let doing = format!("refusing to repair {}", machine.disk.path().display());
    let way_out = "name the other slot, or mark it by hand, with sgdisk -A";
    let refuse = |why: &str| Exit::Config.error(format_args!("{doing}: {why}; {way_out}"));
    if machine
        .records
        .of(slot, machine.partuuid(slot), table.disk_guid())
        .is_none()
    {
        return Err(refuse(&format!(
            "no verified write of slot {slot} is recorded"
        )));
    }
    match loader::find(common, machine, tables, (table, places), slot)? {
        Loader::There => Ok(()),
        Loader::Missing(why) => Err(refuse(&why)),
        Loader::Unknown(error) => Err(error.context(doing)),
    }
}

/// The protective MBR (UEFI specification 2.10, table 5.4). The boot code in front of it stays.
fn protective_mbr(tables: &Tables) -> Change {
    let mut bytes = vec![0; 66];
    bytes[..8].copy_from_slice(&[0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff]);
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    let length = u32::try_from(tables.sectors - 1).unwrap_or(u32::MAX);
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    bytes[64..].copy_from_slice(&[0x55, 0xaa]);
    Change {
        what: "the protective MBR",
        offset: MBR_PARTITIONS_AT as u64,
        bytes,
    }
}

/// The changes that mark the named slot, by their offset in the entries.
fn marks(
    table: &Table,
    places: &Places,
    active: Slot,
    sector_bytes: u64,
) -> Result<Vec<(u64, Vec<u8>)>, String> {
    match places.marked(table) {
        Marked::One(slot) if slot == active => return Ok(Vec::new()),
        Marked::One(slot) => {
            return Err(format!(
                "slot {slot} is marked, which needs no repair; see abflip flip"
            ));
        }
        Marked::None | Marked::Several => {}
    }
    let toggles = places.toggles(table, active, sector_bytes).into_iter();
    toggles
        .map(|(sector, toggles)| {
            let at = sector * sector_bytes as usize;
            let bytes = neutral::toggle(table.sector(sector, sector_bytes), &toggles)
                .map_err(|NoRoom| NO_ROOM.to_owned())?;
            Ok((at as u64, bytes))
        })
        .collect()
}
