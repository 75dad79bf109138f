//! Removed names, whose room is freed later: the names go under the pool's lock, and what takes
//! longer delays no login.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jsonpipe::{Exit, atomic, io_error};

use crate::backend;
use crate::backend::qcow2::in_use;

/// Removed names. The files keep their room until they are closed.
#[derive(Debug, Default)]
pub struct Unlinked {
    files: Vec<File>,
    changed: BTreeSet<PathBuf>,
}

impl Unlinked {
    /// Removes a name, and counts the room that becomes free. The target of a link stays. Status 75
    /// when a program has the file open.
    pub fn unlink(&mut self, path: &Path) -> anyhow::Result<u64> {
        let failed = |error| {
            io_error(
                error,
                Exit::of_change,
                format_args!("removing {}", path.display()),
            )
        };
        let found = fs::symlink_metadata(path).map_err(failed)?;
        // Kept until it is closed, a lock also keeps programs from opening the file until its name
        // is gone.
        let locked = match found.is_file() {
            true => in_use::lock_out(path)?,
            false => None,
        };
        if found.is_file() && locked.is_none() {
            return Err(backend::in_use(&path.display().to_string()));
        }
        fs::remove_file(path).map_err(failed)?;
        self.files.extend(locked.map(in_use::Locked::into_file));
        self.changed.extend(path.parent().map(Path::to_owned));
        Ok(room_of(&found))
    }

    /// Also removes a directory, if it has become empty.
    pub fn remove_if_empty(&mut self, directory: &Path) {
        if fs::remove_dir(directory).is_ok() {
            self.changed.remove(directory);
            self.changed.extend(directory.parent().map(Path::to_owned));
        }
    }

    /// Makes the removals durable, then frees the room.
    pub fn settle(self) -> anyhow::Result<()> {
        self.changed
            .iter()
            .try_for_each(|directory| atomic::sync_directory(directory))
    }
}

/// The room that a file takes.
pub fn held_bytes(file: &fs::Metadata) -> u64 {
    file.blocks() * 512
}

/// The room that the removal of a name frees: none, while the file has another name.
pub fn room_of(file: &fs::Metadata) -> u64 {
    if file.is_file() && file.nlink() == 1 {
        held_bytes(file)
    } else {
        0
    }
}
