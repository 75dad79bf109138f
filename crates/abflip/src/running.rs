//! The mounted root: its disk and partition.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jsonpipe::{Common, Exit, io_error};

use crate::gpt::Table;

/// Where this machine's root is.
#[derive(Clone, Debug)]
pub struct Running {
    /// The disk.
    pub disk: PathBuf,
    /// The partition's number, from 1.
    pub partition: u32,
    /// The offset of the partition.
    pub start_bytes: u64,
}

impl Running {
    /// Whether the root is on this disk, by any of its names.
    pub fn is_on(&self, disk: &Path) -> bool {
        let real = |path: &Path| fs::canonicalize(path).ok();
        real(disk).is_some_and(|found| Some(found) == real(&self.disk))
    }

    /// The entry of the root in a table, from 0, if the table places it where the kernel does.
    pub fn entry(&self, table: &Table, sector_bytes: u64) -> Option<usize> {
        let index = (self.partition as usize).checked_sub(1)?;
        let start = table
            .entries
            .get(index)?
            .starting_lba
            .checked_mul(sector_bytes)?;
        (start == self.start_bytes).then_some(index)
    }
}

/// The text of a system file, in which names and comments may contain any bytes (a mount point in
/// Latin-1, say).
pub fn text(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

/// Finds the root by the kernel's tables; the inner error states why it is not known.
///
/// The kernel's number and start of the partition identify it in the partition table. The device's
/// name and the kernel's command line do not: another disk may have the same PARTUUIDs.
pub fn find(common: &Common) -> anyhow::Result<Result<Running, String>> {
    let mounts = common.path("/proc/self/mountinfo");
    let mounts = match text(&mounts) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Err("nothing is mounted".into()));
        }
        read => read.map_err(|error| {
            io_error(
                error,
                |_| Exit::Io,
                format_args!("reading {}", mounts.display()),
            )
        })?,
    };
    let Some(device) = root_device(&mounts) else {
        return Ok(Err("no root is mounted".into()));
    };
    let Ok(directory) = fs::canonicalize(common.path("/sys/dev/block").join(device)) else {
        return Ok(Err(format!("the root, {device}, is not on a disk")));
    };
    let number = |name: &str| {
        text(&directory.join(name))
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
    };
    let (Some(partition), Some(start)) = (number("partition"), number("start")) else {
        return Ok(Err(format!("the root, {device}, is not a partition")));
    };
    let about = directory.join("../uevent");
    let about = text(&about).map_err(|error| {
        io_error(
            error,
            |_| Exit::Io,
            format_args!("reading {}", about.display()),
        )
    })?;
    let Some(name) = about.lines().find_map(|line| line.strip_prefix("DEVNAME=")) else {
        return Ok(Err(format!("the disk of the root, {device}, has no name")));
    };
    // sysfs counts in 512 bytes, whatever the disk does.
    let (disk, start_bytes) = (common.path("/dev").join(name), start.saturating_mul(512));
    Ok(Ok(Running {
        disk,
        partition: u32::try_from(partition).unwrap_or(0),
        start_bytes,
    }))
}

/// The device, `8:1`, that is mounted on `/`: the last entry, which hides earlier ones
/// (proc_pid_mountinfo(5)).
fn root_device(mounts: &str) -> Option<&str> {
    mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        let device = fields.nth(2)?;
        (fields.nth(1)? == "/").then_some(device)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_root_counts() {
        let mounts = "1 0 0:2 / / rw - rootfs rootfs rw\n24 1 8:1 / / ro,noatime shared:1 - ext4 /dev/root ro\n\
                      25 24 8:3 / /persistent rw - ext4 /dev/sda3 rw\n";
        assert_eq!(root_device(mounts), Some("8:1"));
        assert_eq!(
            root_device("25 24 8:3 / /home rw - ext4 /dev/sda3 rw\n"),
            None
        );
    }
}
