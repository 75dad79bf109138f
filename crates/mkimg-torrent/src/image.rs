//! The image's file: a regular file that can be a base, and does not change while it is read.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jsonpipe::{Exit, Pipe, io_error};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc::O_NONBLOCK;
use progress::Progress;

use crate::TOOL;
use crate::scan::{Digests, scan};
use crate::survey::{Survey, survey};

/// Above the images that this suite distributes; the block map of this size takes 256 MiB.
const MAX_BYTES: u64 = 1 << 40;

/// An image that is open.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    file: File,
    before: Metadata,
}

impl Image {
    /// Opens the file. Status 66 when it does not exist, 65 when it is not a regular file, or
    /// larger than 1 TiB.
    pub fn open(path: &Path) -> anyhow::Result<Image> {
        let failed = |error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", path.display()),
            )
        };
        // Opening a FIFO must not block.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open(path)
            .map_err(failed)?;
        let before = file.metadata().map_err(failed)?;
        let image = Image {
            path: path.to_owned(),
            file,
            before,
        };
        if !image.before.is_file() {
            return Err(image.wrong("not a regular file"));
        }
        if image.size_bytes() > MAX_BYTES {
            return Err(image.wrong("larger than 1 TiB"));
        }
        Ok(image)
    }

    /// The length of the file.
    pub fn size_bytes(&self) -> u64 {
        self.before.size()
    }

    /// Its modification time.
    pub fn modified(&self) -> anyhow::Result<SystemTime> {
        self.before.modified().map_err(|error| self.failed(error))
    }

    /// The size of the guest's disk. Status 65 when the file is not qcow2, or cannot be a base:
    /// faults that machines would find after the transfer are found before it.
    pub fn virtual_bytes(&self) -> anyhow::Result<u64> {
        if self.size_bytes() == 0 {
            return Err(self.wrong("it is empty, which is no disk"));
        }
        let mut start = [0; 4];
        let start = &mut start[..self.size_bytes().min(4) as usize];
        self.file
            .read_exact_at(start, 0)
            .map_err(|error| self.failed(error))?;
        if !qcow2::is_qcow2(start) {
            return Err(self.wrong(
                "not a qcow2 image; if it is a raw disk, convert it with qemu-img convert -O qcow2",
            ));
        }
        let image = qcow2::Image::read(
            &self.path,
            self.file.try_clone().map_err(|error| self.failed(error))?,
        )?;
        image.check_is_base()?;
        Ok(image.header.virtual_bytes)
    }

    /// Reads all of it once, with progress messages. Status 65 when it changes meanwhile.
    pub fn digest(&self, pipe: &Pipe, piece_bytes: u64) -> anyhow::Result<Digests> {
        let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL); // advice only
        let size = self.size_bytes();
        // Only its name, because a bar has one line.
        let name = self.path.file_name().unwrap_or_default().display();
        let mut progress = Progress::new(TOOL);
        let show = |done| progress.show(format_args!("hashing {name}"), done, size);
        let digests =
            scan(&self.file, size, piece_bytes, show).map_err(|error| self.failed(error))?;
        self.check_unchanged()?;
        let [whole, parts] = digests.busy.map(|busy| busy.as_secs_f64());
        pipe.note(format_args!(
            "hashed {}: {size} bytes, {} of them read; SHA-256 took {whole:.3} s, SHA-1 and the block map {parts:.3} s",
            self.path.display(),
            digests.read_bytes
        ));
        Ok(digests)
    }

    /// Reads all of it once, for the manifest of a host's root. Status 65 when it changes
    /// meanwhile.
    pub fn survey(&self) -> anyhow::Result<Survey> {
        let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL); // advice only
        let size = self.size_bytes();
        let name = self.path.file_name().unwrap_or_default().display();
        let mut progress = Progress::new(TOOL);
        let show = |done| progress.show(format_args!("hashing {name}"), done, size);
        let survey = survey(&self.file, size, show).map_err(|error| self.failed(error))?;
        self.check_unchanged()?;
        Ok(survey)
    }

    /// A part of it.
    pub fn read(&self, offset: u64, length: usize) -> anyhow::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| self.failed(error))?;
        Ok(bytes)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that it was not written to, and still has its name.
    fn check_unchanged(&self) -> anyhow::Result<()> {
        let stamp = |of: &Metadata| {
            (
                of.dev(),
                of.ino(),
                of.size(),
                of.mtime(),
                of.mtime_nsec(),
                of.ctime(),
                of.ctime_nsec(),
            )
        };
        let after = self.file.metadata().map_err(|error| self.failed(error))?;
        let named = fs::metadata(&self.path).map_err(|error| self.failed(error))?;
        if [&after, &named]
            .into_iter()
            .all(|now| stamp(now) == stamp(&self.before))
        {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    fn failed(&self, error: io::Error) -> anyhow::Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => self.changed(),
            _ => io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", self.path.display()),
            ),
        }
    }

    fn changed(&self) -> anyhow::Error {
        self.wrong("it changed while it was read; take an image that nothing writes to")
    }

    /// An error with the fault.
    pub fn wrong(&self, what: &str) -> anyhow::Error {
        Exit::Data.error(format_args!("reading {}: {what}", self.path.display()))
    }
}
