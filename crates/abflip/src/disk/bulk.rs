//! A lot of bytes to a disk, and back: in large pieces, whole blocks only, durable when it is
//! flushed.

use std::os::unix::fs::FileExt;

use jsonpipe::{Exit, io_error};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::{Aligned, Disk, sys};

/// How much is written or read at once.
pub const PIECE_BYTES: usize = 4 << 20;

impl Disk {
    /// Writes bytes at an address and of a length that the disk takes: of [`Aligned`], whole
    /// blocks. Status 73 or 74.
    pub fn write_piece(&self, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|error| io_error(error, Exit::of_write, self.place("writing", offset)))
    }

    /// Reads into all of `piece`, past the cache. Status 74 when that fails, or when the disk ends
    /// before.
    pub fn read_piece(&self, offset: u64, piece: &mut [u8]) -> anyhow::Result<()> {
        let read = self
            .forget(offset, piece.len())
            .and_then(|()| self.file.read_exact_at(piece, offset));
        read.map_err(|error| io_error(error, |_| Exit::Io, self.place("reading", offset)))
    }

    /// Makes bytes zeros without sending them, where the disk can do that; whatever it does, zeros
    /// are what is read afterwards. Status 73 or 74.
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
