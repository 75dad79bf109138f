//! Whether the clock goes on steadily, so that days counted by it are days.
//!
//! A clock that has jumped ahead makes every volume look idle. Each look for idle volumes leaves its
//! time; after a jump, nothing goes by its age until the clock has been steady for a while.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jsonpipe::{Common, Exit, atomic, io_error};

/// An empty file. Its modification time is that of the last look.
pub const FILE: &str = "/var/lib/labtools/cowvol.clock";

/// The time between two looks, at least: a jump can be noticed and mended before the next one, and a
/// daily run is never too early.
const LEAST: Duration = Duration::from_secs(12 * 60 * 60);

/// The time between two looks of a machine in use, at most.
const MOST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Why there is no look now, in words.
pub type Reason = String;

/// Leaves the time `now`, except in a dry run; or the reason why volumes cannot go by their age now.
pub fn look(common: &Common, now: SystemTime, dry_run: bool) -> anyhow::Result<Result<(), Reason>> {
    let path = common.path(FILE);
    let since = last(&path)?.map(|last| now.duration_since(last));
    let reason = match since {
        Some(Ok(since)) if since < LEAST => {
            return Ok(Err(
                "idle volumes were looked for in the last 12 hours".into()
            ));
        }
        Some(Ok(since)) if since <= MOST => None,
        Some(Ok(_)) => {
            Some("the clock is more than 7 days ahead of the last look for idle volumes")
        }
        Some(Err(_)) => Some("the clock was set back since the last look for idle volumes"),
        None => Some("this is the first look for idle volumes"),
    };
    if !dry_run {
        atomic::create_directory(path.parent().unwrap_or(&path), 0o755)?;
        atomic::write(&path, 0o600, |_| Ok(()))?;
    }
    Ok(match reason {
        None => Ok(()),
        Some(reason) => Err(format!("{reason}; they can go in 12 hours")),
    })
}

fn last(path: &Path) -> anyhow::Result<Option<SystemTime>> {
    match fs::symlink_metadata(path).and_then(|found| found.modified()) {
        Ok(last) => Ok(Some(last)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(
            error,
            Exit::of_read,
            format_args!("looking at {}", path.display()),
        )),
    }
}
