//! The section `fleet`: the evaluation of all machines' reports.

use std::collections::BTreeMap;

use jsonpipe::Missing;
use serde::Serialize;

/// The section `fleet`. Lists of machines are by building, room and name; an empty room is an
/// unknown one.
#[derive(Debug, Default, Serialize)]
pub struct Fleet {
    /// Always false: evaluating changes only the requested page.
    pub changed: bool,
    /// The start of the period, RFC 3339.
    pub since: String,
    /// Its end.
    pub until: String,
    /// The time zone of the hours of the week.
    pub time_zone: String,
    /// The numbers of reports read.
    pub read: Read,
    /// Findings that need a visit, by room.
    pub visit: Vec<Finding>,
    /// Findings that can be settled from a desk, by room.
    pub remote: Vec<Finding>,
    /// The rooms.
    pub rooms: Vec<Room>,
    /// The machines: those of hosts.ini, then others that reported.
    pub machines: Vec<Machine>,
    /// The changes in the period, as the machines recorded them, the newest first.
    pub events: Vec<Event>,
    /// The number of older changes left out.
    pub events_left_out: u64,
    /// Images and bases, and the machines that are behind.
    pub versions: Vec<Version>,
    /// The programs, and where they are.
    pub software: Vec<Software>,
    /// Machines with a confused identity.
    pub duplicates: Vec<Duplicate>,
    /// The rejected reports, by host and reason.
    pub rejected: Vec<Rejected>,
    /// The received bytes over time, if Prometheus was queried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// The keys that are not known, and why.
    pub missing: Vec<Missing>,
}

/// The reports of the store, in the period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Read {
    /// Accepted reports.
    pub reports: u64,
    /// Rejected reports.
    pub unbelieved_reports: u64,
    /// Reports that the machines themselves dropped in the period, to make room in their spools.
    pub dropped_reports: u64,
    /// The bytes of all reports read.
    pub bytes: u64,
    /// Expelled hosts whose reports the collector still has, of all rooms and times; those reports
    /// are not read.
    pub expelled_hosts: u64,
}

/// A task at one machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Its building; empty when unknown.
    pub building: String,
    /// Its room; empty when unknown.
    pub room: String,
    /// The kind of finding.
    pub what: What,
    /// The machine's name, or its id when it has none.
    pub host: String,
    /// The observation.
    pub seen: String,
    /// The possible causes, the likeliest first.
    pub likely: Vec<String>,
    /// The advice.
    #[serde(rename = "do")]
    pub advice: &'static str,
}

/// The kinds of [`Finding`], the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The case was opened.
    CaseOpened,
    /// A part of the hardware is missing, or degraded.
    HardwareChanged,
    /// It was woken and did not come up.
    NotWoken,
    /// It has not reported.
    Silent,
    /// It has less memory than when it left the factory.
    MemoryMissing,
    /// A disk or the data on it is faulty.
    DiskFaulty,
    /// Its wired link is slower than it could be.
    SlowLink,
    /// It receives slowly, unlike its room.
    SlowReceive,
    /// It is on wireless, and its wired port has no link.
    WirelessOnly,
    /// Its clock was wrong at boot.
    WeakBattery,
    /// Its PCI devices do not fit its model's list.
    UnfitDevices,
    /// Its BIOS is older than the tested ones.
    OldBios,
    /// A setting of its firmware has another value than firmware.ini wants.
    FirmwareDrifted,
    /// Two machines claim the same identity.
    Duplicate,
    /// Its reports were rejected.
    UnbelievedReports,
    /// Its clock is wrong.
    ClockSkewed,
    /// A guest failed.
    GuestFailed,
    /// A file system is nearly full, does not answer, or is not mounted.
    FilesystemBad,
    /// It runs an older image, or offers an older base.
    Behind,
    /// A part was added, or has another version.
    Accept,
    /// It is not in hosts.ini.
    Unlisted,
}

/// A room.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Room {
    /// The campus; absent when no machine of the room reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campus: Option<String>,
    /// The building.
    pub building: String,
    /// The room, by its name in hosts.ini, or as its machines report it.
    pub room: String,
    /// The number of its machines.
    pub machines: u64,
    /// The number of those that reported in the period.
    pub heard: u64,
    /// The time its machines were on, in total.
    pub on_seconds: u64,
    /// The time guests ran on them, in total.
    pub use_seconds: u64,
    /// The size of the file systems on its disks.
    pub disk_bytes: u64,
    /// The used part of them.
    pub disk_used_bytes: u64,
    /// The growth of the used part in the period.
    pub disk_grown_bytes: i64,
    /// The average number of machines in use in each hour of the week: seven days from Monday, 24
    /// hours each.
    pub in_use_by_hour: Vec<[f64; 24]>,
    /// The times when it is hardly used: two hours or more, the longest first.
    pub quiet: Vec<Quiet>,
}

/// A window in which a room is hardly used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quiet {
    /// The days on which it begins.
    pub days: Vec<&'static str>,
    /// The local hour at which it begins.
    pub from_hour: u8,
    /// The hour at which it ends.
    pub to_hour: u8,
    /// Its length in hours.
    pub hours: u64,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Machine {
    /// Its name in hosts.ini, otherwise its hostname, otherwise its id.
    pub name: String,
    /// The id that it reported; absent when it never reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The campus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campus: Option<String>,
    /// The building; empty when unknown.
    pub building: String,
    /// The room; empty when unknown.
    pub room: String,
    /// Whether it is in hosts.ini.
    pub listed: bool,
    /// Whether its reports are signed, and not only the text of the thesis's script.
    pub signed: bool,
    /// The time when the collector received its last report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<String>,
    /// The age of that report at the end of the period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_seconds: Option<u64>,
    /// The number of accepted reports of the period.
    pub reports: u64,
    /// The time it was on.
    pub on_seconds: u64,
    /// The time guests ran on it. Their users are not recorded.
    pub use_seconds: u64,
    /// The seconds by which its clock is ahead of the collector's (negative: behind), if more than
    /// a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_seconds: Option<i64>,
    /// The model in its firmware, otherwise in hosts.ini.
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
    /// The used part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<u64>,
    /// The number of its built-in disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disks: Option<u64>,
    /// The size of the file systems on its disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// The used part of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_used_bytes: Option<u64>,
    /// Its addresses, with the length of the prefix.
    pub addresses: Vec<String>,
    /// The gateways of its default routes.
    pub gateways: Vec<String>,
    /// The bytes that its hardware interfaces received since it booted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// The bytes that they sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// The speed of its fastest wired link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_bits_per_second: Option<u64>,
    /// The wireless network that it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssid: Option<String>,
    /// Whether its case was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<bool>,
}

/// An event that a machine recorded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Event {
    /// The time by the machine's clock, RFC 3339; the time of arrival, if that clock was ahead.
    pub at: String,
    /// The building.
    pub building: String,
    /// The room.
    pub room: String,
    /// The machine.
    pub host: String,
    /// `memory_removed`
    pub action: String,
    /// The text.
    pub message: String,
    /// Equal for equal differences.
    pub id: String,
}

/// An image or a base that machines should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// `image` or `base`.
    pub kind: &'static str,
    /// The model that an image is for (absent for machines that do not report theirs), or the name
    /// of a base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The version of an image, the generation of a base.
    pub newest: u64,
    /// Whether a manifest gives it; otherwise it is the newest that a tenth of the machines have,
    /// and at least two if there are two.
    pub given: bool,
    /// The number of machines that have it.
    pub current: u64,
    /// The machines that have an older one.
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
    /// Its version or generation.
    pub has: u64,
}

/// A program of the bases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Software {
    /// The program, as the base's manifest names it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The base that contains it.
    pub base: String,
    /// The number of machines that have it.
    pub machines: u64,
    /// The rooms of those machines.
    pub rooms: Vec<Place>,
}

/// A room, with the number of its machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The building.
    pub building: String,
    /// The room.
    pub room: String,
    /// The number of machines.
    pub machines: u64,
}

/// A confused identity: two machines as one, or one as two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// The kind.
    pub kind: DuplicateKind,
    /// The ids: the one that two machines share, or those of one machine.
    pub ids: Vec<String>,
    /// The machines, by name.
    pub hosts: Vec<String>,
    /// The evidence: serial numbers and UUIDs of the boards.
    pub boards: Vec<String>,
}

/// See [`Duplicate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateKind {
    /// Two machines report under one id by turns: a clone.
    OneIdTwoMachines,
    /// One board reports under two ids at the same time: a clone's firmware, or two systems on one
    /// machine.
    OneBoardTwoIds,
    /// Two ids report as one machine of hosts.ini at the same time.
    OneNameTwoIds,
    /// A board that had another id before: it was reinstalled, and the old id should be expelled.
    Reinstalled,
    /// Another board than before, permanently: it was exchanged.
    BoardExchanged,
}

/// Rejected reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// The id in the store.
    pub id: String,
    /// The reason.
    pub reason: Reason,
    /// The number of reports rejected for it.
    pub reports: u64,
    /// The time when the last one was received.
    pub last_at: String,
}

/// The reasons to reject a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No key is enrolled for this host.
    NotEnrolled,
    /// The enrolled key did not sign it.
    WrongSignature,
    /// Its host or number is not that of its place in the store.
    WrongPlace,
    /// It was cut off, changed, or is too long.
    Damaged,
    /// The collector cannot read it from its disk.
    Unreadable,
    /// It is whole and signed, but its content cannot be interpreted.
    NotUnderstood,
    /// It is a text, which is never signed, of a host that signs its reports.
    UnsignedText,
}

/// The received bytes over time: means of five minutes (thesis, Figures 30 and 31).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// The label that distinguishes the lines.
    pub by: String,
    /// The time between two values.
    pub step_seconds: u64,
    /// The times of the values, RFC 3339, ascending.
    pub at: Vec<String>,
    /// The lines, by their labels.
    pub lines: Vec<Line>,
    /// The computers that received slowly while their rooms did not, by name.
    pub slow: Vec<String>,
}

/// A line of [`Traffic`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Line {
    /// Its labels; the last one is the requested label.
    pub labels: Vec<String>,
    /// The mean of the known values of the period.
    pub mean_bytes_per_second: u64,
    /// The highest mean of five minutes.
    pub peak_bytes_per_second: u64,
    /// The values; null where unknown.
    pub bytes_per_second: Vec<Option<u64>>,
}
