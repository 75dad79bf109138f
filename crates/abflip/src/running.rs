//! The root that is mounted: its disk, and which partition of it.

use std::fs;
use std::path::{Path, PathBuf};

use jsonpipe::{Common, Exit, ExitContext};

/// Where this machine's root is.
#[derive(Clone, Debug)]
pub struct Running {
    /// The disk.
    pub disk: PathBuf,
    /// The partition's number, from 1.
    pub partition: u32,
    /// Where the partition begins.
    pub start_bytes: u64,
}

impl Running {
    /// Whether that is the same disk, under whatever name.
    pub fn is_on(&self, disk: &Path) -> bool {
        let real = |path: &Path| fs::canonicalize(path).ok();
        real(disk).is_some_and(|found| Some(found) == real(&self.disk))
    }
}

/// Finds it by the kernel's own tables; else says why it cannot be told.
///
/// The partition is told by the kernel's number and start of it, and compared with the partition table: the device's name, and
/// what the kernel was told on its command line, may be of another disk with the same PARTUUIDs.
pub fn find(common: &Common) -> anyhow::Result<Result<Running, String>> {
    let mounts = common.path("/proc/self/mountinfo");
    let mounts = match fs::read_to_string(&mounts) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Err("nothing is mounted".into())),
        read => read.exit(Exit::Io, || format!("reading {}", mounts.display()))?,
    };
    let Some(device) = root_device(&mounts) else { return Ok(Err("no root is mounted".into())) };
    let Ok(directory) = fs::canonicalize(common.path("/sys/dev/block").join(device)) else {
        return Ok(Err(format!("the root, {device}, is not on a disk")));
    };
    let number = |name: &str| fs::read_to_string(directory.join(name)).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let (Some(partition), Some(start)) = (number("partition"), number("start")) else {
        return Ok(Err(format!("the root, {device}, is not a partition")));
    };
    let about = directory.join("../uevent");
    let about = fs::read_to_string(&about).exit(Exit::Io, || format!("reading {}", about.display()))?;
    let Some(name) = about.lines().find_map(|line| line.strip_prefix("DEVNAME=")) else {
        return Ok(Err(format!("the disk of the root, {device}, has no name")));
    };
    // sysfs counts in 512 bytes, whatever the disk does.
    let (disk, start_bytes) = (common.path("/dev").join(name), start.saturating_mul(512));
    Ok(Ok(Running { disk, partition: u32::try_from(partition).unwrap_or(0), start_bytes }))
}

/// The device, `8:1`, that is mounted on `/`: the last one, which covers those before (proc_pid_mountinfo(5)).
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
        assert_eq!(root_device("25 24 8:3 / /home rw - ext4 /dev/sda3 rw\n"), None);
    }
}
