//! Writes a machine's changes to its event log: each once, and durably.

use std::collections::HashSet;

use jsonpipe::{Common, event_log};
use serde::Deserialize;

use crate::TOOL;

/// The part of the log that is searched: more than is written between a run that was killed and the
/// next one.
const TAIL_BYTES: u64 = 4 << 20;

/// Appends the lines that are missing in the log, and returns those; each comes with its
/// `event.id`.
///
/// Status 73 when there is no room, 75 when another writer has locked the file.
pub fn append<'a>(common: &Common, lines: &'a [(String, String)]) -> anyhow::Result<Vec<&'a str>> {
    let mut log = event_log::open(common)?;
    let tail = log.tail(TAIL_BYTES)?;
    // A line counts only if it is complete.
    let whole = tail
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let known: HashSet<String> = tail[..whole]
        .split(|byte| *byte == b'\n')
        .filter_map(event_id)
        .collect();
    let new: Vec<&str> = lines
        .iter()
        .filter(|(id, _)| !known.contains(id))
        .map(|(_, line)| line.as_str())
        .collect();
    if !new.is_empty() {
        log.append(
            &new.iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        )?;
    }
    log.sync()?; // including older lines, whose run may have ended before its sync
    Ok(new)
}

/// The `event.id` of a line of invcollect; `None` for others, as those of the scripts, whatever
/// they quote.
fn event_id(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        event: Id,
    }
    #[derive(Deserialize)]
    struct Id {
        id: String,
        provider: String,
    }
    let event = serde_json::from_slice::<Line>(line).ok()?.event;
    (event.provider == TOOL.name).then_some(event.id)
}
