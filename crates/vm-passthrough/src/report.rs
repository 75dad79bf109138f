//! Output: the section `guest` of the document.

use blockers::Findings;
use handover::{HugePages, Returned, ReturnedDevice, Step, Taken};
use jsonpipe::Missing;
use serde::Serialize;

use crate::accel::Accel;
use crate::profile::Reboot;

/// The start and the end of the guest.
#[derive(Debug, Serialize)]
pub struct Guest {
    /// Whether a guest ran, or the host does not have back what was taken for one.
    pub changed: bool,
    /// The accelerator.
    pub accel: Accel,
    /// The machine's model, from its firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// QEMU's command line, the program first.
    pub argv: Vec<String>,
    /// The PCI devices handed to the guest.
    pub devices: Vec<String>,
    /// Their IOMMU groups.
    pub groups: Vec<u32>,
    /// The guest's session; absent in a plan.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// Why it did not start although devices were taken for it, or how it ended if it did not simply
    /// shut down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_reason: Option<String>,
    /// The hand-over; absent in a plan.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub handed_back: Option<HandedBack>,
    /// The keys that are not known, and why.
    pub missing: Vec<Missing>,
}

/// The result of `check`.
#[derive(Debug, Serialize)]
pub struct Check {
    /// False: it only reads.
    pub changed: bool,
    /// The machine's model, from its firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The obstacles to a hand-over, and the warnings.
    #[serde(flatten)]
    pub findings: Findings,
}

/// The result of `probe`.
#[derive(Debug, Serialize)]
pub struct Probe {
    /// Whether the entry was written.
    pub changed: bool,
    /// The machine's model, from its firmware.
    pub model: String,
    /// The PCI devices that guests would get.
    pub devices: Vec<String>,
    /// The members of their groups that would be without a driver.
    pub parked: Vec<String>,
    /// The keys of the entry that are not known, and why.
    pub missing: Vec<Missing>,
}

/// A guest's session.
#[derive(Debug, Serialize)]
pub struct Session {
    /// The time when its processors began to run.
    pub started_at: String,
    /// The seconds from the start of its QEMU, of which huge pages take most.
    pub start_seconds: f64,
    /// The seconds from the start of the host's kernel; absent when it does not count them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_to_ready_seconds: Option<f64>,
    /// The time when its QEMU was gone.
    pub ended_at: String,
    /// How it ended.
    pub ended: Ended,
}

/// The parts of the host that a guest had, after they were given back.
#[derive(Debug, Serialize)]
pub struct HandedBack {
    /// Whether the host has everything back that the guest had taken, verified.
    pub handed_back: bool,
    /// The devices that were taken, with their drivers before and now.
    pub returned: Vec<ReturnedDevice>,
    /// What the host does not have back, and why.
    pub left: Vec<String>,
    /// The huge pages; absent when the memory does not come from them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub huge_pages: Option<HugePages>,
    /// The steps of taking and giving back.
    pub steps: Vec<Step>,
}

impl HandedBack {
    /// The report on what was `taken`, if this process took it, and then `returned`.
    pub(crate) fn new(taken: Option<Taken>, returned: Returned) -> HandedBack {
        let Taken {
            mut huge_pages,
            mut steps,
            ..
        } = taken.unwrap_or_default();
        if let Some(pages) = &mut huge_pages {
            pages.fragmentation_after = returned.fragmentation;
        }
        steps.extend(returned.steps);
        HandedBack {
            handed_back: returned.whole,
            returned: returned.devices,
            left: returned.left,
            huge_pages,
            steps,
        }
    }
}

/// The result of `restore`.
#[derive(Debug, Serialize)]
pub struct Restored {
    /// Whether a killed run had left something.
    pub changed: bool,
    /// What it had left.
    #[serde(flatten)]
    pub handed_back: HandedBack,
}

/// The result of `is-fresh`.
#[derive(Debug, Serialize)]
pub struct Fresh {
    /// False: it only reads.
    pub changed: bool,
    /// Whether the next guest can start without a restart of the host.
    pub fresh: bool,
    /// The policy of the site.
    pub reboot_between_sessions: Reboot,
    /// The share of the free memory that is in blocks smaller than a huge page, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragmentation: Option<f64>,
    /// The keys that are not known, and why.
    pub missing: Vec<Missing>,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It shut itself down.
    Shutdown,
    /// This program was asked to stop it.
    Stopped,
    /// QEMU ended while it ran.
    Died,
}
