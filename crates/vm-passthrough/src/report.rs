//! Output: the section `guest` of the document.

use jsonpipe::Missing;
use serde::Serialize;

use crate::accel::Accel;

/// How the guest was started and how it ended.
#[derive(Debug, Serialize)]
pub struct Guest {
    /// Whether a guest ran.
    pub changed: bool,
    /// What runs the guest's instructions.
    pub accel: Accel,
    /// The machine's model, as its firmware names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// QEMU's command line, the program first.
    pub argv: Vec<String>,
    /// The PCI devices that are handed to the guest.
    pub devices: Vec<String>,
    /// Their IOMMU groups.
    pub groups: Vec<u32>,
    /// The guest's life; not there in a plan.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// What could not be known, and why.
    pub missing: Vec<Missing>,
}

/// A guest's life.
#[derive(Debug, Serialize)]
pub struct Session {
    /// When its processors began to run.
    pub started_at: String,
    /// When its QEMU was gone.
    pub ended_at: String,
    /// How it ended.
    pub ended: Ended,
    /// More about it, where it did not simply shut down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_reason: Option<String>,
    /// Whether everything that the guest had taken is the host's again.
    pub handed_back: bool,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It shut itself down.
    Shutdown,
    /// This program was told to stop it.
    Stopped,
    /// QEMU ended under it.
    Died,
}
