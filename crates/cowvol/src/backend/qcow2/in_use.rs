//! Finds the users of images, by kernel locks alone.
//!
//! QEMU and its tools hold their own locks on every image that they have open, including the bases
//! below it, however they were started.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jsonpipe::{Exit, io_error, sabotaged};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::backend::ofd;

/// A file that no other program can open as an image.
#[derive(Debug)]
pub struct Locked {
    file: File,
    path: PathBuf,
}

/// Locks a file against QEMU, and others that lock images; `None` when one of them has it open, or
/// nothing is there. Status 65 when it is something else than a file, which is not opened: to open a
/// device can have an effect.
pub fn lock_out(path: &Path) -> anyhow::Result<Option<Locked>> {
    let failed = |error: io::Error| {
        let cause = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => {
                ": its file system is read-only, perhaps after an error of the disk, which dmesg shows"
            }
            _ => "",
        };
        io_error(
            error,
            Exit::of_change,
            format_args!("locking {}{cause}", path.display()),
        )
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if !found.is_file() => {
            let path = path.display();
            return Err(Exit::Data.error(format_args!("locking {path}: not a file; move it away")));
        }
        _ => {}
    }
    let file = match OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(O_NONBLOCK | O_NOFOLLOW)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !sabotaged("evict-unlocked") && !ofd::take(&file, ofd::EXCLUSIVE).map_err(failed)? {
        return Ok(None);
    }
    if !share(&file).map_err(failed)? {
        return Ok(None);
    }
    // It may have been replaced between our open and our lock.
    match fs::symlink_metadata(path) {
        Ok(named) if named.ino() == file.metadata().map_err(failed)?.ino() => {}
        _ => return Ok(None),
    }
    let path = path.to_owned();
    Ok(Some(Locked { file, path }))
}

impl Locked {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The file, locked until it is closed.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Frees its room, once its name is gone or another file has it. The content of a file with another
    /// name stays.
    pub fn free(self) {
        if self.file.metadata().is_ok_and(|found| found.nlink() == 0) {
            let _ = self.file.set_len(0); // the close does the same, later on some file systems
        }
    }

    /// Removes its name, then frees its room, which the close alone would do later on some file
    /// systems. However that ends, the file is complete or absent: the kernel's journal keeps the
    /// order of the two.
    pub fn remove(self) -> anyhow::Result<()> {
        fs::remove_file(&self.path).map_err(|error| {
            io_error(
                error,
                Exit::of_change,
                format_args!("removing {}", self.path.display()),
            )
        })?;
        self.free();
        Ok(())
    }
}

/// Whether a program holds a lock on the file, or on the target of the link.
pub fn is_locked(path: &Path) -> anyhow::Result<bool> {
    look(path, |file| {
        Ok(ofd::is_taken(file)? || !got(file.try_lock())?)
    })
}

/// The same of a volume, without keeping any program from it meanwhile.
pub fn is_volume_locked(path: &Path) -> anyhow::Result<bool> {
    look(path, is_open)
}

/// Whether another program holds a lock on an open volume, which must not be locked here.
pub fn is_open(file: &File) -> io::Result<bool> {
    Ok(ofd::is_taken(file)? || !share(file)?)
}

fn look(path: &Path, is_locked: impl Fn(&File) -> io::Result<bool>) -> anyhow::Result<bool> {
    let failed = |error: io::Error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("looking for locks on {}", path.display()),
        )
    };
    let open = || match fs::metadata(path)?.is_file() {
        true => OpenOptions::new()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open(path)
            .map(Some),
        false => Ok(None),
    };
    match open() {
        Ok(Some(file)) => is_locked(&file).map_err(failed),
        Ok(None) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false), // a dangling link
        Err(error) => Err(failed(error)),
    }
}

/// Takes a shared lock on a whole volume; false when a program has it for itself. Shared, because those
/// who only look take it as well: a volume that is looked at is not in use.
fn share(file: &File) -> io::Result<bool> {
    got(file.try_lock_shared())
}

fn got(lock: Result<(), TryLockError>) -> io::Result<bool> {
    match lock {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
