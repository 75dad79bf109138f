//! The disks, from /sys/block.

use std::collections::HashMap;
use std::fs;

use crate::read::devices;
use crate::read::machine::{Machine, PATIENCE};
use crate::read::{smart, smbios};
use crate::report::{Checks, Disk};

const DIRECTORY: &str = "/sys/block";
/// sysfs counts in units of 512 bytes for every disk.
const SECTOR_BYTES: u64 = 512;
/// The recorded health of the disks, for a machine in a directory.
const RECORDED: &str = "/smart.json";

/// By serial number, otherwise by name.
pub fn read(machine: &Machine) -> Vec<Disk> {
    let names = match machine.list(DIRECTORY) {
        Ok(names) => names,
        Err(error) => {
            machine.unreadable("disks", DIRECTORY, &error);
            return Vec::new();
        }
    };
    // An eMMC has small boot disks beside the main one.
    let is_part_of_card = |name: &str| {
        name.strip_prefix("mmcblk")
            .is_some_and(|rest| rest.contains(|c: char| !c.is_ascii_digit()))
    };
    // Disks without a device are virtual: loop, device mapper, md, zram. Optical and floppy drives
    // do not count. The paths of a multipath NVMe disk are hidden.
    let is_disk = |name: &String| {
        !name.starts_with("sr")
            && !name.starts_with("fd")
            && !is_part_of_card(name)
            && machine.path(format!("{DIRECTORY}/{name}/device")).exists()
            && machine.number(format!("{DIRECTORY}/{name}/hidden")) != Some(1)
    };
    let mut disks: Vec<Disk> = names
        .into_iter()
        .filter(is_disk)
        .map(|name| disk(machine, name))
        .collect();
    disks.sort_by(|a, b| (&a.serial, &a.name).cmp(&(&b.serial, &b.name)));
    disks
}

fn disk(machine: &Machine, name: String) -> Disk {
    let directory = format!("{DIRECTORY}/{name}");
    let value = |file: &str| machine.value(format!("{directory}/{file}"));
    let number = |file: &str| machine.number(format!("{directory}/{file}"));
    let transport = transport(machine, &directory);
    let mut checks = kernel_checks(machine, &directory, &name);
    let verdict = own_verdict(machine, &directory, &name, transport);
    let is_told = verdict.is_some();
    checks.extend(verdict.unwrap_or_default());
    let faults: Vec<String> = checks.values().flatten().cloned().collect();
    // An eMMC is soldered to the board; a card has the same transport.
    let is_card = transport == Some("mmc") && value("device/type").as_deref() != Some("MMC");
    // The kernel also sets it for a disk on an eSATA port.
    let removable = number("removable") == Some(1)
        || transport == Some("usb")
        || is_card
        || devices::is_removable(machine, &directory);
    // A stick is private: the values that would identify it are not even read.
    let own = |read: &dyn Fn() -> Option<String>| if removable { None } else { read() };
    Disk {
        model: own(&|| value("device/model").or_else(|| value("device/name"))),
        serial: own(&|| serial(machine, &directory)),
        wwn: own(&|| value("wwid").or_else(|| value("device/wwid"))),
        bytes: number("size")
            .filter(|sectors| *sectors > 0)
            .map(|sectors| sectors.saturating_mul(SECTOR_BYTES)),
        rotational: number("queue/rotational").map(|rotational| rotational == 1),
        transport,
        removable,
        healthy: (is_told || !faults.is_empty()).then_some(faults.is_empty()),
        faults,
        accepted: None,
        checks,
        place: place(machine, &directory, &name),
        name,
    }
}

/// Its place, by properties that stay the same while it is not moved: the controller, the port, the
/// name space.
fn place(machine: &Machine, directory: &str, name: &str) -> Option<String> {
    let real = fs::canonicalize(machine.path(directory)).ok()?;
    let parts: Vec<&str> = real
        .components()
        .filter_map(|part| part.as_os_str().to_str())
        .collect();
    let numbered = |part: &&str, start: &str| {
        part.strip_prefix(start)
            .is_some_and(|rest| rest.parse::<u32>().is_ok())
    };
    let controller = parts
        .iter()
        .rfind(|part| part.matches(':').count() == 2 && part.contains('.'));
    let port = parts.iter().find(|part| numbered(part, "ata"));
    let name_space = name
        .strip_prefix("nvme")
        .and_then(|rest| rest.split_once('n'))
        .map(|(_, number)| format!("name space {number}"));
    let known = [
        controller.map(|part| (*part).to_owned()),
        port.map(|part| (*part).to_owned()),
        name_space,
    ];
    let place: Vec<String> = known.into_iter().flatten().collect();
    (!place.is_empty()).then(|| place.join(" "))
}

/// Its attachment, by its place in the device tree.
fn transport(machine: &Machine, directory: &str) -> Option<&'static str> {
    let place = fs::canonicalize(machine.path(directory)).ok()?;
    let has = |start: &str| {
        place.components().any(|part| {
            part.as_os_str()
                .to_str()
                .and_then(|name| name.strip_prefix(start))
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    // A disk on USB also has a SCSI host: the first match counts.
    [
        ("usb", "usb"),
        ("nvme", "nvme"),
        ("ata", "sata"),
        ("virtio", "virtio"),
        ("mmc", "mmc"),
        ("host", "scsi"),
    ]
    .into_iter()
    .find_map(|(start, transport)| has(start).then_some(transport))
}

/// The serial number from the disk itself, or, for SATA and SCSI, from the page of vital product
/// data (SPC-4, 7.8.14).
fn serial(machine: &Machine, directory: &str) -> Option<String> {
    let page = || {
        let page = machine.bytes(format!("{directory}/device/vpd_pg80")).ok()?;
        let length = u16::from_be_bytes(page.get(2..4)?.try_into().ok()?);
        let text = page.get(4..)?;
        Some(text[..text.len().min(length.into())].to_vec())
    };
    let file = |file: &str| {
        machine
            .bytes(format!("{directory}/{file}"))
            .ok()
            .filter(|bytes| !bytes.trim_ascii().is_empty())
    };
    smbios::serial(
        &["device/serial", "serial"]
            .into_iter()
            .find_map(file)
            .or_else(page)?,
    )
}

/// The disk's own verdict about its health; `None`, with a reason, when there is none.
fn own_verdict(
    machine: &Machine,
    directory: &str,
    name: &str,
    transport: Option<&'static str>,
) -> Option<Checks> {
    let key = format!("disks[{name}].healthy");
    let ask = match transport {
        Some("nvme") => smart::nvme,
        Some("sata") => smart::ata,
        _ => {
            machine.missing(key, "only a disk on SATA or NVMe is asked");
            return None;
        }
    };
    if !machine.is_running() {
        return recorded(machine, &key, name);
    }
    // Opening a disk that the kernel put to sleep would wake it.
    if machine
        .value(format!("{directory}/device/power/runtime_status"))
        .as_deref()
        == Some("suspended")
    {
        machine.missing(key, "it sleeps, and is left alone");
        return None;
    }
    // The kernel waits for a disk for a minute, and longer during a reset; this run does not.
    let device = format!("/dev/{name}");
    let answer = machine.within(PATIENCE, &key, move |machine| ask(&machine.path(device)))?;
    answer
        .map_err(|error| machine.unreadable(key, &format!("/dev/{name}"), &error))
        .ok()
}

fn recorded(machine: &Machine, key: &str, name: &str) -> Option<Checks> {
    let recorded = machine
        .bytes(RECORDED)
        .and_then(|json| Ok(serde_json::from_slice::<HashMap<String, Checks>>(&json)?));
    match recorded {
        Ok(mut disks) => disks.remove(name).or_else(|| {
            machine.missing(key, format_args!("{RECORDED} has no verdict of it"));
            None
        }),
        Err(error) => {
            machine.unreadable(key, RECORDED, &error);
            None
        }
    }
}

/// The kernel's knowledge of the disk, and of the ext4 on it. The partition's number identifies a
/// file system, because names change.
fn kernel_checks(machine: &Machine, directory: &str, name: &str) -> Checks {
    let mut checks = Checks::new();
    // SCSI reports running, NVMe live; transitional states are not faults.
    if let Some(state) = machine.value(format!("{directory}/device/state")) {
        let is_bad = [
            "offline",
            "transport-offline",
            "blocked",
            "dead",
            "deleting",
        ]
        .contains(&state.as_str());
        checks.insert(
            "state".to_owned(),
            is_bad.then(|| format!("the kernel has it as {state}")),
        );
    }
    for part in machine
        .names(directory)
        .into_iter()
        .filter(|part| part.starts_with(name))
        .chain([name.to_owned()])
    {
        let Some(errors) = machine.number(format!("/sys/fs/ext4/{part}/errors_count")) else {
            continue;
        };
        let number = part[name.len()..].trim_start_matches('p');
        let word = if number.is_empty() {
            "ext4".to_owned()
        } else {
            format!("ext4:{number}")
        };
        checks.insert(
            word,
            (errors > 0)
                .then(|| format!("the file system on {part} has {errors} errors on record")),
        );
    }
    checks
}
