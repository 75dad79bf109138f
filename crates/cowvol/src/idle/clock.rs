//! Whether the clock goes on steadily, so that days counted by it are days.
//!
//! A clock that has jumped ahead makes every volume look idle. Each complete look for idle volumes leaves
//! its time; after a jump, nothing goes by its age until the clock has been steady for a while.

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

/// Whether volumes can go by their age now.
#[derive(Debug)]
pub enum Look {
    /// They can.
    Now,
    /// They went a short time ago; in words.
    Later(String),
    /// The clock has jumped; in words.
    AfterJump(String),
}

/// Compares the clock with the last look.
pub fn compare(common: &Common, now: SystemTime) -> anyhow::Result<Look> {
    let since = last(&common.path(FILE))?.map(|last| now.duration_since(last));
    let reason = match since {
        Some(Ok(since)) if since < LEAST => {
            return Ok(Look::Later(
                "idle volumes were looked for in the last 12 hours".into(),
            ));
        }
        Some(Ok(since)) if since <= MOST => return Ok(Look::Now),
        Some(Ok(_)) => "the clock is more than 7 days ahead of the last look for idle volumes",
        Some(Err(_)) => "the clock was set back since the last look for idle volumes",
        None => "this is the first look for idle volumes",
    };
    Ok(Look::AfterJump(format!(
        "{reason}; they can go in 12 hours"
    )))
}

/// Makes this the time of the last look.
pub fn leave(common: &Common) -> anyhow::Result<()> {
    let path = common.path(FILE);
    atomic::create_directory(path.parent().unwrap_or(&path), 0o755)?;
    atomic::write(&path, 0o600, |_| Ok(()))
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
