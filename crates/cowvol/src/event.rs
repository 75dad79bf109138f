//! Lines in the event log about volumes that go or come.

use std::time::SystemTime;

use jsonpipe::{Common, Pipe, event_log, timestamp};
use serde::Serialize;

use crate::TOOL;
use crate::backend::VolumeId;

#[derive(Serialize)]
struct Line<'a, T> {
    at: String,
    event: &'static str,
    tool: &'static str,
    /// The token of the user who logs in.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    for_whom: Option<&'a str>,
    #[serde(flatten)]
    volume: &'a T,
}

/// Writes a line for each, before they go or come: none does without a line, and after a kill in
/// between the next run may write another one. A log that cannot be written is a warning: it may be on the disk
/// that is full.
pub fn log<T: Serialize>(
    common: &Common,
    pipe: &Pipe,
    event: &'static str,
    for_whom: Option<&VolumeId>,
    volumes: &[T],
) {
    let write = || -> anyhow::Result<()> {
        let at = timestamp::rfc3339(SystemTime::now());
        let mut lines = String::new();
        for volume in volumes {
            lines += &serde_json::to_string(&Line {
                at: at.clone(),
                event,
                tool: TOOL.name,
                for_whom: for_whom.map(|id| id.token.as_str()),
                volume,
            })?;
            lines.push('\n');
        }
        let mut log = event_log::open(common)?;
        log.append(&lines)?;
        log.sync()
    };
    if volumes.is_empty() {
        return;
    }
    if let Err(error) = write() {
        pipe.warn(format_args!(
            "{error:#}; the {event} goes on without an event"
        ));
    }
}
