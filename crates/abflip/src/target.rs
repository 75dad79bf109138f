//! The slot being written: held exclusively, with nothing outside of it in reach.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jsonpipe::{Common, Exit, ExitContext, io_error};
use nix::libc::O_EXCL;

use crate::disk::{ALIGNMENT, Access, Disk};
use crate::gpt::Place;
use crate::running;

/// An open partition.
#[derive(Debug)]
pub struct Target {
    /// The partition, or the disk image that contains it.
    disk: Disk,
    /// The offset of the partition there.
    start: u64,
    /// How long it is.
    pub size_bytes: u64,
    /// While a block device is open with O_EXCL, it cannot be mounted (open(2)).
    _claim: Option<File>,
}

impl Target {
    /// Opens a partition of a disk. Status 78 when the kernel and the table disagree about it, 75
    /// when it is in use.
    pub fn open(
        common: &Common,
        disk: &Disk,
        place: Place,
        access: Access,
    ) -> anyhow::Result<Target> {
        let Place {
            number,
            start_bytes,
            size_bytes,
        } = place;
        let path = disk.path().display();
        check_changeable(common, disk)?;
        if disk.device == 0 {
            return Ok(Target {
                disk: Disk::open(disk.path(), access)?,
                start: start_bytes,
                size_bytes,
                _claim: None,
            });
        }
        // Writes go through the partition's own device: whatever is wrong here, the kernel confines
        // them to it.
        let (partition, device) = partition(common, disk, place)?.exit(Exit::Config, || {
            format!(
                "finding partition {number} of {path}: the kernel knows none there; let it read the table again, see partprobe(8)"
            )
        })?;
        let path = partition.display();
        let in_use = |why: &str| {
            Exit::TemporaryFailure.error(format_args!("refusing to write to {path}: {why}"))
        };
        if let Some(place) = mounted_on(common, &device)? {
            return Err(in_use(&format!("it is mounted on {place}; unmount it")));
        }
        let claim = OpenOptions::new()
            .read(true)
            .custom_flags(O_EXCL)
            .open(&partition)
            .map_err(|error| match error.kind() {
                io::ErrorKind::ResourceBusy => {
                    in_use("it is in use; lsblk and fuser show the user")
                }
                _ => io_error(error, Exit::of_read, format_args!("opening {path}")),
            })?;
        let disk = Disk::open(&partition, access)?;
        check_changeable(common, &disk)?;
        if disk.size_bytes != size_bytes {
            return Err(Exit::Config.error(format_args!(
                "opening {path}: it is {} bytes long, not {size_bytes}",
                disk.size_bytes
            )));
        }
        Ok(Target {
            disk,
            start: 0,
            size_bytes,
            _claim: Some(claim),
        })
    }

    /// Whether reads come from the medium.
    pub fn past_cache(&self) -> bool {
        self.disk.past_cache()
    }

    /// The disk, and the slot's offset on it, for readers.
    pub fn disk(&self) -> (&Disk, u64) {
        (&self.disk, self.start)
    }

    /// `length`, rounded up so that a transfer at `offset` covers whole blocks.
    pub fn round_up(&self, offset: u64, length: usize) -> usize {
        let room = usize::try_from(self.size_bytes - offset).unwrap_or(usize::MAX);
        length.next_multiple_of(ALIGNMENT).min(room)
    }

    /// Writes whole blocks.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
        self.disk
            .write_piece(self.within(offset, bytes.len() as u64)?, bytes)
    }

    /// Zeros whole blocks.
    pub fn zero(&self, offset: u64, length: u64) -> anyhow::Result<()> {
        self.disk.zero(self.within(offset, length)?, length)
    }

    /// Reads a few bytes at any offset.
    pub fn read_few(&self, offset: u64, length: u64) -> anyhow::Result<Vec<u8>> {
        self.disk
            .read(self.within(offset, length)?, length as usize)
    }

    /// Changes a few bytes at any offset, durably; the rest of their block stays.
    pub fn change_few(&self, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
        self.disk
            .write(self.within(offset, bytes.len() as u64)?, bytes)
    }

    /// Flushes: when this returns, every write is on the medium.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.disk.flush()
    }

    /// Zeros the first `length` bytes, durably, so that the slot holds nothing bootable.
    pub fn forget(&self, length: u64) -> anyhow::Result<()> {
        self.zero(0, self.round_up(0, length as usize) as u64)?;
        self.flush()
    }

    /// The offset on the disk, if the range is in the slot.
    fn within(&self, offset: u64, length: u64) -> anyhow::Result<u64> {
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= self.size_bytes);
        end.exit(Exit::Software, || {
            format!(
                "bytes {offset} to {} are outside of the slot",
                offset.saturating_add(length)
            )
        })?;
        Ok(self.start + offset)
    }
}

/// Refuses a read-only device (78), which would otherwise fail only at the first write, and an
/// image behind a loop device (75), whose cache would not notice the writes.
pub fn check_changeable(common: &Common, disk: &Disk) -> anyhow::Result<()> {
    let path = disk.path().display();
    if disk.is_read_only {
        return Err(Exit::Config.error(format_args!(
            "refusing to write to {path}: it is read-only; see blockdev(8), --setrw"
        )));
    }
    match loop_device(common, disk) {
        Some(device) => Err(Exit::TemporaryFailure.error(format_args!(
            "refusing to write to {path}: {device} is attached to it; detach that, or name it with --disk"
        ))),
        None => Ok(()),
    }
}

/// The device of a partition and its number, `8:2`, if the kernel and the table agree on it.
pub fn partition(
    common: &Common,
    disk: &Disk,
    place: Place,
) -> anyhow::Result<Option<(PathBuf, String)>> {
    use nix::sys::stat::{major, minor};
    let directory = common.path(format!(
        "/sys/dev/block/{}:{}",
        major(disk.device),
        minor(disk.device)
    ));
    let failed = |error| {
        io_error(
            error,
            |_| Exit::Config,
            format_args!("reading {}", directory.display()),
        )
    };
    for entry in fs::read_dir(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?.path();
        let text = |name: &str| {
            running::text(&entry.join(name))
                .map(|text| text.trim().to_owned())
                .ok()
        };
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        // sysfs counts in units of 512 bytes for every disk.
        let bytes = |name: &str| number(name).and_then(|sectors| sectors.checked_mul(512));
        if number("partition") == Some(place.number.into())
            && bytes("start") == Some(place.start_bytes)
            && bytes("size") == Some(place.size_bytes)
            && let Some(uevent) = text("uevent")
            && let Some(name) = uevent
                .lines()
                .find_map(|line| line.strip_prefix("DEVNAME="))
            && let Some(device) = text("dev")
        {
            return Ok(Some((common.path("/dev").join(name), device)));
        }
    }
    Ok(None)
}

/// The mount point of a device, as far as this process can see.
fn mounted_on(common: &Common, device: &str) -> anyhow::Result<Option<String>> {
    let path = common.path("/proc/self/mountinfo");
    match running::text(&path) {
        Ok(mounts) => Ok(mount_point(&mounts, device).map(str::to_owned)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).exit(Exit::Io, || format!("reading {}", path.display())),
    }
}

/// The first mount point of a device (proc_pid_mountinfo(5)).
fn mount_point<'a>(mounts: &'a str, device: &str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.nth(2)? == device).then_some(fields.nth(1)?)
    })
}

/// The loop device that is attached to an image, if there is one.
fn loop_device(common: &Common, image: &Disk) -> Option<String> {
    if image.device != 0 {
        return None;
    }
    // A file may have several names, so the inode identifies it.
    let file = |path: &Path| {
        fs::metadata(path)
            .ok()
            .map(|metadata| (metadata.dev(), metadata.ino()))
    };
    let ours = file(image.path())?;
    // A missing directory means no devices.
    fs::read_dir(common.path("/sys/block"))
        .into_iter()
        .flatten()
        .flatten()
        .find_map(|entry| {
            let backing = fs::read(entry.path().join("loop/backing_file")).ok()?;
            let backing = Path::new(OsStr::from_bytes(
                backing.strip_suffix(b"\n").unwrap_or(&backing),
            ));
            (file(backing) == Some(ours)).then(|| format!("/dev/{}", entry.file_name().display()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Aligned;

    #[test]
    fn a_device_is_found_among_the_mounts() {
        let mounts = "24 1 8:1 / / ro,noatime shared:1 - ext4 /dev/root ro\n25 24 8:12 / /mnt rw - ext4 /dev/sda12 rw\n";
        assert_eq!(mount_point(mounts, "8:12"), Some("/mnt"));
        assert_eq!(mount_point(mounts, "8:2"), None);
        assert_eq!(mount_point("", "8:2"), None);
    }

    #[test]
    fn target_stays_inside_the_slot() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        fs::write(&path, vec![7; 64 << 10]).unwrap();
        let common = jsonpipe::testkit::common(directory.path());
        let disk = Disk::open(&path, Access::Write).unwrap();
        let place = Place {
            number: 1,
            start_bytes: 16 << 10,
            size_bytes: 32 << 10,
        };
        let target = Target::open(&common, &disk, place, Access::Write).unwrap();
        let mut zeros = Aligned::new(8 << 10);
        target.write(24 << 10, zeros.bytes()).unwrap();
        target.zero(0, 4 << 10).unwrap();
        for (offset, length) in [(28 << 10, 8 << 10), (32 << 10, 1), (u64::MAX, 2)] {
            let outside =
                |result: anyhow::Result<()>| Exit::of(&result.unwrap_err()) == Exit::Software;
            assert!(
                outside(target.write(offset, &zeros.bytes()[..length])),
                "{offset}"
            );
            assert!(outside(target.zero(offset, length as u64)), "{offset}");
            assert!(
                outside(target.change_few(offset, &zeros.bytes()[..length])),
                "{offset}"
            );
        }
        let mut expected = vec![7; 64 << 10];
        expected[16 << 10..20 << 10].fill(0);
        expected[40 << 10..48 << 10].fill(0);
        assert!(fs::read(&path).unwrap() == expected);
        assert_eq!(target.round_up(24 << 10, 4097), 8 << 10);
        assert_eq!(target.round_up((32 << 10) - 512, 100), 512);
    }
}
