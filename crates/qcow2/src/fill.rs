//! Fills a new overlay with what it changes of the disk below it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::format::{
    BYTES_PER_L1_ENTRY, CLUSTER_BYTES, L1_OFFSET, Layout, REFBLOCK_OFFSET, REFCOUNTS_PER_BLOCK,
    REFTABLE_OFFSET,
};
use crate::image::{COPIED, ZEROS};

/// Writes the changed parts of the disk, each once and in the order of the disk, and puts the tables
/// between and behind them. The file is an overlay again when [`finish`](Fill::finish) returns; a full
/// one has [`full_bytes`](crate::full_bytes).
#[derive(Debug)]
pub struct Fill<'a> {
    file: &'a File,
    /// The clusters of the file so far; each is used once.
    clusters: u64,
    l1: Vec<u64>,
    l2: Option<L2>,
    /// The end of what was written, on the disk.
    done: u64,
}

/// The L2 table that is being filled.
#[derive(Debug)]
struct L2 {
    index: u64,
    place: u64,
    entries: Vec<u8>,
}

impl<'a> Fill<'a> {
    /// Begins with a file that holds a blank overlay of a disk with `virtual_bytes`.
    pub fn new(file: &'a File, blank: &Layout, virtual_bytes: u64) -> Fill<'a> {
        Fill {
            file,
            clusters: blank.length / CLUSTER_BYTES,
            l1: vec![0; virtual_bytes.div_ceil(BYTES_PER_L1_ENTRY) as usize],
            l2: None,
            done: 0,
        }
    }

    /// Writes `bytes` at `offset` of the disk, the beginning of a cluster. The rest of a cluster that
    /// they fill in part reads as zeros.
    pub fn data(&mut self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let piece = self.within_table(offset, bytes.len() as u64)?;
            let (now, rest) = bytes.split_at(piece as usize);
            let place = self.clusters * CLUSTER_BYTES;
            self.file.write_all_at(now, place)?;
            let clusters = piece.div_ceil(CLUSTER_BYTES);
            self.clusters += clusters;
            self.enter(offset, clusters, |nth| {
                (place + nth * CLUSTER_BYTES) | COPIED
            });
            offset += piece;
            bytes = rest;
        }
        Ok(())
    }

    /// Lets the clusters from `offset` on, so many bytes of the disk, read as zeros.
    pub fn zeros(&mut self, mut offset: u64, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let piece = self.within_table(offset, bytes)?;
            self.enter(offset, piece.div_ceil(CLUSTER_BYTES), |_| ZEROS);
            offset += piece;
            bytes -= piece;
        }
        Ok(())
    }

    /// Writes the tables, and makes all of it durable.
    pub fn finish(&mut self) -> io::Result<()> {
        self.end_table()?;
        let l1: Vec<u8> = self
            .l1
            .iter()
            .flat_map(|entry| entry.to_be_bytes())
            .collect();
        self.file.write_all_at(&l1, L1_OFFSET)?;
        // The first block has its place already; the others lie behind all else, and count themselves.
        let counted = self.clusters;
        let mut blocks = 1;
        while blocks * REFCOUNTS_PER_BLOCK < counted + blocks - 1 {
            blocks += 1;
        }
        if blocks > CLUSTER_BYTES / 8 {
            return Err(io::ErrorKind::FileTooLarge.into()); // over 16 TiB
        }
        self.clusters += blocks - 1;
        for nth in 0..blocks {
            let place = match nth {
                0 => REFBLOCK_OFFSET,
                _ => (counted + nth - 1) * CLUSTER_BYTES,
            };
            let used = (self.clusters - nth * REFCOUNTS_PER_BLOCK).min(REFCOUNTS_PER_BLOCK);
            let counts = 1u16.to_be_bytes().repeat(used as usize);
            self.file.write_all_at(&counts, place)?;
            self.file
                .write_all_at(&place.to_be_bytes(), REFTABLE_OFFSET + nth * 8)?;
        }
        let length = self.clusters * CLUSTER_BYTES;
        // A length that is right already stays: setting it would give back the room held beyond it.
        if self.file.metadata()?.len() < length {
            self.file.set_len(length)?;
        }
        self.file.sync_all()
    }

    /// Opens the table of `offset`, and returns how many of the bytes from there on it can map.
    fn within_table(&mut self, offset: u64, bytes: u64) -> io::Result<u64> {
        let index = offset / BYTES_PER_L1_ENTRY;
        let is_in_order = offset >= self.done && offset.is_multiple_of(CLUSTER_BYTES);
        if !is_in_order || index >= self.l1.len() as u64 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.l2.as_ref().is_none_or(|l2| l2.index != index) {
            self.end_table()?;
            let place = self.clusters * CLUSTER_BYTES;
            self.clusters += 1;
            self.l1[index as usize] = place | COPIED;
            self.l2 = Some(L2 {
                index,
                place,
                entries: vec![0; CLUSTER_BYTES as usize],
            });
        }
        Ok(bytes.min((index + 1) * BYTES_PER_L1_ENTRY - offset))
    }

    fn enter(&mut self, offset: u64, clusters: u64, entry: impl Fn(u64) -> u64) {
        let first = offset % BYTES_PER_L1_ENTRY / CLUSTER_BYTES;
        if let Some(l2) = &mut self.l2 {
            for (nth, place) in l2.entries.as_chunks_mut().0[first as usize..]
                .iter_mut()
                .take(clusters as usize)
                .enumerate()
            {
                *place = entry(nth as u64).to_be_bytes();
            }
        }
        self.done = offset + clusters * CLUSTER_BYTES;
    }

    fn end_table(&mut self) -> io::Result<()> {
        match self.l2.take() {
            Some(l2) => self.file.write_all_at(&l2.entries, l2.place),
            None => Ok(()),
        }
    }
}
