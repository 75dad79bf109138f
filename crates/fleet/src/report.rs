//! The section `fleet`: what the reports of all machines say together.

use std::collections::BTreeMap;

use jsonpipe::Missing;
use serde::Serialize;

/// The section `fleet`. Lists of machines are by building, room and name; an empty room is one that
/// nobody knows.
#[derive(Debug, Default, Serialize)]
pub struct Fleet {
    /// Always false: looking changes nothing but the page that was asked for.
    pub changed: bool,
    /// The start of the period, RFC 3339.
    pub since: String,
    /// Its end.
    pub until: String,
    /// The time zone of the hours of the week.
    pub time_zone: String,
    /// What was read.
    pub read: Read,
    /// What somebody has to go for, by room.
    pub visit: Vec<Finding>,
    /// What can be done from a desk, by room.
    pub remote: Vec<Finding>,
    /// The rooms.
    pub rooms: Vec<Room>,
    /// The machines: those of hosts.ini, then others that reported.
    pub machines: Vec<Machine>,
    /// What changed in the period, as the machines told it, the newest first.
    pub events: Vec<Event>,
    /// How many more there were, older ones.
    pub events_left_out: u64,
    /// Images and bases, and who is behind.
    pub versions: Vec<Version>,
    /// Which software is where.
    pub software: Vec<Software>,
    /// Machines that say that they are another.
    pub duplicates: Vec<Duplicate>,
    /// Reports that were not believed, by host and reason.
    pub rejected: Vec<Rejected>,
    /// What was received over time, where Prometheus was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// What is not known, and why.
    pub missing: Vec<Missing>,
}

/// What was read of the store, in the period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Read {
    /// Reports that are believed.
    pub reports: u64,
    /// Those that are not.
    pub unbelieved_reports: u64,
    /// Reports that the machines themselves threw away in the period, to make room in their spools.
    pub dropped_reports: u64,
    /// The bytes of all that was read.
    pub bytes: u64,
    /// Hosts that the collector expelled, of all rooms and times, and of which it still has
    /// reports; those are not read.
    pub expelled_hosts: u64,
}

/// Something that is to be done at one machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Where it stands; empty when nobody knows.
    pub building: String,
    /// Where it stands; empty when nobody knows.
    pub room: String,
    /// What it is.
    pub what: What,
    /// The machine's name, or its id when it has none.
    pub host: String,
    /// What was seen.
    pub seen: String,
    /// What that may come from, the likeliest first.
    pub likely: Vec<String>,
    /// What is to be done.
    #[serde(rename = "do")]
    pub advice: &'static str,
}

/// What a [`Finding`] is about, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The case was opened.
    CaseOpened,
    /// Something of the hardware is gone, or worse.
    HardwareChanged,
    /// It was to wake and did not.
    NotWoken,
    /// Nothing is heard of it.
    Silent,
    /// Less memory than it left the factory with.
    MemoryMissing,
    /// A disk or what is on it has faults.
    DiskFaulty,
    /// The wired link is slower than it could be.
    SlowLink,
    /// It receives slowly, and its room does not.
    SlowReceive,
    /// On wireless, the wired port has no link.
    WirelessOnly,
    /// The clock was wrong at boot.
    WeakBattery,
    /// Its PCI devices do not fit its model's list.
    UnfitDevices,
    /// Two machines say the same of themselves.
    Duplicate,
    /// Reports that were not believed.
    UnbelievedReports,
    /// Its clock is wrong.
    ClockSkewed,
    /// A guest failed.
    GuestFailed,
    /// A file system is nearly full, or does not answer.
    FilesystemBad,
    /// It runs an older image, or offers an older base.
    Behind,
    /// Something was added, or is another version.
    Accept,
    /// It is not in hosts.ini.
    Unlisted,
}

/// A room.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Room {
    /// The campus; absent when no machine of the room said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campus: Option<String>,
    /// The building.
    pub building: String,
    /// The room, by its name in hosts.ini, or as its machines report it.
    pub room: String,
    /// How many machines it has.
    pub machines: u64,
    /// How many of them were heard of in the period.
    pub heard: u64,
    /// How long its machines were on, together.
    pub on_seconds: u64,
    /// How long guests ran on them, together.
    pub use_seconds: u64,
    /// The file systems of its disks.
    pub disk_bytes: u64,
    /// What is in use of them.
    pub disk_used_bytes: u64,
    /// By how much that grew in the period.
    pub disk_grown_bytes: i64,
    /// How many machines were in use, on average, in each hour of the week: seven days from Monday,
    /// 24 hours each.
    pub in_use_by_hour: Vec<[f64; 24]>,
    /// When next to nobody uses it: two hours or more, the longest first.
    pub quiet: Vec<Quiet>,
}

/// A window in which a room is not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quiet {
    /// The days on which it begins.
    pub days: Vec<&'static str>,
    /// The hour at which it begins, on the wall.
    pub from_hour: u8,
    /// The hour at which it ends.
    pub to_hour: u8,
    /// How long it is.
    pub hours: u64,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Machine {
    /// Its name in hosts.ini, otherwise what it calls itself, otherwise its id.
    pub name: String,
    /// Who it says that it is; absent when it never reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The campus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campus: Option<String>,
    /// The building; empty when nobody knows.
    pub building: String,
    /// The room; empty when nobody knows.
    pub room: String,
    /// Whether hosts.ini has it.
    pub listed: bool,
    /// Whether its reports are signed, and not only the text of the thesis's script.
    pub signed: bool,
    /// When the collector received its last report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<String>,
    /// How long ago that was at the end of the period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_seconds: Option<u64>,
    /// How many reports of the period are believed.
    pub reports: u64,
    /// How long it was on.
    pub on_seconds: u64,
    /// How long guests ran on it. Whose they were is nowhere.
    pub use_seconds: u64,
    /// By how much its clock is ahead of the collector's (behind: below 0), where that is more than
    /// a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_seconds: Option<i64>,
    /// What its firmware calls it, otherwise hosts.ini.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its serial number, or service tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The version of the host image that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<u64>,
    /// The generations of its bases.
    pub bases: BTreeMap<String, u64>,
    /// The memory: what is plugged in, otherwise what the kernel has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// What of it was in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<u64>,
    /// How many disks stay in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disks: Option<u64>,
    /// The file systems of its disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// What is in use of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_used_bytes: Option<u64>,
    /// Its addresses, with the length of the prefix.
    pub addresses: Vec<String>,
    /// The gateways of its default routes.
    pub gateways: Vec<String>,
    /// What its hardware interfaces received since it booted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// What they sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// How fast the quickest wired link is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_bits_per_second: Option<u64>,
    /// The wireless network that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssid: Option<String>,
    /// Whether its case was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<bool>,
}

/// Something that a machine told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Event {
    /// When it was seen, by the machine's clock, RFC 3339; when it was received, if that clock was
    /// ahead.
    pub at: String,
    /// The building.
    pub building: String,
    /// The room.
    pub room: String,
    /// The machine.
    pub host: String,
    /// `memory_removed`
    pub action: String,
    /// The same for people.
    pub message: String,
    /// The same difference has the same id.
    pub id: String,
}

/// An image or a base, as machines should have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// `image` or `base`.
    pub kind: &'static str,
    /// The model that an image is for (absent: for machines that do not say theirs), or the name of
    /// a base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The version of an image, the generation of a base.
    pub newest: u64,
    /// Whether a manifest says so; otherwise it is the newest that a tenth of the machines have,
    /// and two if there are two.
    pub given: bool,
    /// How many machines have it.
    pub current: u64,
    /// Those that have an older one.
    pub behind: Vec<Behind>,
}

/// A machine that is behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Behind {
    /// The building.
    pub building: String,
    /// The room.
    pub room: String,
    /// The machine.
    pub host: String,
    /// What it has.
    pub has: u64,
}

/// A program of the bases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Software {
    /// The program, as the base's manifest names it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The base that it is in.
    pub base: String,
    /// How many machines have it.
    pub machines: u64,
    /// Where they are.
    pub rooms: Vec<Place>,
}

/// A room, and how many of its machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The building.
    pub building: String,
    /// The room.
    pub room: String,
    /// How many machines.
    pub machines: u64,
}

/// Two that are one, or one that is two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// What kind.
    pub kind: DuplicateKind,
    /// The ids: one that two machines have, or those of one machine.
    pub ids: Vec<String>,
    /// The machines, by name.
    pub hosts: Vec<String>,
    /// By what it is known: serial numbers and UUIDs of the boards.
    pub boards: Vec<String>,
}

/// See [`Duplicate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateKind {
    /// Two machines report under one id by turns: a clone.
    OneIdTwoMachines,
    /// The same board reports under two ids at the same time: a clone's firmware, or two systems on
    /// one machine.
    OneBoardTwoIds,
    /// Two ids report as one machine of hosts.ini at the same time.
    OneNameTwoIds,
    /// A board that had another id before: installed anew, and the old id should be expelled.
    Reinstalled,
    /// Another board than before, for good: exchanged.
    BoardExchanged,
}

/// Reports that were not believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// The id under which they lie.
    pub id: String,
    /// Why.
    pub reason: Reason,
    /// Reports rejected for this reason.
    pub reports: u64,
    /// When the last one was received.
    pub last_at: String,
}

/// Why a report is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No key is enrolled for this host.
    NotEnrolled,
    /// The enrolled key did not sign it.
    WrongSignature,
    /// It is of another host, or has another number, than its place in the store says.
    WrongPlace,
    /// It was cut off, changed, or is too long.
    Damaged,
    /// The collector's disk does not give it back.
    Unreadable,
    /// It is whole and signed, and what it says cannot be understood.
    NotUnderstood,
    /// A text, which nobody signs, of a host that signs its reports.
    UnsignedText,
}

/// What was received over time: the mean of five minutes (thesis, Figures 30 and 31).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// The label that lines are for.
    pub by: String,
    /// How far apart the values are.
    pub step_seconds: u64,
    /// When each value was, RFC 3339, rising.
    pub at: Vec<String>,
    /// The lines, by their labels.
    pub lines: Vec<Line>,
    /// The computers that received slowly while their rooms did not, by name.
    pub slow: Vec<String>,
}

/// A line of [`Traffic`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Line {
    /// Its labels, of which the last is what was asked for.
    pub labels: Vec<String>,
    /// The mean of the period, of what is known.
    pub mean_bytes_per_second: u64,
    /// The most of five minutes.
    pub peak_bytes_per_second: u64,
    /// The values; null where none is known.
    pub bytes_per_second: Vec<Option<u64>>,
}
