//! The store of the collector: `reports/HOST/SEQUENCE` holds signed reports, and `text/HOST/NAME`
//! texts of the thesis's script. (`register/` is only for its keeper, and is not read.)
//!
//! A month of a campus is some hundred thousand reports. They are read one after the other, host by
//! host, and only the [`History`] of each stays in memory, except for the first and the last. The
//! modification time of a report's file is its time of arrival.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePublicKey;
use envelope::{Event, Kind};
use jsonpipe::{Exit, io_error, sabotaged, shown};

use crate::history::History;
use crate::report::{Read as Sum, Reason};
use crate::reported::{Payload, Snapshot};
use crate::text;
use crate::time::{self, Seconds};

/// The collector accepts no longer ones.
const REPORT_MAX_BYTES: u64 = 1 << 20;
/// The maximum number of listed events per machine; a normal machine has a handful.
const EVENTS_MAX: usize = 50;
/// The maximum length of an event's text, above all of ours.
const EVENT_MAX: usize = 1000;
/// The maximum number of reports before the period that are tried for the last state of a silent
/// machine.
const OLDER_MAX: usize = 20;

/// A host of the store.
#[derive(Debug)]
pub struct Source {
    /// Its id.
    pub id: String,
    signed: Option<PathBuf>,
    text: Option<PathBuf>,
    key: Option<VerifyingKey>,
}

/// The content of a store.
#[derive(Debug)]
pub struct Store {
    /// The hosts, by id.
    pub sources: Vec<Source>,
    /// The number of expelled hosts with remaining reports, `reports/.HOST.expelled.TIME`. They are
    /// not read.
    pub expelled_hosts: u64,
}

/// The evaluated reports of a host.
#[derive(Debug, Default)]
pub struct Heard {
    /// Its id.
    pub id: String,
    /// Whether the newest report is signed.
    pub signed: bool,
    /// The time when the newest was received.
    pub last: Option<Seconds>,
    /// The content of the newest.
    pub newest: Snapshot,
    /// The used disk space in the first report of the period.
    pub disk_used_at_first: Option<u64>,
    /// Whether that report was read.
    has_first: bool,
    dropped_before: Option<u64>,
    /// Its times and boards.
    pub history: History,
    /// The events in the period and their times of arrival, the newest last.
    pub events: Vec<(Seconds, Event)>,
    /// The number of events that were left out.
    pub events_left_out: u64,
    /// Rejected reports by reason: the number, and the time of the last.
    pub rejected: BTreeMap<Reason, (u64, Seconds)>,
    /// The numbers of reports read.
    pub sum: Sum,
}

/// Lists a store. Status 66 when there is no such store, or it lacks the keys of the hosts.
pub fn list(store: &Path, keys: &Path) -> anyhow::Result<Store> {
    if !store.join("reports").is_dir() && !store.join("text").is_dir() {
        return Err(Exit::NoInput.error(format_args!(
            "reading {}: neither reports/ nor text/ is there; run collector setup NAME first; DIR does not depend on --root",
            store.display()
        )));
    }
    let mut sources: BTreeMap<String, Source> = BTreeMap::new();
    let mut expelled = BTreeSet::new();
    for kind in ["reports", "text"] {
        let directory = store.join(kind);
        if !directory.is_dir() {
            continue;
        }
        for entry in entries(&directory) {
            let entry = entry.map_err(|error| {
                io_error(
                    error,
                    Exit::of_read,
                    format_args!("reading {}", directory.display()),
                )
            })?;
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue; // a stray file, or a link
            }
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if let Some(id) = expelled_host(&name).filter(|_| !entries(&entry.path()).is_empty()) {
                expelled.insert(id.to_owned());
            }
            let Some(id) = Some(name).filter(|name| is_host(name)) else {
                continue;
            };
            let source = || Source {
                id: id.clone(),
                signed: None,
                text: None,
                key: None,
            };
            let source = sources.entry(id.clone()).or_insert_with(source);
            *(if kind == "reports" {
                &mut source.signed
            } else {
                &mut source.text
            }) = Some(entry.path());
        }
    }
    if !keys.is_dir() {
        return Err(Exit::NoInput.error(format_args!(
            "reading {}: the keys of the enrolled hosts are missing; collector enroll adds them",
            keys.display()
        )));
    }
    for source in sources.values_mut() {
        source.key = key(&keys.join(format!("{}.pub", source.id)))?;
    }
    Ok(Store {
        sources: sources.into_values().collect(),
        expelled_hosts: expelled.len() as u64,
    })
}

/// The host whose expelled directory this is.
fn expelled_host(name: &str) -> Option<&str> {
    name.strip_prefix('.')?
        .rsplit_once(".expelled.")
        .map(|(id, _)| id)
        .filter(|id| is_host(id))
}

/// The collector's rule for host names.
fn is_host(name: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 64
        && name
            .bytes()
            .all(|b| alphanumeric(b) || matches!(b, b'.' | b'-'))
        && name.bytes().next().is_some_and(alphanumeric)
}

fn key(path: &Path) -> anyhow::Result<Option<VerifyingKey>> {
    let pem = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", path.display()),
            ));
        }
        Ok(pem) => pem,
    };
    let key = VerifyingKey::from_public_key_pem(&pem);
    key.map(Some).map_err(|_| {
        Exit::Config.error(format_args!(
            "reading {}: not an ed25519 public key in PEM",
            path.display()
        ))
    })
}

/// The entries of a directory; one error when it cannot be read.
fn entries(directory: &Path) -> Vec<io::Result<DirEntry>> {
    fs::read_dir(directory).map_or_else(|error| vec![Err(error)], Iterator::collect)
}

/// A report; `None` for anything but a file.
fn item(entry: &DirEntry, is_text: bool) -> io::Result<Option<Item>> {
    let metadata = entry.metadata()?;
    let Some(name) = entry
        .file_name()
        .into_string()
        .ok()
        .filter(|_| metadata.is_file())
    else {
        return Ok(None);
    };
    let modified = metadata.modified()?;
    let nanoseconds = modified
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .subsec_nanos();
    Ok(Some(Item {
        received: time::of(modified),
        nanoseconds,
        name,
        is_text,
    }))
}

/// A file of the store.
struct Item {
    received: Seconds,
    nanoseconds: u32,
    name: String,
    is_text: bool,
}

impl Source {
    /// Reads the reports of a period, in the order of arrival. Unreadable reports are counted: a
    /// bad sector under one report hides no other report and no other host.
    pub fn read(&self, since: Seconds, until: Seconds) -> Heard {
        let mut heard = Heard {
            id: self.id.clone(),
            ..Heard::default()
        };
        let mut items = self.items(|| heard.reject(Reason::Unreadable, until));
        items.retain(|item| item.received <= until);
        let first = items.partition_point(|item| item.received < since);
        let mut bytes = Vec::new();
        let mut last: Option<(Vec<u8>, bool)> = None;
        for item in items.get(first..).unwrap_or_default() {
            heard.take(self, item, &mut bytes, &mut last, true);
        }
        let is_of_period = last.is_some();
        // The last state of a silent machine.
        for item in items
            .get(..first)
            .unwrap_or_default()
            .iter()
            .rev()
            .take(OLDER_MAX)
        {
            if last.is_some() {
                break;
            }
            heard.take(self, item, &mut bytes, &mut last, false);
        }
        if let Some((payload, is_text)) = last {
            heard.signed = !is_text;
            match snapshot(&payload, is_text) {
                Some(newest) => heard.newest = newest,
                None if is_of_period => {
                    heard.sum.reports -= 1; // it was counted as accepted
                    heard.reject(Reason::NotUnderstood, heard.last.unwrap_or_default());
                }
                None => {}
            }
        }
        heard
    }

    /// In the order of arrival.
    fn items(&self, mut unreadable: impl FnMut()) -> Vec<Item> {
        let mut items = Vec::new();
        for (directory, is_text) in [(&self.signed, false), (&self.text, true)] {
            for entry in directory.iter().flat_map(|directory| entries(directory)) {
                match entry.and_then(|entry| item(&entry, is_text)) {
                    Ok(item) => items.extend(item),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {} // expired meanwhile
                    Err(_) => unreadable(),
                }
            }
        }
        items.sort_unstable_by(|a, b| {
            (a.received, a.nanoseconds, &a.name).cmp(&(b.received, b.nanoseconds, &b.name))
        });
        items
    }

    fn path(&self, item: &Item) -> Option<PathBuf> {
        let directory = if item.is_text {
            &self.text
        } else {
            &self.signed
        };
        Some(directory.as_ref()?.join(&item.name))
    }
}

impl Heard {
    /// Takes one report; `counts` when it is in the period.
    fn take(
        &mut self,
        source: &Source,
        item: &Item,
        bytes: &mut Vec<u8>,
        last: &mut Option<(Vec<u8>, bool)>,
        counts: bool,
    ) {
        let Some(path) = source.path(item) else {
            return;
        };
        bytes.clear();
        let read =
            File::open(&path).and_then(|file| file.take(REPORT_MAX_BYTES + 1).read_to_end(bytes));
        let believed = match read {
            Ok(_) => self.believe(source, item, bytes, last, counts),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return, // expired meanwhile
            Err(_) => Err(Reason::Unreadable),
        };
        if !counts {
            return;
        }
        self.sum.bytes += bytes.len() as u64;
        match believed {
            Ok(()) => self.sum.reports += 1,
            Err(reason) => self.reject(reason, item.received),
        }
    }

    fn reject(&mut self, reason: Reason, received: Seconds) {
        self.sum.unbelieved_reports += 1;
        let (reports, last) = self.rejected.entry(reason).or_default();
        *reports += 1;
        *last = received;
    }

    fn believe(
        &mut self,
        source: &Source,
        item: &Item,
        bytes: &[u8],
        last: &mut Option<(Vec<u8>, bool)>,
        counts: bool,
    ) -> Result<(), Reason> {
        if bytes.len() as u64 > REPORT_MAX_BYTES {
            return Err(Reason::Damaged);
        }
        if item.is_text {
            if source.key.is_some() {
                return Err(Reason::UnsignedText);
            }
            let snapshot = snapshot(bytes, true).ok_or(Reason::NotUnderstood)?;
            if counts {
                self.history
                    .add_text(item.received, snapshot.system.serial.clone());
                self.is_first(&snapshot);
            }
            self.is_newest(item.received, bytes, true, last);
            return Ok(());
        }
        let key = source.key.ok_or(Reason::NotEnrolled)?;
        let opened = envelope::open(bytes).map_err(|_| Reason::Damaged)?;
        if opened.seal.host != source.id || format!("{:012}", opened.seal.sequence) != item.name {
            return Err(Reason::WrongPlace);
        }
        if !sabotaged("believe-all") && !opened.seal.is_signed_by(&key) {
            return Err(Reason::WrongSignature);
        }
        if opened.header.schema != 1 {
            return Err(Reason::NotUnderstood);
        }
        match opened.header.kind {
            Kind::Snapshot => {
                let Payload { host: moment } =
                    serde_json::from_slice(opened.payload).map_err(|_| Reason::NotUnderstood)?;
                if moment.schema != 1 {
                    return Err(Reason::NotUnderstood);
                }
                if counts {
                    let dropped = self.dropped(opened.header.dropped_reports);
                    self.history.add(item.received, moment, dropped > 0);
                    if !self.has_first {
                        self.is_first(
                            &snapshot(opened.payload, false).ok_or(Reason::NotUnderstood)?,
                        );
                    }
                }
                self.is_newest(item.received, opened.payload, false, last);
            }
            Kind::Events if counts => self.events(item.received, opened.payload),
            // The other kinds are for other servers, or for the register's keeper.
            _ => {}
        }
        self.last = self.last.max(Some(item.received));
        Ok(())
    }

    /// The number of reports dropped since the previous snapshot, from the machine's count since it
    /// has had this spool.
    fn dropped(&mut self, all: u64) -> u64 {
        let before = self.dropped_before.replace(all).unwrap_or(all);
        let dropped = if all < before { all } else { all - before };
        self.sum.dropped_reports = self.sum.dropped_reports.saturating_add(dropped);
        dropped
    }

    fn is_first(&mut self, snapshot: &Snapshot) {
        if !self.has_first {
            self.disk_used_at_first = snapshot.disk_use().map(|(_, used)| used);
            self.has_first = true;
        }
    }

    fn is_newest(
        &mut self,
        received: Seconds,
        payload: &[u8],
        is_text: bool,
        last: &mut Option<(Vec<u8>, bool)>,
    ) {
        self.last = self.last.max(Some(received));
        let (kept, was_text) = last.get_or_insert_default();
        kept.clear();
        kept.extend_from_slice(payload);
        *was_text = is_text;
    }

    /// Lines that are not an event are left out: they are signed, but cannot be interpreted.
    fn events(&mut self, received: Seconds, payload: &[u8]) {
        for line in payload.split(|byte| *byte == b'\n') {
            let Ok(mut event) = serde_json::from_slice::<Event>(line) else {
                continue;
            };
            let longest = [&event.event.id, &event.event.action, &event.message]
                .into_iter()
                .map(String::len)
                .max();
            if time::parse(&event.timestamp).is_none() || longest > Some(EVENT_MAX) {
                continue;
            }
            if self.events.iter().any(|(_, known)| {
                (&known.event.id, &known.timestamp) == (&event.event.id, &event.timestamp)
            }) {
                continue;
            }
            if self.events.len() == EVENTS_MAX {
                self.events.remove(0);
                self.events_left_out += 1;
            }
            for text in [
                &mut event.event.id,
                &mut event.event.action,
                &mut event.message,
            ] {
                *text = shown(text).into_owned();
            }
            self.events.push((received, event));
        }
    }
}

fn snapshot(payload: &[u8], is_text: bool) -> Option<Snapshot> {
    if is_text {
        text::parse(&String::from_utf8_lossy(payload))
    } else {
        Snapshot::parse(payload)
    }
}
