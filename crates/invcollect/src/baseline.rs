//! The baseline on the disk: the accepted state, the differences reported since, and the events
//! that are not logged yet.

pub mod facts;

use std::io::Write;

use envelope::{Change, Event, EventAbout};
use jsonpipe::{Common, Exit, atomic};
use serde::{Deserialize, Serialize};

use crate::baseline::facts::{Facts, Link, Thing, linked, pairs};
use crate::read::machine::{Machine, PATIENCE};
use crate::report::{Disk, Host, Interface};

/// The path of the file.
pub const FILE: &str = "/var/lib/labtools/baseline.json";
/// The version of the file. An added key does not raise it.
const SCHEMA: u64 = 1;

/// The file.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Baseline {
    schema: u64,
    /// The time of its acceptance, RFC 3339.
    pub accepted_at: String,
    /// Whether a technician accepted it; otherwise the first run took it.
    #[serde(default)]
    pub accepted: bool,
    /// The accepted facts, with later improvements.
    pub facts: Facts,
    /// The reported differences that persist.
    pub told: Vec<Change>,
    /// Differences that must persist before they are reported.
    #[serde(default)]
    pub waiting: Vec<Waiting>,
    /// Events that may be missing in the event log.
    #[serde(default)]
    pub unlogged: Vec<Event>,
}

/// A difference that may disappear within a minute.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Waiting {
    /// The change that waits for a second look.
    pub about: EventAbout,
    /// The kernel's id of the boot in which it was first seen.
    pub boot: Option<String>,
    /// The uptime at that moment.
    pub uptime_seconds: u64,
}

impl Baseline {
    /// A new baseline.
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

    /// Reads it; `None` when there is none. Status 65 when it is invalid, 75 when its disk does not
    /// answer.
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
                "reading {path}: {what}; remove it, and the machine's current state becomes the baseline"
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

    /// Writes it, durably and atomically.
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

/// The baseline for the section `host`.
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

/// Marks accepted faults of the machine: neither the report nor the metrics raise an alarm for
/// them.
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
        // Being slower than both ends offer is in the baseline only once it was accepted; other
        // properties may be from the first run.
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
