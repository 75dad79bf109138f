//! Taking everything for a guest.

use std::fmt;

use jsonpipe::{Common, Exit, ExitContext};
use pci::PciAddress;
use serde::Serialize;

use crate::console::Console;
use crate::huge_pages::{self, HugePages, Reservation};
use crate::journal::Journal;
use crate::returned::{self, Returned};
use crate::step::{Step, Steps};
use crate::{Owner, device, group, left, module};

/// What a guest is to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The devices, in the order in which they are taken.
    pub devices: Vec<PciAddress>,
    /// Devices that lose their driver meanwhile, where they are members of the same groups.
    pub parked: Vec<PciAddress>,
    /// QEMU's user, who gets the nodes of the groups.
    pub owner: Owner,
    /// The guest's memory in bytes, if it comes from huge pages.
    pub memory: Option<u64>,
    /// The memory in bytes that stays the host's when huge pages are reserved.
    pub reserve: u64,
}

/// What was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Taken {
    /// The IOMMU groups, in ascending order.
    pub groups: Vec<u32>,
    /// The huge pages; absent when the memory does not come from them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub huge_pages: Option<HugePages>,
    /// The time of each step.
    pub steps: Vec<Step>,
}

/// Everything that a guest has of the host. Dropping it gives it back.
#[derive(Debug)]
pub struct Handover {
    common: Common,
    /// Absent when neither this guest nor one before it has something, and once it was given back.
    journal: Option<Journal>,
    taken: Taken,
}

/// A hand-over that failed, and what became of the parts that were taken before.
#[derive(Debug)]
pub struct Failed {
    /// The cause, with its status.
    pub error: anyhow::Error,
    /// What was given back; if not all was, the status is 1. Absent when nothing was changed.
    pub returned: Option<Returned>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Failed {}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Failed {
        Failed {
            error,
            returned: None,
        }
    }
}

impl Handover {
    /// Takes what is `wanted`, and reports each step to `note`. The caller holds the guest's lock.
    ///
    /// After a failure at any step everything is given back. Status 66 for a device that is not
    /// there, 78 without an IOMMU, without the modules, without a mount of huge pages, or for a
    /// group that is not viable, 75 for a driver that does not answer, for too little or too
    /// fragmented memory, and for a device that a driver of the host has got back without a restore
    /// ([`crate::reclaimed`]). [`crate::restore`] comes first; parts that it could not give back are
    /// given back after this guest.
    pub fn take(
        common: &Common,
        wanted: &Wanted,
        note: &mut dyn FnMut(&str),
    ) -> Result<Handover, Failed> {
        let left = Journal::read(common)?;
        let all = [&wanted.devices[..], &wanted.parked].concat();
        if let Some(reclaimed) = left::reclaimed(common, &all)?.first() {
            return Err(Exit::TemporaryFailure
                .error(format_args!("taking the devices: {reclaimed}"))
                .into());
        }
        let mut steps = Steps::default();
        let groups = groups(common, &wanted.devices)?;
        let need = match wanted.memory {
            Some(bytes) => {
                let page_bytes = huge_pages::page_bytes(common)?;
                Some(huge_pages::need(common, page_bytes, bytes, wanted.reserve)?)
            }
            None => None,
        };
        if !wanted.devices.is_empty() {
            steps.run("modules", None, || module::load(common))?;
        }
        let (mut pages, reservation) = match need {
            Some(need) => (Some(need.pages), need.reservation),
            None => (None, None),
        };
        if wanted.devices.is_empty() && reservation.is_none() {
            return Ok(Handover {
                common: common.clone(),
                journal: left,
                taken: Taken {
                    groups,
                    huge_pages: pages,
                    steps: steps.0,
                },
            });
        }
        let now = journal(common, wanted, &groups, reservation)?;
        let journal = left.map_or_else(|| now.clone(), |left| left.and(&now));
        journal.write(common)?;
        if let Err(error) = act(common, &now, wanted.owner, &mut steps, note) {
            let returned = Some(returned::give_back(common, &journal));
            return Err(Failed { error, returned });
        }
        if let Some(pages) = &mut pages {
            pages.got = pages.asked;
        }
        Ok(Handover {
            common: common.clone(),
            journal: Some(journal),
            taken: Taken {
                groups,
                huge_pages: pages,
                steps: steps.0,
            },
        })
    }

    /// What was taken.
    pub fn taken(&self) -> &Taken {
        &self.taken
    }

    /// Gives everything back, in reverse, and verifies it. QEMU must have ended.
    pub fn give_back(mut self) -> Returned {
        self.journal
            .take()
            .map_or_else(Returned::default, |journal| {
                returned::give_back(&self.common, &journal)
            })
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if let Some(journal) = self.journal.take() {
            returned::give_back(&self.common, &journal); // if not all, its journal stays
        }
    }
}

/// The groups of the devices, all of which exist.
fn groups(common: &Common, devices: &[PciAddress]) -> anyhow::Result<Vec<u32>> {
    let mut groups = Vec::new();
    for address in devices {
        let found = pci::device(common, *address)?;
        let found = found.exit(Exit::NoInput, || format!("PCI device {address}: not there"))?;
        groups.push(found.group.exit(Exit::Config, || {
            format!("PCI device {address}: in no IOMMU group; switch on VT-d or AMD-Vi in the firmware and intel_iommu=on in the kernel")
        })?);
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

/// The state of everything that will change.
fn journal(
    common: &Common,
    wanted: &Wanted,
    groups: &[u32],
    huge_pages: Option<Reservation>,
) -> anyhow::Result<Journal> {
    let before = |devices: &[PciAddress]| -> anyhow::Result<Vec<_>> {
        devices
            .iter()
            .map(|address| device::before(common, *address))
            .collect()
    };
    let mut has_display = false;
    for address in &wanted.devices {
        has_display |= pci::device(common, *address)?.is_some_and(|found| found.is_display());
    }
    let mut journal = Journal::new(common)?;
    journal.devices = before(&wanted.devices)?;
    let mut parked = Vec::new();
    for address in &wanted.parked {
        let group = pci::device(common, *address)?.and_then(|found| found.group);
        if group.is_some_and(|group| groups.contains(&group)) {
            parked.push(*address);
        }
    }
    journal.parked = before(&parked)?;
    journal.groups = groups
        .iter()
        .map(|group| group::before(common, *group))
        .collect();
    if has_display {
        journal.console = Console::read(common);
    }
    journal.huge_pages = huge_pages;
    Ok(journal)
}

/// Takes what `now` is the state of.
fn act(
    common: &Common,
    now: &Journal,
    owner: Owner,
    steps: &mut Steps,
    note: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    if let Some(pages) = &now.huge_pages {
        note("reserving huge pages");
        steps.run("huge_pages", None, || pages.take(common))?;
    }
    if !now.console.is_empty() {
        note("taking the console off the graphics card");
        steps.run("console", None, || now.console.take(common))?;
    }
    for before in &now.parked {
        let device = before.device;
        note(&format!("parking {device}"));
        steps.run("park", Some(device), || device::unbind(common, device))?;
    }
    for before in &now.devices {
        let device = before.device;
        note(&format!("binding {device} to {}", pci::VFIO));
        steps.run("bind", Some(device), || device::take(common, before))?;
    }
    if !now.groups.is_empty() {
        note("giving the groups to QEMU's user");
        steps.run("groups", None, || {
            let mut groups = now.groups.iter();
            groups.try_for_each(|before| group::take(common, before.group, owner))
        })?;
    }
    Ok(())
}
