//! Giving everything back, and the proof.

use jsonpipe::Common;
use pci::PciAddress;
use serde::Serialize;

use crate::fragmentation;
use crate::journal::{self, Before, Journal};
use crate::step::{Step, Steps};
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
    if !jsonpipe::sabotaged("skip-restore") {
        errors = act(common, journal, &mut steps);
    }
    let mut left = differences(common, journal);
    let mut whole = left.is_empty();
    if whole {
        if let Err(error) = journal::remove(common) {
            whole = false;
            left.push(format!("{error:#}"));
        }
    } else {
        // The reasons after the facts.
        left.extend(errors.iter().map(|error| format!("{error:#}")));
    }
    Returned {
        devices: befores(journal)
            .map(|before| ReturnedDevice {
                device: before.device,
                before: before.driver.clone(),
                now: device::driver(common, before.device),
            })
            .collect(),
        whole,
        left,
        fragmentation: journal
            .huge_pages
            .as_ref()
            .and_then(|pages| fragmentation::index(common, pages.page_bytes())),
        steps: steps.0,
    }
}

fn befores(journal: &Journal) -> impl DoubleEndedIterator<Item = &Before> {
    journal.parked.iter().chain(&journal.devices)
}

fn act(common: &Common, journal: &Journal, steps: &mut Steps) -> Vec<anyhow::Error> {
    let mut results = Vec::new();
    if !journal.groups.is_empty() {
        results.push(steps.run("groups_back", None, || {
            let mut groups = journal.groups.iter();
            groups.try_for_each(|before| group::give_back(common, before))
        }));
    }
    for before in befores(journal).rev() {
        results.push(steps.run("device_back", Some(before.device), || {
            device::give_back(common, before)
        }));
    }
    if !journal.console.is_empty() {
        results.push(steps.run("console_back", None, || journal.console.give_back(common)));
    }
    if let Some(pages) = &journal.huge_pages {
        results.push(steps.run("huge_pages_back", None, || pages.give_back(common)));
    }
    results.into_iter().filter_map(Result::err).collect()
}

fn differences(common: &Common, journal: &Journal) -> Vec<String> {
    let devices = befores(journal).filter_map(|before| device::difference(common, before));
    let groups = journal.groups.iter();
    let console = journal.console.difference(common);
    let pages = journal.huge_pages.as_ref();
    devices
        .chain(groups.filter_map(|before| group::difference(common, before)))
        .chain(console)
        .chain(pages.and_then(|pages| pages.difference(common)))
        .collect()
}
