//! Restores one copy of the table from the other, if both can belong to the same table: the
//! replaced copy is lost for good.
//!
//! A disk may have belonged to another machine, whose valid old table may still be in its last
//! sector.

use uuid::Uuid;

use crate::gpt::{Fault, HEADER_BYTES, Table, Tables, header_entries_lba};
use crate::machine::Machine;
use crate::slots::Places;
use crate::writes::Change;

/// The changes that make the backup agree with the primary table. The error states why it cannot be
/// restored, with the way out.
///
/// The backup is not read while the primary is valid, so it may be half written at any time.
pub fn backup(machine: &Machine, tables: &Tables, primary: &Table) -> Result<Vec<Change>, String> {
    check(
        machine,
        tables,
        ("primary", primary),
        ("backup", &tables.backup),
    )?;
    let lba = primary.header.backup_lba;
    let sectors = array_sectors(primary, tables.sector_bytes);
    // A valid backup names the place of its entries, but only the primary knows the other contents
    // of the disk.
    let fits = |entries: &u64| {
        *entries > primary.header.last_usable_lba
            && entries.checked_add(sectors).is_some_and(|end| end <= lba)
    };
    let own = tables
        .backup
        .as_ref()
        .ok()
        .map(|backup| backup.header.partition_entry_lba);
    // Otherwise directly in front of the header, the usual place.
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

/// The changes that restore an invalid primary table from the backup. The error states why it
/// cannot be restored, with the way out.
///
/// The header comes last: until then the table stays invalid.
pub fn primary(
    machine: &Machine,
    tables: &Tables,
    backup: &Table,
) -> anyhow::Result<Result<Vec<Change>, String>> {
    if backup.header.backup_lba != 1 {
        let of = backup.header.backup_lba;
        return Ok(Err(format!(
            "the backup names a primary table in sector {of}, not 1; {BY_HAND}"
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
    // Entries that match their header are not the broken part; and a backup that such a header does
    // not describe need not be its copy.
    if let Some(header) = tables.primary.as_ref().err().and_then(|fault| fault.header)
        && header.entries != backup.header.partition_entry_array_crc32
        && (header.has_entries || header.copy_lba != backup.header.primary_lba)
    {
        return Ok(Err(format!(
            "the entries of the backup table are not those that the primary header expects; {BY_HAND}"
        )));
    }
    let sectors = array_sectors(backup, tables.sector_bytes);
    let fits = |entries: &u64| {
        *entries >= 2
            && entries
                .checked_add(sectors)
                .is_some_and(|end| end <= backup.header.first_usable_lba)
    };
    // Some boards have a loader at LBA 2, and the entries behind it. The rest of the old header
    // gives their place.
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

/// Checks that a valid copy may replace the other one: it has the slots, and everything else that
/// is known of the disk fits.
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
        return strange("it has no partition at the place of the running root".into());
    }
    Ok(())
}

fn array_sectors(table: &Table, sector_bytes: u64) -> u64 {
    (table.array.len() as u64).div_ceil(sector_bytes)
}
