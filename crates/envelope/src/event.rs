//! The events of `changes`: one JSON line for each change, in the names of the Elastic Common
//! Schema.

use serde::{Deserialize, Serialize};

/// One line of `changes`, which is also appended to /var/log/labtools/events.jsonl.
///
/// Reported once: the same difference has the same `event.id` until it is accepted, or gone again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Event {
    /// The time it was seen, RFC 3339.
    #[serde(rename = "@timestamp")]
    pub timestamp: String,
    /// The event.
    pub event: EventDetails,
    /// The machine.
    pub host: EventHost,
    /// The subject, in the words of the section `host`.
    pub labtools: EventAbout,
    /// The text, one line.
    pub message: String,
}

/// `event` of the Elastic Common Schema.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EventDetails {
    /// `PART_ACTION`: `memory_removed`, `disk_removed`, `chassis_opened`, `link_degraded`.
    pub action: String,
    /// Always `host`.
    pub category: Vec<String>,
    /// A random UUID (version 4), drawn when the difference is first seen.
    pub id: String,
    /// Always `alert`.
    pub kind: String,
    /// Always `change`.
    #[serde(rename = "type")]
    pub kinds: Vec<String>,
    /// Always `invcollect`.
    pub provider: String,
}

/// `host` of the Elastic Common Schema.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EventHost {
    /// The content of /persistent/inventory/uuid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its hostname.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The subject of an event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EventAbout {
    /// The part of the machine.
    pub part: Part,
    /// The change.
    pub action: Action,
    /// The identity of the thing, which stays the same when it is moved: the serial of a disk or a
    /// memory module, the interface.
    pub subject: String,
    /// The fault, as a fixed word; of a degraded disk. Of a degraded firmware, the key in
    /// firmware.ini.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The baseline's value, or that of firmware.ini; absent for a new thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The current value; absent for a missing thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A part of the machine that the baseline knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The case.
    Chassis,
    /// A memory module.
    Memory,
    /// A disk that is not removable.
    Disk,
    /// A wired interface and its link.
    Link,
    /// The processors.
    Processor,
    /// A PCI device.
    Device,
    /// The machine itself: another serial number or UUID under the same `host.id` is a clone or an
    /// exchanged board.
    System,
    /// The firmware: another version, or a setting that firmware.ini wants otherwise.
    Firmware,
}

impl Part {
    /// The word in the document.
    pub fn word(self) -> &'static str {
        match self {
            Part::Chassis => "chassis",
            Part::Memory => "memory",
            Part::Disk => "disk",
            Part::Link => "link",
            Part::Processor => "processor",
            Part::Device => "device",
            Part::System => "system",
            Part::Firmware => "firmware",
        }
    }
}

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is missing.
    Removed,
    /// It is new.
    Added,
    /// It is present, but worse: a slower link, a disk that reports faults.
    Degraded,
    /// The case was opened.
    Opened,
    /// It was replaced by another, or has another version.
    Replaced,
}

impl Action {
    /// The word in the document.
    pub fn word(self) -> &'static str {
        match self {
            Action::Removed => "removed",
            Action::Added => "added",
            Action::Degraded => "degraded",
            Action::Opened => "opened",
            Action::Replaced => "replaced",
        }
    }
}

/// A difference between the machine and its baseline, in `host.changes`: `changes` reports it once,
/// and it is listed until it is accepted or gone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Change {
    /// The `event.id` of its event.
    pub id: String,
    /// The time of the report, RFC 3339.
    pub told_at: String,
    /// The subject.
    #[serde(flatten)]
    pub about: EventAbout,
}
