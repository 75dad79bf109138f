//! The spool: reports that wait, each a file in /var/lib/labtools/spool, `SEQUENCE.KIND`.
//!
//! There is no file of state beside the reports: the newest report says how to go on, and so the report that was delivered last
//! stays, under the name `sent`. A delivered report takes that name by one rename, which needs no room on a full disk and leaves at
//! every moment either a report that waits or one that is known to be delivered.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jsonpipe::{Common, Exit, atomic, io_error};

use crate::envelope::{self, Header, Kind};

/// Where it is.
pub const DIRECTORY: &str = "/var/lib/labtools/spool";
/// Held while reports are added.
pub const LOCK: &str = "/run/labtools/spool.lock";
/// Below it: what the collector refused.
pub const REJECTED: &str = "rejected";
const SENT: &str = "sent";

/// A report that waits, or was rejected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Its place in the order.
    pub sequence: u64,
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
}

/// The spool of this machine.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    max_bytes: u64,
}

/// The newest report, by which the next one goes on.
#[derive(Debug, Default)]
pub struct Last {
    /// Its sequence; `None` for an empty spool.
    pub sequence: Option<u64>,
    /// The second line of the newest report that can be read.
    pub header: Option<Header>,
}

/// The reports in a directory, the oldest first; none when it is not there.
fn list(directory: &Path) -> anyhow::Result<Vec<Item>> {
    let failed = |error| io_error(error, Exit::of_read, format_args!("reading {}", directory.display()));
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut items = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let Some((sequence, kind)) = entry.file_name().to_str().and_then(parse) else { continue };
        match entry.metadata() {
            Ok(metadata) => items.push(Item { sequence, kind, path: entry.path(), bytes: metadata.len() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {} // sent meanwhile
            Err(error) => return Err(failed(error)),
        }
    }
    items.sort();
    Ok(items)
}

/// Whether this is the name of a report.
pub fn is_report(name: &OsStr) -> bool {
    name.to_str().and_then(parse).is_some()
}

fn parse(name: &str) -> Option<(u64, Kind)> {
    let (sequence, kind) = name.split_once('.')?;
    let digits = sequence.len() == 12 && sequence.bytes().all(|byte| byte.is_ascii_digit());
    Some((sequence.parse().ok().filter(|_| digits)?, Kind::parse(kind)?))
}

impl Spool {
    /// Makes it where it is missing, and clears away what a kill or a power cut left. To be called under [`LOCK`].
    pub fn open(common: &Common, max_bytes: u64) -> anyhow::Result<Spool> {
        let spool = Spool { directory: common.path(DIRECTORY), max_bytes };
        atomic::create_directory(&spool.directory.join(REJECTED), 0o700)?;
        let failed = |error| io_error(error, Exit::of_read, format_args!("reading {}", spool.directory.display()));
        for entry in fs::read_dir(&spool.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let unfinished = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(".tmp"));
            if unfinished.is_some_and(|name| is_report(OsStr::new(name))) {
                remove(&entry.path())?;
            }
        }
        // A report says what was thrown away for it, before that is done.
        if let Some(header) = spool.last()?.header {
            for item in spool.list()?.iter().filter(|item| header.dropped.contains(&item.sequence)) {
                remove(&item.path)?;
            }
        }
        Ok(spool)
    }

    /// What is there, for a dry run, in which it is not made.
    pub fn look(common: &Common, max_bytes: u64) -> Spool {
        Spool { directory: common.path(DIRECTORY), max_bytes }
    }

    /// The reports that wait, the oldest first.
    pub fn list(&self) -> anyhow::Result<Vec<Item>> {
        list(&self.directory)
    }

    /// The newest report there is, waiting, rejected or sent.
    pub fn last(&self) -> anyhow::Result<Last> {
        let mut items = self.list()?;
        items.extend(self.rejected()?);
        items.sort();
        // One that was cut off says nothing but its name.
        let waiting = items.iter().rev().find_map(|item| header(&item.path));
        let newest = waiting.into_iter().chain(header(&self.directory.join(SENT))).max_by_key(|(sequence, _)| *sequence);
        let sequence = newest.as_ref().map(|(sequence, _)| *sequence).max(items.last().map(|item| item.sequence));
        Ok(Last { sequence, header: newest.map(|(_, header)| header) })
    }

    /// The reports that the collector refused, the oldest first.
    pub fn rejected(&self) -> anyhow::Result<Vec<Item>> {
        list(&self.directory.join(REJECTED))
    }

    /// Which reports have to go so that one of `bytes` fits; `None` when it may not.
    ///
    /// Snapshots between the first and the last go first, the oldest before the others. Events never go: they may take three
    /// quarters, and what is more stays in its log.
    pub fn room(&self, kind: Kind, bytes: u64) -> anyhow::Result<Option<Vec<Item>>> {
        Ok(room(self.list()?, self.max_bytes, kind, bytes))
    }

    /// Adds a report; then what it was to replace goes. Status 73 when the disk has no room for it.
    pub fn add(&self, sequence: u64, kind: Kind, report: &[u8], dropped: &[Item]) -> anyhow::Result<()> {
        let path = self.directory.join(format!("{sequence:012}.{}", kind.as_str()));
        atomic::write(&path, 0o600, |file| file.write_all(report))?;
        for item in dropped {
            remove(&item.path)?;
        }
        Ok(())
    }

    /// It is delivered: it waits no longer.
    pub fn sent(&self, item: &Item) -> anyhow::Result<()> {
        rename(&item.path, &self.directory.join(SENT))?;
        atomic::sync_directory(&self.directory)
    }

    /// The collector will never take it: it is kept for a person to look at, and sent again when it is moved back.
    pub fn reject(&self, item: &Item) -> anyhow::Result<()> {
        let rejected = self.directory.join(REJECTED);
        let name = item.path.file_name().unwrap_or_default();
        rename(&item.path, &rejected.join(name))?;
        atomic::sync_directory(&rejected)?;
        atomic::sync_directory(&self.directory)?;
        // As bounded as the spool, by the same rule; the newest stays, for its sequence.
        let mut items = self.rejected()?;
        let newest = items.pop();
        let room = room(items, self.max_bytes, Kind::Snapshot, newest.map_or(0, |item| item.bytes));
        for item in room.into_iter().flatten() {
            remove(&item.path)?;
        }
        Ok(())
    }
}

fn room(items: Vec<Item>, max_bytes: u64, kind: Kind, bytes: u64) -> Option<Vec<Item>> {
    let (snapshots, others): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| item.kind.is_snapshot());
    let events: u64 = others.iter().map(|item| item.bytes).sum();
    if !kind.is_snapshot() && events + bytes > max_bytes / 4 * 3 {
        return None;
    }
    let mut used = events + bytes + snapshots.iter().map(|item| item.bytes).sum::<u64>();
    let mut going: VecDeque<Item> = snapshots.into();
    let first = going.pop_front();
    let last = going.pop_back();
    going.extend(first);
    going.extend(last);
    let mut gone = Vec::new();
    while used > max_bytes {
        let item = going.pop_front()?;
        used -= item.bytes;
        gone.push(item);
    }
    Some(gone)
}

/// What a report says; `None` when it is not there, or not whole.
fn header(path: &Path) -> Option<(u64, Header)> {
    let report = fs::read(path).ok()?;
    let opened = envelope::open(&report).ok()?;
    Some((opened.seal.sequence, opened.header))
}

fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::rename(from, to).map_err(|error| io_error(error, Exit::of_write, format_args!("renaming {}", from.display())))
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error(error, Exit::of_write, format_args!("removing {}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(sequence: u64, kind: Kind) -> Item {
        Item { sequence, kind, path: PathBuf::new(), bytes: 10 }
    }

    fn gone(items: &[Item], max_bytes: u64, kind: Kind) -> Option<Vec<u64>> {
        room(items.to_vec(), max_bytes, kind, 10).map(|gone| gone.iter().map(|item| item.sequence).collect())
    }

    #[test]
    fn snapshots_make_room_and_events_never() {
        use Kind::{Events, Register, Snapshot};
        let items =
            [item(1, Snapshot), item(2, Events), item(3, Snapshot), item(4, Snapshot), item(5, Register), item(6, Snapshot)];
        assert_eq!(gone(&items, 70, Snapshot), Some(vec![]));
        assert_eq!(gone(&items, 69, Snapshot), Some(vec![3]));
        assert_eq!(gone(&items, 50, Events), Some(vec![3, 4]));
        assert_eq!(gone(&items, 40, Events), Some(vec![3, 4, 1]));
        assert_eq!(gone(&items, 39, Events), None, "events take three quarters at most");
        assert_eq!(gone(&items, 30, Snapshot), Some(vec![3, 4, 1, 6]), "the new one is newer than the last");
        assert_eq!(gone(&items, 29, Snapshot), None);
        assert_eq!(gone(&[], 10, Snapshot), Some(vec![]));
    }

    #[test]
    fn names_are_strict() {
        assert_eq!(parse("001790000017.snapshot"), Some((1_790_000_017, Kind::Snapshot)));
        for name in
            ["sent", "1.snapshot", "001790000017.tmp", ".001790000017.snapshot.tmp", "+01790000017.events", "001790000017"]
        {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
