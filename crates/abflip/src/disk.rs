//! A disk, or a disk image. Reads come from the medium; a write is on the medium when the call
//! returns.
//!
//! Reads and writes bypass the page cache (O_DIRECT). A write is one call of whole physical blocks
//! with RWF_DSYNC. Otherwise a disk with 512-byte sectors on 4096-byte blocks (512e) would read the
//! block, change it and write it back itself, and a power cut in between would destroy the seven
//! neighbouring sectors. Every write is read back and compared.
//!
//! An image may also lie on a file system without direct I/O, such as tmpfs in older kernels. The
//! kernel is then asked to drop its cache, and [`Disk::past_cache`] reports that nothing is proven
//! about the medium.

mod bulk;

pub use bulk::PIECE_BYTES;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jsonpipe::{Exit, ExitContext, io_error};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc::O_DIRECT;

/// The strictest multiple that direct I/O may require of a buffer's address and a write's length.
pub const ALIGNMENT: usize = 4096;

/// How a disk is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading.
    Read,
    /// For reading and writing.
    Write,
}

/// An open disk or image.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    file: File,
    /// The length of the disk.
    pub size_bytes: u64,
    /// The size of a logical sector; `None` for an image, which does not record it.
    pub sector_bytes: Option<u64>,
    /// The unit of writing: the physical block, or the file system's minimum.
    block_bytes: u64,
    past_cache: bool,
    /// The device's number; 0 for an image.
    pub device: u64,
    /// Whether the kernel refuses writes to the device, although it can be opened for writing.
    pub is_read_only: bool,
}

impl Disk {
    /// Opens the disk. Status 66 when it does not exist, 77 when permission is denied, 65 when it
    /// is neither a disk nor an image.
    pub fn open(path: &Path, access: Access) -> anyhow::Result<Disk> {
        let failed = |error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("opening {}", path.display()),
            )
        };
        // Direct I/O is tried first; a file system without it answers EINVAL (open(2)).
        let open = |flags| {
            OpenOptions::new()
                .read(true)
                .write(access == Access::Write)
                .custom_flags(flags)
                .open(path)
        };
        let file = match open(O_DIRECT) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => open(0),
            opened => opened,
        };
        let file = file.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.file_type().is_block_device() {
            let geometry = sys::geometry(&file)
                .map_err(io::Error::from)
                .map_err(failed)?;
            return Ok(Disk {
                path: path.to_owned(),
                file,
                size_bytes: geometry.size_bytes,
                sector_bytes: Some(geometry.logical_bytes),
                block_bytes: geometry.physical_bytes.max(geometry.logical_bytes),
                past_cache: true,
                device: metadata.rdev(),
                is_read_only: geometry.is_read_only,
            });
        }
        if !metadata.is_file() {
            return Err(Exit::Data.error(format_args!(
                "opening {}: neither a disk nor an image file",
                path.display()
            )));
        }
        let size_bytes = metadata.len();
        let mut direct = None;
        // The length must be whole blocks, without a shorter rest.
        for block in [512, ALIGNMENT]
            .into_iter()
            .filter(|&block| size_bytes > 0 && size_bytes.is_multiple_of(block as u64))
        {
            match file.read_exact_at(Aligned::new(block).bytes(), 0) {
                Ok(()) => direct = Some(block),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => continue,
                Err(error) => {
                    return Err(io_error(
                        error,
                        Exit::of_read,
                        format_args!("reading {}", path.display()),
                    ));
                }
            }
            break;
        }
        let (file, block_bytes) = match direct {
            Some(block) => (file, block as u64),
            None => (open(0).map_err(failed)?, 512),
        };
        let past_cache = direct.is_some()
            && sys::is_direct(&file)
                .map_err(io::Error::from)
                .map_err(failed)?;
        Ok(Disk {
            path: path.to_owned(),
            file,
            size_bytes,
            sector_bytes: None,
            block_bytes,
            past_cache,
            device: 0,
            is_read_only: false,
        })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether reads come from the medium.
    pub fn past_cache(&self) -> bool {
        self.past_cache
    }

    /// The minimum length of a write: the physical block.
    pub fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    /// The same disk with another physical block size, which a file cannot have: a fake of a 512e
    /// disk.
    #[cfg(test)]
    pub fn with_blocks(self, block_bytes: u64) -> Disk {
        Disk {
            block_bytes,
            ..self
        }
    }

    /// Reads `length` bytes. Status 74 on failure, and when the disk ends first.
    pub fn read(&self, offset: u64, length: usize) -> anyhow::Result<Vec<u8>> {
        let (start, mut buffer) = self.blocks(offset, length);
        self.read_blocks(start, &mut buffer)
            .exit(Exit::Io, || self.place("reading", offset))?;
        let skip = (offset - start) as usize;
        Ok(buffer.bytes()[skip..skip + length].to_vec())
    }

    /// Writes `bytes`, which include the rest of their blocks, then reads them back and compares.
    /// Status 73 or 74.
    ///
    /// Bytes within one block are one write, so they arrive completely or not at all.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let place = || self.place("writing", offset);
        let (start, mut buffer) = self.blocks(offset, bytes.len());
        self.read_blocks(start, &mut buffer)
            .exit(Exit::Io, || self.place("reading", offset))?;
        let skip = (offset - start) as usize;
        buffer.bytes()[skip..skip + bytes.len()].copy_from_slice(bytes);
        let written = sys::write_durably(&self.file, start, buffer.bytes());
        let written = written.map_err(|error| io_error(error, Exit::of_write, place()))?;
        if written != buffer.bytes().len() {
            return Err(Exit::Io.error(format_args!(
                "{}: only {written} bytes of {} were written",
                place(),
                buffer.bytes().len()
            )));
        }
        if self.read(offset, bytes.len())? != bytes {
            return Err(Exit::Io.error(format_args!(
                "{}: the disk returns other bytes than were written; replace the disk",
                place()
            )));
        }
        Ok(())
    }

    /// Flushes: when this returns, every write is on the medium. Status 74.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.file
            .sync_data()
            .exit(Exit::Io, || format!("flushing {}", self.path.display()))
    }

    /// The start of the blocks that hold these bytes, and a buffer for them.
    fn blocks(&self, offset: u64, length: usize) -> (u64, Aligned) {
        let start = offset - offset % self.block_bytes;
        let end = (offset + length as u64).next_multiple_of(self.block_bytes);
        // A disk may end within a physical block.
        let end = if offset + length as u64 <= self.size_bytes {
            end.min(self.size_bytes)
        } else {
            end
        };
        (start, Aligned::new((end - start) as usize))
    }

    fn read_blocks(&self, start: u64, buffer: &mut Aligned) -> io::Result<()> {
        self.forget(start, buffer.length)?;
        self.file.read_exact_at(buffer.bytes(), start)
    }

    /// Asks the kernel to drop cached pages, where the cache cannot be bypassed.
    fn forget(&self, start: u64, length: usize) -> io::Result<()> {
        if self.past_cache {
            return Ok(());
        }
        Ok(posix_fadvise(
            &self.file,
            start as i64,
            length as i64,
            PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        )?)
    }

    fn place(&self, doing: &str, offset: u64) -> String {
        format!("{doing} {} at byte {offset}", self.path.display())
    }
}

/// Bytes at an address that direct I/O takes.
#[derive(Debug)]
pub struct Aligned {
    storage: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// A buffer of `length` zeros.
    pub fn new(length: usize) -> Aligned {
        let storage = vec![0; length + ALIGNMENT];
        let start = storage.as_ptr().align_offset(ALIGNMENT);
        Aligned {
            storage,
            start,
            length,
        }
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.length]
    }
}

/// The system calls that have no safe wrapper.
#[allow(
    unsafe_code,
    reason = "pwritev2 with a flag per write, and the ioctls of block devices"
)]
mod sys {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::libc;

    pub struct Geometry {
        pub size_bytes: u64,
        pub logical_bytes: u64,
        pub physical_bytes: u64,
        pub is_read_only: bool,
    }

    nix::ioctl_read_bad!(blksszget, libc::BLKSSZGET, libc::c_int);
    nix::ioctl_read_bad!(blkpbszget, libc::BLKPBSZGET, libc::c_uint);
    nix::ioctl_read_bad!(blkroget, nix::request_code_none!(0x12, 94), libc::c_int);
    nix::ioctl_read!(blkgetsize64, 0x12, 114, usize);
    nix::ioctl_none!(blkrrpart, 0x12, 95);
    nix::ioctl_write_ptr_bad!(blkzeroout, nix::request_code_none!(0x12, 127), [u64; 2]);

    /// The sizes of a block device.
    pub fn geometry(file: &File) -> nix::Result<Geometry> {
        let (mut logical, mut physical, mut size, mut read_only) = (0, 0, 0, 0);
        // SAFETY: the descriptor is open, and each call fills one integer of the type that the
        // kernel writes.
        unsafe {
            blksszget(file.as_raw_fd(), &mut logical)?;
            blkpbszget(file.as_raw_fd(), &mut physical)?;
            blkgetsize64(file.as_raw_fd(), &mut size)?;
            blkroget(file.as_raw_fd(), &mut read_only)?;
        }
        Ok(Geometry {
            size_bytes: size as u64,
            logical_bytes: logical as u64,
            physical_bytes: u64::from(physical),
            is_read_only: read_only != 0,
        })
    }

    /// Zeros a range of a block device, offloaded to the disk where possible (BLKZEROOUT, which
    /// never leaves the old content).
    pub fn zero_out(file: &File, offset: u64, length: u64) -> nix::Result<()> {
        // SAFETY: the descriptor is open, and the call reads two integers.
        unsafe { blkzeroout(file.as_raw_fd(), &[offset, length]) }.map(drop)
    }

    /// Makes the kernel read the partition table of a block device (BLKRRPART).
    pub fn reread_partitions(file: &File) -> nix::Result<()> {
        // SAFETY: the descriptor is open, and the call has no argument.
        unsafe { blkrrpart(file.as_raw_fd()) }.map(drop)
    }

    /// Whether the file is open for direct I/O.
    pub fn is_direct(file: &File) -> nix::Result<bool> {
        let flags = fcntl(file, FcntlArg::F_GETFL)?;
        Ok(OFlag::from_bits_retain(flags).contains(OFlag::O_DIRECT))
    }

    /// One write that is on the medium when the call returns (`RWF_DSYNC`, pwritev2(2)).
    pub fn write_durably(file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let piece = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: the one piece describes `bytes`, which lives through the call and is only read by
        // it.
        let written =
            unsafe { libc::pwritev2(file.as_raw_fd(), &piece, 1, offset, libc::RWF_DSYNC) };
        if written < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(written as usize)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(directory: &Path, length: usize) -> PathBuf {
        let path = directory.join("image");
        std::fs::write(
            &path,
            (0..length).map(|at| (at / 512) as u8).collect::<Vec<_>>(),
        )
        .unwrap();
        path
    }

    #[test]
    fn writes_leave_the_rest_of_their_block_alone() {
        // On the test's own disk and in memory, with a length that is no multiple of anything.
        let places = [tempfile::tempdir_in("."), tempfile::tempdir_in("/dev/shm")];
        for directory in places.map(Result::unwrap) {
            for length in [64 << 10, 33 * 512, 10_001] {
                let path = image(directory.path(), length);
                let mut expected = std::fs::read(&path).unwrap();
                let disk = Disk::open(&path, Access::Write).unwrap();
                for (offset, bytes) in [
                    (1024, vec![0xee; 512]),
                    (7 * 512 - 3, vec![0xdd; 700]),
                    (length as u64 - 512, vec![9; 512]),
                ] {
                    expected[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
                    disk.write(offset, &bytes).unwrap();
                    assert_eq!(disk.read(offset, bytes.len()).unwrap(), bytes);
                }
                disk.flush().unwrap();
                assert!(
                    std::fs::read(&path).unwrap() == expected,
                    "{} {length}",
                    directory.path().display()
                );
                assert_eq!(
                    Exit::of(&disk.read(length as u64 - 1, 2).unwrap_err()),
                    Exit::Io
                );
            }
        }
    }

    #[test]
    fn of_a_block_that_holds_eight_sectors_all_eight_are_written_at_once() {
        let directory = tempfile::tempdir_in(".").unwrap();
        // A disk may end within a block.
        let path = image(directory.path(), 64 * 512 + 512);
        let mut expected = std::fs::read(&path).unwrap();
        let disk = Disk::open(&path, Access::Write).unwrap().with_blocks(4096);
        for sector in [2, 7, 8, 64] {
            let (start, buffer) = disk.blocks(sector * 512, 512);
            assert_eq!(
                (start, buffer.length),
                (sector / 8 * 4096, if sector == 64 { 512 } else { 4096 })
            );
            disk.write(sector * 512, &[0xab; 512]).unwrap();
            expected[sector as usize * 512..][..512].fill(0xab);
        }
        assert!(std::fs::read(&path).unwrap() == expected);
    }

    #[test]
    fn files_that_are_no_disk_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let exit = |path: &Path| Exit::of(&Disk::open(path, Access::Read).unwrap_err());
        assert_eq!(exit(&directory.path().join("none")), Exit::NoInput);
        assert_eq!(exit(directory.path()), Exit::Data);
        assert_eq!(exit(Path::new("/dev/null")), Exit::Data);
    }
}
