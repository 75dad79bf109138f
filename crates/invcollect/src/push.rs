//! `invcollect push`: reports go into the spool first, and from there to the collector, the oldest first.
//!
//! A report is in the spool before anything is sent, and leaves it only when the collector has it (2xx, or 409: it had that id
//! before) or says that it will never take it (other 4xx). At whatever moment a run ends, by a kill or a power cut, the next one goes
//! on: what was sent and not yet known to be is sent again, under the same id.

mod destination;
pub mod journal;
mod retry;
mod send;
pub mod spool;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Pipe, lock, signals, timestamp};
use sha2::{Digest, Sha256};

use crate::envelope::{self, Header, Kind};
use crate::report::Pushed;
use crate::request::{Destination, Method, Push};
use crate::{collect, event_log, glpi};
use destination::Local;
use journal::Lines;
use retry::Retry;
use send::{Collector, Outcome};
use spool::{Item, Last, Spool};

/// How often cron runs it.
const QUARTER: Duration = Duration::from_secs(15 * 60);
/// What is left after that waits for the next run.
const LONGEST_RUN: Duration = Duration::from_secs(10 * 60);
/// Held while reports are sent.
const LOCK: &str = "/run/labtools/push.lock";
const REGISTER: &str = "/var/log/labtools/register/register.jsonl";

/// `invcollect push`. Status 78 when invcollect.ini, a key or a certificate is not right, 66 when one is not there.
pub fn push(common: &Common, pipe: &Pipe, options: &Push) -> anyhow::Result<Answer> {
    let local = Local::read(common)?;
    let collector = local.collector()?;
    if options.spread && !options.dry_run {
        let wait = until_turn(&local.host, SystemTime::now());
        pipe.note(format_args!("the turn of this machine is in {} s", wait.as_secs()));
        thread::sleep(wait);
    }
    let mut run = Run { common, pipe, local: &local, pushed: Pushed::of(&local.host) };
    if options.dry_run {
        let spool = Spool::look(common, local.destination.spool_bytes);
        run.pushed.changed = true; // there is always a snapshot
        run.pushed.retry_at = Retry::read(common)?.until(SystemTime::now()).map(timestamp::rfc3339);
        return run.answer(&spool);
    }
    let spool = run.fill()?;
    run.empty(&spool, &collector, options.now)?;
    run.answer(&spool)
}

/// How long until a host's turn: the quarter of an hour is shared out by a hash of the host, so that a campus does not speak all
/// at once, and every host keeps its turn. A turn that is over is now.
fn until_turn(host: &str, now: SystemTime) -> Duration {
    let within =
        Duration::from_millis((now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() % QUARTER.as_millis()) as u64);
    turn(host).saturating_sub(within)
}

/// A host's turn within the quarter of an hour.
pub fn turn(host: &str) -> Duration {
    let digest: [u8; 32] = Sha256::digest(host).into();
    let [first, ..] = digest.as_chunks::<8>().0 else { return Duration::ZERO };
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
    /// Puts into the spool what is new.
    fn fill(&mut self) -> anyhow::Result<Spool> {
        let destination = &self.local.destination;
        let (kind, snapshot) = self.snapshot(destination)?;
        // What waits for the lock ends by a signal; all else may end at any moment.
        let signals = signals::defer().exit(Exit::Software, || "deferring signals")?;
        let _lock = lock::wait(self.common, spool::LOCK, &signals)?;
        drop(signals);
        let spool = Spool::open(self.common, destination.spool_bytes)?;
        let mut next = Next::after(spool.last()?);
        if destination.method == Method::Put {
            self.add_log(&spool, &mut next, Kind::Events, event_log::PATH, journal::is_own_event)?;
            if destination.register {
                self.add_log(&spool, &mut next, Kind::Register, REGISTER, journal::is_record)?;
            }
        }
        self.add(&spool, &mut next, kind, &snapshot)?;
        Ok(spool)
    }

    /// How the machine is, in the words of the server.
    fn snapshot(&self, destination: &Destination) -> anyhow::Result<(Kind, Vec<u8>)> {
        let host = collect::host(self.common);
        Ok(match destination.method {
            Method::Put => {
                let mut document = Document::default();
                document.set(crate::TOOL.section, &host)?;
                (Kind::Snapshot, format!("{document}\n").into_bytes())
            }
            Method::Glpi => (Kind::Glpi, glpi::inventory(&host)?.into_bytes()),
            Method::Text => (Kind::Text, text::of(self.common, &host)?.into_bytes()),
        })
    }

    /// Spools the lines of a log that no report has.
    fn add_log(
        &mut self,
        spool: &Spool,
        next: &mut Next,
        kind: Kind,
        log: &str,
        wanted: fn(&[u8]) -> bool,
    ) -> anyhow::Result<()> {
        let path = self.common.path(log);
        loop {
            let before = next.read.get(kind.as_str()).copied().unwrap_or_default();
            let Lines { text, read } = journal::next(&path, before, wanted)?;
            next.read.insert(kind.as_str().to_owned(), read);
            if text.is_empty() {
                return Ok(());
            }
            if !self.add(spool, next, kind, &text)? {
                next.read.insert(kind.as_str().to_owned(), before); // the log keeps them
                return Ok(());
            }
        }
    }

    /// Spools one report; false when there is no room for it.
    fn add(&mut self, spool: &Spool, next: &mut Next, kind: Kind, payload: &[u8]) -> anyhow::Result<bool> {
        let mut going: Vec<Item> = Vec::new();
        loop {
            let header = next.header(kind, &going);
            let key = self.local.key.as_ref();
            let report = envelope::seal(&self.local.host, next.sequence, &header, payload, key)?;
            let Some(room) = spool.room(kind, report.len() as u64)? else {
                self.wait_because("the spool is full");
                return Ok(false);
            };
            // The report names those that go for it, and is longer for that.
            if room.len() > going.len() {
                going = room;
                continue;
            }
            match spool.add(next.sequence, kind, &report, &going) {
                Ok(()) => {
                    next.added(&header);
                    self.pushed.spooled.push(next.sequence - 1);
                    self.pushed.dropped_reports += going.len() as u64;
                    self.pushed.changed = true;
                    return Ok(true);
                }
                // Not even the disk has room. What waits can still be sent, which makes some.
                Err(error) if Exit::of(&error) == Exit::CantCreate => {
                    self.wait_because(&format!("{error:#}"));
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends what waits, until the collector does not want any more.
    fn empty(&mut self, spool: &Spool, collector: &Collector, now: bool) -> anyhow::Result<()> {
        // The run that has it sends what we have spooled, too.
        let Some(_lock) = lock::attempt(self.common, LOCK)? else {
            self.wait_because("another run is sending");
            return Ok(());
        };
        let retry = Retry::read(self.common)?;
        if let Some(until) = retry.until(SystemTime::now())
            && (retry.asked || !now)
        {
            self.pushed.retry_at = Some(timestamp::rfc3339(until));
            self.wait_because(&retry.reason);
            return Ok(());
        }
        let since = Instant::now();
        // Looked at anew after each: another run may have added some, or thrown some away.
        while let Some(item) = spool.list()?.into_iter().next() {
            if since.elapsed() > LONGEST_RUN {
                self.wait_because("the rest waits for the next run");
                return Ok(());
            }
            let Some(whole) = read(&item)? else { continue };
            #[cfg(debug_assertions)] // a sabotage by the laboratory
            if std::env::var_os("LABTOOLS_SABOTAGE").is_some_and(|what| what == "delete-first") {
                spool.sent(&item)?;
            }
            match self.send(&whole, collector) {
                Ok(Outcome::Delivered) => {
                    spool.sent(&item)?;
                    self.pushed.sent_reports += 1;
                    if retry.failures > 0 {
                        Retry::forget(self.common)?;
                    }
                }
                Ok(Outcome::Refused(reason)) => self.reject(spool, &item, &reason)?,
                Err(damage) => self.reject(spool, &item, &damage)?,
                Ok(Outcome::Later { reason, asked }) => {
                    let retry = retry.after(SystemTime::now(), asked, &reason);
                    self.pushed.retry_at = retry.until(SystemTime::now()).map(timestamp::rfc3339);
                    if let Err(error) = retry.keep(self.common) {
                        self.pipe.warn(format_args!("{error:#}"));
                    }
                    self.wait_because(&reason);
                    return Ok(());
                }
            }
            self.pushed.changed = true;
        }
        Ok(())
    }

    /// What becomes of a report, or what is wrong with it.
    fn send(&self, whole: &[u8], collector: &Collector) -> Result<Outcome, String> {
        let report = envelope::open(whole)?;
        Ok(collector.send(&report, whole))
    }

    fn reject(&mut self, spool: &Spool, item: &Item, reason: &str) -> anyhow::Result<()> {
        spool.reject(item)?;
        self.pushed.rejected_reports += 1;
        self.wait_because(reason);
        let (sequence, directory) = (item.sequence, spool::DIRECTORY);
        self.pipe
            .warn(format_args!("report {sequence}: {reason}; it is in {directory}/rejected, to be looked at and moved back"));
        Ok(())
    }

    fn wait_because(&mut self, reason: &str) {
        let known = self.pushed.reason.get_or_insert_default();
        if !known.split("; ").any(|known| known == reason) {
            *known = if known.is_empty() { reason.to_owned() } else { format!("{known}; {reason}") };
        }
    }

    fn answer(mut self, spool: &Spool) -> anyhow::Result<Answer> {
        let waiting = spool.list()?;
        self.pushed.waiting_reports = waiting.len() as u64;
        self.pushed.waiting_bytes = waiting.iter().map(|item| item.bytes).sum();
        let done = self.pushed.reason.is_none();
        let mut document = Document::default();
        document.set("push", &self.pushed)?;
        Ok(if done { Answer::yes(document) } else { Answer::no(document) })
    }
}

/// A report's bytes; `None` when it was thrown away meanwhile.
fn read(item: &Item) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(&item.path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).exit(Exit::Io, || format!("reading {}", item.path.display())),
    }
}

/// How the next report goes on from the last.
struct Next {
    sequence: u64,
    dropped_reports: u64,
    read: BTreeMap<String, journal::Cursor>,
}

impl Next {
    fn after(last: Last) -> Next {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (dropped_reports, read) = last.header.map(|header| (header.dropped_reports, header.read)).unwrap_or_default();
        Next { sequence: last.sequence.map_or(now, |sequence| sequence + 1), dropped_reports, read }
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_its_turn_and_keeps_it() {
        let quarter = UNIX_EPOCH + QUARTER * 2_000_000;
        let turn = until_turn("5f0c1f5e-0000-4000-8000-000000000001", quarter);
        assert!(turn < QUARTER);
        assert_eq!(until_turn("5f0c1f5e-0000-4000-8000-000000000001", quarter + QUARTER), turn);
        assert_ne!(until_turn("5f0c1f5e-0000-4000-8000-000000000002", quarter), turn);
        let second = Duration::from_secs(1);
        assert_eq!(until_turn("5f0c1f5e-0000-4000-8000-000000000001", quarter + second), turn - second);
        assert_eq!(until_turn("5f0c1f5e-0000-4000-8000-000000000001", quarter + QUARTER - second), Duration::ZERO, "it is over");
    }

    #[test]
    fn hosts_are_spread_evenly() {
        let mut minutes = [0; 15];
        for host in 0..252 {
            minutes[(turn(&format!("5f0c1f5e-0000-4000-8000-{host:012}")).as_secs() / 60) as usize] += 1;
        }
        assert!(minutes.iter().all(|hosts| (5..=35).contains(hosts)), "{minutes:?}");
    }
}
