//! The event log of the machine: one JSON line for each event.

use crate::json_lines::JsonLines;
use crate::process::Common;

/// The path of the log.
pub const PATH: &str = "/var/log/labtools/events.jsonl";

/// Opens the log below the root, to add to it.
pub fn open(common: &Common) -> anyhow::Result<JsonLines> {
    JsonLines::open(common.path(PATH))
}
