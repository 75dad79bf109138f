//! The section `register`, by subcommand.

use jsonpipe::Missing;
use serde::Serialize;

use crate::line::Event;
use crate::time::Time;

/// Of `start`, `end` and `refused`.
#[derive(Debug, Serialize)]
pub struct Recorded {
    /// Whether there is a line more; not in a dry run, and not when the start or the end was there
    /// already.
    pub changed: bool,
    /// The kind of the line.
    pub event: Event,
}

/// Of `recover`.
#[derive(Debug, Serialize)]
pub struct Recovered {
    /// Whether sessions were closed; not in a dry run.
    pub changed: bool,
    /// The sessions that were open.
    pub closed: Vec<Closed>,
}

/// A session that was open.
#[derive(Debug, Serialize)]
pub struct Closed {
    /// Its name.
    pub session: String,
    /// `killed` or `power_lost`.
    pub ended: &'static str,
}

/// Of `prune`.
#[derive(Debug, Serialize)]
pub struct Pruned {
    /// Whether lines were removed; not in a dry run.
    pub changed: bool,
    /// Sessions that ended before this time are removed.
    pub before: Time,
    /// How many lines went.
    pub removed_lines: u64,
    /// How long they were.
    pub removed_bytes: u64,
}

/// Of `find`.
#[derive(Debug, Serialize)]
pub struct Found {
    /// The address that was asked for.
    pub address: String,
    /// The time that was asked for, in UTC.
    pub at: Time,
    /// The sessions that had it then, or may have.
    pub sessions: Vec<Had>,
    /// Gaps of the answer, and why.
    pub missing: Vec<Missing>,
}

/// A session that had the address.
#[derive(Debug, Serialize)]
pub struct Had {
    /// Its name.
    pub session: String,
    /// The canonical user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The realm, which knows the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// The name of this machine in the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The identity of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// When it began.
    pub started_at: Time,
    /// When it ended, where that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// When it was found to have ended, otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_before: Option<Time>,
    /// Its length, by a clock that cannot be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Whether it certainly ran at the time, and had this address then.
    pub certain: bool,
    /// Why that is not certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}
