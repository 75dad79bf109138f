//! The section `host`.

use std::collections::BTreeMap;

use envelope::Change;
use jsonpipe::Missing;
use serde::{Deserialize, Serialize};

use super::network::{Interface, Route};

/// The inventory of this machine.
#[derive(Debug, Serialize)]
pub struct Host {
    /// Always false: collecting does not change the machine. Only cctk's output is cached, in
    /// /run/labtools/cctk.
    pub changed: bool,
    /// The time by this machine's clock, RFC 3339.
    pub collected_at: String,
    /// Its identity: the content of /persistent/inventory/uuid, which survives updates and
    /// reinstallations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its hostname.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Its place, by its addresses and campus.ini.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The running system.
    pub boot: Boot,
    /// The host image in the slot that was booted, as abflip recorded it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// The machine, as its maker names it (SMBIOS type 1).
    pub system: System,
    /// The firmware (SMBIOS type 0) and its settings.
    pub firmware: Firmware,
    /// The main board (SMBIOS type 2).
    pub board: Board,
    /// The case (SMBIOS type 3), including whether it was opened.
    pub chassis: Chassis,
    /// The processors, together.
    pub processor: Processor,
    /// The memory.
    pub memory: Memory,
    /// The disks, by serial number, otherwise by name.
    pub disks: Vec<Disk>,
    /// The machine's own mounts from disks and servers, by path; never a user's.
    pub filesystems: Vec<Filesystem>,
    /// The mount points of `/etc/fstab`, without those that are `noauto`, where nothing is mounted.
    pub unmounted: Vec<String>,
    /// The network interfaces except the loopback, by name.
    pub interfaces: Vec<Interface>,
    /// The routes of the main table, IPv4 before IPv6, in the kernel's order.
    pub routes: Vec<Route>,
    /// The temperatures, by sensor.
    pub temperatures: Vec<Temperature>,
    /// The PCI devices, by address.
    pub devices: Vec<Device>,
    /// The running guest; absent when there is none, or, with a reason in `missing`, when it cannot
    /// be determined. Its user is not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
    /// The last failure of a guest for each known cause, by cause.
    pub guest_failures: Vec<GuestFailure>,
    /// The bases of bases.ini with their programs, by name.
    pub bases: Vec<Base>,
    /// The differences from the baseline that are neither accepted nor gone, in the order of their
    /// reports.
    pub changes: Vec<Change>,
    /// The keys that are not known, and why.
    pub missing: Vec<Missing>,
}

/// The place of a machine: a network of campus.ini.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The name of the network.
    pub net: String,
    /// The campus.
    pub campus: String,
    /// The building.
    pub building: String,
    /// The room.
    pub room: String,
}

/// The running system.
#[derive(Debug, Default, Serialize)]
pub struct Boot {
    /// The kernel's id of this boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The time of the boot by the current clock, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booted_at: Option<String>,
    /// The time since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<u64>,
    /// The kernel's release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The hardware clock when the kernel booted, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_at_boot: Option<String>,
    /// The earliest time when the running image was built, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_built_at: Option<String>,
    /// Whether the hardware clock at boot was earlier than the build of the image: the battery on
    /// the board is weak (thesis, 5.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_before_image: Option<bool>,
}

impl Boot {
    /// The time after boot in which drivers still find devices.
    const SETTLED_SECONDS: u64 = 120;

    /// The time until a missing device counts as missing.
    pub fn settles_in_seconds(&self) -> u64 {
        self.uptime_seconds
            .map_or(0, |uptime| Self::SETTLED_SECONDS.saturating_sub(uptime))
    }
}

/// The running host image.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Its slot, `a` or `b`.
    pub slot: String,
    /// Its version, from its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Its digest, from its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The machine, as its maker names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// `Dell Inc.`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// `OptiPlex 7010`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The serial number; Dell's service tag. It identifies clones and exchanged boards; the
    /// machine's identity is `host.id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The UUID of the board, for the same purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

/// The firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Firmware {
    /// Its maker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Its version: `A29`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its date, as the firmware spells it: `06/28/2018`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Its settings, those of an allowlist, by name.
    pub attributes: Vec<Attribute>,
    /// The settings that firmware.ini wants, in its order, the setup password last.
    pub wanted: Vec<Wanted>,
}

/// A setting of the firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attribute {
    /// Its name in the kernel's spelling, whatever the source: `ChassisIntrusionStatus`.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A setting that firmware.ini wants, and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// Its key in firmware.ini: `vt_d`.
    pub setting: &'static str,
    /// Its name in the interface: `VTdFeature`.
    pub attribute: String,
    /// The value in firmware.ini; `set` for the setup password.
    pub wanted: String,
    /// Its value, or `unset` for the setup password; absent when it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
}

/// The main board.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Board {
    /// Its maker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// Its product name: `0GY6Y8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// The case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Chassis {
    /// Its maker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// Its kind, by the number of SMBIOS: 3 is a desktop, 6 a mini tower, 35 a mini PC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<u8>,
    /// The kind as a word: `Mini Tower`; absent for kinds that lab PCs do not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind_name: Option<&'static str>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The owner's tag in the firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset_tag: Option<String>,
    /// Whether the intrusion switch recorded that it was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<bool>,
    /// The source of that: `firmware`, `hwmon` or `cctk`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_by: Option<&'static str>,
    /// True when it was opened and a technician accepted that; it needs no alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<bool>,
    /// False when models.ini declares that this model has no intrusion switch: then `opened` is
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intrusion_switch: Option<bool>,
}

/// The processors, together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Processor {
    /// Their name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The number of packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packages: Option<u64>,
    /// The number of their cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u64>,
    /// The number of logical processors: with hyper-threading two per core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
}

/// The memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The sum of the modules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installed_bytes: Option<u64>,
    /// The factory memory of this model, from models.ini.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_bytes: Option<u64>,
    /// The memory that a technician accepted; absent before the first acceptance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_bytes: Option<u64>,
    /// The memory that the kernel can use (MemTotal).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usable_bytes: Option<u64>,
    /// The memory available to a new program (MemAvailable).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    /// The number of slots, including empty ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u64>,
    /// The modules, in the order of the firmware's table (SMBIOS type 17).
    pub modules: Vec<Module>,
}

/// A memory module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its slot, as labelled on the board: `DIMM1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// The bank of the slot, which distinguishes slots of one name: `P0 CHANNEL A`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bank: Option<String>,
    /// The number of the slot in the firmware's table, from 1.
    #[serde(skip)]
    pub number: u64,
    /// The slot for messages, as short as is unique.
    #[serde(skip)]
    pub place: Option<String>,
    /// Its size; absent when the firmware does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Its kind, by the number of SMBIOS: 24 is DDR3, 26 DDR4, 34 DDR5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<u8>,
    /// The kind as a word: `DDR4`; absent for outdated kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind_name: Option<&'static str>,
    /// Its maker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// The maker's JEDEC number, where the firmware has it instead of the name: `80AD000080AD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer_id: Option<String>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its part number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Its speed, in mega-transfers per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub megatransfers_per_second: Option<u64>,
}

/// The checks of a disk, each under a fixed word, with the fault if there is one: `smart`, `spare`,
/// `read_only`, `backup`, `worn` (the disk's own), `state` (the kernel's), `ext4:1` (of the file
/// system on partition 1). Checks that were not made are absent.
pub type Checks = BTreeMap<String, Option<String>>;

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// The kernel's current name: `sda`.
    pub name: String,
    /// Its model; absent for a removable one, which is private, as are serial number and world-wide
    /// name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its world-wide name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// The capacity; absent where the kernel reports none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether it spins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
    /// Its attachment: `sata`, `nvme`, `usb`, `virtio`, `mmc`, `scsi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<&'static str>,
    /// Whether it is removable: on USB, a card (but not an eMMC, which is soldered), or behind a
    /// port that the firmware or the kernel marks as external (Thunderbolt, eSATA). It causes no
    /// events.
    pub removable: bool,
    /// False when the disk, the kernel or a file system on it reports a fault; true when the disk
    /// itself reports good health, and no other source disagrees; otherwise absent, with the reason
    /// in `missing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// The faults, in words.
    pub faults: Vec<String>,
    /// True when it has faults, and a technician accepted each of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<bool>,
    /// The checks and their results.
    #[serde(skip)]
    pub checks: Checks,
    /// Its port: `0000:00:1f.2 ata1`.
    #[serde(skip)]
    pub place: Option<String>,
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// The mount point.
    pub path: String,
    /// The source: `/dev/sda1`, `server:/export`, `pool/base`.
    pub source: String,
    /// Its type: `ext4`.
    pub kind: String,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// Its size; absent when it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// The used part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// The part available to users other than root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    /// Whether it did not answer within two seconds; absent, with a reason in `missing`, when it is
    /// served by a program that may only be busy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hanging: Option<bool>,
}

/// The reading of a sensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Temperature {
    /// The chip and its place: `coretemp Package id 0`.
    pub sensor: String,
    /// Whether it is the processor's.
    pub processor: bool,
    /// Degrees.
    pub celsius: f64,
    /// The temperature at which the hardware throttles or switches off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical_celsius: Option<f64>,
}

/// A PCI device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its address: `0000:00:02.0`.
    pub address: String,
    /// Its kind, `vendor:device` in hexadecimal: `8086:0152`.
    pub id: String,
    /// Its class in hexadecimal: `030000` is a graphics card.
    pub class: String,
    /// Its driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Whether it is set aside for a guest (the driver is vfio-pci).
    pub passed: bool,
    /// Whether it is behind an external port (Thunderbolt). It causes no events.
    pub removable: bool,
}

/// The running guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guest {
    /// The name of its base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The generation of its base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The time of its start, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
}

/// The last failure of a guest for a cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuestFailure {
    /// `memory`: the kernel killed QEMU for lack of memory. `threads`: QEMU could start no more
    /// threads. `died`: another cause (thesis, 3.3.3).
    pub cause: &'static str,
    /// The time, RFC 3339.
    pub at: String,
}

/// A base on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Base {
    /// Its name: `windows`.
    pub name: String,
    /// Its title.
    pub title: String,
    /// The generation that new sessions start from.
    pub generation: u64,
    /// Its programs, from its manifest.
    pub programs: Vec<Program>,
}

/// A program in a base.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Program {
    /// The program, as the base's manifest names it.
    pub name: String,
    /// Its version.
    pub version: String,
}
