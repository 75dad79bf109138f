//! Finds the disks of a machine by sysfs, and what they hold.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jsonpipe::{Common, Exit, ExitContext, io_error};
use nix::libc::O_EXCL;
use nix::sys::stat::{major, minor};

use super::document::Wanted;
use super::plan::{Candidate, MIB};
use crate::disk::{Access, Disk};
use crate::gpt::Tables;
use crate::report::layout::Held;
use crate::running::text;
use crate::target;

/// A disk that could be used, and is locked.
#[derive(Debug)]
pub struct Found {
    /// The disk.
    pub disk: Disk,
    /// Its path, as seen below the root.
    pub shown: String,
    /// Whether it rotates; `None` if it was named.
    pub rotating: Option<bool>,
    /// Held as a lock while the disk is worked on: udev leaves it alone, and a program that
    /// outlived an earlier run has ended.
    pub lock: File,
}

impl Found {
    /// Its size and rotation.
    pub fn candidate(&self) -> Candidate {
        Candidate {
            size_bytes: self.disk.size_bytes,
            rotating: self.rotating.unwrap_or_default(),
        }
    }

    /// The size of a logical sector; 512 in an image, which does not record it.
    pub fn sector_bytes(&self) -> u64 {
        self.disk.sector_bytes.unwrap_or(512)
    }
}

/// The disk that was named. Status 65 when it is a partition, 75 when it is in use, 78 when it is
/// read-only.
pub fn named(common: &Common, path: &Path, access: Access) -> anyhow::Result<Found> {
    let disk = Disk::open(path, access)?;
    let (major, minor) = (major(disk.device), minor(disk.device));
    let partition = format!("/sys/dev/block/{major}:{minor}/partition");
    if disk.device != 0 && common.path(partition).exists() {
        return Err(Exit::Data.error(format_args!(
            "refusing to partition {}: it is a partition; name the disk",
            path.display()
        )));
    }
    target::check_changeable(common, &disk)?;
    let lock = locked(path)?;
    if disk.device != 0 && claim(path)?.is_none() {
        return Err(Exit::TemporaryFailure.error(format_args!(
            "refusing to partition {}: it is in use; lsblk shows the user",
            path.display()
        )));
    }
    Ok(Found {
        disk,
        shown: path.display().to_string(),
        rotating: None,
        lock,
    })
}

/// The whole, fixed, writable disks of the machine that nothing uses, in the order of the ports
/// that they are plugged into, as sysfs has them. Status 78 when there is none.
pub fn all(common: &Common, access: Access) -> anyhow::Result<Vec<Found>> {
    let directory = common.path("/sys/block");
    let failed = |error| {
        let reading = format_args!("reading {}", directory.display());
        io_error(error, |_| Exit::Config, reading)
    };
    let mut places = Vec::new();
    let entries = fs::read_dir(&directory).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Exit::Config.error(format_args!(
            "looking for disks: no directory {}; name a disk, or a file, with --disk",
            directory.display()
        )),
        _ => failed(error),
    });
    for entry in entries? {
        let place = fs::canonicalize(entry.map_err(failed)?.path()).map_err(failed)?;
        // What no hardware is behind, such as a loop device or a volume, has no device. A path to an
        // NVMe disk is hidden, or has no name below /dev: the disk itself is there beside it.
        if place.join("device").exists() && !is(&place, "hidden") {
            places.push(place);
        }
    }
    places.sort();
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for place in places {
        let about = text(&place.join("uevent")).map_err(failed)?;
        let Some(name) = about.lines().find_map(|line| line.strip_prefix("DEVNAME=")) else {
            continue;
        };
        let path = common.path("/dev").join(name);
        let shown = format!("/dev/{name}");
        if let Some(why) = unfit(&place) {
            others.push(format!("{shown} is {why}"));
            continue;
        }
        let lock = locked(&path)?;
        if claim(&path)?.is_none() {
            others.push(format!("{shown} is in use"));
            continue;
        }
        found.push(Found {
            disk: Disk::open(&path, access)?,
            shown,
            rotating: Some(is(&place, "queue/rotational")),
            lock,
        });
    }
    if found.is_empty() {
        let others = if others.is_empty() {
            "the machine shows none".to_owned()
        } else {
            others.join(", ")
        };
        return Err(Exit::Config.error(format_args!("finding a disk to partition: {others}")));
    }
    Ok(found)
}

/// Whether a flag of sysfs is set.
fn is(place: &Path, flag: &str) -> bool {
    text(&place.join(flag)).is_ok_and(|text| text.trim() == "1")
}

/// Why a disk cannot be the machine's own, in words.
fn unfit(place: &Path) -> Option<&'static str> {
    let is_bus = |part: &str| {
        part.strip_prefix("usb")
            .is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let mut parts = place.iter().filter_map(|part| part.to_str());
    let kind = text(&place.join("device/type")).unwrap_or_default();
    if is(place, "removable") || kind.trim() == "SD" {
        Some("removable")
    } else if parts.any(is_bus) {
        Some("on the USB")
    } else if is(place, "ro") {
        Some("read-only")
    } else if text(&place.join("size")).is_ok_and(|size| size.trim() == "0") {
        Some("empty")
    } else {
        None
    }
}

/// Locks a disk as udev expects it of programs that partition (systemd's "Locking Block Device
/// Access"), after waiting for those that have it.
fn locked(path: &Path) -> anyhow::Result<File> {
    let file = File::open(path).map_err(|error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("opening {}", path.display()),
        )
    })?;
    file.lock()
        .exit(Exit::Io, || format!("locking {}", path.display()))?;
    Ok(file)
}

/// Claims a block device until the file is closed; `None` if it, or one of its partitions, is
/// mounted, swap, or a part of something else.
pub fn claim(path: &Path) -> anyhow::Result<Option<File>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(O_EXCL)
        .open(path);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
        Err(error) => Err(io_error(
            error,
            Exit::of_read,
            format_args!("opening {}", path.display()),
        )),
    }
}

/// What a disk holds, and in words what is foreign.
///
/// The primary header decides, because a layout begins with it: one with a GUID of the document is
/// a layout's, unless its table has partitions that the document does not name. Otherwise only
/// zeros are nothing, where file systems, tables, RAID and LVM leave their marks: in the first MiB
/// and the last.
pub fn held(disk: &Disk, wanted: &Wanted) -> anyhow::Result<(Held, Option<String>)> {
    let foreign = |what: String| Ok((Held::Foreign, Some(what)));
    let tables = Tables::read(disk)?;
    let guids = [
        wanted.partitioning.system_guid,
        wanted.partitioning.user_guid,
    ];
    let primary = match &tables.primary {
        Ok(table) => Some(table.disk_guid()),
        Err(fault) => fault.header.map(|header| header.disk_guid),
    };
    if let (Some(guid), Ok(table)) = (primary, &tables.primary) {
        let unknown = table.used().find(|(_, entry)| {
            let partuuid = uuid::Uuid::from_bytes_le(entry.unique_partition_guid);
            !guids.contains(&guid) || !wanted.has(partuuid)
        });
        if let Some((index, entry)) = unknown {
            let name = jsonpipe::shown(entry.partition_name.as_str()).into_owned();
            let number = index + 1;
            return foreign(format!("partition {number} ({name}) is not of this layout"));
        }
    }
    if primary.is_some_and(|guid| guids.contains(&guid)) {
        return Ok((Held::Layout, None));
    }
    let tail = disk.size_bytes - MIB;
    for start in [0, tail] {
        let bytes = disk.read(start, MIB as usize)?;
        if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
            let at = start + at as u64;
            return foreign(match primary {
                Some(guid) => format!("it has a partition table with the GUID {guid}"),
                None => format!("it is not blank: there is something at byte {at}"),
            });
        }
    }
    Ok((Held::Nothing, None))
}

/// The name of a partition's device.
pub fn partition_name(disk: &str, number: u32) -> String {
    // As the kernel names them (block/partitions/core.c): nvme0n1p1, sda1.
    let between = if disk.ends_with(|c: char| c.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    format!("{disk}{between}{number}")
}
