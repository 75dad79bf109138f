//! `invcollect push`: writes reports to the spool first, then sends them to the collector, the
//! oldest first.
//!
//! A report is in the spool before it is sent, and leaves it only when the collector has it (2xx,
//! or 409: it already had that id). A refused report (other 4xx) makes way for the others, and
//! later runs offer it again: the fault may be the server's or the host's certificate. Whenever a
//! run ends, by a kill or a power cut, the next one continues: reports whose delivery is not
//! confirmed are sent again, under the same id.

pub mod backlog;
mod destination;
pub mod journal;
mod retry;
mod send;
pub mod spool;
mod text;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use envelope::{Cursor, Header, Kind};
use jsonpipe::{
    Answer, Common, Document, Exit, ExitContext, Pipe, lock, sabotaged, signals, timestamp,
};
use sha2::{Digest, Sha256};

use crate::report::Pushed;
use crate::request::{Destination, Method, Push};
use crate::{collect, glpi};
use destination::Local;
use journal::Lines;
use retry::Retry;
use send::{Collector, Outcome};
use spool::{Item, Last, Spool};

/// The interval of cron.
const QUARTER: Duration = Duration::from_secs(15 * 60);
/// The maximum time of a run; the rest waits for the next one.
const LONGEST_RUN: Duration = Duration::from_secs(10 * 60);
/// Held while reports are sent.
const LOCK: &str = "/run/labtools/push.lock";

/// `invcollect push`. Status 78 when invcollect.ini, a key or a certificate is invalid, 66 when one
/// does not exist.
pub fn push(common: &Common, pipe: &Pipe, options: &Push) -> anyhow::Result<Answer> {
    let local = Local::read(common)?;
    let collector = local.collector()?;
    pipe.note(format_args!(
        "reports of {} go to {}",
        local.host, local.destination.url
    ));
    if options.spread && !options.dry_run {
        let wait = until_turn(&local.host, SystemTime::now());
        pipe.note(format_args!(
            "the turn of this machine is in {} s",
            wait.as_secs()
        ));
        thread::sleep(wait);
    }
    let mut run = Run {
        common,
        pipe,
        local: &local,
        pushed: Pushed::of(&local.host),
    };
    if options.dry_run {
        let spool = Spool::look(common, local.destination.spool_bytes);
        run.pushed.changed = true; // every run makes a snapshot
        run.pushed.retry_at = Retry::read(common)?
            .until(SystemTime::now())
            .map(timestamp::rfc3339);
        return run.answer(&spool, true);
    }
    let spool = run.fill()?;
    run.empty(&spool, &collector, options.now)?;
    run.answer(&spool, false)
}

/// The time until a host's turn: a hash of the host spreads the turns over the quarter of an hour,
/// so that a campus does not report all at once, and every host keeps its turn. If the turn is
/// over, the time is zero.
fn until_turn(host: &str, now: SystemTime) -> Duration {
    let within = Duration::from_millis(
        (now.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis()
            % QUARTER.as_millis()) as u64,
    );
    turn(host).saturating_sub(within)
}

/// A host's turn within the quarter of an hour.
pub fn turn(host: &str) -> Duration {
    let digest: [u8; 32] = Sha256::digest(host).into();
    let [first, ..] = digest.as_chunks::<8>().0 else {
        return Duration::ZERO;
    };
    Duration::from_millis(u64::from_be_bytes(*first) % QUARTER.as_millis() as u64)
}

impl Pushed {
    fn of(host: &str) -> Pushed {
        Pushed {
            changed: false,
            host: host.to_owned(),
            spooled: Vec::new(),
            sent_reports: 0,
            rejected_reports: 0,
            dropped_reports: 0,
            waiting_reports: 0,
            waiting_bytes: 0,
            retry_at: None,
            reason: None,
        }
    }
}

/// One run.
struct Run<'a> {
    common: &'a Common,
    pipe: &'a Pipe,
    local: &'a Local,
    pushed: Pushed,
}

impl Run<'_> {
    /// Adds new reports to the spool.
    fn fill(&mut self) -> anyhow::Result<Spool> {
        let destination = &self.local.destination;
        let (kind, snapshot) = self.snapshot(destination)?;
        // Signals end the wait for the lock; everything else may be interrupted at any moment.
        let signals = signals::defer()?;
        let _lock = lock::wait(self.common, spool::LOCK, &signals)?;
        drop(signals);
        let spool = Spool::open(self.common, destination.spool_bytes)?;
        let mut next = Next::after(spool.last()?)?;
        if destination.method == Method::Put {
            self.add_again(&spool, &mut next)?;
            self.add_log(&spool, &mut next, Kind::Events)?;
            if destination.register {
                self.add_log(&spool, &mut next, Kind::Register)?;
            }
        }
        let damaged = spool.damaged_snapshots()?;
        next.damaged.extend_from_slice(&damaged);
        if self.add(&spool, &mut next, kind, &snapshot)? {
            for Item { sequence, .. } in damaged {
                self.pipe.warn(format_args!(
                    "report {sequence}: it was cut off, or changed; it is dropped, because this snapshot replaces it"
                ));
            }
        }
        Ok(spool)
    }

    /// The machine's state in the format of the server.
    fn snapshot(&self, destination: &Destination) -> anyhow::Result<(Kind, Vec<u8>)> {
        let host = collect::host(self.common, self.pipe);
        Ok(match destination.method {
            Method::Put => {
                let mut document = Document::default();
                document.set(crate::TOOL.section, &host)?;
                (Kind::Snapshot, format!("{document}\n").into_bytes())
            }
            Method::Glpi => (Kind::Glpi, glpi::inventory(&host)?.into_bytes()),
            Method::Text => (Kind::Text, text::of(self.common, &host).into_bytes()),
        })
    }

    /// Spools the content of damaged reports again, and removes them.
    fn add_again(&mut self, spool: &Spool, next: &mut Next) -> anyhow::Result<()> {
        let mut newest = Vec::new();
        for damaged in spool.damaged()? {
            let (log, wanted) = source(damaged.kind);
            let Some(until) = damaged.until else {
                newest.extend(damaged.items);
                continue;
            };
            let lines = journal::between(&self.common.path(log), damaged.from, until, wanted)?;
            let lines = lines.strip_suffix(&damaged.last[..]).unwrap_or(&lines);
            // If the log is gone, the rest of the report is rejected, for a person to inspect.
            if !lines.is_empty() {
                next.damaged = damaged.items;
                if !self.add(spool, next, damaged.kind, lines)? {
                    next.damaged.clear(); // a later run will have room
                }
            }
        }
        next.damaged = newest; // its lines come with the new ones
        Ok(())
    }

    /// Spools the lines of a log that are in no report yet.
    fn add_log(&mut self, spool: &Spool, next: &mut Next, kind: Kind) -> anyhow::Result<()> {
        let (log, wanted) = source(kind);
        let path = self.common.path(log);
        loop {
            let before = next.read.get(kind.as_str()).copied().unwrap_or_default();
            let Lines { text, read } = journal::next(&path, before, wanted)?;
            next.read.insert(kind.as_str().to_owned(), read);
            if text.is_empty() {
                return Ok(());
            }
            if !self.add(spool, next, kind, &text)? {
                next.read.insert(kind.as_str().to_owned(), before); // the lines stay in the log
                return Ok(());
            }
        }
    }

    /// Spools one report; returns false when there is no room for it.
    fn add(
        &mut self,
        spool: &Spool,
        next: &mut Next,
        kind: Kind,
        payload: &[u8],
    ) -> anyhow::Result<bool> {
        let mut room: Vec<Item> = Vec::new();
        loop {
            let going = [&next.damaged[..], &room].concat();
            let header = next.header(kind, &going);
            let key = self.local.key.as_ref();
            let report = envelope::seal(&self.local.host, next.sequence, &header, payload, key)?;
            let Some(needed) = spool.room(kind, report.len() as u64)? else {
                self.wait_because("the spool is full");
                return Ok(false);
            };
            // The report lists the reports that it displaces, which makes it longer.
            if needed.len() > room.len() {
                room = needed;
                continue;
            }
            match spool.add(next.sequence, kind, &report, &going) {
                Ok(()) => {
                    next.added(&header);
                    self.pushed.spooled.push(next.sequence - 1);
                    self.pipe.note(format_args!(
                        "report {} ({}): it is in the spool",
                        next.sequence - 1,
                        kind.as_str()
                    ));
                    self.pushed.dropped_reports += going.len() as u64;
                    self.pushed.changed = true;
                    return Ok(true);
                }
                // The disk is also full. Sending the waiting reports makes room.
                Err(error) if Exit::of(&error) == Exit::CantCreate => {
                    self.wait_because(&format!("{error:#}"));
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the waiting reports, until the collector stops accepting.
    fn empty(&mut self, spool: &Spool, collector: &Collector, now: bool) -> anyhow::Result<()> {
        // The run that holds the lock also sends the reports that this one spooled.
        let Some(_lock) = lock::attempt(self.common, LOCK)? else {
            self.wait_because("another run is sending");
            return Ok(());
        };
        let mut retry = Retry::read(self.common)?;
        if let Some(until) = retry.until(SystemTime::now())
            && (retry.asked || !now)
        {
            self.pushed.retry_at = Some(timestamp::rfc3339(until));
            self.wait_because(&retry.reason);
            return Ok(());
        }
        let since = Instant::now();
        // Refused reports are older than waiting ones. The fault of the server or of this host's
        // certificate may have been repaired.
        for item in spool.rejected_in_turn()? {
            if since.elapsed() > LONGEST_RUN {
                break;
            }
            match self.send(&item, collector) {
                Some(Ok(Outcome::Delivered)) => self.delivered(spool, &item, &mut retry)?,
                Some(Ok(Outcome::Refused(reason))) => {
                    self.pipe.note(format_args!(
                        "report {}: refused again: {reason}",
                        item.sequence
                    ));
                    spool.refused_again(&item);
                    break;
                }
                Some(Ok(Outcome::Later { reason, asked })) => {
                    spool.refused_again(&item);
                    self.later(&retry, asked, &reason);
                    return Ok(());
                }
                Some(Err(_)) | None => {}
            }
        }
        // Listed again after each: another run may have added or dropped some.
        while let Some(item) = spool.list()?.into_iter().next() {
            if since.elapsed() > LONGEST_RUN {
                self.wait_because("the rest waits for the next run");
                return Ok(());
            }
            let Some(sent) = self.send(&item, collector) else {
                continue;
            };
            match sent {
                Ok(Outcome::Delivered) => self.delivered(spool, &item, &mut retry)?,
                Ok(Outcome::Later { reason, asked }) => {
                    self.later(&retry, asked, &reason);
                    return Ok(());
                }
                Ok(Outcome::Refused(reason)) | Err(reason) => {
                    if !self.reject(spool, &item, &reason)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The outcome of sending a report, or the report's fault; `None` when it was dropped
    /// meanwhile.
    fn send(&self, item: &Item, collector: &Collector) -> Option<Result<Outcome, String>> {
        let whole = match fs::read(&item.path) {
            Ok(whole) => whole,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            // A bad sector, for example, must not block the others for ever.
            Err(error) => return Some(Err(format!("it cannot be read: {error}"))),
        };
        if sabotaged("delete-first") {
            let _ = fs::remove_file(&item.path);
        }
        Some(envelope::open(&whole).map(|report| collector.send(&report, &whole)))
    }

    fn delivered(&mut self, spool: &Spool, item: &Item, retry: &mut Retry) -> anyhow::Result<()> {
        spool.sent(item)?;
        self.pushed.sent_reports += 1;
        self.pipe.note(format_args!(
            "report {} ({}): the collector has it",
            item.sequence,
            item.kind.as_str()
        ));
        self.pushed.changed = true;
        if retry.failures > 0 {
            Retry::forget(self.common)?;
            *retry = Retry::default();
        }
        Ok(())
    }

    fn later(&mut self, retry: &Retry, asked: Option<Duration>, reason: &str) {
        let retry = retry.after(SystemTime::now(), asked, reason);
        self.pushed.retry_at = retry.until(SystemTime::now()).map(timestamp::rfc3339);
        if let Err(error) = retry.keep(self.common) {
            self.pipe.warn(format_args!("{error:#}"));
        }
        self.pipe.note(format_args!("the rest waits: {reason}"));
        self.wait_because(reason);
    }

    /// Returns false when the report must stay in place.
    fn reject(&mut self, spool: &Spool, item: &Item, reason: &str) -> anyhow::Result<bool> {
        self.wait_because(reason);
        let sequence = item.sequence;
        let directory = self.common.path(spool::DIRECTORY).join(spool::REJECTED);
        let directory = directory.display();
        if !spool.reject(item)? {
            self.wait_because("the rejected reports leave no room for more");
            self.pipe.warn(format_args!(
                "report {sequence}: {reason}; it waits, for {directory} is full"
            ));
            return Ok(false);
        }
        self.pushed.rejected_reports += 1;
        self.pushed.changed = true;
        self.pipe.warn(format_args!(
            "report {sequence}: {reason}; it is in {directory}, and later runs offer it again"
        ));
        Ok(true)
    }

    fn wait_because(&mut self, reason: &str) {
        let known = self.pushed.reason.get_or_insert_default();
        if !known.split("; ").any(|known| known == reason) {
            *known = if known.is_empty() {
                reason.to_owned()
            } else {
                format!("{known}; {reason}")
            };
        }
    }

    fn answer(mut self, spool: &Spool, dry_run: bool) -> anyhow::Result<Answer> {
        let waiting = spool.list()?;
        self.pushed.waiting_reports = waiting.len() as u64;
        self.pushed.waiting_bytes = waiting.iter().map(|item| item.bytes).sum();
        if !waiting.is_empty() && self.pushed.reason.is_none() && !dry_run {
            self.wait_because("another run has spooled meanwhile");
        }
        let done = self.pushed.reason.is_none();
        let mut document = Document::default();
        document.set("push", &self.pushed)?;
        Ok(if done {
            Answer::yes(document)
        } else {
            Answer::no(document)
        })
    }
}

/// Where the next report continues.
struct Next {
    sequence: u64,
    dropped_reports: u64,
    read: BTreeMap<String, Cursor>,
    /// Reports that it displaces.
    damaged: Vec<Item>,
}

impl Next {
    fn after(last: Last) -> anyhow::Result<Next> {
        let (dropped_reports, read) = last
            .header
            .map(|header| (header.dropped_reports, header.read))
            .unwrap_or_default();
        // Not from the clock: with an empty battery it is the same at each installation, and old
        // ids would be reused. A tenth of the twelve digits is left for counting.
        let sequence = match last.sequence {
            Some(sequence) => sequence + 1,
            None => random()? % 900_000_000_000,
        };
        Ok(Next {
            sequence,
            dropped_reports,
            read,
            damaged: Vec::new(),
        })
    }

    fn header(&self, kind: Kind, going: &[Item]) -> Header {
        Header {
            schema: 1,
            kind,
            at: timestamp::rfc3339(SystemTime::now()),
            dropped_reports: self.dropped_reports + going.len() as u64,
            dropped: going.iter().map(|item| item.sequence).collect(),
            read: self.read.clone(),
        }
    }

    fn added(&mut self, header: &Header) {
        self.sequence += 1;
        self.dropped_reports = header.dropped_reports;
        self.damaged.clear();
    }
}

/// The log of a kind of reports, and the filter of its lines.
fn source(kind: Kind) -> (&'static str, fn(&[u8]) -> bool) {
    if kind == Kind::Register {
        (register::PATH, journal::is_record)
    } else {
        (jsonpipe::event_log::PATH, journal::is_own_event)
    }
}

fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.exit(Exit::Io, || "reading /dev/urandom")?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_its_turn_and_keeps_it() {
        let quarter = UNIX_EPOCH + QUARTER * 2_000_000;
        let turn = until_turn("5f0c1f5e-0000-4000-8000-000000000001", quarter);
        assert!(turn < QUARTER);
        assert_eq!(
            until_turn("5f0c1f5e-0000-4000-8000-000000000001", quarter + QUARTER),
            turn
        );
        assert_ne!(
            until_turn("5f0c1f5e-0000-4000-8000-000000000002", quarter),
            turn
        );
        let second = Duration::from_secs(1);
        assert_eq!(
            until_turn("5f0c1f5e-0000-4000-8000-000000000001", quarter + second),
            turn - second
        );
        assert_eq!(
            until_turn(
                "5f0c1f5e-0000-4000-8000-000000000001",
                quarter + QUARTER - second
            ),
            Duration::ZERO,
            "it is over"
        );
    }

    #[test]
    fn hosts_are_spread_evenly() {
        let mut minutes = [0; 15];
        for host in 0..252 {
            minutes
                [(turn(&format!("5f0c1f5e-0000-4000-8000-{host:012}")).as_secs() / 60) as usize] +=
                1;
        }
        assert!(
            minutes.iter().all(|hosts| (5..=35).contains(hosts)),
            "{minutes:?}"
        );
    }
}
