//! The running guest, and the last failures of guests, without their users.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use images::{BACKING, image_path, parse_path};
use jsonpipe::timestamp::rfc3339;
use jsonpipe::{event_log, json_lines};
use nix::sys::stat::{major, minor};
use occupancy::GUEST;
use serde_json::Value;

use crate::read::boot;
use crate::read::kernel_log::Said;
use crate::read::machine::Machine;
use crate::report::{Guest, GuestFailure};

const LOCKS: &str = "/proc/locks";
/// The key in `missing` for unknown causes.
pub const FAILURES: &str = "guest_failures";
/// The part of the event log that is searched for failures: about a thousand stages.
const TAIL_BYTES: u64 = 512 << 10;
/// The unit of `/proc/PID/stat` (USER_HZ, the same on every processor of a lab PC).
const TICKS_PER_SECOND: u64 = 100;

/// The running guest; `None` when there is none, or, with a reason, when it cannot be determined.
///
/// The holder of the lock started QEMU, and QEMU has its base open.
pub fn read(machine: &Machine) -> Option<Guest> {
    let lock = match fs::metadata(machine.path(GUEST)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None, // no guest was ever started
        Err(error) => {
            machine.unreadable("guest", GUEST, &error);
            return None;
        }
    };
    let identity = format!(
        "{:02x}:{:02x}:{}",
        major(lock.dev()),
        minor(lock.dev()),
        lock.ino()
    );
    let locks = machine
        .text(LOCKS)
        .map_err(|error| machine.unreadable("guest", LOCKS, &error))
        .ok()?;
    let holder = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&identity.as_str()))
            .then(|| fields[4].to_owned())
    })?;
    let children = machine
        .value(format!("/proc/{holder}/task/{holder}/children"))
        .unwrap_or_default();
    for process in children.split_whitespace() {
        for descriptor in machine.names(format!("/proc/{process}/fd")) {
            let Ok(file) = fs::read_link(machine.path(format!("/proc/{process}/fd/{descriptor}")))
            else {
                continue;
            };
            let Some((base, generation)) = file.to_str().and_then(base) else {
                continue;
            };
            return Some(Guest {
                base: Some(base),
                generation: Some(generation),
                started_at: started(machine, process),
            });
        }
    }
    machine.missing(
        "guest.base",
        "a guest runs, but its open files cannot be read",
    );
    Some(Guest {
        base: None,
        generation: None,
        started_at: None,
    })
}

/// The name and generation of a base, from the path of its image.
fn base(path: &str) -> Option<(String, u64)> {
    let path = path
        .get(path.find(BACKING)?..)?
        .trim_end_matches(" (deleted)");
    let (name, generation, _) = parse_path(path)?;
    (image_path(name, generation) == path).then(|| (name.to_owned(), generation))
}

/// The start time of a process.
fn started(machine: &Machine, process: &str) -> Option<String> {
    let stat = machine.text(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may contain anything, so fields are counted from its end
    // (proc_pid_stat(5), field 22).
    let ticks: u64 = stat
        .rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    let boot: u64 = machine
        .text("/proc/stat")
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.parse().ok())?;
    UNIX_EPOCH
        .checked_add(Duration::from_secs(
            boot.checked_add(ticks / TICKS_PER_SECOND)?,
        ))
        .map(rfc3339)
}

/// The time of the last failure of a guest, by cause (thesis, 3.3.3). `logged` is from the event
/// log.
pub fn failures(
    machine: &Machine,
    now: SystemTime,
    log: &Said,
    logged: Vec<GuestFailure>,
) -> Vec<GuestFailure> {
    let killed = log
        .qemu_killed
        .zip(boot::uptime(machine))
        .and_then(|(killed, uptime)| {
            let ago = uptime.checked_sub(Duration::from_secs(killed))?;
            now.checked_sub(ago).map(rfc3339)
        });
    let killed = killed.map(|at| GuestFailure {
        cause: "memory",
        at,
    });
    let mut failures: Vec<GuestFailure> = logged.into_iter().chain(killed).collect();
    failures.sort_by(|a, b| (a.cause, &b.at).cmp(&(b.cause, &a.at)));
    failures.dedup_by_key(|failure| failure.cause);
    failures
}

/// The failures at the end of the event log.
pub fn logged_failures(machine: &Machine) -> Vec<GuestFailure> {
    match json_lines::tail(&machine.path(event_log::PATH), TAIL_BYTES) {
        Ok(log) => String::from_utf8_lossy(&log)
            .lines()
            .filter_map(failure)
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(), // the log is still empty
        Err(error) => {
            machine.unreadable(FAILURES, event_log::PATH, &error);
            Vec::new()
        }
    }
}

/// A failure of QEMU in a stage of the event log.
fn failure(line: &str) -> Option<GuestFailure> {
    // Most lines are of other stages, and are not parsed.
    if !line.contains("vm-passthrough") {
        return None;
    }
    let stage: Value = serde_json::from_str(line).ok()?;
    if stage.get("tool")? != "vm-passthrough" || stage.get("status")? == 0 {
        return None;
    }
    let report = stage.get("report");
    let died = report
        .and_then(|report| report.get("ended"))
        .is_some_and(|ended| ended == "died");
    let texts = [
        report.and_then(|report| report.get("ended_reason")),
        stage.get("error"),
    ];
    let says = |what: &str| {
        texts
            .iter()
            .flatten()
            .filter_map(|text| text.as_str())
            .any(|text| text.contains(what))
    };
    let cause = if says("qemu_thread_create") || says("Resource temporarily unavailable") {
        "threads"
    } else if says("Cannot allocate memory") || says("cannot set up guest memory") {
        "memory"
    } else if died {
        "died"
    } else {
        return None;
    };
    Some(GuestFailure {
        cause,
        at: stage.get("at")?.as_str()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_base_is_told() {
        let image = image_path("windows", 7);
        assert_eq!(base(&image), Some(("windows".into(), 7)));
        assert_eq!(
            base(&format!("/tmp/root{image} (deleted)")),
            Some(("windows".into(), 7))
        );
        for other in [
            "/qcow2/user/TOKEN/windows@7.qcow2",
            &format!("{BACKING}/windows"),
            &format!("{BACKING}/w/x.qcow2"),
            "socket:[1]",
        ] {
            assert_eq!(base(other), None, "{other}");
        }
    }

    #[test]
    fn the_cause_is_in_what_qemu_said() {
        let stage = |rest: &str| {
            format!(
                r#"{{"at":"2026-11-23T10:00:00Z","event":"stage","tool":"vm-passthrough","command":"run",{rest}}}"#
            )
        };
        let cause = |rest: &str| failure(&stage(rest)).map(|failure| failure.cause);
        let threads = r#""status":1,"report":{"ended":"died","ended_reason":"qemu_thread_create: Resource temporarily unavailable"}"#;
        assert_eq!(cause(threads), Some("threads"));
        assert_eq!(
            cause(
                r#""status":78,"error":"starting QEMU: cannot set up guest memory 'pc.ram': Cannot allocate memory""#
            ),
            Some("memory")
        );
        assert_eq!(
            cause(r#""status":1,"report":{"ended":"died"}"#),
            Some("died")
        );
        assert_eq!(cause(r#""status":0,"report":{"ended":"shutdown"}"#), None);
        assert_eq!(cause(r#""status":75,"error":"another guest runs""#), None);
        assert_eq!(failure("{"), None);
    }
}
