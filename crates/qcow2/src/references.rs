//! What refers to each cluster of an overlay, as all its tables say.

use jsonpipe::Exit;

use crate::format::CLUSTER_BYTES;
use crate::image::{COPIED, Image, OFFSET, ZEROS};
use crate::point::Point;

/// The data of the disk.
pub const DISK_DATA: u8 = 1 << 0;
/// The data of the restore point.
pub const POINT_DATA: u8 = 1 << 1;
/// The header, the refcounts, the snapshot table.
pub const HEAD: u8 = 1 << 2;
/// The L1 and L2 tables of the disk.
pub const DISK_TABLE: u8 = 1 << 3;
/// The L1 and L2 tables of the restore point.
pub const POINT_TABLE: u8 = 1 << 4;

/// What refers to each cluster.
#[derive(Debug)]
pub struct References {
    /// By cluster, as far as the file reaches.
    pub of: Vec<u8>,
}

impl References {
    /// Reads all tables. Status 65 when they are not those of an overlay of ours: a cluster that two of
    /// them claim, unless it is data that the disk and its restore point share; a compressed cluster.
    pub fn read(image: &Image) -> anyhow::Result<References> {
        let read = || -> Result<References, Fault> {
            if image.file_bytes > Point::room_max_bytes(image.header.virtual_bytes) {
                return Err(Fault::Content(format!(
                    "a file of {} bytes for a disk of {}",
                    image.file_bytes, image.header.virtual_bytes
                )));
            }
            let clusters = image.file_bytes.div_ceil(CLUSTER_BYTES) as usize;
            let mut references = References {
                of: vec![0; clusters],
            };
            references.head(image)?;
            let l1 = image.header.l1_offset;
            references.content(image, l1, DISK_TABLE, DISK_DATA)?;
            if let Some(point) = image.point {
                references.content(image, point.l1_offset, POINT_TABLE, POINT_DATA)?;
            }
            Ok(references)
        };
        read().map_err(|fault| match fault {
            Fault::Error(error) => error,
            Fault::Content(message) => Exit::Data.error(format_args!(
                "reading {}: {message}",
                image.path().display()
            )),
        })
    }

    fn head(&mut self, image: &Image) -> Result<(), Fault> {
        let header = &image.header;
        let reftable = header.reftable();
        self.claim(0, 1, HEAD)?;
        self.claim(
            reftable.start,
            (reftable.end - reftable.start) / CLUSTER_BYTES,
            HEAD,
        )?;
        for block in image.table(header.reftable_offset, header.reftable_entries)? {
            if block != 0 {
                self.claim(block, 1, HEAD)?;
            }
        }
        match header.snapshots_offset {
            Some(offset) => self.claim(offset, 1, HEAD),
            None => Ok(()),
        }
    }

    /// The tables from one L1 table on, and the data that they lead to.
    fn content(&mut self, image: &Image, l1: u64, tables: u8, data: u8) -> Result<(), Fault> {
        let entries = image.header.l1_entries;
        self.claim(l1, (entries * 8).div_ceil(CLUSTER_BYTES), tables)?;
        for entry in image.table(l1, entries)? {
            let l2 = entry & !COPIED;
            if l2 == 0 {
                continue;
            }
            self.claim(l2, 1, tables)?;
            for entry in image.table(l2, CLUSTER_BYTES / 8)? {
                let place = entry & OFFSET;
                if entry & !(COPIED | OFFSET | ZEROS) != 0 {
                    return Err(Fault::Content(format!(
                        "an L2 entry is {entry:#x}, which QEMU writes in no volume"
                    )));
                }
                if place != 0 {
                    self.claim(place, 1, data)?;
                }
            }
        }
        Ok(())
    }

    fn claim(&mut self, offset: u64, clusters: u64, by: u8) -> Result<(), Fault> {
        let first = offset / CLUSTER_BYTES;
        let end = first.saturating_add(clusters);
        let place = usize::try_from(first).ok().zip(usize::try_from(end).ok());
        let place = place.and_then(|(first, end)| self.of.get_mut(first..end));
        let Some(place) = place.filter(|_| offset.is_multiple_of(CLUSTER_BYTES)) else {
            return Err(Fault::Content(format!(
                "a table points to {offset:#x}, not a cluster in the file"
            )));
        };
        for found in place {
            let is_shared = *found | by == DISK_DATA | POINT_DATA && *found != by;
            if *found != 0 && !is_shared {
                return Err(Fault::Content(format!("two tables point to {offset:#x}")));
            }
            *found |= by;
        }
        Ok(())
    }
}

enum Fault {
    Error(anyhow::Error),
    Content(String),
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Fault {
        Fault::Error(error)
    }
}
