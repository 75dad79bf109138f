//! The partition table and its backup, as they are on a disk.
//!
//! A disk may hold anything. So headers are checked as raw bytes first (UEFI specification 2.10,
//! section 5.3), and only what passed is parsed, by gptman: it would panic on entries of 256 bytes,
//! and reserve memory for as many as a header claims. The checksums are over the bytes on the disk,
//! not over what a parser makes of them.

use std::fmt;
use std::io::{self, Cursor, Read};

use gptman::{GPTHeader, GPTPartitionEntry};
use uuid::Uuid;

use crate::disk::Disk;
use crate::neutral::ENTRY_BYTES;

/// As much as Linux reads (block/partitions/efi.c, KMALLOC_MAX_SIZE).
const ARRAY_MAX_BYTES: u64 = 4 << 20;
const ENTRIES_MAX: u32 = (ARRAY_MAX_BYTES / ENTRY_BYTES as u64) as u32;
/// How long a header is; the rest of its sector is nothing.
pub const HEADER_BYTES: usize = 92;
const SIGNATURE: &[u8] = b"EFI PART";
const LENGTH_AT: usize = 12;
const CHECKSUM_AT: usize = 16;
const DISK_GUID_AT: usize = 56;
/// The offsets of what a header has other than its copy.
const MY_LBA_AT: usize = 24;
const ALTERNATE_LBA_AT: usize = 32;
const ENTRIES_LBA_AT: usize = 72;

/// Why a table is not valid, or not one that is read here.
#[derive(Clone, Debug)]
pub struct Fault {
    /// In words.
    why: String,
    /// What its header says, where that is as it was written.
    pub header: Option<Intact>,
    /// Whether the table may be right for others: nothing of it is broken.
    pub is_foreign: bool,
}

/// What a header says whose checksum is right; that of a backup is about the sector that it is in,
/// too.
#[derive(Clone, Copy, Debug)]
pub struct Intact {
    /// Where its copy is.
    pub copy_lba: u64,
    /// The GUID of the disk.
    pub disk_guid: Uuid,
    /// The checksum of its entries.
    pub entries: u32,
    /// Whether the entries are there that have it.
    pub has_entries: bool,
}

impl Fault {
    /// What can be done about it.
    pub fn way_out(&self) -> &'static str {
        if self.is_foreign {
            FOREIGN
        } else {
            "run abflip repair"
        }
    }
}

/// What can be done about a table that is not broken, and yet not read here.
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
    /// The size of a logical sector. Of an image without any valid header, which does not tell,
    /// 512.
    pub sector_bytes: u64,
    /// How many sectors the disk has.
    pub sectors: u64,
    /// Sector 0.
    pub mbr: Vec<u8>,
    /// The one at LBA 1, which counts wherever it is valid.
    pub primary: Result<Table, Fault>,
    /// Its copy: where the primary's header says, if that is intact, or else in the last sector.
    pub backup: Result<Table, Fault>,
}

/// Where a partition is, by the table.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its number, from 1.
    pub number: u32,
    /// Where it begins.
    pub start_bytes: u64,
    /// How long it is.
    pub size_bytes: u64,
}

/// A valid table: a header, and the entries that it stands for.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its header.
    pub header: GPTHeader,
    /// Its entries, the first one at 0; used or not.
    pub entries: Vec<GPTPartitionEntry>,
    /// The sector that the header is in.
    pub header_sector: Vec<u8>,
    /// The entries as they are on the disk.
    pub array: Vec<u8>,
}

impl Tables {
    /// Reads them. Status 74 when the disk cannot be read; what is wrong with the tables is said in
    /// them.
    pub fn read(disk: &Disk) -> anyhow::Result<Tables> {
        if let Some(known) = disk.sector_bytes {
            return Tables::read_by(disk, known);
        }
        let by_512 = Tables::read_by(disk, 512)?;
        // Before what may be in the last sector from another time.
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
        // What UEFI wants at least: the MBR, and twice a header and 16384 bytes of entries.
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
        // A primary that is not valid tells, too, if only its entries are torn. In the last sector
        // there may be what somebody had before.
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

    /// Whether both are valid and say the same.
    pub fn agree(&self) -> bool {
        matches!((&self.primary, &self.backup), (Ok(primary), Ok(backup)) if primary.has_copy(backup))
    }

    /// Why no slot is to be written to or made to boot, with the way out: partitions overlap, or
    /// lie where none may, by one of both copies.
    pub fn conflict(&self) -> Option<String> {
        let mut conflicts = [&self.primary, &self.backup]
            .into_iter()
            .flatten()
            .flat_map(Table::conflicts);
        conflicts
            .next()
            .map(|conflict| format!("{conflict}; partition it anew"))
    }

    /// Whether the MBR protects the table, without which Linux does not look for it: the signature,
    /// and an entry of type EE from LBA 1 on.
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

/// How sector 0 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mbr {
    /// It protects the table.
    Protects,
    /// It does not, and nothing in it is anybody's: no partitions, or one that is to protect a
    /// table, and begins elsewhere.
    Free,
    /// It has partitions of its own.
    Foreign,
}

/// Where the partitions of an MBR are.
pub const MBR_PARTITIONS_AT: usize = 446;
/// The type of a partition in an MBR that protects a table.
const PROTECTIVE: u8 = 0xee;
/// What is said of [`Mbr::Foreign`], with the way out.
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

    /// The backup of a primary table whose header is torn, or gone: in the last sector, unless what
    /// is left of the header tells of another one. Of an image on a larger disk, the MBR may say
    /// how long the image is: what ends there may be the backup as well, and then there is none to
    /// be taken.
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
                return Ok(Ok(table)); // By two fields, which nobody has torn into these.
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
        // Its own would be where the header says, and of the disk that it says; one of both may be
        // what is torn.
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

    /// Whether entries, of whatever length, are what their header says; not, where Linux would not
    /// read them either.
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

/// Where entries are by a header, and how they are.
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

/// The last sector that a protective MBR covers; `None` where it is not one, or covers more than it
/// can say.
fn protected_to(mbr: &[u8]) -> Option<u64> {
    let entries = mbr.get(MBR_PARTITIONS_AT..510)?.chunks_exact(16);
    let mut protective =
        entries.filter(|entry| entry[4] == PROTECTIVE && entry[8..12] == [1, 0, 0, 0]);
    let length = u32::from_le_bytes(protective.next()?[12..16].try_into().ok()?);
    (length != u32::MAX).then_some(length.into())
}

/// What a header says, if its checksum is right, whatever its length and whatever becomes of the
/// rest.
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
    // gptman reads as many bytes as its own structure has, which are more than it parses.
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

/// A header in the sector `lba` of a disk, if nothing can be said against it.
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
    // In front of the partitions or behind them, and never in the header's own sector.
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

    /// The used entries with their index, from 0. There may be gaps between them.
    pub fn used(&self) -> impl Iterator<Item = (usize, &GPTPartitionEntry)> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.is_used())
    }

    /// What makes it a table by which nothing may be written, in words: partitions that overlap, or
    /// do not lie where partitions may, between both copies of the table. Linux takes such a table,
    /// and then a write to one partition is one to the other.
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
        // The one that reaches furthest of those that begin before: whatever overlaps one of them
        // overlaps it.
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

    /// Where the partition of an entry, from 0, is on the disk.
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

    /// The entries in a sector of the array, from 0; whole ones.
    pub fn sector(&self, sector: usize, sector_bytes: u64) -> &[u8] {
        self.array
            .chunks(sector_bytes as usize)
            .nth(sector)
            .unwrap_or_default()
    }

    /// Whether `backup` is the copy of this.
    fn has_copy(&self, backup: &Table) -> bool {
        let expected = self.header_at(backup.header.primary_lba, backup.header.partition_entry_lba);
        expected.is_ok_and(|header| header[..HEADER_BYTES] == backup.header_sector[..HEADER_BYTES])
            && self.array == backup.array
    }

    /// The header of the other copy of this table, which stands at `lba` and has its entries at
    /// `entries_lba`; a whole sector.
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

/// Where the entries are by a header that need not be valid; `None` when it is none at all.
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
