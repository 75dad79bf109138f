//! The spool of waiting reports, each a file in /var/lib/labtools/spool, `SEQUENCE.KIND`.
//!
//! The reports are the only state: the newest one shows where to continue. So the report that was
//! delivered last stays, under the name `sent`. A delivered report gets that name by one rename,
//! which needs no room on a full disk and leaves at every moment either a waiting report or a
//! delivered one.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use envelope::{Cursor, Header, Kind};
use jsonpipe::{Common, Exit, atomic, io_error};

/// Where it is.
pub const DIRECTORY: &str = "/var/lib/labtools/spool";
/// Held while reports are added.
pub const LOCK: &str = "/run/labtools/spool.lock";
/// The directory below it for reports that the collector refused.
pub const REJECTED: &str = "rejected";
const SENT: &str = "sent";

/// A waiting or rejected report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Its sequence number.
    pub sequence: u64,
    /// Its kind.
    pub kind: Kind,
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// The spool of this machine.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    max_bytes: u64,
}

/// Consecutive reports that are damaged.
#[derive(Debug)]
pub struct Damaged {
    /// Their kind.
    pub kind: Kind,
    /// The reports.
    pub items: Vec<Item>,
    /// The position of the log before them.
    pub from: Cursor,
    /// The position after the next intact report; `None` when there is none: then the next one also
    /// continues at `from`.
    pub until: Option<Cursor>,
    /// The last lines up to there, which that intact report contains itself.
    pub last: Vec<u8>,
}

/// The newest report, where the next one continues.
#[derive(Debug, Default)]
pub struct Last {
    /// Its sequence; `None` for an empty spool.
    pub sequence: Option<u64>,
    /// The header of the newest readable report.
    pub header: Option<Header>,
}

/// The reports in a directory, the oldest first; empty when it does not exist.
fn list(directory: &Path) -> anyhow::Result<Vec<Item>> {
    let failed = |error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("reading {}", directory.display()),
        )
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut items = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let Some((sequence, kind)) = entry.file_name().to_str().and_then(parse) else {
            continue;
        };
        match entry.metadata() {
            Ok(metadata) => items.push(Item {
                sequence,
                kind,
                path: entry.path(),
                bytes: metadata.len(),
            }),
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
    Some((
        sequence.parse().ok().filter(|_| digits)?,
        Kind::parse(kind)?,
    ))
}

impl Spool {
    /// Creates the spool if it is missing, and removes what a kill or a power cut left. Called
    /// under [`LOCK`].
    pub fn open(common: &Common, max_bytes: u64) -> anyhow::Result<Spool> {
        let spool = Spool {
            directory: common.path(DIRECTORY),
            max_bytes,
        };
        atomic::create_directory(&spool.directory.join(REJECTED), 0o700)?;
        let failed = |error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", spool.directory.display()),
            )
        };
        for entry in fs::read_dir(&spool.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let unfinished = name
                .to_str()
                .and_then(|name| name.strip_prefix('.')?.strip_suffix(".tmp"));
            if unfinished.is_some_and(|name| is_report(OsStr::new(name))) {
                remove(&entry.path())?;
            }
        }
        // A report lists the reports it displaces before they are removed.
        if let Some(header) = spool.last()?.header {
            for item in spool
                .all()?
                .iter()
                .filter(|item| header.dropped.contains(&item.sequence))
            {
                remove(&item.path)?;
            }
        }
        Ok(spool)
    }

    /// The existing spool, for a dry run, which does not create it.
    pub fn look(common: &Common, max_bytes: u64) -> Spool {
        Spool {
            directory: common.path(DIRECTORY),
            max_bytes,
        }
    }

    /// The waiting reports, the oldest first.
    pub fn list(&self) -> anyhow::Result<Vec<Item>> {
        list(&self.directory)
    }

    /// The newest report, waiting, rejected or sent.
    pub fn last(&self) -> anyhow::Result<Last> {
        let items = self.all()?;
        // Of a report that was cut off only the name is known.
        let waiting = items.iter().rev().find_map(|item| header(&item.path));
        let newest = waiting
            .into_iter()
            .chain(header(&self.directory.join(SENT)))
            .max_by_key(|(sequence, _)| *sequence);
        let sequence = newest
            .as_ref()
            .map(|(sequence, _)| *sequence)
            .max(items.last().map(|item| item.sequence));
        Ok(Last {
            sequence,
            header: newest.map(|(_, header)| header),
        })
    }

    /// The waiting and the rejected reports, the oldest first.
    fn all(&self) -> anyhow::Result<Vec<Item>> {
        let mut items = self.list()?;
        items.extend(self.rejected()?);
        items.sort();
        Ok(items)
    }

    /// The damaged reports of events. Their content is still in the log.
    pub fn damaged(&self) -> anyhow::Result<Vec<Damaged>> {
        let items = self.all()?;
        let damaged: Vec<Item> = items
            .iter()
            .filter(|item| !item.kind.is_snapshot() && is_damaged(&item.path))
            .cloned()
            .collect();
        if damaged.is_empty() {
            return Ok(Vec::new());
        }
        let paths = items
            .into_iter()
            .map(|item| item.path)
            .chain([self.directory.join(SENT)]);
        let whole: BTreeMap<u64, (Header, PathBuf)> = paths
            .filter_map(|path| header(&path).map(|(sequence, header)| (sequence, (header, path))))
            .collect();
        let mut found: Vec<Damaged> = Vec::new();
        for item in damaged {
            let read = |header: &Header| {
                header
                    .read
                    .get(item.kind.as_str())
                    .copied()
                    .unwrap_or_default()
            };
            let from = whole
                .range(..item.sequence)
                .next_back()
                .map(|(_, (header, _))| read(header))
                .unwrap_or_default();
            let next = whole.range(item.sequence..).next().map(|(_, next)| next);
            let until = next.map(|(header, _)| read(header));
            // There may be several between two intact ones.
            match found
                .iter_mut()
                .find(|known| (known.kind, known.from, known.until) == (item.kind, from, until))
            {
                Some(known) => known.items.push(item),
                None => {
                    let same = next
                        .filter(|(header, _)| header.kind == item.kind)
                        .and_then(|(_, path)| fs::read(path).ok());
                    let last = same
                        .as_deref()
                        .and_then(|report| Some(envelope::open(report).ok()?.payload.to_vec()));
                    found.push(Damaged {
                        kind: item.kind,
                        items: vec![item],
                        from,
                        until,
                        last: last.unwrap_or_default(),
                    });
                }
            }
        }
        Ok(found)
    }

    /// The damaged snapshots: a later one replaces them. Anything but a file is left for a person.
    pub fn damaged_snapshots(&self) -> anyhow::Result<Vec<Item>> {
        let damaged =
            |item: &Item| item.kind.is_snapshot() && item.path.is_file() && is_damaged(&item.path);
        Ok(self.all()?.into_iter().filter(damaged).collect())
    }

    /// The reports that the collector refused, the oldest first.
    pub fn rejected(&self) -> anyhow::Result<Vec<Item>> {
        list(&self.directory.join(REJECTED))
    }

    /// The reports to remove so that one of `bytes` fits; `None` when that is not allowed.
    ///
    /// Snapshots between the first and the last go first, in the order of their age. Events are
    /// never removed: they may fill three quarters, and the rest stays in their log.
    pub fn room(&self, kind: Kind, bytes: u64) -> anyhow::Result<Option<Vec<Item>>> {
        Ok(room(self.list()?, self.max_bytes, kind, bytes))
    }

    /// Adds a report, then removes those that it displaces. Status 73 when the disk has no room for
    /// it.
    pub fn add(
        &self,
        sequence: u64,
        kind: Kind,
        report: &[u8],
        dropped: &[Item],
    ) -> anyhow::Result<()> {
        let path = self
            .directory
            .join(format!("{sequence:012}.{}", kind.as_str()));
        atomic::write(&path, 0o600, |file| file.write_all(report))?;
        for item in dropped {
            remove(&item.path)?;
        }
        if dropped.is_empty() {
            Ok(())
        } else {
            atomic::sync_directory(&self.directory)
        }
    }

    /// Marks a report as delivered. Of the delivered ones the newest stays, in whatever order they
    /// were sent.
    pub fn sent(&self, item: &Item) -> anyhow::Result<()> {
        let sent = self.directory.join(SENT);
        if header(&sent).is_some_and(|(newest, _)| newest > item.sequence) {
            remove(&item.path)?;
        } else {
            rename(&item.path, &sent)?;
        }
        atomic::sync_directory(&self.directory)
    }

    /// Moves a report that the collector refused out of the way. Returns false when there is no
    /// room among the rejected, which have the same bound and rule as the spool.
    pub fn reject(&self, item: &Item) -> anyhow::Result<bool> {
        let rejected = self.directory.join(REJECTED);
        let Some(going) = room(self.rejected()?, self.max_bytes, item.kind, item.bytes) else {
            return Ok(false);
        };
        rename(
            &item.path,
            &rejected.join(item.path.file_name().unwrap_or_default()),
        )?;
        atomic::sync_directory(&rejected)?;
        atomic::sync_directory(&self.directory)?;
        for item in going {
            remove(&item.path)?;
        }
        Ok(true)
    }

    /// The rejected reports, the one that was refused the longest ago first.
    pub fn rejected_in_turn(&self) -> anyhow::Result<Vec<Item>> {
        let mut items = self.rejected()?;
        items.sort_by_cached_key(|item| {
            fs::metadata(&item.path)
                .and_then(|metadata| metadata.modified())
                .ok()
        });
        Ok(items)
    }

    /// Moves a report that was refused again to the end of the order. On a full disk it stays
    /// first.
    pub fn refused_again(&self, item: &Item) {
        let _ = fs::File::open(&item.path).and_then(|file| file.set_modified(SystemTime::now()));
    }
}

fn room(items: Vec<Item>, max_bytes: u64, kind: Kind, bytes: u64) -> Option<Vec<Item>> {
    let (snapshots, others): (Vec<Item>, Vec<Item>) =
        items.into_iter().partition(|item| item.kind.is_snapshot());
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

/// A report that was sent meanwhile is not damaged.
fn is_damaged(path: &Path) -> bool {
    match fs::read(path) {
        Ok(report) => envelope::open(&report).is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// The header of a report; `None` when the report does not exist or is damaged.
fn header(path: &Path) -> Option<(u64, Header)> {
    let report = fs::read(path).ok()?;
    let opened = envelope::open(&report).ok()?;
    Some((opened.seal.sequence, opened.header))
}

/// A missing report was dropped by another run, to make room.
fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(
            error,
            Exit::of_write,
            format_args!("renaming {}", from.display()),
        )),
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(
            error,
            Exit::of_write,
            format_args!("removing {}", path.display()),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(sequence: u64, kind: Kind) -> Item {
        Item {
            sequence,
            kind,
            path: PathBuf::new(),
            bytes: 10,
        }
    }

    fn gone(items: &[Item], max_bytes: u64, kind: Kind) -> Option<Vec<u64>> {
        room(items.to_vec(), max_bytes, kind, 10)
            .map(|gone| gone.iter().map(|item| item.sequence).collect())
    }

    #[test]
    fn snapshots_make_room_and_events_never() {
        use Kind::{Events, Register, Snapshot};
        let items = [
            item(1, Snapshot),
            item(2, Events),
            item(3, Snapshot),
            item(4, Snapshot),
            item(5, Register),
            item(6, Snapshot),
        ];
        assert_eq!(gone(&items, 70, Snapshot), Some(vec![]));
        assert_eq!(gone(&items, 69, Snapshot), Some(vec![3]));
        assert_eq!(gone(&items, 50, Events), Some(vec![3, 4]));
        assert_eq!(gone(&items, 40, Events), Some(vec![3, 4, 1]));
        assert_eq!(
            gone(&items, 39, Events),
            None,
            "events take three quarters at most"
        );
        assert_eq!(
            gone(&items, 30, Snapshot),
            Some(vec![3, 4, 1, 6]),
            "the new one is newer than the last"
        );
        assert_eq!(gone(&items, 29, Snapshot), None);
        assert_eq!(gone(&[], 10, Snapshot), Some(vec![]));
    }

    /// A spool with one-line reports, by their paths in it.
    fn spool(max_bytes: u64, reports: &[(&str, u64, Kind)]) -> (tempfile::TempDir, Spool) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(REJECTED)).unwrap();
        for (path, sequence, kind) in reports {
            let header = Header {
                schema: 1,
                kind: *kind,
                at: String::new(),
                dropped_reports: 0,
                dropped: vec![],
                read: Default::default(),
            };
            fs::write(
                root.path().join(path),
                envelope::seal("h1", *sequence, &header, &[b'x'; 99], None).unwrap(),
            )
            .unwrap();
        }
        let spool = Spool {
            directory: root.path().to_owned(),
            max_bytes,
        };
        (root, spool)
    }

    #[test]
    fn late_reports_do_not_replace_the_newest() {
        let (root, spool) = spool(
            1 << 20,
            &[
                (SENT, 10, Kind::Snapshot),
                ("000000000005.snapshot", 5, Kind::Snapshot),
            ],
        );
        let late = spool.list().unwrap().remove(0);
        spool.sent(&late).unwrap();
        assert_eq!(
            spool.last().unwrap().sequence,
            Some(10),
            "the ids from 6 on would be used again"
        );
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
        spool.sent(&late).unwrap(); // another run has dropped it
        spool.reject(&late).unwrap();
    }

    #[test]
    fn the_rejected_are_bounded_and_no_event_goes_for_it() {
        let events: Vec<(String, u64)> = (1..=9)
            .map(|sequence| (format!("{sequence:012}.events"), sequence))
            .collect();
        let names: Vec<_> = events
            .iter()
            .map(|(name, sequence)| (name.as_str(), *sequence, Kind::Events))
            .collect();
        let (_root, spool) = spool(2000, &names);
        let rejected = spool
            .list()
            .unwrap()
            .iter()
            .filter(|item| spool.reject(item).unwrap())
            .count();
        let bytes: u64 = spool
            .rejected()
            .unwrap()
            .iter()
            .map(|item| item.bytes)
            .sum();
        assert!(rejected > 3 && bytes <= 1500, "{bytes}");
        assert_eq!(spool.list().unwrap().len() + rejected, 9, "the others wait");
        // The report whose turn it is.
        let first = spool.rejected_in_turn().unwrap().remove(0);
        spool.refused_again(&first);
        assert_eq!(
            spool.rejected_in_turn().unwrap().last().unwrap().sequence,
            first.sequence
        );
    }

    #[test]
    fn names_are_strict() {
        assert_eq!(
            parse("001790000017.snapshot"),
            Some((1_790_000_017, Kind::Snapshot))
        );
        for name in [
            "sent",
            "1.snapshot",
            "001790000017.tmp",
            ".001790000017.snapshot.tmp",
            "+01790000017.events",
            "001790000017",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
