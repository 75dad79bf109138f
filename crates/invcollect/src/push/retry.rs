//! The time of the next try, after the collector was unreachable or refused to answer: kept across
//! runs and boots.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonpipe::{Common, Exit, atomic, io_error};
use serde::{Deserialize, Serialize};

const FILE: &str = "/var/lib/labtools/spool/retry.json";
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);
/// The longest wait that a server can impose.
const LONGEST_ASKED: Duration = Duration::from_secs(86400);

/// The state of the tries so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Retry {
    /// The number of consecutive failures.
    pub failures: u32,
    /// The time of the last one, in seconds since 1970.
    pub failed_at: u64,
    /// The wait after it, in seconds.
    pub wait_seconds: u64,
    /// Whether the collector asked for the wait: then a change of the network does not end it.
    pub asked: bool,
    /// The reason of the failure.
    pub reason: String,
}

impl Retry {
    /// Reads it; the default when there was no failure, or the file is invalid, which costs one
    /// try.
    pub fn read(common: &Common) -> anyhow::Result<Retry> {
        let kept = jsonpipe::read_if_there(&common.path(FILE))?;
        Ok(kept
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default())
    }

    /// The state after one more failure. The wait doubles from a minute to an hour; a wait that the
    /// collector asks for has priority.
    pub fn after(&self, now: SystemTime, asked: Option<Duration>, reason: &str) -> Retry {
        let doubled = FIRST * 2u32.pow(self.failures.min(6));
        let wait = asked.map_or(doubled.min(LONGEST), |asked| asked.min(LONGEST_ASKED));
        Retry {
            failures: self.failures.saturating_add(1),
            failed_at: seconds(now),
            wait_seconds: wait.as_secs(),
            asked: asked.is_some(),
            reason: reason.to_owned(),
        }
    }

    /// The end of the wait; `None` when sending is allowed. A clock that was set back does not
    /// extend it.
    pub fn until(&self, now: SystemTime) -> Option<SystemTime> {
        let until = self
            .failed_at
            .saturating_add(self.wait_seconds.min(LONGEST_ASKED.as_secs()));
        let waits = self.failures > 0 && (self.failed_at..until).contains(&seconds(now));
        waits.then(|| UNIX_EPOCH + Duration::from_secs(until))
    }

    /// Stores it. On a full disk it may be lost: the next run then tries at once.
    pub fn keep(&self, common: &Common) -> anyhow::Result<()> {
        let text = serde_json::to_vec(self)?;
        atomic::write(&common.path(FILE), 0o600, |file| file.write_all(&text))
    }

    /// Removes it, once the collector has accepted a report.
    pub fn forget(common: &Common) -> anyhow::Result<()> {
        let path: PathBuf = common.path(FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(
                error,
                Exit::of_write,
                format_args!("removing {}", path.display()),
            )),
            _ => Ok(()),
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_wait_doubles_up_to_an_hour() {
        let mut retry = Retry::default();
        assert_eq!(retry.until(at(0)), None);
        let mut waits = Vec::new();
        for _ in 0..9 {
            retry = retry.after(at(1000), None, "x");
            waits.push(retry.wait_seconds);
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        let asked = retry.after(at(1000), Some(Duration::from_secs(5)), "x");
        assert_eq!(
            (asked.wait_seconds, asked.asked, asked.failures),
            (5, true, 10)
        );
        assert_eq!(
            retry.after(at(0), Some(Duration::MAX), "x").wait_seconds,
            86400
        );
    }

    #[test]
    fn a_clock_that_jumps_does_not_stop_the_reports() {
        let retry = Retry::default().after(at(1_790_000_000), None, "x");
        assert_eq!(retry.until(at(1_790_000_000)), Some(at(1_790_000_060)));
        assert_eq!(retry.until(at(1_790_000_059)), Some(at(1_790_000_060)));
        assert_eq!(retry.until(at(1_790_000_060)), None);
        assert_eq!(retry.until(at(1_000_000_000)), None, "set back by 25 years");
        let wrong = Retry {
            wait_seconds: u64::MAX / 2,
            ..retry.clone()
        };
        assert_eq!(
            wrong.until(at(1_790_086_400)),
            None,
            "a file from elsewhere"
        );
        assert_eq!(
            Retry {
                failed_at: u64::MAX,
                ..retry
            }
            .until(at(1_790_086_400)),
            None
        );
    }
}
