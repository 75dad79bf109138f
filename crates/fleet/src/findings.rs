//! The tasks: `visit` needs a person on site; `remote` can be done from a desk. Texts are those of
//! the alerts of the collector's Prometheus, where both exist.

use std::collections::BTreeMap;

use envelope::{Action, Part};
use page::numbers::span;

use crate::known::{Known, Period};
use crate::report::{Duplicate, DuplicateKind, Finding, Machine, Reason, Version, What};
use crate::reported::{Interface, Snapshot};
use crate::roster::Roster;
use crate::time::{self, Seconds};
use crate::traffic::Slow;
use crate::unfit::of_model;

/// Machines are switched off at night and on weekends, but not for three days during the term.
const SILENT: Seconds = 3 * 86400;
/// The used share of a file system.
const FULL_PERCENT: u64 = 90;
/// An older failure of a guest is not reported.
const FAILED_DAYS: Seconds = 86400;
/// The maximum number of changes listed singly; more mean another machine, or a broken one.
const CHANGES_MAX: usize = 16;
/// The three causes of a slow link (thesis, 5.4).
const SLOW_LINK: [&str; 3] = [
    "a damaged cable",
    "a bad wall point",
    "a bad port of the switch",
];
/// An end that negotiates falls back to half duplex if the other does not (IEEE 802.3, 28.2.3.1).
const HALF_DUPLEX: [&str; 2] = [
    "a port of the switch whose speed and duplex are set by hand",
    "a hub, or an old switch",
];
const TRY_CABLE: &str = "Replace the network cable; if that does not help, try another wall point, then another port of the switch.";
const NEVER_CAME: &str = "Check that it is installed and enrolled; then its power and network cables, and whether it stopped in POST.";

impl What {
    /// Whether it needs a person on site.
    pub fn is_visit(self) -> bool {
        match self {
            What::CaseOpened
            | What::HardwareChanged
            | What::NotWoken
            | What::Silent
            | What::MemoryMissing
            | What::DiskFaulty
            | What::SlowLink
            | What::SlowReceive
            | What::WirelessOnly
            | What::WeakBattery
            | What::UnfitDevices
            | What::OldBios => true,
            What::FirmwareDrifted
            | What::Duplicate
            | What::UnbelievedReports
            | What::ClockSkewed
            | What::GuestFailed
            | What::FilesystemBad
            | What::Behind
            | What::Accept
            | What::Unlisted => false,
        }
    }

    /// The text for one or more findings of this kind.
    pub fn words(self) -> &'static str {
        match self {
            What::CaseOpened => "case opened",
            What::HardwareChanged => "hardware changed",
            What::NotWoken => "not woken",
            What::Silent => "silent",
            What::MemoryMissing => "memory missing",
            What::DiskFaulty => "disk faulty",
            What::SlowLink => "slow link",
            What::SlowReceive => "slow to receive",
            What::WirelessOnly => "on wireless only",
            What::WeakBattery => "weak battery",
            What::UnfitDevices => "unfit devices",
            What::OldBios => "old BIOS",
            What::FirmwareDrifted => "firmware settings",
            What::Duplicate => "duplicate",
            What::UnbelievedReports => "reports rejected",
            What::ClockSkewed => "clock wrong",
            What::GuestFailed => "guest failed",
            What::FilesystemBad => "file system bad",
            What::Behind => "behind",
            What::Accept => "to accept",
            What::Unlisted => "not in hosts.ini",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            What::CaseOpened => {
                "Check for missing parts, close the case, reset the switch in the firmware, then run invcollect accept."
            }
            What::HardwareChanged => {
                "Find it, or replace it if it has failed. If the change is intended, run invcollect accept."
            }
            What::NotWoken | What::Silent => {
                "Check its power and network cables, and whether it stopped in POST."
            }
            What::MemoryMissing => {
                "Check the slots, and add the missing module. If the model never had it, correct models.ini."
            }
            What::DiskFaulty => "Replace its cable, then the disk.",
            What::SlowLink | What::SlowReceive => TRY_CABLE,
            What::WirelessOnly => {
                "Plug the network cable in, or replace it; then try the wall point and the port of the switch."
            }
            What::WeakBattery => {
                "Replace the battery on the board, and set the clock in the firmware."
            }
            What::UnfitDevices => {
                "Remove the card, or replace the machine; if the model is like that, correct models.ini."
            }
            What::OldBios => {
                "Update the BIOS. If guests run with this one on each such machine, correct bios in models.ini."
            }
            What::FirmwareDrifted => {
                "Run invcollect firmware on it, and restart it; what that cannot write, set in the setup. If it is intended, correct firmware.ini."
            }
            What::Duplicate => {
                "Make a new /persistent/inventory/uuid and host.key on the younger one, and enroll it; expel an id that is no longer used."
            }
            What::UnbelievedReports => {
                "Check whether its key was replaced, and enroll it again; otherwise find the sender."
            }
            What::ClockSkewed => "Check that its time service runs and reaches a server.",
            What::GuestFailed => {
                "Give the guest less memory, or more processes (vm-passthrough), and check what else runs there."
            }
            What::FilesystemBad => {
                "Make room on it, or check its disk, or that its server answers."
            }
            What::Behind => "Distribute or update again when it is on.",
            What::Accept => "If the change is intended, run invcollect accept.",
            What::Unlisted => "Add it to hosts.ini, or find out what it is.",
        }
    }
}

/// A finding about a machine.
pub fn finding(machine: &Machine, what: What, seen: String, likely: &[&str]) -> Finding {
    Finding {
        building: machine.building.clone(),
        room: machine.room.clone(),
        what,
        host: machine.name.clone(),
        seen,
        likely: likely.iter().map(|&cause| cause.to_owned()).collect(),
        advice: what.advice(),
    }
}

/// The findings from a machine's own reports.
pub fn of_machine(
    known: &Known,
    roster: &Roster,
    period: Period,
    usual_speed: Option<u64>,
) -> Vec<Finding> {
    let Known {
        machine, snapshot, ..
    } = known;
    let mut found = Vec::new();
    // A host with only rejected reports has no known place.
    if machine.silent_seconds.is_none() && (machine.listed || known.rejected.is_empty()) {
        let likely = [
            "it was not installed, or not enrolled",
            "it is off, or without network",
        ];
        let silent = finding(machine, What::Silent, "it never reported".into(), &likely);
        found.push(Finding {
            advice: NEVER_CAME,
            ..silent
        });
    }
    let mut add =
        |what, seen: String, likely: &[&str]| found.push(finding(machine, what, seen, likely));
    if let Some(silent) = machine
        .silent_seconds
        .filter(|silent| *silent > SILENT as u64)
    {
        let seen = format!("silent for {} days", silent / 86400);
        add(
            What::Silent,
            seen,
            &[
                "it is off, or without network",
                "it stopped in its firmware: a weak BIOS battery",
            ],
        );
    }
    if !machine.listed && machine.heard_at.is_some() && !roster.machines.is_empty() {
        add(
            What::Unlisted,
            "it reports, and hosts.ini does not have it".into(),
            &[],
        );
    }
    if let Some(ahead) = machine.clock_ahead_seconds {
        let (by, way) = (
            span(ahead.unsigned_abs()),
            if ahead > 0 { "ahead" } else { "behind" },
        );
        add(
            What::ClockSkewed,
            format!("its clock is {by} {way}"),
            &["its time service", "a weak battery on the board"],
        );
    }
    for (reason, (reports, _)) in known
        .rejected
        .iter()
        .filter(|(reason, _)| **reason != Reason::UnsignedText)
    {
        let many = if *reports == 1 {
            "report is"
        } else {
            "reports are"
        };
        let likely: &[&str] = if *reason == Reason::Unreadable {
            &["a disk of the collector that fails", "files of others"]
        } else {
            &[]
        };
        add(
            What::UnbelievedReports,
            format!("{reports} {many} rejected: {}", reason.words()),
            likely,
        );
    }
    let mut add_all = |more: Vec<(What, String, &[&str])>| {
        more.into_iter()
            .for_each(|(what, seen, likely)| add(what, seen, likely))
    };
    add_all(hardware(snapshot));
    add_all(links(snapshot, usual_speed));
    add_all(of_model(snapshot, machine.model.as_deref(), roster));
    add_all(running(snapshot, period));
    if let Some((has, expected)) = snapshot.memory.installed_bytes.zip(known.expected_memory_bytes)
        && has < expected
        && snapshot.memory.accepted_bytes.is_none_or(|accepted| has < accepted)
        // The machine itself reports that it is gone.
        && !snapshot.changes.iter().any(|change| change.about.part == Part::Memory && change.about.action != Action::Added)
    {
        let seen = format!(
            "{} of memory, and the model has {} when new",
            gib(has),
            gib(expected)
        );
        add(
            What::MemoryMissing,
            seen,
            &["a module was taken out, or has failed"],
        );
    }
    found
}

/// Changes since the accepted baseline that have not been accepted.
fn hardware(snapshot: &Snapshot) -> Vec<(What, String, &'static [&'static str])> {
    let mut found: Vec<(What, String, &[&str])> = Vec::new();
    if snapshot.chassis.opened == Some(true) && !snapshot.chassis.accepted {
        found.push((What::CaseOpened, "the case was opened".into(), &[]));
    }
    for change in snapshot.changes.iter().take(CHANGES_MAX) {
        let about = &change.about;
        let state = match (&about.before, &about.after) {
            (Some(before), Some(after)) => format!(": {before}, now {after}"),
            (Some(one), None) | (None, Some(one)) => format!(": {one}"),
            (None, None) => String::new(),
        };
        let what = match (about.part, about.action) {
            (Part::Chassis, _) => continue,
            (Part::Link, Action::Degraded | Action::Removed) => What::SlowLink,
            (Part::Disk, Action::Degraded) => What::DiskFaulty,
            (Part::Firmware, Action::Degraded) => What::FirmwareDrifted,
            (_, Action::Removed | Action::Degraded | Action::Opened)
            | (Part::Processor, Action::Replaced) => What::HardwareChanged,
            (_, Action::Added | Action::Replaced) => What::Accept,
        };
        let likely: &[&str] = if what == What::SlowLink {
            &SLOW_LINK
        } else {
            &[]
        };
        let named = |interface: &&Interface| {
            about.part == Part::Link && interface.is_subject(&about.subject)
        };
        let name = snapshot
            .interfaces
            .iter()
            .find(named)
            .map(|interface| &interface.name)
            .filter(|name| **name != about.subject);
        let subject = name.map_or_else(
            || about.subject.clone(),
            |name| format!("{name} ({})", about.subject),
        );
        let seen = match (what, &about.before, &about.after) {
            (What::FirmwareDrifted, Some(wanted), Some(is)) => {
                format!("{subject} is {is}, and firmware.ini wants {wanted}")
            }
            _ => format!(
                "{} {}, {subject}{state}",
                about.part.word(),
                about.action.word()
            ),
        };
        found.push((what, seen, likely));
    }
    if let Some(more @ 1..) = snapshot.changes.len().checked_sub(CHANGES_MAX) {
        found.push((What::HardwareChanged, format!("… and {more} more"), &[]));
    }
    // A recorded change names the disk by its serial number.
    if !found.iter().any(|(what, ..)| *what == What::DiskFaulty) {
        let faulty = snapshot
            .disks
            .iter()
            .filter(|disk| disk.healthy == Some(false) && !disk.accepted);
        found.extend(faulty.map(|disk| {
            (
                What::DiskFaulty,
                format!("disk {}: {}", disk.name, disk.faults.join(", ")),
                &[][..],
            )
        }));
    }
    if snapshot.boot.clock_before_image == Some(true) {
        let seen = "at boot the clock was earlier than the build of the running image".into();
        found.push((
            What::WeakBattery,
            seen,
            &["a weak battery on the board; one day it stops in POST"],
        ));
    }
    found
}

/// Links slower than both ends offer, or, if the other end's speed is not known, than is usual in
/// the room; and half duplex.
fn links(
    snapshot: &Snapshot,
    usual_speed: Option<u64>,
) -> Vec<(What, String, &'static [&'static str])> {
    let is_reported = |interface: &Interface| {
        snapshot.changes.iter().any(|change| {
            change.about.part == Part::Link && interface.is_subject(&change.about.subject)
        })
    };
    let mut found: Vec<(What, String, &[&str])> = Vec::new();
    for interface in snapshot
        .interfaces
        .iter()
        .filter(|interface| interface.is_wired() && interface.carrier == Some(true))
    {
        if interface.accepted || is_reported(interface) {
            continue;
        }
        let best = interface.best_speed_bits_per_second.or(usual_speed);
        if let Some((speed, best)) = interface.speed_bits_per_second.zip(best)
            && speed < best
        {
            let seen = format!(
                "{} runs at {} Mb/s, and could at {}",
                interface.name,
                speed / 1_000_000,
                best / 1_000_000
            );
            found.push((What::SlowLink, seen, &SLOW_LINK));
        }
        if interface.duplex.as_deref() == Some("half") {
            let seen = format!(
                "{} is half duplex: only one end can send at a time",
                interface.name
            );
            found.push((What::SlowLink, seen, &HALF_DUPLEX));
        }
    }
    let is_accepted = snapshot
        .interfaces
        .iter()
        .filter(|interface| interface.is_wired())
        .all(|interface| interface.accepted);
    let mut wired = snapshot
        .interfaces
        .iter()
        .filter(|interface| interface.is_wired())
        .peekable();
    let on_air = snapshot
        .interfaces
        .iter()
        .any(|interface| interface.wireless && interface.carrier == Some(true));
    if on_air
        && wired.peek().is_some()
        && wired.all(|interface| interface.carrier == Some(false))
        && !is_accepted
    {
        let seen = "on wireless, and its wired port has no link".into();
        found.push((
            What::WirelessOnly,
            seen,
            &[
                "its cable is not plugged in, or damaged",
                SLOW_LINK[1],
                SLOW_LINK[2],
            ],
        ));
    }
    found
}

fn running(snapshot: &Snapshot, period: Period) -> Vec<(What, String, &'static [&'static str])> {
    let mut found: Vec<(What, String, &[&str])> = Vec::new();
    for failure in &snapshot.guest_failures {
        if time::parse(&failure.at).is_some_and(|at| at > period.until - FAILED_DAYS) {
            let (why, likely): (_, &[&str]) = match &*failure.cause {
                "memory" => (
                    "the kernel killed a guest because memory ran out",
                    &["the profile gives the guest too much"],
                ),
                "threads" => (
                    "a guest could start no more threads",
                    &["the limit of processes of its control group"],
                ),
                _ => ("a guest died", &[]),
            };
            found.push((What::GuestFailed, why.to_owned(), likely));
        }
    }
    for path in &snapshot.unmounted {
        found.push((
            What::FilesystemBad,
            format!("{path} is not mounted, and nobody can work there"),
            &["its disk", "the file system"],
        ));
    }
    for filesystem in &snapshot.filesystems {
        if filesystem.hanging {
            found.push((
                What::FilesystemBad,
                format!("{} does not answer", filesystem.path),
                &["its server"],
            ));
        }
        let (Some(used), Some(available)) = (filesystem.used_bytes, filesystem.available_bytes)
        else {
            continue;
        };
        let percent = used
            .saturating_mul(100)
            .checked_div(used.saturating_add(available))
            .unwrap_or(0);
        if percent >= FULL_PERCENT && !filesystem.read_only {
            found.push((
                What::FilesystemBad,
                format!("{} is {percent} % full", filesystem.path),
                &[],
            ));
        }
    }
    found
}

/// The machines with a confused identity.
pub fn of_duplicates(
    duplicates: &[Duplicate],
    machines: &BTreeMap<&str, &Machine>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for duplicate in duplicates {
        let boards = duplicate.boards.join(", ");
        for id in &duplicate.ids {
            let Some(machine) = machines.get(&**id) else {
                continue;
            };
            let others: Vec<_> = duplicate
                .hosts
                .iter()
                .filter(|host| **host != machine.name)
                .cloned()
                .collect();
            let others = others.join(", ");
            let seen = match duplicate.kind {
                DuplicateKind::OneIdTwoMachines => {
                    format!("two machines report as {id} by turns: {boards}")
                }
                DuplicateKind::OneBoardTwoIds => {
                    format!("its board ({boards}) also reports as {others}")
                }
                DuplicateKind::OneNameTwoIds => {
                    format!("{id} and another id claim to be this machine")
                }
                DuplicateKind::Reinstalled => {
                    format!(
                        "its board ({boards}) was or is also {others}, one after the other: reinstalled"
                    )
                }
                DuplicateKind::BoardExchanged => format!("its board was exchanged: {boards}"),
            };
            let what = if duplicate.kind == DuplicateKind::BoardExchanged {
                What::Accept
            } else {
                What::Duplicate
            };
            found.push(finding(machine, what, seen, &[]));
        }
    }
    found
}

/// The machines with an older image or base.
pub fn of_versions(versions: &[Version]) -> Vec<Finding> {
    let mut found = Vec::new();
    for version in versions {
        for behind in &version.behind {
            let what = match (version.kind, &version.name) {
                ("base", Some(name)) => format!("base {name}"),
                (kind, _) => format!("host {kind}"),
            };
            found.push(Finding {
                building: behind.building.clone(),
                room: behind.room.clone(),
                what: What::Behind,
                host: behind.host.clone(),
                seen: format!("{what}: {}, the newest is {}", behind.has, version.newest),
                likely: Vec::new(),
                advice: What::Behind.advice(),
            });
        }
    }
    found
}

/// A machine that receives slowly, unlike its room.
pub fn slow_receive(machine: &Machine, slow: &Slow) -> Finding {
    let rate = |rate: u64| format!("{:.1} MB/s", rate as f64 / 1e6);
    let seen = format!(
        "received {} while its room had {}, since {}",
        rate(slow.rate),
        rate(slow.others),
        time::text(slow.since)
            .replace('T', " ")
            .replace('Z', " UTC")
    );
    let on_air = machine.ssid.is_some() && machine.link_bits_per_second.is_none();
    let likely: &[&str] = if on_air {
        &["a weak wireless signal"]
    } else {
        &SLOW_LINK
    };
    finding(machine, What::SlowReceive, seen, likely)
}

/// A machine that wake-lab could not wake.
pub fn not_woken(machine: &Machine, state: &str, likely: Vec<String>) -> Finding {
    let seen = match state {
        "no_link" => "it was woken, and nothing is on the wire",
        "no_ping" => "it was woken, and does not answer to ping",
        "no_agent" => "it was woken, and does not answer to ssh",
        "no_login" => "its ssh does not let the server in",
        "hung" => "its ssh answers, and then nothing comes",
        _ => "it was woken, and did not come",
    };
    Finding {
        likely,
        ..finding(machine, What::NotWoken, seen.into(), &[])
    }
}

impl Reason {
    /// The text of the page.
    pub fn words(self) -> &'static str {
        match self {
            Reason::NotEnrolled => "no key is enrolled for it",
            Reason::WrongSignature => "not signed by the enrolled key",
            Reason::WrongPlace => "they are of another host, or another place in the order",
            Reason::Damaged => "cut off, or changed",
            Reason::Unreadable => "the collector cannot read them from its disk",
            Reason::NotUnderstood => "their content cannot be interpreted",
            Reason::UnsignedText => "unsigned texts of a host that signs",
        }
    }
}

fn gib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10).saturating_add(1 << 29) >> 30;
    if tenths.is_multiple_of(10) {
        format!("{} GiB", tenths / 10)
    } else {
        format!("{}.{} GiB", tenths / 10, tenths % 10)
    }
}
