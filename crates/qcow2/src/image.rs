//! A qcow2 image on the disk, and the check that its header and its tables agree with the file.
//!
//! Reads are bounded by the file and by QEMU's own limits, never by the claims of a header. The L2
//! tables, which grow with the disk, are not read, so that the check takes the same short time for
//! any base.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jsonpipe::{Exit, io_error};
use nix::libc::{ELOOP, ENXIO, O_NOFOLLOW, O_NONBLOCK};
use nix::unistd::{Whence, lseek};
use sha2::{Digest, Sha256};

use crate::format::{HEADER_MAX_BYTES, Header, OVERLAY_MAX_BYTES};
use crate::point::{Point, RECORD_BYTES};

/// In an entry of a table: nothing else refers to the cluster.
pub const COPIED: u64 = 1 << 63;
/// In an L2 entry: where the cluster lies.
pub const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// In an L2 entry: the cluster reads as zeros, whatever is there. A reserved bit in version 2.
pub const ZEROS: u64 = 1;

/// An image with a valid header and tables that lie within the file.
#[derive(Debug)]
pub struct Image {
    /// Its header.
    pub header: Header,
    /// The length of the file.
    pub file_bytes: u64,
    /// Its restore point, if it has one.
    pub point: Option<Point>,
    path: PathBuf,
    file: File,
    tables_digest: OnceLock<[u8; 32]>,
}

/// The treatment of a file name that is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Follow it: an administrator put the base on another disk.
    Links,
    /// Refuse it.
    Nothing,
}

/// Why an image is refused.
enum Flaw {
    Io(io::Error),
    Content(String),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Flaw {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Flaw::Content("it became shorter while it was read".into())
        } else if error.raw_os_error() == Some(ENXIO) {
            Flaw::Content("not a regular file".into()) // a socket, or a device that does not exist
        } else if error.raw_os_error() == Some(ELOOP) {
            Flaw::Content("a symbolic link, not a regular file".into())
        } else {
            Flaw::Io(error)
        }
    }
}

impl From<String> for Flaw {
    fn from(message: String) -> Flaw {
        Flaw::Content(message)
    }
}

impl Flaw {
    fn of(self, path: &Path) -> anyhow::Error {
        match self {
            Flaw::Io(error) => io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", path.display()),
            ),
            Flaw::Content(message) => {
                Exit::Data.error(format_args!("reading {}: {message}", path.display()))
            }
        }
    }
}

/// Reads only the header of an image.
pub fn read_header(path: &Path) -> anyhow::Result<Header> {
    let (file, length) = open(path, Follow::Nothing).map_err(|flaw| flaw.of(path))?;
    header_of(path, &file, length)
}

/// The same for an open file of that length; `path` is its name in errors.
pub fn header_of(path: &Path, file: &File, length: u64) -> anyhow::Result<Header> {
    header(file, length).map_err(|flaw| flaw.of(path))
}

/// Reads the restore point of an image with this header, if it has one.
pub fn read_point(path: &Path, file: &File, of: &Header) -> anyhow::Result<Option<Point>> {
    point(file, of).map_err(|flaw| flaw.of(path))
}

fn open(path: &Path, follow: Follow) -> Result<(File, u64), Flaw> {
    // Opening a FIFO must not block.
    let flags = if follow == Follow::Nothing {
        O_NONBLOCK | O_NOFOLLOW
    } else {
        O_NONBLOCK
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Flaw::Content("not a regular file".into()));
    }
    Ok((file, metadata.size()))
}

fn header(file: &File, length: u64) -> Result<Header, Flaw> {
    let mut start = [0; HEADER_MAX_BYTES];
    let start = &mut start[..length.min(HEADER_MAX_BYTES as u64) as usize];
    file.read_exact_at(start, 0)?;
    Ok(Header::parse(start)?)
}

fn point(file: &File, header: &Header) -> Result<Option<Point>, Flaw> {
    let Some(offset) = header.snapshots_offset else {
        return Ok(None);
    };
    let mut record = [0; RECORD_BYTES];
    file.read_exact_at(&mut record, offset)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Flaw::Content("holds internal snapshots".into()),
            _ => Flaw::Io(error),
        })?;
    Ok(Some(Point::parse(&record, header)?))
}

/// Reads a table of 8-byte entries.
pub(crate) fn read_table(file: &File, offset: u64, entries: u64) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; entries as usize * 8];
    file.read_exact_at(&mut bytes, offset)?;
    let entries = bytes.as_chunks().0.iter();
    Ok(entries.map(|entry| u64::from_be_bytes(*entry)).collect())
}

impl Image {
    /// Opens an image. Status 66 when it does not exist, 65 when it is invalid.
    pub fn open(path: &Path, follow: Follow) -> anyhow::Result<Image> {
        let (file, _) = open(path, follow).map_err(|flaw| flaw.of(path))?;
        Image::read(path, file)
    }

    /// The same for an open regular file; `path` is its name in errors.
    pub fn read(path: &Path, file: File) -> anyhow::Result<Image> {
        let read = || -> Result<Image, Flaw> {
            let file_bytes = file.metadata()?.size();
            let header = header(&file, file_bytes)?;
            let image = Image {
                point: point(&file, &header)?,
                header,
                file_bytes,
                path: path.to_owned(),
                file,
                tables_digest: OnceLock::new(),
            };
            image.check_tables()?;
            Ok(image)
        };
        read().map_err(|flaw| flaw.of(path))
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, for reading.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether a range of the file has blocks that are written: it is no hole, and not behind the end.
    pub(crate) fn is_allocated(&self, start: u64, bytes: u64) -> io::Result<bool> {
        if start + bytes > self.file_bytes {
            return Ok(false);
        }
        let hole = lseek(&self.file, start as i64, Whence::SeekHole)?;
        Ok(hole as u64 >= start + bytes)
    }

    /// A table of 8-byte entries.
    pub(crate) fn table(&self, offset: u64, entries: u64) -> anyhow::Result<Vec<u64>> {
        read_table(&self.file, offset, entries).map_err(|error| Flaw::from(error).of(&self.path))
    }

    /// The metadata of the file.
    pub fn metadata(&self) -> anyhow::Result<std::fs::Metadata> {
        self.file
            .metadata()
            .map_err(|error| Flaw::Io(error).of(&self.path))
    }

    /// The SHA-256 of what leads to its data: the header with its extensions, the L1 table and the
    /// refcount table. An image that was converted again, or grew, has another. A write to clusters
    /// that it has already changes only the modification time. It is taken once: thousands of overlays may
    /// be compared with it.
    pub fn tables_digest(&self) -> anyhow::Result<[u8; 32]> {
        if let Some(digest) = self.tables_digest.get() {
            return Ok(*digest);
        }
        let mut hash = Sha256::new();
        let mut digest = |offset: u64, bytes: u64| {
            self.for_each_piece(offset, bytes, |piece| {
                hash.update(piece);
                Ok(())
            })
        };
        let (l1, reftable) = (self.header.l1(), self.header.reftable());
        digest(0, self.file_bytes.min(HEADER_MAX_BYTES as u64))
            .and_then(|()| digest(l1.start, l1.end - l1.start))
            .and_then(|()| digest(reftable.start, reftable.end - reftable.start))
            .map_err(|flaw| flaw.of(&self.path))?;
        Ok(*self.tables_digest.get_or_init(|| hash.finalize().into()))
    }

    /// Sets its modification time, which records its last use, to now.
    pub fn touch(&self) -> anyhow::Result<()> {
        let touched = self.file.set_modified(std::time::SystemTime::now());
        touched.map_err(|error| {
            io_error(
                error,
                Exit::of_change,
                format_args!("setting the time of {}", self.path.display()),
            )
        })
    }

    /// Refuses an image that cannot be under an overlay: one with a backing file, one that is too
    /// large, or truncated.
    pub fn check_is_base(&self) -> anyhow::Result<()> {
        let check = || -> Result<(), Flaw> {
            if self.header.backing_name.is_some() {
                return Err(Flaw::Content(
                    "it has a backing file itself; flatten it with qemu-img convert -O qcow2"
                        .into(),
                ));
            }
            if self.point.is_some() {
                return Err(Flaw::Content("holds internal snapshots".into()));
            }
            if self.header.virtual_bytes > OVERLAY_MAX_BYTES {
                let bytes = self.header.virtual_bytes;
                return Err(Flaw::Content(format!(
                    "a disk of {bytes} bytes; an overlay has at most {OVERLAY_MAX_BYTES}"
                )));
            }
            self.check_reaches_its_end()
        };
        check().map_err(|flaw| flaw.of(&self.path))
    }

    /// Checks that the tables lie within the file and point into it.
    fn check_tables(&self) -> Result<(), Flaw> {
        let header = &self.header;
        let point_end = self.point.map_or(0, |point| point.l1(header).end);
        for (name, end) in [
            ("L1 table", header.l1().end),
            ("refcount table", header.reftable().end),
            ("restore point", point_end),
        ] {
            if end > self.file_bytes {
                return Err(Flaw::Content(format!(
                    "truncated: its {name} ends at {end}, the file at {}",
                    self.file_bytes
                )));
            }
        }
        self.for_each_entry(header.l1_offset, header.l1_entries, |index, entry| {
            self.check_points_to_cluster(entry & !COPIED, format_args!("L1 entry {index}"))
        })?;
        if let Some(point) = self.point {
            self.for_each_entry(point.l1_offset, header.l1_entries, |index, entry| {
                let name = format_args!("L1 entry {index} of its restore point");
                self.check_points_to_cluster(entry & !COPIED, name)
            })?;
        }
        self.for_each_entry(
            header.reftable_offset,
            header.reftable_entries,
            |index, entry| {
                self.check_points_to_cluster(entry, format_args!("refcount table entry {index}"))
            },
        )?;
        // A table in a cluster that counts as free is not the real one.
        for (name, offset) in [
            ("header", 0),
            ("L1 table", header.l1_offset),
            ("refcount table", header.reftable_offset),
            ("snapshot table", header.snapshots_offset.unwrap_or(0)),
            (
                "restore point",
                self.point.map_or(0, |point| point.l1_offset),
            ),
        ] {
            if self.refcount(offset >> header.cluster_bits)? == 0 {
                return Err(Flaw::Content(format!(
                    "its {name} lies in a cluster that is counted as free"
                )));
            }
        }
        Ok(())
    }

    fn check_points_to_cluster(
        &self,
        entry: u64,
        name: impl std::fmt::Display,
    ) -> Result<(), Flaw> {
        let cluster_bytes = self.header.cluster_bytes();
        // Below 2^56 by the format: higher bits are reserved.
        if !entry.is_multiple_of(cluster_bytes) || entry >> 56 != 0 {
            return Err(Flaw::Content(format!(
                "{name} is {entry:#x}, not a cluster"
            )));
        }
        if entry != 0 && entry + cluster_bytes > self.file_bytes {
            return Err(Flaw::Content(format!(
                "truncated: {name} points to {entry:#x}, the file ends at {}",
                self.file_bytes
            )));
        }
        Ok(())
    }

    /// Checks that no cluster after the end of the file is in use.
    fn check_reaches_its_end(&self) -> Result<(), Flaw> {
        let per_block = self.refcounts_per_block();
        // The last cluster may be written in part.
        let behind = self.file_bytes.div_ceil(self.header.cluster_bytes());
        let truncated = || {
            Flaw::Content(format!(
                "truncated: clusters in use lie behind its end at {}",
                self.file_bytes
            ))
        };
        let mut split = None;
        self.for_each_entry(
            self.header.reftable_offset,
            self.header.reftable_entries,
            |index, entry| {
                if entry != 0 && index * per_block >= behind {
                    return Err(truncated());
                }
                if entry != 0 && (index + 1) * per_block > behind {
                    split = Some((entry, behind - index * per_block));
                }
                Ok(())
            },
        )?;
        let Some((block, first)) = split else {
            return Ok(());
        };
        let first_bit = first << self.header.refcount_order;
        let first_byte = first_bit / 8;
        // Counts of less than a byte start at its low bits: in the first byte, lower bits belong to
        // clusters in the file.
        let mut mask = 0xff << (first_bit % 8);
        self.for_each_piece(
            block + first_byte,
            self.header.cluster_bytes() - first_byte,
            |piece| {
                let in_use = piece[0] & mask != 0 || piece[1..].iter().any(|byte| *byte != 0);
                mask = 0xff;
                if in_use { Err(truncated()) } else { Ok(()) }
            },
        )
    }

    fn refcounts_per_block(&self) -> u64 {
        (self.header.cluster_bytes() * 8) >> self.header.refcount_order
    }

    /// The reference count of a cluster.
    fn refcount(&self, cluster: u64) -> Result<u64, Flaw> {
        let (index, within) = (
            cluster / self.refcounts_per_block(),
            cluster % self.refcounts_per_block(),
        );
        if index >= self.header.reftable_entries {
            return Ok(0);
        }
        let mut entry = [0; 8];
        self.file
            .read_exact_at(&mut entry, self.header.reftable_offset + index * 8)?;
        let block = u64::from_be_bytes(entry);
        if block == 0 {
            return Ok(0);
        }
        let bit = within << self.header.refcount_order;
        let width = 1 << self.header.refcount_order;
        let mut count = [0; 8];
        let count_bytes = usize::max(width / 8, 1);
        self.file
            .read_exact_at(&mut count[8 - count_bytes..], block + bit / 8)?;
        let count = u64::from_be_bytes(count);
        Ok(if width < 8 {
            count >> (bit % 8) & ((1 << width) - 1)
        } else {
            count
        })
    }

    /// Reads a table of 8-byte entries.
    fn for_each_entry(
        &self,
        offset: u64,
        entries: u64,
        mut check: impl FnMut(u64, u64) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        let mut index = 0;
        self.for_each_piece(offset, entries * 8, |piece| {
            for entry in piece.as_chunks().0 {
                check(index, u64::from_be_bytes(*entry))?;
                index += 1;
            }
            Ok(())
        })
    }

    /// Reads a range, a page at a time: a table may have 32 MiB, most of which need not be kept.
    fn for_each_piece(
        &self,
        mut offset: u64,
        bytes: u64,
        mut check: impl FnMut(&[u8]) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        let mut page = [0; 4096];
        let end = offset + bytes;
        while offset < end {
            let piece = &mut page[..(end - offset).min(4096) as usize];
            self.file.read_exact_at(piece, offset)?;
            check(piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }
}
