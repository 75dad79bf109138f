//! One copy of the table made from the other.

use crate::disk::Disk;
use crate::gpt::{HEADER_BYTES, Table, Tables, header_entries_lba};
use crate::writes::Change;

/// What makes the backup say what the primary table says. The error says why that cannot be.
///
/// Nobody reads the backup while the primary is valid, so it may be half written at any time.
pub fn backup(tables: &Tables, primary: &Table) -> Result<Vec<Change>, String> {
    let lba = primary.header.backup_lba;
    let sectors = array_sectors(primary, tables.sector_bytes);
    // A backup that is valid says where its entries are, but not what else is on the disk: that, the primary says.
    let fits =
        |entries: &u64| *entries > primary.header.last_usable_lba && entries.checked_add(sectors).is_some_and(|end| end <= lba);
    let own = tables.backup.as_ref().ok().map(|backup| backup.header.partition_entry_lba);
    // Else right in front of the header, where everybody puts them.
    let entries_lba = own
        .filter(fits)
        .or(lba.checked_sub(sectors).filter(fits))
        .ok_or_else(|| format!("there is no room for {sectors} sectors of entries between the partitions and sector {lba}"))?;
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

/// What makes the primary table, which is not valid, say what the backup says. The error says why that cannot be.
///
/// The header comes last: before that the table is as little valid as it was.
pub fn primary(disk: &Disk, tables: &Tables, backup: &Table) -> anyhow::Result<Result<Vec<Change>, String>> {
    if backup.header.backup_lba != 1 {
        return Ok(Err(format!("the backup says that it is one of a table in sector {}, not 1", backup.header.backup_lba)));
    }
    let sectors = array_sectors(backup, tables.sector_bytes);
    let fits =
        |entries: &u64| *entries >= 2 && entries.checked_add(sectors).is_some_and(|end| end <= backup.header.first_usable_lba);
    // Some boards have a loader at LBA 2, and the entries behind it. What is left of the header tells.
    let old = disk.read(tables.sector_bytes, HEADER_BYTES)?;
    let Some(entries_lba) = header_entries_lba(&old).filter(fits).or(Some(2).filter(fits)) else {
        return Ok(Err(format!("there is no room for {sectors} sectors of entries in front of the partitions")));
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
        Change { what: "the header of the primary table", offset: tables.sector_bytes, bytes: header[..HEADER_BYTES].to_vec() },
    ]))
}

fn array_sectors(table: &Table, sector_bytes: u64) -> u64 {
    (table.array.len() as u64).div_ceil(sector_bytes)
}
