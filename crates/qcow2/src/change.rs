//! What an overlay changes of the disk below it: its L2 tables.

use std::io;
use std::os::unix::fs::FileExt;

use jsonpipe::{Exit, io_error};

use crate::image::{COPIED, Image, OFFSET, ZEROS};

/// Of an L2 entry: the cluster is compressed, and the rest of the entry means something else.
const COMPRESSED: u64 = 1 << 62;

/// A part of the guest's disk that an overlay changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins on the disk, in bytes: the beginning of a cluster.
    pub offset: u64,
    /// Its length: whole clusters, or less at the end of the disk.
    pub bytes: u64,
    /// Where its content lies in the file; `None` when it reads as zeros.
    pub place: Option<u64>,
}

impl Extent {
    /// Whether the next cluster of the disk continues it.
    fn is_continued_by(&self, next: &Extent) -> bool {
        let continues = match (self.place, next.place) {
            (Some(place), Some(next)) => place + self.bytes == next,
            (None, None) => true,
            _ => false,
        };
        continues && self.offset + self.bytes == next.offset
    }
}

impl Image {
    /// Calls `visit` with each part of the disk that this image has itself, in the order of the
    /// disk. Status 65 when a table is not as QEMU writes it for an overlay of ours; compressed
    /// clusters, which only qemu-img writes, are refused.
    pub fn for_each_change(
        &self,
        mut visit: impl FnMut(Extent) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.header.plain {
            return Err(self.flaw("it has subclusters or zstd, which no volume has"));
        }
        let cluster_bytes = self.header.cluster_bytes();
        let bytes_per_table = cluster_bytes * (cluster_bytes / 8);
        let tables = self.header.virtual_bytes.div_ceil(bytes_per_table);
        // 32 MiB at most, as the header was checked.
        let l1 = self.table(self.header.l1_offset, tables)?;
        for (index, entry) in l1.into_iter().enumerate() {
            let table = entry & OFFSET;
            if table == 0 {
                continue;
            }
            let begin = index as u64 * bytes_per_table;
            let end = self.header.virtual_bytes.min(begin + bytes_per_table);
            let entries = (end - begin).div_ceil(cluster_bytes);
            let mut extent: Option<Extent> = None;
            for (at, entry) in self.table(table, entries)?.into_iter().enumerate() {
                let offset = begin + at as u64 * cluster_bytes;
                let Some(place) = self.place_of(offset, entry)? else {
                    continue;
                };
                let next = Extent {
                    offset,
                    bytes: cluster_bytes.min(end - offset),
                    place,
                };
                match &mut extent {
                    Some(extent) if extent.is_continued_by(&next) => extent.bytes += next.bytes,
                    _ => extent.replace(next).map_or(Ok(()), &mut visit)?,
                }
            }
            extent.map_or(Ok(()), &mut visit)?;
        }
        Ok(())
    }

    /// Reads the content of an extent, or a part of it, that lies at `place`. The file may end within
    /// the last cluster, whose rest reads as zeros.
    pub fn read_content(&self, place: u64, buffer: &mut [u8]) -> anyhow::Result<()> {
        let mut read = 0;
        while read < buffer.len() {
            match self
                .file()
                .read_at(&mut buffer[read..], place + read as u64)
            {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        buffer[read..].fill(0);
        Ok(())
    }

    /// What an L2 entry says: `None` that the disk below has it, `Some(None)` that it is zeros.
    fn place_of(&self, offset: u64, entry: u64) -> anyhow::Result<Option<Option<u64>>> {
        if entry & COMPRESSED != 0 {
            return Err(self.flaw("it has compressed clusters, which no volume has"));
        }
        let reads_as_zeros = entry & ZEROS != 0 && self.header.version >= 3;
        let reserved = !(COPIED | OFFSET | if reads_as_zeros { ZEROS } else { 0 });
        let place = entry & OFFSET;
        let is_within =
            place.is_multiple_of(self.header.cluster_bytes()) && place < self.file_bytes;
        if entry & reserved != 0 || !is_within {
            return Err(self.flaw(&format!(
                "the L2 entry of {offset:#x} is {entry:#x}, not a cluster in the file"
            )));
        }
        Ok(match (reads_as_zeros, place) {
            (true, _) => Some(None),
            (false, 0) => None,
            (false, _) => Some(Some(place)),
        })
    }

    fn flaw(&self, message: &str) -> anyhow::Error {
        Exit::Data.error(format_args!("reading {}: {message}", self.path().display()))
    }

    fn failed(&self, error: io::Error) -> anyhow::Error {
        io_error(
            error,
            Exit::of_read,
            format_args!("reading {}", self.path().display()),
        )
    }
}
