//! Output: the section `slots`.

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
    /// What starts the machine, by abflip.ini.
    pub firmware: Firmware,
    /// The first root.
    pub a: Listed,
    /// The second root.
    pub b: Listed,
    /// The slot that runs; absent when the root that is mounted is neither, or not on this disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booted: Option<Slot>,
    /// The slot that boots next, but for a trial that is armed; absent when both are marked, or
    /// none is, or there is no valid table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Slot>,
    /// The slot that is tried; absent when there is no trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Slot>,
    /// How far the trial is; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial_state: Option<State>,
    /// How the two copies of the table are.
    pub table: Table,
    /// What is not known, and why.
    pub missing: Vec<Missing>,
}

/// The section `settlement`: what becomes of the slot that runs.
#[derive(Debug, Serialize)]
pub struct Settlement {
    /// Whether this call changed anything (in a dry run: would change it).
    pub changed: bool,
    /// Whether the slot stays.
    pub verdict: Verdict,
    /// Why, in words; absent where there is nothing to decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether the slot that runs stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It stays: nothing is on trial, or the trial has ended.
    Stay,
    /// It is on trial, and its checks decide.
    Check,
    /// It does not stay: a reboot starts the other one.
    Back,
    /// A trial is on record, and how it stands is not known: a reboot, but no second one.
    Unsure,
}

/// How far a trial is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The next boot is the slot's, and the one after that `next`'s again.
    Armed,
    /// The slot runs, and the next boot is `next`'s.
    Running,
    /// The slot was booted and did not commit: `next` runs again.
    Failed,
}

/// A root partition.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its name in the table and on the kernel's command line.
    pub partuuid: Uuid,
    /// Its number, from 1; absent when the table has no such partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// The version of the image that was written there and verified; absent when none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The digest of that image, as it was shipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether that image was tried and did not commit; not so of the slot that boots next; absent
    /// when none was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<bool>,
    /// With `--digest`: whether that is what stands there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intact: Option<bool>,
}

/// The partition table and its copy.
#[derive(Debug, Serialize)]
pub struct Table {
    /// The size of a logical sector; absent where no table is valid, in an image that does not
    /// tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sector_bytes: Option<u64>,
    /// Whether the protective MBR is there, without which Linux does not look for a table.
    pub protective_mbr: bool,
    /// Whether the primary table is valid.
    pub primary: bool,
    /// Whether the backup table is valid.
    pub backup: bool,
    /// Whether both are valid and say the same.
    pub agree: bool,
    /// Whether the backup stands in the last sector; not so on a disk that has grown.
    pub backup_at_end: bool,
    /// What is wrong, in words; what `repair` would heal.
    pub faults: Vec<String>,
}
