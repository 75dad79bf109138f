//! The events of `changes`: one JSON line for each change, in the names of the Elastic Common
//! Schema.

use serde::{Deserialize, Serialize};

/// One line of `changes`, which is also appended to /var/log/labtools/events.jsonl.
///
/// Told once: the same difference has the same `event.id` until it is accepted, or gone again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Event {
    /// When it was seen, RFC 3339.
    #[serde(rename = "@timestamp")]
    pub timestamp: String,
    /// What happened.
    pub event: EventDetails,
    /// Where.
    pub host: EventHost,
    /// What it is about, in the words of the section `host`.
    pub labtools: EventAbout,
    /// The same for people, one line.
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
    /// Its name in the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EventAbout {
    /// Which part of the machine.
    pub part: Part,
    /// What became of it.
    pub action: Action,
    /// Which one, by what stays the same when it is moved: the serial of a disk or a memory module,
    /// the interface.
    pub subject: String,
    /// Which of its faults, by a word that stays the same; of a degraded disk only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What the baseline says; absent for what was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What is so now; absent for what is no longer there.
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
    /// The firmware's version.
    Firmware,
}

impl Part {
    /// The same as in the document.
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

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is no longer there.
    Removed,
    /// It was not there before.
    Added,
    /// It is there, and worse: a slower link, a disk that reports faults.
    Degraded,
    /// The case was opened.
    Opened,
    /// It is another one, or another version.
    Replaced,
}

impl Action {
    /// The same as in the document.
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

/// A difference between the machine and its baseline, in `host.changes`: told once by `changes`,
/// listed here until it is accepted or gone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Change {
    /// The `event.id` of its event.
    pub id: String,
    /// When it was told, RFC 3339.
    pub told_at: String,
    /// What it is about.
    #[serde(flatten)]
    pub about: EventAbout,
}
