//! Changes what an overlay and its restore point contain, so that one write of a sector is the
//! commit.
//!
//! All new tables go where the present ones do not point: free clusters, or behind the end. When they
//! are on the disk, bytes 36 to 72 of the header lead to them: the L1 table, the refcount table and
//! the snapshot table at once. Until then the file is what it was, from then on what was asked for,
//! and in between nothing is counted that is not used. `qemu-img snapshot` does not do that: killed, it
//! leaves counts that are wrong.
//!
//! The restore point keeps the tables that its content has, and the disk gets new ones. A cluster of
//! data that both have is counted twice, so QEMU copies it before it writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use jsonpipe::{Exit, io_error};

use crate::format::{CLUSTER_BYTES, REFCOUNTS_PER_BLOCK};
use crate::image::{COPIED, Image, OFFSET, read_table};
use crate::need::room_bytes;
use crate::point::Point;
use crate::references::{DISK_DATA, DISK_TABLE, POINT_DATA, POINT_TABLE, References};

/// What the disk contains afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// What it contains now.
    Present,
    /// What the restore point contains.
    Point,
}

/// Where the first table of ours may lie: behind the clusters of a blank overlay, whose L1 table is
/// at a place that no rewritten one has.
const FIRST_TABLE: usize = 4;

/// A change that has been planned: nothing is written yet.
#[derive(Debug)]
pub struct Rewrite<'a> {
    image: &'a Image,
    /// The L1 table that the new one is a copy of.
    l1: Vec<u64>,
    /// Where its copies of L2 tables go, in order.
    l2_places: Vec<u64>,
    l1_place: u64,
    point: Option<(u64, Point)>,
    reftable: (u64, usize),
    refblocks: Vec<u64>,
    /// The reference count of each cluster.
    counts: Vec<u8>,
    room_bytes: u64,
}

impl<'a> Rewrite<'a> {
    /// Plans a change: the disk will contain `content`, and so will its restore point, taken at
    /// `point`, if it is to have one. All tables are read and checked: status 65 when they are not
    /// those of an overlay of ours, 73 when it cannot have another restore point.
    pub fn plan(
        image: &'a Image,
        content: Content,
        point: Option<SystemTime>,
    ) -> anyhow::Result<Rewrite<'a>> {
        let flaw = |message: String| {
            Exit::Data.error(format_args!(
                "reading {}: {message}",
                image.path().display()
            ))
        };
        if !image.header.is_laid_out_as_ours() {
            return Err(flaw("it is not laid out as cowvol does it".into()));
        }
        let l1_offset = match (content, image.point) {
            (Content::Present, _) => image.header.l1_offset,
            (Content::Point, Some(point)) => point.l1_offset,
            (Content::Point, None) => return Err(flaw("it has no restore point".into())),
        };
        let references = References::read(image)?;
        let l1 = image.table(l1_offset, image.header.l1_entries)?;
        let plan = Rewrite::lay_out(image, content, point, &references.of, l1);
        let most = Point::room_max_bytes(image.header.virtual_bytes);
        if point.is_some() && plan.room_bytes > most {
            return Err(Exit::CantCreate.error(format_args!(
                "{}: with another restore point it can come to {} bytes, over {most}",
                image.path().display(),
                plan.room_bytes
            )));
        }
        Ok(plan)
    }

    /// The whole room that the volume can come to need afterwards: as far as the file reaches, and
    /// every cluster that the guest can still make QEMU allocate. Free clusters before its end are not
    /// counted upon, since QEMU takes only those that lie side by side as it needs them.
    pub fn room_bytes(&self) -> u64 {
        self.room_bytes
    }

    /// The room that its tables take: the length of those for which the file has a hole, or that lie
    /// behind its end.
    pub fn table_bytes(&self) -> io::Result<u64> {
        let l1_clusters = (self.l1.len() as u64 * 8).div_ceil(CLUSTER_BYTES);
        let (reftable_place, reftable_clusters) = self.reftable;
        let single = self.l2_places.iter().chain(&self.refblocks);
        let point = self.point.iter().map(|(place, _)| place);
        let tables = single.chain(point).map(|place| (*place, 1));
        let tables = tables.chain([
            (self.l1_place, l1_clusters),
            (reftable_place, reftable_clusters as u64),
        ]);
        let mut bytes = 0;
        for (place, clusters) in tables {
            let length = clusters * CLUSTER_BYTES;
            if !self.image.is_allocated(place, length)? {
                bytes += length;
            }
        }
        Ok(bytes)
    }

    fn lay_out(
        image: &'a Image,
        content: Content,
        point: Option<SystemTime>,
        references: &[u8],
        l1: Vec<u64>,
    ) -> Rewrite<'a> {
        let header = &image.header;
        let (data, tables) = match content {
            Content::Present => (DISK_DATA, DISK_TABLE),
            Content::Point => (POINT_DATA, POINT_TABLE),
        };
        let has_point = point.is_some();
        let mut counts: Vec<u8> = references
            .iter()
            .map(|found| match found {
                found if found & data != 0 => 1 + u8::from(has_point),
                found if found & tables != 0 => u8::from(has_point),
                _ => 0,
            })
            .collect();
        counts[0] = 1; // the header
        let data_clusters = references
            .iter()
            .filter(|found| **found & data != 0)
            .count();

        let mut places = Places::new(references, counts);
        let l2_tables = l1.iter().filter(|entry| **entry & OFFSET != 0).count();
        let l2_places = (0..l2_tables).map(|_| places.take(1)).collect();
        let l1_place = places.take((l1.len() * 8).div_ceil(CLUSTER_BYTES as usize));
        let point_place = has_point.then(|| places.take(1));
        // The table for all that follows, too: blocks count themselves, one each in many.
        let blocks_max = places.end() / REFCOUNTS_PER_BLOCK as usize + 2;
        let reftable_clusters = (blocks_max * 8).div_ceil(CLUSTER_BYTES as usize);
        let reftable = (places.take(reftable_clusters), reftable_clusters);
        let mut refblocks = Vec::new();
        while refblocks.len() < places.end().div_ceil(REFCOUNTS_PER_BLOCK as usize) {
            refblocks.push(places.take(1));
        }

        let owned = if has_point { 0 } else { data_clusters as u64 };
        // Tables can lead to more data than the disk has: a guest that broke out wrote them.
        let clusters = header.virtual_bytes.div_ceil(CLUSTER_BYTES);
        let growth = clusters.saturating_sub(owned) + (header.l1_entries - l2_tables as u64);
        let room_bytes = room_bytes(places.end() as u64 + growth);
        let end = places.end();
        places.counts.truncate(end);
        Rewrite {
            image,
            l2_places,
            l1_place,
            point: point_place.zip(point).map(|(place, taken)| {
                let l1_offset = match (content, image.point) {
                    (Content::Point, Some(present)) => present.l1_offset,
                    _ => header.l1_offset,
                };
                let point = Point {
                    taken,
                    room_bytes,
                    l1_offset,
                };
                (place, point)
            }),
            reftable,
            refblocks,
            counts: places.counts,
            room_bytes,
            l1,
        }
    }

    /// Makes the change. `file` is the image, open for writing, which nothing else uses. On failure the
    /// image is what it was.
    pub fn run(&self, file: &File) -> anyhow::Result<()> {
        let failed = |error| {
            io_error(
                error,
                Exit::of_change,
                format_args!("changing the tables of {}", self.image.path().display()),
            )
        };
        let prepare = || {
            self.write_tables(file)?;
            file.sync_data()
        };
        prepare().map_err(|error| {
            let _ = file.set_len(self.image.file_bytes); // the first error is the one to report
            failed(error)
        })?;
        let commit = || {
            file.write_all_at(&self.commit(), 36)?;
            file.sync_data()
        };
        commit().map_err(failed)?;
        // What lies behind is no longer used. A file that stays longer is right as well.
        let _ = file.set_len(self.counts.len() as u64 * CLUSTER_BYTES);
        Ok(())
    }

    fn write_tables(&self, file: &File) -> io::Result<()> {
        let copied = if self.point.is_some() { 0 } else { COPIED };
        let mut l1 = Vec::with_capacity(self.l1.len());
        let mut places = self.l2_places.iter();
        for entry in &self.l1 {
            let from = entry & OFFSET;
            let Some(place) = (from != 0).then(|| places.next()).flatten() else {
                l1.push(0);
                continue;
            };
            let mut table = read_table(file, from, CLUSTER_BYTES / 8)?;
            for entry in table.iter_mut().filter(|entry| **entry & OFFSET != 0) {
                *entry = *entry & !COPIED | copied;
            }
            file.write_all_at(&bytes_of(&table), *place)?;
            l1.push(place | COPIED);
        }
        write_table(file, &l1, self.l1_place)?;
        if let Some((place, point)) = &self.point {
            let mut record = point.record(&self.image.header);
            record.resize(CLUSTER_BYTES as usize, 0);
            file.write_all_at(&record, *place)?;
        }
        let (place, _) = self.reftable;
        write_table(file, &self.refblocks, place)?;
        for (counts, place) in self
            .counts
            .chunks(REFCOUNTS_PER_BLOCK as usize)
            .zip(&self.refblocks)
        {
            let mut block: Vec<u8> = counts
                .iter()
                .flat_map(|count| u16::from(*count).to_be_bytes())
                .collect();
            block.resize(CLUSTER_BYTES as usize, 0);
            file.write_all_at(&block, *place)?;
        }
        Ok(())
    }

    /// Bytes 36 to 72 of the header, all in its first sector.
    fn commit(&self) -> Vec<u8> {
        let (reftable, reftable_clusters) = self.reftable;
        let snapshots = self.point.map_or(0, |(place, _)| place);
        let mut bytes = Vec::with_capacity(36);
        bytes.extend((self.image.header.l1_entries as u32).to_be_bytes());
        bytes.extend(self.l1_place.to_be_bytes());
        bytes.extend(reftable.to_be_bytes());
        bytes.extend((reftable_clusters as u32).to_be_bytes());
        bytes.extend(u32::from(self.point.is_some()).to_be_bytes());
        bytes.extend(snapshots.to_be_bytes());
        bytes
    }
}

/// Finds clusters for tables.
struct Places<'a> {
    /// What refers to each cluster until the commit.
    references: &'a [u8],
    /// What counts from the commit on.
    counts: Vec<u8>,
    /// All single clusters before it are taken.
    next: usize,
}

impl Places<'_> {
    fn new(references: &[u8], counts: Vec<u8>) -> Places<'_> {
        Places {
            references,
            counts,
            next: FIRST_TABLE,
        }
    }

    fn is_free(&self, cluster: usize) -> bool {
        let at = |all: &[u8]| all.get(cluster).is_none_or(|found| *found == 0);
        at(self.references) && at(&self.counts)
    }

    /// Takes so many clusters side by side; the offset of the first.
    fn take(&mut self, clusters: usize) -> u64 {
        let mut first = self.next;
        while let Some(taken) = (first..first + clusters).rfind(|at| !self.is_free(*at)) {
            first = taken + 1;
        }
        if clusters == 1 {
            self.next = first + 1;
        }
        if self.counts.len() < first + clusters {
            self.counts.resize(first + clusters, 0);
        }
        self.counts[first..first + clusters].fill(1);
        first as u64 * CLUSTER_BYTES
    }

    /// The number of clusters up to the last one that counts.
    fn end(&self) -> usize {
        let last = self.counts.iter().rposition(|count| *count != 0);
        last.map_or(0, |last| last + 1)
    }
}

/// Writes a table, and zeros to the end of its last cluster.
fn write_table(file: &File, entries: &[u64], place: u64) -> io::Result<()> {
    let mut bytes = bytes_of(entries);
    bytes.resize(bytes.len().next_multiple_of(CLUSTER_BYTES as usize), 0);
    file.write_all_at(&bytes, place)
}

fn bytes_of(entries: &[u64]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|entry| entry.to_be_bytes())
        .collect()
}
