//! The event log of the machine, which the scripts write, too (`append-record`): one JSON line for each event, durable.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use jsonpipe::{Common, Exit, atomic, io_error};
use serde::Deserialize;

use crate::TOOL;

/// Where it lies.
pub const PATH: &str = "/var/log/labtools/events.jsonl";
/// How long another writer is waited for, as `append-record` does.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_TRIES: Duration = Duration::from_millis(10);
/// How far back a line is looked for: more than is written between a run that was killed and the next one.
const TAIL_BYTES: u64 = 4 << 20;

/// Adds the lines that are not there yet, and says which those are: each is given with its `event.id`.
///
/// Status 73 when there is no room, 75 when another writer has the file.
pub fn append<'a>(common: &Common, lines: &'a [(String, String)]) -> anyhow::Result<Vec<&'a str>> {
    let path = common.path(PATH);
    let failed = |error| io_error(error, Exit::of_write, format_args!("writing {}", path.display()));
    let directory = path.parent().unwrap_or(&path);
    atomic::create_directory(directory, 0o700)?;
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path).map_err(failed)?;
    let since = Instant::now();
    while let Err(error) = file.try_lock() {
        if since.elapsed() > PATIENCE {
            return Err(failed(io::Error::from(error)));
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
    let size = file.metadata().map_err(failed)?.size();
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES))).map_err(failed)?;
    file.read_to_end(&mut tail).map_err(failed)?;
    // A line counts when its end is there. What a power cut left of one is ended first, and so spoils no other.
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let known: HashSet<String> = tail[..whole].split(|byte| *byte == b'\n').filter_map(event_id).collect();
    let new: Vec<&str> = lines.iter().filter(|(id, _)| !known.contains(id)).map(|(_, line)| line.as_str()).collect();
    if new.is_empty() {
        file.sync_all().map_err(failed)?; // whoever wrote them may have been ended before that
        return Ok(new);
    }
    let mut text = String::from(if whole < tail.len() { "\n" } else { "" });
    for line in &new {
        text += line;
        text.push('\n');
    }
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        let _ = file.set_len(size); // the first error is the one to tell
        return Err(failed(error));
    }
    atomic::sync_directory(directory)?;
    Ok(new)
}

/// The `event.id` of a line of our own; `None` of any other, as those of the scripts, whatever it quotes.
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
