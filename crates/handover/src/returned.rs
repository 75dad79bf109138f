//! Giving everything back, and the proof.

use std::time::Duration;

use jsonpipe::Common;
use pci::PciAddress;
use serde::Serialize;

use crate::console::Console;
use crate::fragmentation;
use crate::journal::{self, Journal};
use crate::step::{Step, Steps};
use crate::sysfs::LIMIT;
use crate::{device, group};

/// What a guest had of the host, after it was given back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Returned {
    /// The devices for the guest and the parked ones.
    pub devices: Vec<ReturnedDevice>,
    /// Whether everything is as it was: drivers, overrides, nodes, console and huge pages.
    pub whole: bool,
    /// What is not as it was, and why it could not be made so.
    pub left: Vec<String>,
    /// The fragmentation of memory afterwards, as in [`crate::HugePages`]; absent when no huge pages
    /// were reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragmentation: Option<f64>,
    /// The time of each step.
    pub steps: Vec<Step>,
}

/// A device and its driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReturnedDevice {
    /// Its address.
    pub device: PciAddress,
    /// Its driver before the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Its driver now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

/// Nothing was taken, and so nothing is missing.
impl Default for Returned {
    fn default() -> Returned {
        Returned {
            devices: Vec::new(),
            whole: true,
            left: Vec::new(),
            fragmentation: None,
            steps: Vec::new(),
        }
    }
}

/// Gives back what a killed run has left, by its journal; as often as it is called. `None` when
/// there is no journal. The caller holds the guest's lock, and QEMU must have ended. Status 78 for a
/// journal that cannot be followed.
pub fn restore(common: &Common) -> anyhow::Result<Option<Returned>> {
    let journal = Journal::read(common)?;
    Ok(journal.map(|journal| give_back(common, &journal)))
}

/// Whether a run that was killed, or one that still runs, has taken something. Status 77 for a user
/// who may not look.
pub fn is_taken(common: &Common) -> anyhow::Result<bool> {
    Journal::is_there(common)
}

/// Gives everything back in reverse, whatever fails, and removes the journal if all is as it was.
pub(crate) fn give_back(common: &Common, journal: &Journal) -> Returned {
    let mut steps = Steps::default();
    let mut errors = Vec::new();
    let mut pages = Ok(());
    if !jsonpipe::sabotaged("skip-restore") {
        errors = act(common, journal, &mut steps);
        if let Some(reservation) = &journal.huge_pages {
            pages = steps.run("huge_pages_back", None, || reservation.give_back(common));
        }
    }
    let (mut rest, mut left) = rest(common, journal);
    if let Err(error) = pages {
        left.push(format!("{error:#}"));
    } else {
        rest.huge_pages = None;
    }
    let kept = if left.is_empty() {
        journal::remove(common)
    } else {
        // The reasons after the facts.
        left.extend(errors.iter().map(|error| format!("{error:#}")));
        rest.write(common)
    };
    left.extend(kept.err().map(|error| format!("{error:#}")));
    Returned {
        devices: journal
            .befores()
            .map(|before| ReturnedDevice {
                device: before.device,
                before: before.driver.clone(),
                now: device::driver(common, before.device),
            })
            .collect(),
        whole: left.is_empty(),
        left,
        fragmentation: journal
            .huge_pages
            .as_ref()
            .and_then(|pages| fragmentation::index(common, pages.page_bytes())),
        steps: steps.0,
    }
}

/// Gives back everything except the huge pages.
fn act(common: &Common, journal: &Journal, steps: &mut Steps) -> Vec<anyhow::Error> {
    let mut results = Vec::new();
    if !journal.groups.is_empty() {
        results.extend(steps.run("groups_back", None, || {
            let groups = journal.groups.iter();
            groups
                .map(|before| group::give_back(common, before))
                .collect::<Vec<_>>()
        }));
    }
    for before in journal.befores().rev() {
        results.push(steps.run("device_back", Some(before.device), || {
            device::give_back(common, before)
        }));
    }
    if !journal.console.is_empty() {
        // A driver that is not back brings up no framebuffer.
        let is_back = results.iter().all(Result::is_ok);
        let patience = if is_back { LIMIT } else { Duration::ZERO };
        results.extend(steps.run("console_back", None, || {
            journal.console.give_back(common, patience)
        }));
    }
    results.into_iter().filter_map(Result::err).collect()
}

/// The part that is not as it was, and how it differs. Huge pages, which do not show whose they are,
/// are in it unseen.
pub(crate) fn rest(common: &Common, journal: &Journal) -> (Journal, Vec<String>) {
    let mut rest = journal.clone();
    let mut left = Vec::new();
    let mut differs = |difference: Option<String>| {
        let is_some = difference.is_some();
        left.extend(difference);
        is_some
    };
    rest.parked
        .retain(|before| differs(device::difference(common, before)));
    rest.devices
        .retain(|before| differs(device::difference(common, before)));
    rest.groups
        .retain(|before| differs(group::difference(common, before)));
    if !differs(rest.console.difference(common)) {
        rest.console = Console::default();
    }
    (rest, left)
}
