//! Volumes that were handed out, and whose session has not ended: their room is promised, and nothing
//! takes them away, also while their guest has not opened them yet.
//!
//! A promise is an empty file in /run/labtools, which a power cut ends. What a killed session leaves
//! is taken back by the next `cowvol release`, which `login-session` calls before and after.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;

use jsonpipe::{Common, Exit, atomic, io_error};

use crate::backend::VolumeId;

/// The directory of the promises.
pub const DIRECTORY: &str = "/run/labtools/promised";

/// Promises a volume; returns whether it was not promised yet. Under the pool's lock.
pub fn make(common: &Common, id: &VolumeId) -> anyhow::Result<bool> {
    let directory = common.path(DIRECTORY);
    atomic::create_directory(&directory, 0o700)?;
    let path = directory.join(id.to_string());
    match File::create_new(&path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(io_error(
            error,
            Exit::of_write,
            format_args!("writing {}", path.display()),
        )),
    }
}

/// Takes a promise back; returns whether there was one. Under the pool's lock.
pub fn withdraw(common: &Common, id: &VolumeId) -> anyhow::Result<bool> {
    let directory = common.path(DIRECTORY);
    let path = directory.join(id.to_string());
    match fs::remove_file(&path) {
        Ok(()) => {
            let _ = fs::remove_dir(directory); // it stays while there are others
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error(
            error,
            Exit::of_change,
            format_args!("removing {}", path.display()),
        )),
    }
}

/// The promised volumes. Other names are skipped.
pub fn all(common: &Common) -> anyhow::Result<BTreeSet<VolumeId>> {
    let directory = common.path(DIRECTORY);
    let names = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        read => read.and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<Vec<_>>>()
        }),
    };
    let names = names.map_err(|error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("reading {}", directory.display()),
        )
    })?;
    Ok(names
        .iter()
        .filter_map(|name| VolumeId::parse(name.to_str()?))
        .collect())
}
