//! Bulk transfers to and from a disk: large pieces of whole blocks, durable after a flush.

use std::os::unix::fs::FileExt;

use jsonpipe::{Exit, io_error};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::{Aligned, Disk, sys};

/// The length of one read or write.
pub const PIECE_BYTES: usize = 4 << 20;

impl Disk {
    /// Writes an [`Aligned`] buffer of whole blocks. Status 73 or 74.
    pub fn write_piece(&self, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|error| io_error(error, Exit::of_write, self.place("writing", offset)))
    }

    /// Fills `piece`, bypassing the cache. Status 74 on failure, and when the disk ends first.
    pub fn read_piece(&self, offset: u64, piece: &mut [u8]) -> anyhow::Result<()> {
        let read = self
            .forget(offset, piece.len())
            .and_then(|()| self.file.read_exact_at(piece, offset));
        read.map_err(|error| io_error(error, |_| Exit::Io, self.place("reading", offset)))
    }

    /// Zeros a range without sending the bytes, where the disk supports that. Reads return zeros
    /// afterwards in any case. Status 73 or 74.
    pub fn zero(&self, offset: u64, length: u64) -> anyhow::Result<()> {
        let made = if self.device == 0 {
            self.zero_range(offset, length)
        } else {
            sys::zero_out(&self.file, offset, length)
        };
        match made {
            // A file system without it, such as tmpfs.
            Err(Errno::EOPNOTSUPP) => self.write_zeros(offset, length),
            made => made.map_err(|errno| {
                io_error(errno.into(), Exit::of_write, self.place("zeroing", offset))
            }),
        }
    }

    /// Makes the kernel read the partition table. Returns false for an image, and for a loop device
    /// that has no partitions. Status 75 when a partition is in use.
    pub fn reread_partitions(&self) -> anyhow::Result<bool> {
        if self.device == 0 {
            return Ok(false);
        }
        match sys::reread_partitions(&self.file) {
            Ok(()) => Ok(true),
            Err(Errno::EINVAL) => Ok(false),
            Err(errno) => {
                let reading = format!("reading the new table of {}", self.path.display());
                let exit_of = |error: &std::io::Error| match error.kind() {
                    std::io::ErrorKind::ResourceBusy => Exit::TemporaryFailure,
                    _ => Exit::Io,
                };
                Err(io_error(errno.into(), exit_of, reading))
            }
        }
    }

    fn zero_range(&self, offset: u64, length: u64) -> nix::Result<()> {
        let number = |value: u64| i64::try_from(value).map_err(|_| Errno::EFBIG);
        let how = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&self.file, how, number(offset)?, number(length)?)
    }

    fn write_zeros(&self, offset: u64, length: u64) -> anyhow::Result<()> {
        let mut zeros =
            Aligned::new(PIECE_BYTES.min(usize::try_from(length).unwrap_or(PIECE_BYTES)));
        let mut done = 0;
        while done < length {
            let now = (length - done).min(PIECE_BYTES as u64);
            self.write_piece(offset + done, &zeros.bytes()[..now as usize])?;
            done += now;
        }
        Ok(())
    }
}
