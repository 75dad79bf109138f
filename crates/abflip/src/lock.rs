//! The lock on the slots: one run at a time writes, flips, tries or repairs.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;

use jsonpipe::{Common, Exit, atomic, io_error};

const DIRECTORY: &str = "/run/labtools";
const LOCK: &str = "/run/labtools/abflip.lock";

/// Takes the lock, which is held until the file is closed. Status 75 when another run holds it.
pub fn lock(common: &Common) -> anyhow::Result<File> {
    atomic::create_directory(&common.path(DIRECTORY), 0o700)?;
    let path = common.path(LOCK);
    let failed = |error| io_error(error, Exit::of_write, format_args!("locking {}", path.display()));
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Exit::TemporaryFailure
            .error(format_args!("locking {}: another abflip is at work; try again when that has ended", path.display()))),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
