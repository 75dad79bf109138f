//! The guest's disks, opened here so that QEMU needs no access to their paths.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use confined::renumber;
use jsonpipe::{Common, Exit, ExitContext, io_error};
use nix::libc::{self, c_int};

use crate::profile::Settings;
use crate::request::Volume;
use crate::virtualizer::Descriptors;

/// The descriptors that QEMU inherits, under the numbers in its command line.
#[derive(Debug)]
pub struct HandedDown {
    monitor: OwnedFd,
    volume: OwnedFd,
    backing: Option<OwnedFd>,
    console: Option<OwnedFd>,
}

impl HandedDown {
    /// Opens the disk for reading and writing, its base for reading, and the console for writing.
    pub fn open(
        common: &Common,
        volume: &Volume,
        settings: &Settings,
        monitor: UnixStream,
    ) -> anyhow::Result<HandedDown> {
        let handed = |file: OwnedFd| {
            renumber(file).exit(Exit::Software, || "numbering a descriptor for QEMU")
        };
        // In this order, so that the numbers are the planned ones.
        Ok(HandedDown {
            monitor: handed(monitor.into())?,
            volume: handed(open_volume(&common.path(&volume.path), volume.is_device())?.into())?,
            backing: volume
                .backing()
                .map(|(path, _)| handed(open_base(&common.path(path))?.into()))
                .transpose()?,
            console: settings
                .console
                .as_ref()
                .map(|path| handed(console(&common.path(path))?.into()))
                .transpose()?,
        })
    }

    /// The numbers.
    pub fn descriptors(&self) -> Descriptors {
        let number = |fd: &Option<OwnedFd>| fd.as_ref().map(AsRawFd::as_raw_fd);
        Descriptors {
            monitor: self.monitor.as_raw_fd(),
            volume: self.volume.as_raw_fd(),
            backing: number(&self.backing).unwrap_or(Descriptors::PLANNED.backing),
            console: number(&self.console).unwrap_or(Descriptors::PLANNED.console),
        }
    }

    /// The descriptors.
    pub fn all(&self) -> Vec<BorrowedFd<'_>> {
        let always = [self.monitor.as_fd(), self.volume.as_fd()];
        always
            .into_iter()
            .chain(self.backing.as_ref().map(AsFd::as_fd))
            .chain(self.console.as_ref().map(AsFd::as_fd))
            .collect()
    }
}

/// Opens the user's disk. Block devices have many names; an image file must not be a link.
fn open_volume(path: &Path, is_device: bool) -> anyhow::Result<File> {
    let follow = if is_device { 0 } else { libc::O_NOFOLLOW };
    open_disk(
        OpenOptions::new().read(true).write(true),
        follow,
        path,
        is_device,
    )
}

/// Opens a base. Only root can replace it, and it may be a link to another file system.
fn open_base(path: &Path) -> anyhow::Result<File> {
    open_disk(OpenOptions::new().read(true), 0, path, false)
}

/// Opens a disk; status 66 when it does not exist, 65 when it is not of the kind in the document.
fn open_disk(
    options: &mut OpenOptions,
    follow: c_int,
    path: &Path,
    is_device: bool,
) -> anyhow::Result<File> {
    let wrong = |what: &str| Exit::Data.error(format_args!("opening {}: {what}", path.display()));
    let failed = |error: io::Error| match error.raw_os_error() {
        Some(libc::ELOOP) => wrong("a symbolic link, which is not followed"),
        Some(libc::EISDIR) => wrong("a directory"),
        _ => io_error(
            error,
            Exit::of_read,
            format_args!("opening {}", path.display()),
        ),
    };
    // Opening a pipe must not block.
    let file = options
        .custom_flags(follow | libc::O_NONBLOCK)
        .open(path)
        .map_err(failed)?;
    let kind = file.metadata().map_err(failed)?.file_type();
    match (is_device, kind.is_block_device(), kind.is_file()) {
        (true, true, _) | (false, _, true) => Ok(file),
        (true, ..) => Err(wrong("not a block device")),
        (false, ..) => Err(wrong("not a regular file")),
    }
}

/// Opens the file for the guest's serial port, or a pipe that has a reader. Status 73 without room
/// or on a read-only file system, otherwise 78.
fn console(path: &Path) -> anyhow::Result<File> {
    let exit_of = |error: &io::Error| match Exit::of_write(error) {
        Exit::CantCreate => Exit::CantCreate,
        _ => Exit::Config,
    };
    let failed = |error: io::Error| {
        io_error(
            error,
            exit_of,
            format_args!("opening qemu.console {}", path.display()),
        )
    };
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(failed)
}
