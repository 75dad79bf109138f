//! Output: the sections `slots`, `settlement` and `partitioning`.

pub mod layout;

use jsonpipe::Missing;
use serde::Serialize;
use uuid::Uuid;

use crate::request::{Firmware, Slot};

/// The section `slots`: a machine's two roots and its partition table.
#[derive(Debug, Serialize)]
pub struct Slots {
    /// Whether this call changed anything (in a dry run: would change it).
    pub changed: bool,
    /// The disk, or the image of one.
    pub disk: String,
    /// What starts the machine, by abflip.ini or by the machine.
    pub firmware: Firmware,
    /// Slot a.
    pub a: Listed,
    /// Slot b.
    pub b: Listed,
    /// The slot that runs; absent when the mounted root is neither slot, or not on this disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booted: Option<Slot>,
    /// The slot that boots next if no trial is armed; absent when both are marked, or none is, or
    /// there is no valid table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Slot>,
    /// The slot on trial; absent when there is no trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Slot>,
    /// The state of the trial; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial_state: Option<State>,
    /// The state of the partition table.
    pub table: Table,
    /// What is not known, and why.
    pub missing: Vec<Missing>,
}

/// The section `settlement`: the decision about the slot that runs.
#[derive(Debug, Serialize)]
pub struct Settlement {
    /// Whether this call changed anything (in a dry run: would change it).
    pub changed: bool,
    /// The decision.
    pub verdict: Verdict,
    /// Why, in words; absent where no decision is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The decision about the slot that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It stays: nothing is on trial, or the trial has ended.
    Stay,
    /// It is on trial; its health checks decide.
    Check,
    /// It does not stay: a reboot starts the other slot.
    Back,
    /// A trial is on record, but its state is not known: reboot, but only once.
    Unsure,
}

/// The state of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The next boot starts the slot, and the one after that `next` again.
    Armed,
    /// The slot runs, and the next boot starts `next`.
    Running,
    /// The slot was booted and did not commit: `next` runs again.
    Failed,
}

/// A root partition.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its name in the table and on the kernel's command line.
    pub partuuid: Uuid,
    /// Its number, from 1; absent when the table does not contain the partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// The version of the verified image; absent when none was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The digest of that image, as it was shipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether that image was tried and did not commit; always false for the slot that boots next;
    /// absent when none was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<bool>,
    /// With `--digest`: whether the content still has that digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intact: Option<bool>,
}

/// The partition table and its copy.
#[derive(Debug, Serialize)]
pub struct Table {
    /// The size of a logical sector; absent for an image without a valid table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sector_bytes: Option<u64>,
    /// Whether the protective MBR exists; without it Linux does not look for a table.
    pub protective_mbr: bool,
    /// Whether the primary table is valid.
    pub primary: bool,
    /// Whether the backup table is valid.
    pub backup: bool,
    /// Whether both are valid and agree.
    pub agree: bool,
    /// Whether the backup is in the last sector; false on a disk that has grown.
    pub backup_at_end: bool,
    /// The faults, in words; `repair` heals those that it can.
    pub faults: Vec<String>,
}
