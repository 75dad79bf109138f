//! The baseline on the disk: the accepted state, the differences reported since, and the events
//! about to be logged.

pub mod facts;

use std::io::Write;

use envelope::{Change, Event, EventAbout};
use jsonpipe::{Common, Exit, atomic};
use serde::{Deserialize, Serialize};

use crate::baseline::facts::{Facts, Link, Thing, linked, pairs};
use crate::read::machine::{Machine, PATIENCE};
use crate::report::{Disk, Host, Interface};

/// Where it lies.
pub const FILE: &str = "/var/lib/labtools/baseline.json";
/// The version of the file. A key that is added keeps it.
const SCHEMA: u64 = 1;

/// The file.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Baseline {
    schema: u64,
    /// When it was accepted, RFC 3339.
    pub accepted_at: String,
    /// Whether a technician accepted it; otherwise it is what the first look found.
    #[serde(default)]
    pub accepted: bool,
    /// What was accepted, and what turned out better since.
    pub facts: Facts,
    /// The differences that were told, and are still so.
    pub told: Vec<Change>,
    /// What is looked at once more before it is told.
    #[serde(default)]
    pub waiting: Vec<Waiting>,
    /// Events that are not known to be in the event log.
    #[serde(default)]
    pub unlogged: Vec<Event>,
}

/// A difference that may be gone in a minute.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Waiting {
    /// The change that waits for a second look.
    pub about: EventAbout,
    /// The kernel's id of the boot in which it was seen first.
    pub boot: Option<String>,
    /// How long after the boot that was.
    pub uptime_seconds: u64,
}

impl Baseline {
    /// A new one.
    pub fn new(accepted_at: String, accepted: bool, facts: Facts) -> Baseline {
        Baseline {
            schema: SCHEMA,
            accepted_at,
            accepted,
            facts,
            told: Vec::new(),
            waiting: Vec::new(),
            unlogged: Vec::new(),
        }
    }

    /// Reads it; `None` when there is none. Status 65 when it is not right, 75 when its disk does
    /// not answer.
    pub fn read(common: &Common) -> anyhow::Result<Option<Baseline>> {
        let read = Machine::new(common).within(PATIENCE, "changes", |machine| {
            Baseline::read_unhurried(machine.common)
        });
        read.unwrap_or_else(|| {
            let path = common.path(FILE);
            let waited = PATIENCE.as_secs();
            Err(Exit::TemporaryFailure.error(format_args!(
                "reading {}: no answer within {waited} seconds; look at its disk",
                path.display()
            )))
        })
    }

    fn read_unhurried(common: &Common) -> anyhow::Result<Option<Baseline>> {
        let path = common.path(FILE);
        let Some(text) = jsonpipe::read_if_there(&path)? else {
            return Ok(None);
        };
        let wrong = |what: &str| {
            let path = path.display();
            Exit::Data.error(format_args!(
                "reading {path}: {what}; remove it, and the machine as it is becomes the baseline"
            ))
        };
        let baseline: Baseline =
            serde_json::from_slice(&text).map_err(|error| wrong(&error.to_string()))?;
        if baseline.schema != SCHEMA {
            return Err(wrong(&format!(
                "schema is not {SCHEMA}, the one that this release knows"
            )));
        }
        Ok(Some(baseline))
    }

    /// Writes it, durably, in one step.
    pub fn write(&self, common: &Common) -> anyhow::Result<()> {
        let path = common.path(FILE);
        if let Some(directory) = path.parent() {
            atomic::create_directory(directory, 0o755)?;
        }
        let text = serde_json::to_string_pretty(self)?;
        atomic::write(&path, 0o600, |file| {
            file.write_all(text.as_bytes())
                .and_then(|()| file.write_all(b"\n"))
        })
    }
}

/// For the section `host`.
pub fn known(machine: &Machine) -> Option<Baseline> {
    match Baseline::read_unhurried(machine.common) {
        Ok(Some(baseline)) => return Some(baseline),
        Ok(None) => machine.missing(
            "changes",
            "no baseline yet; the first call of invcollect changes takes it",
        ),
        Err(error) => machine.missing("changes", format_args!("{error:#}")),
    }
    None
}

/// Marks what is wrong with the machine and was accepted: neither the report nor the metrics call
/// anybody for it.
pub fn mark(host: &mut Host, baseline: &Baseline) {
    host.changes.clone_from(&baseline.told);
    let (now, facts) = (Facts::of(host), &baseline.facts);
    if host.chassis.opened == Some(true) && facts.opened == Some(true) {
        host.chassis.accepted = Some(true);
    }
    host.memory.accepted_bytes = facts.memory_bytes().filter(|_| baseline.accepted);
    let disks = now
        .disks
        .as_ref()
        .zip(facts.disks.as_ref())
        .map(|(now, known)| (now, known, pairs(known, now)));
    let links = now
        .links
        .as_ref()
        .zip(facts.links.as_ref())
        .map(|(now, known)| (now, known, linked(known, now)));
    if let Some((disks, known, pairs)) = disks {
        let is_accepted = |disk: &Thing, known: &Thing| {
            let mut faults = disk
                .checks
                .iter()
                .filter(|(_, fault)| fault.is_some())
                .peekable();
            faults.peek().is_some()
                && faults.all(|(word, _)| known.checks.get(word).is_some_and(Option::is_some))
        };
        let staying: Vec<&mut Disk> = host
            .disks
            .iter_mut()
            .filter(|disk| !disk.removable)
            .collect();
        for (at, disk) in staying.into_iter().enumerate() {
            let known = pairs
                .iter()
                .position(|pair| *pair == Some(at))
                .map(|at| &known[at]);
            disk.accepted = known
                .is_some_and(|known| is_accepted(&disks[at], known))
                .then_some(true);
        }
    }
    if let Some((links, known, pairs)) = links {
        // What is worse than both ends offer is in the baseline of nobody who did not accept it;
        // what else it has, the first look may have found.
        let is_slow = |link: &Link| {
            link.speed
                .zip(link.best)
                .is_some_and(|(speed, best)| speed < best)
        };
        let is_bad = |link: &Link| is_slow(link) || link.half == Some(true);
        let is_said = |link: &Link, known: &Link| link.speed.is_some() || known.speed.is_none();
        let is_accepted = |link: &Link, known: &Link| match link.carrier {
            Some(true) => {
                is_said(link, known)
                    && !known.is_better_than(link)
                    && (baseline.accepted || is_bad(link))
            }
            Some(false) => known.carrier == Some(false) && baseline.accepted,
            None => false,
        };
        let staying: Vec<&mut Interface> = host
            .interfaces
            .iter_mut()
            .filter(|interface| interface.stays())
            .collect();
        for (at, interface) in staying.into_iter().enumerate() {
            let known = pairs
                .iter()
                .position(|pair| *pair == Some(at))
                .map(|at| &known[at]);
            interface.accepted = known
                .is_some_and(|known| is_accepted(&links[at], known))
                .then_some(true);
        }
    }
}
