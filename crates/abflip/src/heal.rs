//! One copy of the table made from the other, if both can be of the same table: what takes the
//! place of a copy is gone for good.
//!
//! A disk may have been another machine's before, and the table that it had then may lie in its
//! last sector still, valid.

use uuid::Uuid;

use crate::gpt::{Fault, HEADER_BYTES, Table, Tables, header_entries_lba};
use crate::machine::Machine;
use crate::slots::Places;
use crate::writes::Change;

/// What makes the backup say what the primary table says. The error says why that cannot be, with
/// the way out.
///
/// Nobody reads the backup while the primary is valid, so it may be half written at any time.
pub fn backup(machine: &Machine, tables: &Tables, primary: &Table) -> Result<Vec<Change>, String> {
    check(
        machine,
        tables,
        ("primary", primary),
        ("backup", &tables.backup),
    )?;
    let lba = primary.header.backup_lba;
    let sectors = array_sectors(primary, tables.sector_bytes);
    // A backup that is valid says where its entries are, but not what else is on the disk: that,
    // the primary says.
    let fits = |entries: &u64| {
        *entries > primary.header.last_usable_lba
            && entries.checked_add(sectors).is_some_and(|end| end <= lba)
    };
    let own = tables
        .backup
        .as_ref()
        .ok()
        .map(|backup| backup.header.partition_entry_lba);
    // Else right in front of the header, where everybody puts them.
    let entries_lba = own.filter(fits).or(lba.checked_sub(sectors).filter(fits)).ok_or_else(|| {
        format!("there is no room for {sectors} sectors of entries between the partitions and sector {lba}; partition it anew")
    })?;
    let header = primary.header_at(lba, entries_lba)?;
    Ok(vec![
        Change {
            what: "the entries of the backup table",
            offset: entries_lba * tables.sector_bytes,
            bytes: primary.array.clone(),
        },
        Change {
            what: "the header of the backup table",
            offset: lba * tables.sector_bytes,
            bytes: header[..HEADER_BYTES].to_vec(),
        },
    ])
}

/// What makes the primary table, which is not valid, say what the backup says. The error says why
/// that cannot be, with the way out.
///
/// The header comes last: before that the table is as little valid as it was.
pub fn primary(
    machine: &Machine,
    tables: &Tables,
    backup: &Table,
) -> anyhow::Result<Result<Vec<Change>, String>> {
    if backup.header.backup_lba != 1 {
        let of = backup.header.backup_lba;
        return Ok(Err(format!(
            "the backup says that it is one of a table in sector {of}, not 1; {BY_HAND}"
        )));
    }
    if let Err(why) = check(
        machine,
        tables,
        ("backup", backup),
        ("primary", &tables.primary),
    ) {
        return Ok(Err(why));
    }
    // Entries that are what their header says are not what is broken; and what it does not tell of
    // need not be its copy.
    if let Some(header) = tables.primary.as_ref().err().and_then(|fault| fault.header)
        && header.entries != backup.header.partition_entry_array_crc32
        && (header.has_entries || header.copy_lba != backup.header.primary_lba)
    {
        return Ok(Err(format!(
            "the backup table has other entries than the header of the primary one expects; {BY_HAND}"
        )));
    }
    let sectors = array_sectors(backup, tables.sector_bytes);
    let fits = |entries: &u64| {
        *entries >= 2
            && entries
                .checked_add(sectors)
                .is_some_and(|end| end <= backup.header.first_usable_lba)
    };
    // Some boards have a loader at LBA 2, and the entries behind it. What is left of the header
    // tells.
    let old = machine.disk.read(tables.sector_bytes, HEADER_BYTES)?;
    let Some(entries_lba) = header_entries_lba(&old)
        .filter(fits)
        .or(Some(2).filter(fits))
    else {
        return Ok(Err(format!(
            "there is no room for {sectors} sectors of entries in front of the partitions; {BY_HAND}"
        )));
    };
    let header = match backup.header_at(1, entries_lba) {
        Ok(header) => header,
        Err(fault) => return Ok(Err(fault)),
    };
    Ok(Ok(vec![
        Change {
            what: "the entries of the primary table",
            offset: entries_lba * tables.sector_bytes,
            bytes: backup.array.clone(),
        },
        Change {
            what: "the header of the primary table",
            offset: tables.sector_bytes,
            bytes: header[..HEADER_BYTES].to_vec(),
        },
    ]))
}

const BY_HAND: &str =
    "look at both tables with gdisk, and restore the right one by its menu for recovery";

/// Whether a valid copy may take the place of the other one: it has the slots, and can be this
/// disk's, by what else is known of that.
fn check(
    machine: &Machine,
    tables: &Tables,
    (name, table): (&str, &Table),
    (other_name, other): (&str, &Result<Table, Fault>),
) -> Result<(), String> {
    let guid = table.disk_guid();
    let strange = |why: String| {
        Err(format!(
            "the {name} table can be another disk's: {why}; {BY_HAND}"
        ))
    };
    if let Err(fault) = Places::find(table, &machine.slots) {
        return strange(fault);
    }
    if let Some(conflict) = table.conflicts().first() {
        return Err(format!("the {name} table: {conflict}; {BY_HAND}"));
    }
    let beside: Option<Uuid> = match other {
        Ok(other) => Some(other.disk_guid()),
        Err(fault) => fault.header.map(|header| header.disk_guid),
    };
    if let Some(beside) = beside.filter(|beside| *beside != guid) {
        return strange(format!(
            "it is of disk {guid}, and the header of the {other_name} one of disk {beside}"
        ));
    }
    let recorded = machine.records.disk_guids();
    if !recorded.is_empty() && !recorded.contains(&guid) {
        return strange(format!(
            "it is of disk {guid}, and slots.json names disk {}",
            recorded[0]
        ));
    }
    if !machine.runs_by(table, tables.sector_bytes) {
        return strange("it has no partition where the root is that runs".into());
    }
    Ok(())
}

fn array_sectors(table: &Table, sector_bytes: u64) -> u64 {
    (table.array.len() as u64).div_ceil(sector_bytes)
}
