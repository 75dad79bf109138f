//! The changes of a machine in its event log: each once, and on the disk.

use std::collections::HashSet;

use jsonpipe::Common;
use jsonpipe::event_log::EventLog;
use serde::Deserialize;

use crate::TOOL;

/// How far back a line is looked for: more than is written between a run that was killed and the
/// next one.
const TAIL_BYTES: u64 = 4 << 20;

/// Adds the lines that are not there yet, and says which those are: each is given with its
/// `event.id`.
///
/// Status 73 when there is no room, 75 when another writer has the file.
pub fn append<'a>(common: &Common, lines: &'a [(String, String)]) -> anyhow::Result<Vec<&'a str>> {
    let mut log = EventLog::open(common)?;
    let tail = log.tail(TAIL_BYTES)?;
    // A line counts when its end is there.
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
    log.sync()?; // those that were there, too: the run that wrote them may have been ended before that
    Ok(new)
}

/// The `event.id` of a line of our own; `None` of any other, as those of the scripts, whatever it
/// quotes.
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
