//! The lock on everything below /qcow2: held while volumes or bases appear or go.

use std::fs::{File, OpenOptions, TryLockError};
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
    atomic::create_directory(&common.path(DIRECTORY), 0o700)?;
    let path = common.path(LOCK);
    let failed = |error| io_error(error, Exit::of_write, format_args!("locking {}", path.display()));
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if since.elapsed() < WAIT && !signals.pending() => sleep(BETWEEN_TRIES),
            Err(TryLockError::WouldBlock) => {
                return Err(Exit::TemporaryFailure
                    .error(format_args!("locking {}: another run holds it; try again when that has ended", path.display())));
            }
        }
    }
}
