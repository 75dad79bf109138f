//! The partition table and its backup, as they are on a disk.
//!
//! A disk may hold anything. So headers are checked as raw bytes first (UEFI specification 2.10,
//! section 5.3), and only a valid one is parsed by gptman, which would panic on entries of 256
//! bytes, and allocate memory for as many as a header claims. The checksums cover the bytes on the
//! disk, not the parser's structures.

use std::fmt;
use std::io::{self, Cursor, Read};

use gptman::{GPTHeader, GPTPartitionEntry};
use uuid::Uuid;

use crate::disk::Disk;
use crate::neutral::ENTRY_BYTES;

/// The limit of Linux (block/partitions/efi.c, KMALLOC_MAX_SIZE).
const ARRAY_MAX_BYTES: u64 = 4 << 20;
const ENTRIES_MAX: u32 = (ARRAY_MAX_BYTES / ENTRY_BYTES as u64) as u32;
/// The length of a header; the rest of its sector is reserved.
pub const HEADER_BYTES: usize = 92;
const SIGNATURE: &[u8] = b"EFI PART";
const LENGTH_AT: usize = 12;
const CHECKSUM_AT: usize = 16;
const DISK_GUID_AT: usize = 56;
/// The offsets of the fields in which a header differs from its copy.
const MY_LBA_AT: usize = 24;
const ALTERNATE_LBA_AT: usize = 32;
const ENTRIES_LBA_AT: usize = 72;

/// Why a table is invalid or unsupported.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The reason, in words.
    why: String,
    /// The header's fields, if its checksum is right.
    pub header: Option<Intact>,
    /// Whether the table may be right for others: no part of it is broken.
    pub is_foreign: bool,
}

/// The fields of a header whose checksum is right; a backup must also name the sector that it is
/// in.
#[derive(Clone, Copy, Debug)]
pub struct Intact {
    /// The sector of its copy.
    pub copy_lba: u64,
    /// The GUID of the disk.
    pub disk_guid: Uuid,
    /// The checksum of its entries.
    pub entries: u32,
    /// Whether the entries on the disk have that checksum.
    pub has_entries: bool,
}

impl Fault {
    /// The way out.
    pub fn way_out(&self) -> &'static str {
        if self.is_foreign {
            FOREIGN
        } else {
            "run abflip repair"
        }
    }
}

/// The way out for a table that is intact but unsupported.
pub const FOREIGN: &str = "nothing of it is broken, but abflip reads only 1 to 32768 entries of 128 bytes; partition it anew";

impl From<String> for Fault {
    fn from(why: String) -> Fault {
        Fault {
            why,
            header: None,
            is_foreign: false,
        }
    }
}

impl From<&str> for Fault {
    fn from(why: &str) -> Fault {
        why.to_owned().into()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Both copies of a disk's table.
#[derive(Clone, Debug)]
pub struct Tables {
    /// The size of a logical sector; 512 for an image without any valid header, which does not
    /// record it.
    pub sector_bytes: u64,
    /// The number of sectors of the disk.
    pub sectors: u64,
    /// Sector 0.
    pub mbr: Vec<u8>,
    /// The table at LBA 1, which counts wherever it is valid.
    pub primary: Result<Table, Fault>,
    /// Its copy: where the primary's header places it, if that is intact, otherwise in the last
    /// sector.
    pub backup: Result<Table, Fault>,
}

/// The place of a partition, by the table.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its number, from 1.
    pub number: u32,
    /// Its offset.
    pub start_bytes: u64,
    /// Its length.
    pub size_bytes: u64,
}

/// A valid table: a header and its entries.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its header.
    pub header: GPTHeader,
    /// Its entries, from 0, used or not.
    pub entries: Vec<GPTPartitionEntry>,
    /// The sector that the header is in.
    pub header_sector: Vec<u8>,
    /// The entries as they are on the disk.
    pub array: Vec<u8>,
}

impl Tables {
    /// Reads both tables. Status 74 when the disk cannot be read; faults of the tables are in the
    /// result.
    pub fn read(disk: &Disk) -> anyhow::Result<Tables> {
        if let Some(known) = disk.sector_bytes {
            return Tables::read_by(disk, known);
        }
        let by_512 = Tables::read_by(disk, 512)?;
        // This size comes before one that an old table in the last sector suggests.
        let has_header = |tables: &Tables| {
            tables
                .primary
                .as_ref()
                .map_or_else(|fault| fault.header.is_some(), |_| true)
        };
        if has_header(&by_512) {
            return Ok(by_512);
        }
        let by_4096 = Tables::read_by(disk, 4096)?;
        let tells_more = has_header(&by_4096) || by_512.backup.is_err() && by_4096.backup.is_ok();
        Ok(if tells_more { by_4096 } else { by_512 })
    }

    fn read_by(disk: &Disk, sector_bytes: u64) -> anyhow::Result<Tables> {
        let sectors = disk.size_bytes / sector_bytes;
        // The minimum of UEFI: the MBR, and twice a header and 16384 bytes of entries.
        if sectors < 3 + 2 * 16384u64.div_ceil(sector_bytes) {
            let fault = || Err(Fault::from("the disk is too small for one"));
            return Ok(Tables {
                sector_bytes,
                sectors,
                mbr: Vec::new(),
                primary: fault(),
                backup: fault(),
            });
        }
        let reader = Reader {
            disk,
            sector_bytes,
            sectors,
        };
        let mbr = reader.sectors(0, 1)?;
        let primary = reader.table(1)?;
        // The header of an invalid primary table still counts if only its entries are torn. The
        // last sector may hold an older table.
        let told = match &primary {
            Ok(primary) => Some(primary.header.backup_lba),
            Err(fault) => fault
                .header
                .map(|header| header.copy_lba)
                .filter(|lba| (2..sectors).contains(lba)),
        };
        let backup = match told {
            Some(lba) => reader.table(lba)?,
            None => reader.backup_of_none(&mbr)?,
        };
        Ok(Tables {
            sector_bytes,
            sectors,
            mbr,
            primary,
            backup,
        })
    }

    /// Whether both are valid and agree.
    pub fn agree(&self) -> bool {
        matches!((&self.primary, &self.backup), (Ok(primary), Ok(backup)) if primary.has_copy(backup))
    }

    /// Why no slot may be written to or made to boot, with the way out: in one of the copies,
    /// partitions overlap or lie outside of the usable range.
    pub fn conflict(&self) -> Option<String> {
        let mut conflicts = [&self.primary, &self.backup]
            .into_iter()
            .flatten()
            .flat_map(Table::conflicts);
        conflicts
            .next()
            .map(|conflict| format!("{conflict}; partition it anew"))
    }

    /// Whether the MBR protects the table; without it Linux does not look for the table. It needs
    /// the signature, and an entry of type EE from LBA 1 on.
    pub fn protective_mbr(&self) -> Mbr {
        let Some([partitions @ .., 0x55, 0xaa]) = self.mbr.get(MBR_PARTITIONS_AT..512) else {
            return Mbr::Free;
        };
        let is_protective = |entry: &[u8]| entry[4] == PROTECTIVE;
        let mut used = partitions
            .chunks_exact(16)
            .filter(|entry| **entry != [0; 16]);
        if used
            .clone()
            .any(|entry| is_protective(entry) && entry[8..12] == [1, 0, 0, 0])
        {
            return Mbr::Protects;
        }
        if used.all(is_protective) {
            Mbr::Free
        } else {
            Mbr::Foreign
        }
    }
}

/// The state of sector 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mbr {
    /// It protects the table.
    Protects,
    /// It does not protect the table, and can be replaced: it has no partitions, or only a
    /// protective one that begins elsewhere.
    Free,
    /// It has other partitions.
    Foreign,
}

/// The offset of the partitions in an MBR.
pub const MBR_PARTITIONS_AT: usize = 446;
/// The type of the protective partition in an MBR.
const PROTECTIVE: u8 = 0xee;
/// The fault of [`Mbr::Foreign`], with the way out.
pub const FOREIGN_MBR: &str = "its MBR has partitions, and none that protects the table; if they are not needed, make a protective MBR with gdisk, x and n";

/// A disk by its sectors.
struct Reader<'a> {
    disk: &'a Disk,
    sector_bytes: u64,
    sectors: u64,
}

impl Reader<'_> {
    fn sectors(&self, lba: u64, count: u64) -> anyhow::Result<Vec<u8>> {
        self.disk.read(
            lba * self.sector_bytes,
            (count * self.sector_bytes) as usize,
        )
    }

    /// The backup of a primary table whose header is torn or missing: in the last sector, unless
    /// the rest of the header names another one. In an image on a larger disk, the MBR may give the
    /// image's length, and the table at that end may also be the backup; then none is taken.
    fn backup_of_none(&self, mbr: &[u8]) -> anyhow::Result<Result<Table, Fault>> {
        let last = self.sectors - 1;
        let at_end = self.table(last)?;
        let torn = self.sectors(1, 1)?;
        let is_within = |lba: &u64| (2..last).contains(lba);
        let copy_lba = Some(number(&torn, ALTERNATE_LBA_AT)).filter(is_within);
        let disk_guid = guid(&torn);
        for lba in copy_lba
            .into_iter()
            .chain(protected_to(mbr).filter(is_within))
        {
            let Ok(table) = self.table(lba)? else {
                continue;
            };
            if Some(lba) == copy_lba && table.disk_guid() == disk_guid {
                return Ok(Ok(table)); // Two fields agree, which tearing cannot produce.
            }
            match &at_end {
                Err(_) if Some(lba) == copy_lba => return Ok(Ok(table)),
                Err(_) => {}
                Ok(other)
                    if other.disk_guid() == table.disk_guid() && other.array == table.array => {}
                Ok(_) => {
                    return Ok(Err(format!(
                        "sectors {lba} and {last} have two tables that differ"
                    )
                    .into()));
                }
            }
        }
        // The real backup is in the sector, and of the disk, that the header names; either field
        // may be torn.
        if let (Ok(table), Some(lba)) = (
            &at_end,
            copy_lba.filter(|_| torn.starts_with(SIGNATURE) && !disk_guid.is_nil()),
        ) && table.disk_guid() != disk_guid
        {
            let why = format!(
                "the one in sector {last} is of disk {}, and the primary header names disk {disk_guid} and sector {lba}",
                table.disk_guid()
            );
            return Ok(Err(why.into()));
        }
        Ok(at_end)
    }

    /// The table whose header is in this sector of the disk.
    fn table(&self, lba: u64) -> anyhow::Result<Result<Table, Fault>> {
        let header_sector = self.sectors(lba, 1)?;
        let intact = intact(&header_sector);
        let is_here = number(&header_sector, MY_LBA_AT) == lba;
        let header = match intact.filter(|_| is_here || lba == 1) {
            Some((header, entries)) => Some(Intact {
                has_entries: self.is_sealed(entries)?,
                ..header
            }),
            None => None,
        };
        let with_header = |fault: Fault| Fault { header, ..fault };
        let header = match check_header(&header_sector, lba, self.sectors, self.sector_bytes) {
            Ok(header) => header,
            Err(fault) => {
                let is_foreign =
                    fault.is_foreign && is_here && header.is_some_and(|header| header.has_entries);
                return Ok(Err(with_header(Fault {
                    is_foreign,
                    ..fault
                })));
            }
        };
        let length = header.number_of_partition_entries as usize * ENTRY_BYTES;
        let mut array = self.sectors(
            header.partition_entry_lba,
            (length as u64).div_ceil(self.sector_bytes),
        )?;
        array.truncate(length);
        Ok(parse(header, header_sector, array).map_err(with_header))
    }

    /// Whether entries of any length match their header's checksum; not if Linux would not read
    /// them either.
    fn is_sealed(
        &self,
        Entries {
            lba,
            count,
            length,
            checksum,
        }: Entries,
    ) -> anyhow::Result<bool> {
        let bytes = u64::from(count) * u64::from(length);
        let sectors = bytes.div_ceil(self.sector_bytes);
        if bytes > ARRAY_MAX_BYTES
            || lba
                .checked_add(sectors)
                .is_none_or(|end| end > self.sectors)
        {
            return Ok(false);
        }
        let mut array = self.sectors(lba, sectors)?;
        array.truncate(bytes as usize);
        Ok(crc32fast::hash(&array) == checksum)
    }
}

/// The place of a header's entries, and whether they match it.
#[derive(Clone, Copy, Debug)]
struct Entries {
    lba: u64,
    count: u32,
    length: u32,
    checksum: u32,
}

fn number(sector: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|byte| sector[at + byte]))
}

fn guid(sector: &[u8]) -> Uuid {
    Uuid::from_bytes_le(std::array::from_fn(|byte| sector[DISK_GUID_AT + byte]))
}

/// The last sector that a protective MBR covers; `None` where it is not protective, or covers the
/// maximum of its field.
fn protected_to(mbr: &[u8]) -> Option<u64> {
    let entries = mbr.get(MBR_PARTITIONS_AT..510)?.chunks_exact(16);
    let mut protective =
        entries.filter(|entry| entry[4] == PROTECTIVE && entry[8..12] == [1, 0, 0, 0]);
    let length = u32::from_le_bytes(protective.next()?[12..16].try_into().ok()?);
    (length != u32::MAX).then_some(length.into())
}

/// The fields of a header with the right checksum, whatever its length and the rest of the table.
fn intact(sector: &[u8]) -> Option<(Intact, Entries)> {
    let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| sector[at + byte]));
    let length = half(LENGTH_AT) as usize;
    let mut sealed = sector
        .get(..length)
        .filter(|_| sector.starts_with(SIGNATURE) && length >= HEADER_BYTES)?
        .to_vec();
    sealed[CHECKSUM_AT..CHECKSUM_AT + 4].fill(0);
    let is_sealed = sector[CHECKSUM_AT..CHECKSUM_AT + 4] == crc32fast::hash(&sealed).to_le_bytes();
    let entries = Entries {
        lba: number(sector, ENTRIES_LBA_AT),
        count: half(80),
        length: half(84),
        checksum: half(88),
    };
    let copy_lba = number(sector, ALTERNATE_LBA_AT);
    let header = Intact {
        copy_lba,
        disk_guid: guid(sector),
        entries: entries.checksum,
        has_entries: false,
    };
    is_sealed.then_some((header, entries))
}

/// The entries of a header that was checked.
fn parse(header: GPTHeader, header_sector: Vec<u8>, array: Vec<u8>) -> Result<Table, Fault> {
    if crc32fast::hash(&array) != header.partition_entry_array_crc32 {
        return Err("the checksum of the entries is wrong".into());
    }
    // gptman reads the size of its own structure, which is more than it parses.
    let entries = array
        .chunks_exact(ENTRY_BYTES)
        .map(|entry| GPTPartitionEntry::read_from(&mut entry.chain(io::repeat(0))));
    let entries = entries
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Fault::from(error.to_string()))?;
    Ok(Table {
        header,
        entries,
        header_sector,
        array,
    })
}

/// Parses the header in sector `lba` of a disk, and checks every field.
fn check_header(
    sector: &[u8],
    lba: u64,
    sectors: u64,
    sector_bytes: u64,
) -> Result<GPTHeader, Fault> {
    if !sector.starts_with(SIGNATURE) {
        return Err("there is no header".into());
    }
    let foreign = |why: String| Fault {
        is_foreign: true,
        ..why.into()
    };
    let size = u32::from_le_bytes([sector[12], sector[13], sector[14], sector[15]]);
    if size as usize != HEADER_BYTES {
        return Err(foreign(format!(
            "the header is {size} bytes long, not {HEADER_BYTES}"
        )));
    }
    let header = GPTHeader::read_from(&mut Cursor::new(sector)).map_err(|error| match error {
        gptman::Error::InvalidChecksum(..) => "the checksum of the header is wrong".to_owned(),
        gptman::Error::InvalidRevision => "the header is not of revision 1.0".to_owned(),
        other => other.to_string(),
    })?;
    if header.primary_lba != lba {
        return Err(format!("the header is of sector {}, not {lba}", header.primary_lba).into());
    }
    if header.size_of_partition_entry as usize != ENTRY_BYTES {
        return Err(foreign(format!(
            "entries are {} bytes long, not {ENTRY_BYTES}",
            header.size_of_partition_entry
        )));
    }
    let count = header.number_of_partition_entries;
    if !(1..=ENTRIES_MAX).contains(&count) {
        return Err(foreign(format!(
            "it has {count} entries, not 1 to {ENTRIES_MAX}"
        )));
    }
    let array_sectors = (u64::from(count) * ENTRY_BYTES as u64).div_ceil(sector_bytes);
    let (first, last, entries) = (
        header.first_usable_lba,
        header.last_usable_lba,
        header.partition_entry_lba,
    );
    if first > last || last >= sectors {
        return Err(
            format!("it is for sectors {first} to {last}, and the disk has {sectors}").into(),
        );
    }
    if header.backup_lba >= sectors || header.backup_lba == lba {
        return Err(format!(
            "its copy is said to be in sector {}, and the disk has {sectors}",
            header.backup_lba
        )
        .into());
    }
    if header.backup_lba >= first && header.backup_lba <= last {
        return Err(format!(
            "its copy is said to be in sector {}, among the partitions",
            header.backup_lba
        )
        .into());
    }
    // The entries lie before or after the partitions, never in the header's own sector.
    let (from, to) = if lba < first {
        (lba + 1, first)
    } else {
        (last.saturating_add(1), lba)
    };
    if lba >= first && lba <= last
        || entries < from
        || entries
            .checked_add(array_sectors)
            .is_none_or(|end| end > to)
    {
        return Err(format!(
            "its entries, in sector {entries}, are not between sectors {from} and {to}"
        )
        .into());
    }
    Ok(header)
}

impl Table {
    /// The GUID of the disk.
    pub fn disk_guid(&self) -> Uuid {
        Uuid::from_bytes_le(self.header.disk_guid)
    }

    /// The used entries with their index, from 0. The indexes may have gaps.
    pub fn used(&self) -> impl Iterator<Item = (usize, &GPTPartitionEntry)> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.is_used())
    }

    /// The conflicts that forbid writing by this table, in words: partitions that overlap, or lie
    /// outside of the range between the copies of the table. Linux accepts such a table, and a
    /// write to one partition then damages another.
    pub fn conflicts(&self) -> Vec<String> {
        let (first, last) = (self.header.first_usable_lba, self.header.last_usable_lba);
        let mut conflicts = Vec::new();
        let mut ranges: Vec<(u64, u64, usize)> = self
            .used()
            .map(|(index, entry)| (entry.starting_lba, entry.ending_lba, index + 1))
            .collect();
        for (start, end, number) in ranges
            .iter()
            .filter(|(start, end, _)| start > end || *start < first || *end > last)
        {
            conflicts
                .push(format!("partition {number}, sectors {start} to {end}, does not lie between sectors {first} and {last}"));
        }
        ranges.sort_unstable();
        // The partition that reaches furthest of those that begin earlier: a partition that
        // overlaps any of them overlaps it.
        let mut reach: Option<(u64, usize)> = None;
        for (start, end, number) in ranges {
            if let Some((_, other)) = reach.filter(|(reach, _)| start <= *reach) {
                conflicts.push(format!(
                    "partitions {} and {} overlap",
                    other.min(number),
                    other.max(number)
                ));
            }
            reach = reach.max(Some((end, number)));
        }
        conflicts
    }

    /// The place of the partition of an entry, from 0.
    pub fn place(&self, index: usize, sector_bytes: u64) -> Place {
        let (first, last) = (
            self.entries[index].starting_lba,
            self.entries[index].ending_lba,
        );
        let size_bytes = (last - first + 1) * sector_bytes;
        Place {
            number: index as u32 + 1,
            start_bytes: first * sector_bytes,
            size_bytes,
        }
    }

    /// The whole entries in a sector of the array, from 0.
    pub fn sector(&self, sector: usize, sector_bytes: u64) -> &[u8] {
        self.array
            .chunks(sector_bytes as usize)
            .nth(sector)
            .unwrap_or_default()
    }

    /// Whether `backup` is the copy of this table.
    fn has_copy(&self, backup: &Table) -> bool {
        let expected = self.header_at(backup.header.primary_lba, backup.header.partition_entry_lba);
        expected.is_ok_and(|header| header[..HEADER_BYTES] == backup.header_sector[..HEADER_BYTES])
            && self.array == backup.array
    }

    /// The header of this table's other copy, at `lba` and with its entries at `entries_lba`; a
    /// whole sector.
    pub fn header_at(&self, lba: u64, entries_lba: u64) -> Result<Vec<u8>, String> {
        if lba == self.header.primary_lba {
            return Err(format!("both copies are said to be in sector {lba}"));
        }
        let mut sector = self.header_sector.clone();
        for (at, value) in [
            (MY_LBA_AT, lba),
            (ALTERNATE_LBA_AT, self.header.primary_lba),
            (ENTRIES_LBA_AT, entries_lba),
        ] {
            sector[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        seal(&mut sector);
        Ok(sector)
    }
}

/// The entries' sector by a header that need not be valid; `None` without a header.
pub fn header_entries_lba(header: &[u8]) -> Option<u64> {
    let bytes = header
        .get(ENTRIES_LBA_AT..ENTRIES_LBA_AT + 8)?
        .try_into()
        .ok()?;
    header
        .starts_with(SIGNATURE)
        .then_some(u64::from_le_bytes(bytes))
}

/// Puts the right checksum into a header.
pub fn seal(sector: &mut [u8]) {
    sector[CHECKSUM_AT..CHECKSUM_AT + 4].fill(0);
    let checksum = crc32fast::hash(&sector[..HEADER_BYTES]);
    sector[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
}

#[cfg(test)]
mod tests;
