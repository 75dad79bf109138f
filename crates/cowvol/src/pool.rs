//! The lock on everything below /qcow2: held while volumes or bases appear or go.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use jsonpipe::signals::Deferred;
use jsonpipe::{Common, Exit, atomic, io_error};

const DIRECTORY: &str = "/run/labtools";
const LOCK: &str = "/run/labtools/pool.lock";

/// A clone holds it for milliseconds, a switch-over for the time of a rename.
const WAIT: Duration = Duration::from_secs(5);
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// Takes the lock, which is held until the file is closed. Waits a few seconds for another holder, then says status 75; a signal
/// ends the wait at once.
pub fn lock(common: &Common, signals: &Deferred) -> anyhow::Result<File> {
    let since = Instant::now();
    loop {
        match try_lock(common, LOCK, true)? {
            Tried::Ours(file) => return Ok(file),
            _ if since.elapsed() < WAIT && !signals.pending() => sleep(BETWEEN_TRIES),
            _ => {
                let path = common.path(LOCK);
                return Err(Exit::TemporaryFailure
                    .error(format_args!("locking {}: another run holds it; try again when that has ended", path.display())));
            }
        }
    }
}

/// How an attempt to take a lock went.
#[derive(Debug)]
pub enum Tried {
    /// It is ours until the file is closed.
    Ours(File),
    /// Another process holds it.
    Held,
    /// There is no such file, so nobody holds it.
    NotThere,
}

/// Takes the lock on a file in /run/labtools, if nobody holds it. The file is created where it is not there, or not.
pub fn try_lock(common: &Common, path: &str, create: bool) -> anyhow::Result<Tried> {
    let path = common.path(path);
    let failed = |error| io_error(error, Exit::of_write, format_args!("locking {}", path.display()));
    if create {
        atomic::create_directory(&common.path(DIRECTORY), 0o700)?;
    }
    let file = match OpenOptions::new().write(true).create(create).truncate(false).mode(0o600).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !create => return Ok(Tried::NotThere),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Tried::Ours(file)),
        Err(TryLockError::WouldBlock) => Ok(Tried::Held),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
