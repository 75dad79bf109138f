//! Disks of the host below a device: mounts, swap, and devices that are stacked on them.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use jsonpipe::Common;
use nix::libc;
use nix::sys::stat::{major, minor};
use nix::unistd::geteuid;
use pci::PciAddress;

use crate::finding::{Finding, Findings, Kind, NEEDED};
use crate::mounts::{self, Mount};
use crate::sysfs::{Taken, names, text, unescaped, value};

const BLOCK: &str = "/sys/class/block";
const SWAPS: &str = "/proc/swaps";

pub(crate) fn find(common: &Common, taken: &Taken, findings: &mut Findings) -> anyhow::Result<()> {
    let disks = taken.below(common, "block")?;
    if disks.is_empty() {
        return Ok(());
    }
    let mounts = mounts::read(common)?;
    let swaps = text(&common.path(SWAPS))?.unwrap_or_default();
    let mut named: Vec<&str> = Vec::new();
    // Partitions come before their disk, which the kernel claims with them.
    for disk in disks.iter().rev() {
        let before = findings.blockers.len();
        for name in with_holders(common, &disk.name)? {
            if name != disk.name {
                stacked(common, disk.device, &disk.name, &name, findings);
            }
            mounted(common, disk.device, &name, &mounts, findings);
            swap(common, disk.device, &name, &swaps, findings);
        }
        let directory = common.path(BLOCK).join(&disk.name);
        let is_named = findings.blockers.len() > before
            || named.iter().any(|name| directory.join(name).exists());
        if !is_named {
            in_use(common, disk.device, &disk.name, findings);
        }
        if findings.blockers.len() > before {
            named.push(&disk.name);
        }
    }
    Ok(())
}

/// The block device `name`, and all that is stacked on it.
fn with_holders(common: &Common, name: &str) -> anyhow::Result<Vec<String>> {
    let mut found = vec![name.to_owned()];
    let mut seen = HashSet::from([name.to_owned()]);
    let mut at = 0;
    while at < found.len() {
        let holders = common.path(BLOCK).join(&found[at]).join("holders");
        for holder in names(&holders)? {
            let holder = holder.to_string_lossy().into_owned();
            if seen.insert(holder.clone()) {
                found.push(holder);
            }
        }
        at += 1;
    }
    Ok(found)
}

/// The node of a block device; a `/` in its name is a `!` in sysfs.
fn node(name: &str) -> String {
    format!("/dev/{}", name.replace('!', "/"))
}

/// `/dev/mapper/vg-root` for dm-0, as people know it.
fn shown_name(common: &Common, name: &str) -> String {
    let mapped = value(&common.path(BLOCK).join(name).join("dm/name"));
    match mapped {
        Some(mapped) if !mapped.is_empty() => format!("/dev/mapper/{mapped}"),
        _ => node(name),
    }
}

fn stacked(common: &Common, device: PciAddress, disk: &str, name: &str, findings: &mut Findings) {
    let (disk, name) = (shown_name(common, disk), shown_name(common, name));
    findings.block(
        Finding::new(
            Kind::Stacked,
            format_args!("{name} of the host is on its disk {disk}"),
            format_args!("stop {name} (vgchange -an, cryptsetup close, dmsetup remove or mdadm --stop), or remove the device from the model's devices"),
        )
        .device(device),
    );
}

/// A mount belongs to a device by its number; where the file system has its own number, as
/// that of btrfs, by its source.
fn mounted(
    common: &Common,
    device: PciAddress,
    name: &str,
    mounts: &[Mount],
    findings: &mut Findings,
) {
    let number = value(&common.path(BLOCK).join(name).join("dev"));
    let (path, node) = (shown_name(common, name), node(name));
    for mount in mounts {
        let is_on = number.as_deref() == Some(&*mount.number)
            || mount.source == path
            || mount.source == node;
        if is_on {
            let point = &mount.point;
            let way_out = if point == "/" {
                NEEDED.into()
            } else {
                format!(
                    "unmount {point} (umount), or, if the host needs it, remove the device from the model's devices"
                )
            };
            findings.block(
                Finding::new(
                    Kind::Mounted,
                    format_args!("{point} is mounted from its disk {path}"),
                    way_out,
                )
                .device(device)
                .mount(point),
            );
        }
    }
}

fn swap(common: &Common, device: PciAddress, name: &str, swaps: &str, findings: &mut Findings) {
    let (path, node) = (shown_name(common, name), node(name));
    let is_active = swaps
        .lines()
        .filter_map(|line| line.split([' ', '\t']).next())
        .map(unescaped)
        .any(|active| active == path || active == node);
    if is_active {
        findings.block(
            Finding::new(
                Kind::Swap,
                format_args!("active swap is on its disk {path}"),
                format_args!("switch it off (swapoff {path}), and remove it from /etc/fstab"),
            )
            .device(device)
            .mount(&path),
        );
    }
}

/// The exclusive user of a block device, such as a ZFS pool, has claimed it, and the kernel then
/// refuses to claim it for another (open(2), O_EXCL). Only root may ask.
fn in_use(common: &Common, device: PciAddress, name: &str, findings: &mut Findings) {
    if !geteuid().is_root() {
        return;
    }
    let path = node(name);
    let node = common.path(&path);
    let number = value(&common.path(BLOCK).join(name).join("dev"));
    let is_it = fs::symlink_metadata(&node).is_ok_and(|found| {
        let shown = format!("{}:{}", major(found.rdev()), minor(found.rdev()));
        found.file_type().is_block_device() && number.as_deref() == Some(&*shown)
    });
    if !is_it {
        return;
    }
    let claimed = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL | libc::O_NONBLOCK)
        .open(&node);
    if claimed.is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY)) {
        findings.block(
            Finding::new(
                Kind::DiskInUse,
                format_args!("its disk {path} is in use by the kernel, such as for a ZFS pool or in another mount namespace"),
                format_args!("find the user (zpool status, lsblk {path}, lsns -t mnt), and export or unmount it"),
            )
            .device(device),
        );
    }
}
