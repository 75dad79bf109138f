//! The running system: its uptime, and whether the clock kept its time while the machine was off.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonpipe::timestamp::rfc3339;

use crate::read::kernel_log::Said;
use crate::read::machine::Machine;
use crate::report::{Boot, Image};

/// Files that show the earliest build time of the image. The first is systemd's own mark for that,
/// systemd(1), FILES.
const BUILT: &[&str] = &[
    "/usr/lib/clock-epoch",
    "/usr/lib/os-release",
    "/etc/os-release",
];
/// The records of abflip(8), of which three keys are read; a test of abflip reads the same
/// testdata.
pub const RECORDS: &str = "/var/lib/labtools/slots.json";

/// The time since boot.
pub fn uptime(machine: &Machine) -> Option<Duration> {
    let text = machine.value("/proc/uptime")?;
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// `log` is the content of the kernel's log.
pub fn read(machine: &Machine, now: SystemTime, log: &Said) -> Boot {
    let uptime = uptime(machine);
    let built = BUILT
        .iter()
        .find_map(|path| fs::metadata(machine.path(path)).ok()?.modified().ok());
    let clock = log
        .clock_at_boot
        .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    if clock.is_none() {
        machine.missing(
            "boot.clock_at_boot",
            "the kernel's log does not say it, or no longer",
        );
    }
    Boot {
        id: machine.value("/proc/sys/kernel/random/boot_id"),
        booted_at: uptime
            .and_then(|uptime| now.checked_sub(uptime))
            .map(rfc3339),
        uptime_seconds: uptime.map(|uptime| uptime.as_secs()),
        kernel: machine.value("/proc/sys/kernel/osrelease"),
        clock_at_boot: clock.map(rfc3339),
        image_built_at: built.map(rfc3339),
        clock_before_image: clock.zip(built).map(|(clock, built)| clock < built),
    }
}

/// The running host image: the slot on the kernel's command line, in abflip's records.
pub fn image(machine: &Machine) -> Option<Image> {
    let records = match machine
        .bytes(RECORDS)
        .and_then(|json| Ok(serde_json::from_slice::<serde_json::Value>(&json)?))
    {
        Ok(records) => records,
        Err(error) => {
            machine.unreadable("image", RECORDS, &error);
            return None;
        }
    };
    let command_line = machine.value("/proc/cmdline").unwrap_or_default();
    let root = command_line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("root=PARTUUID="))
        .next_back();
    let image = ["a", "b"].into_iter().find_map(|slot| {
        let record = records.get(slot)?;
        record
            .get("partuuid")?
            .as_str()?
            .eq_ignore_ascii_case(root?)
            .then(|| Image {
                slot: slot.to_owned(),
                version: record.get("version").and_then(serde_json::Value::as_u64),
                sha256: record
                    .get("sha256")
                    .and_then(|digest| digest.as_str().map(str::to_owned)),
            })
    });
    if image.is_none() {
        machine.missing(
            "image",
            format_args!("{RECORDS}: no slot of it is the root of the kernel's command line"),
        );
    }
    image
}
