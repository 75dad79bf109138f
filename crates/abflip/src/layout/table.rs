//! The partition table of a disk, made by gptman and written so that a cut at any place leaves a
//! disk that is known to be a layout's.

use std::fs::File;
use std::os::unix::fs::FileExt;

use gptman::{GPT, GPTPartitionEntry};
use jsonpipe::{Exit, ExitContext, sabotaged};
use nix::sys::memfd::{MFdFlags, memfd_create};
use uuid::Uuid;

use super::document::Wanted;
use super::part::Part;
use super::plan::{MIB, Placed};
use crate::disk::Disk;
use crate::gpt::Tables;
use crate::request::Firmware;

/// Both ends of a partitioned disk.
#[derive(Debug)]
pub struct Ends {
    sector_bytes: usize,
    /// The first MiB: the protective MBR without boot code, the primary header, the entries.
    head: Vec<u8>,
    /// The rest from here on: the entries and the header of the backup.
    tail: Vec<u8>,
    tail_at: u64,
}

impl Ends {
    /// The ends of a disk of this size with these partitions.
    ///
    /// Slot b is marked: it is the one that `abflip write` does not write to while nothing runs. So
    /// the first image goes to slot a, and only `abflip flip` makes that one boot.
    pub fn of(
        (size_bytes, sector_bytes): (u64, u64),
        guid: Uuid,
        wanted: &Wanted,
        places: &[Placed],
        firmware: Firmware,
    ) -> anyhow::Result<Ends> {
        let making = || "making a partition table";
        // gptman works on a file as long as the disk; this one is in memory, and nearly all hole.
        let file = memfd_create("partition-table", MFdFlags::MFD_CLOEXEC);
        let mut file = File::from(file.exit(Exit::Software, making)?);
        let size_bytes = size_bytes - size_bytes % sector_bytes;
        file.set_len(size_bytes).exit(Exit::Software, making)?;
        let mut gpt = GPT::new_from(&mut file, sector_bytes, guid.to_bytes_le())
            .exit(Exit::Software, making)?;
        let marked = match firmware {
            Firmware::Bios => Part::RootB,
            Firmware::Uefi => Part::EspA, // hidden
        };
        for (number, place) in (1..).zip(places) {
            let wanted = wanted.of(place.part).exit(Exit::Software, making)?;
            let kind: Uuid = place
                .part
                .type_guid()
                .parse()
                .exit(Exit::Software, making)?;
            let end = place.start_bytes + place.size_bytes;
            gpt[number] = GPTPartitionEntry {
                partition_type_guid: kind.to_bytes_le(),
                unique_partition_guid: wanted.partuuid.to_bytes_le(),
                starting_lba: place.start_bytes / sector_bytes,
                ending_lba: end / sector_bytes - 1,
                attribute_bits: u64::from(place.part == marked) << firmware.bit(),
                partition_name: place.part.name().into(),
            };
        }
        gpt.write_into(&mut file).exit(Exit::Software, making)?;
        GPT::write_protective_mbr_into(&mut file, sector_bytes).exit(Exit::Software, making)?;

        let tail_at = (size_bytes / MIB - 1) * MIB;
        let read = |start: u64, end: u64| {
            let mut bytes = vec![0; (end - start) as usize];
            file.read_exact_at(&mut bytes, start).map(|()| bytes)
        };
        Ok(Ends {
            sector_bytes: sector_bytes as usize,
            head: read(0, MIB).exit(Exit::Software, making)?,
            tail: read(tail_at, size_bytes).exit(Exit::Software, making)?,
            tail_at,
        })
    }

    /// Writes the table, and clears the first and the last MiB of each partition, where an earlier
    /// file system may have left its mark. Status 73 or 74.
    ///
    /// The first write is one sector, the primary header with our GUID. From then on the disk is a
    /// layout's, whatever else it still holds.
    pub fn write(&self, disk: &Disk, places: &[Placed]) -> anyhow::Result<()> {
        let sector = self.sector_bytes;
        let header = || {
            disk.write(sector as u64, &self.head[sector..2 * sector])?;
            disk.flush()
        };
        let header_comes_last = sabotaged("header-last");
        if !header_comes_last {
            header()?;
        }
        for place in places {
            let end = place.start_bytes + place.size_bytes;
            disk.zero(place.start_bytes, MIB)?;
            disk.zero(end - MIB, MIB)?;
        }
        disk.write(self.tail_at, &self.tail)?;
        disk.write(2 * sector as u64, &self.head[2 * sector..])?;
        disk.write(0, &self.head[..sector])?;
        if header_comes_last {
            header()?;
        }
        disk.flush()
    }
}

/// Reads the table again, as abflip does later. Status 74 if it is not as it was written.
pub fn verify(disk: &Disk) -> anyhow::Result<()> {
    let tables = Tables::read(disk)?;
    let fault = if tables.agree() {
        tables.conflict()
    } else {
        Some("its tables differ from what was written".to_owned())
    };
    let path = disk.path().display();
    fault.map_or(Ok(()), |fault| {
        Err(Exit::Io.error(format_args!("verifying {path}: {fault}; replace the disk")))
    })
}
