//! Devices in sysfs.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jsonpipe::{Common, Exit, ExitContext};

use crate::{Id, PciAddress};

/// The directory with one entry for each device.
const DEVICES: &str = "/sys/bus/pci/devices";

/// The directory with one entry for each IOMMU group.
const GROUPS: &str = "/sys/kernel/iommu_groups";

/// One device, as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its address.
    pub address: PciAddress,
    /// Its vendor and device.
    pub id: Id,
    /// Its class, subclass and programming interface: 0x030000 is a VGA controller.
    pub class: u32,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// Its IOMMU group; absent without an IOMMU.
    pub group: Option<u32>,
}

impl Device {
    /// Whether it is a bridge, which stays the host's in every group.
    pub fn is_bridge(&self) -> bool {
        self.class >> 16 == 0x06
    }

    /// Whether it is a storage controller or a network card.
    pub fn is_storage_or_network(&self) -> bool {
        matches!(self.class >> 16, 0x01 | 0x02)
    }

    /// Whether it is a graphics card.
    pub fn is_display(&self) -> bool {
        self.class >> 16 == 0x03
    }
}

/// The directory of a device.
pub fn path(common: &Common, address: PciAddress) -> PathBuf {
    common.path(DEVICES).join(address.to_string())
}

/// The device at `address`; `None` when there is none. Status 74 when sysfs cannot be read, or has
/// no number where one belongs.
pub fn device(common: &Common, address: PciAddress) -> anyhow::Result<Option<Device>> {
    read(&path(common, address), address).exit(Exit::Io, || format!("reading PCI device {address}"))
}

/// All devices, by address; none on a machine without a PCI bus.
pub fn all(common: &Common) -> anyhow::Result<Vec<Device>> {
    devices(common, addresses(&common.path(DEVICES))?)
}

/// The devices of an IOMMU group, by address; none when there is no such group.
pub fn members(common: &Common, group: u32) -> anyhow::Result<Vec<Device>> {
    let directory = common.path(GROUPS).join(group.to_string()).join("devices");
    devices(common, addresses(&directory)?)
}

/// A device that goes away between the listing and the reading is none.
fn devices(common: &Common, addresses: Vec<PciAddress>) -> anyhow::Result<Vec<Device>> {
    addresses
        .into_iter()
        .filter_map(|address| device(common, address).transpose())
        .collect()
}

fn addresses(directory: &Path) -> anyhow::Result<Vec<PciAddress>> {
    let failed = || format!("listing {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        entries => entries.exit(Exit::Io, failed)?,
    };
    let names = entries
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<OsString>>>()
        .exit(Exit::Io, failed)?;
    let mut addresses: Vec<PciAddress> = names
        .iter()
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect();
    addresses.sort_unstable();
    Ok(addresses)
}

fn read(path: &Path, address: PciAddress) -> io::Result<Option<Device>> {
    let (Some(vendor), Some(device), Some(class)) = (
        number(&path.join("vendor"))?,
        number(&path.join("device"))?,
        number(&path.join("class"))?,
    ) else {
        return Ok(None);
    };
    let short = |number: u32| {
        u16::try_from(number).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no id"))
    };
    Ok(Some(Device {
        address,
        id: Id {
            vendor: short(vendor)?,
            device: short(device)?,
        },
        class,
        driver: link_name(&path.join("driver"))?,
        group: link_name(&path.join("iommu_group"))?.and_then(|name| name.parse().ok()),
    }))
}

/// A file with one number, `0x8086`; `None` when it does not exist.
fn number(path: &Path) -> io::Result<Option<u32>> {
    let text = match fs::read_to_string(path) {
        Err(error) if is_absence(&error) => return Ok(None),
        text => text?,
    };
    text.trim()
        .strip_prefix("0x")
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .map(Some)
        .ok_or_else(|| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            io::Error::new(io::ErrorKind::InvalidData, format!("{name}: no number"))
        })
}

/// The file name of a symbolic link's target; `None` when there is no link.
fn link_name(link: &Path) -> io::Result<Option<String>> {
    match fs::read_link(link) {
        Err(error) if is_absence(&error) => Ok(None),
        target => Ok(target?
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn machine(root: &Path) -> Common {
        jsonpipe::testkit::common(root)
    }

    #[test]
    fn a_device_is_read_with_its_driver_and_group() {
        let root = tempfile::tempdir().unwrap();
        let common = machine(root.path());
        assert_eq!(all(&common).unwrap(), []);
        let audio: PciAddress = "00:1f.3".parse().unwrap();
        let directory = path(&common, audio);
        fs::create_dir_all(&directory).unwrap();
        for (name, text) in [
            ("vendor", "0x8086\n"),
            ("device", "0xa170\n"),
            ("class", "0x040300\n"),
        ] {
            fs::write(directory.join(name), text).unwrap();
        }
        symlink(
            "../../../bus/pci/drivers/snd_hda_intel",
            directory.join("driver"),
        )
        .unwrap();
        symlink(
            "../../../kernel/iommu_groups/8",
            directory.join("iommu_group"),
        )
        .unwrap();
        let group = common.path("/sys/kernel/iommu_groups/8/devices");
        fs::create_dir_all(&group).unwrap();
        symlink(
            "../../../../bus/pci/devices/0000:00:1f.3",
            group.join("0000:00:1f.3"),
        )
        .unwrap();

        let found = device(&common, audio).unwrap().unwrap();
        assert_eq!(found.id.to_string(), "8086:a170");
        assert_eq!(found.driver.as_deref(), Some("snd_hda_intel"));
        assert_eq!(found.group, Some(8));
        assert_eq!(members(&common, 8).unwrap(), std::slice::from_ref(&found));
        assert_eq!(all(&common).unwrap(), [found]);

        fs::write(directory.join("class"), "audio").unwrap();
        let error = device(&common, audio).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Io);
        assert!(
            format!("{error:#}").ends_with("class: no number"),
            "{error:#}"
        );
    }

    #[test]
    fn no_device_and_no_group_are_no_error() {
        let root = tempfile::tempdir().unwrap();
        let common = machine(root.path());
        assert_eq!(device(&common, "00:02.0".parse().unwrap()).unwrap(), None);
        assert_eq!(members(&common, 1).unwrap(), []);
    }
}
