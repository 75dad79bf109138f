//! The section `host`.

use std::collections::BTreeMap;

use envelope::Change;
use jsonpipe::Missing;
use serde::{Deserialize, Serialize};

use super::network::{Interface, Route};

/// What this machine is.
#[derive(Debug, Serialize)]
pub struct Host {
    /// Always false: collecting changes nothing of the machine. Only what cctk said is kept, in
    /// /run/labtools/cctk.
    pub changed: bool,
    /// When, by this machine's clock, RFC 3339.
    pub collected_at: String,
    /// Who it is: the content of /persistent/inventory/uuid, which survives updates and
    /// reinstallations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name in the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Where it stands, by its addresses and campus.ini.
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
    /// The case (SMBIOS type 3), and whether it was opened.
    pub chassis: Chassis,
    /// The processors, together.
    pub processor: Processor,
    /// The memory.
    pub memory: Memory,
    /// The disks, by what stays the same: serial, otherwise name.
    pub disks: Vec<Disk>,
    /// What the machine itself has mounted from a disk or a server, by path; never what a user has.
    pub filesystems: Vec<Filesystem>,
    /// The network interfaces but the loopback, by name.
    pub interfaces: Vec<Interface>,
    /// The routes of the main table, IPv4 before IPv6, each as the kernel lists them.
    pub routes: Vec<Route>,
    /// What the sensors say, by sensor.
    pub temperatures: Vec<Temperature>,
    /// The PCI devices, by address.
    pub devices: Vec<Device>,
    /// The guest that runs now; absent when none does, or, with a reason in `missing`, when that
    /// cannot be seen. Never whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
    /// The last time that a guest failed for each cause that is known, by cause.
    pub guest_failures: Vec<GuestFailure>,
    /// The bases of bases.ini with their programs, by name.
    pub bases: Vec<Base>,
    /// What differs from the baseline, until it is accepted or gone, in the order in which it was
    /// told.
    pub changes: Vec<Change>,
    /// What is not known, and why.
    pub missing: Vec<Missing>,
}

/// Where a machine stands: a network of campus.ini.
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
    /// When it booted, by the clock as it is now, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booted_at: Option<String>,
    /// How long ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<u64>,
    /// The kernel's release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// What the hardware clock said when the kernel booted, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_at_boot: Option<String>,
    /// When the running image was built at the earliest, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_built_at: Option<String>,
    /// Whether the hardware clock said at boot that the image was not built yet: the battery on the
    /// board is weak (thesis, 5.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_before_image: Option<bool>,
}

impl Boot {
    /// After a boot drivers still find their devices.
    const SETTLED_SECONDS: u64 = 120;

    /// How long it still takes until what is not there is not there.
    pub fn settles_in_seconds(&self) -> u64 {
        self.uptime_seconds
            .map_or(0, |uptime| Self::SETTLED_SECONDS.saturating_sub(uptime))
    }
}

/// The host image that runs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Its slot, `a` or `b`.
    pub slot: String,
    /// Its version, as its manifest says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Its digest, as its manifest says.
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
    /// The serial number, which for Dell is the service tag. Tells clones and exchanged boards; who
    /// the machine is says `host.id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The UUID of the board; of the same use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

/// The firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Firmware {
    /// Who made it.
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
}

/// A setting of the firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attribute {
    /// Its name, as the kernel has it, whoever tells it: `ChassisIntrusionStatus`.
    pub name: String,
    /// What it is set to.
    pub value: String,
}

/// The main board.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Board {
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// What it is: `0GY6Y8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// The case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Chassis {
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// Its kind, by the number of SMBIOS: 3 is a desktop, 6 a mini tower, 35 a mini PC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<u8>,
    /// The same as a word: `Mini Tower`; absent for kinds that no lab PC is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind_name: Option<&'static str>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// What its owner wrote into the firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset_tag: Option<String>,
    /// Whether it was opened, as the intrusion switch remembers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<bool>,
    /// Who says so: `firmware`, `hwmon` or `cctk`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_by: Option<&'static str>,
    /// True when it was opened, and a technician accepted that; then nobody is to be called for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<bool>,
    /// False when models.ini says that this model has no intrusion switch: then nothing is told of
    /// one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intrusion_switch: Option<bool>,
}

/// The processors, together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Processor {
    /// Their name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How many packages there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packages: Option<u64>,
    /// How many cores they have together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u64>,
    /// How many processors the kernel sees: with hyper-threading two a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
}

/// The memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// What is plugged in: the sum of the modules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installed_bytes: Option<u64>,
    /// What a machine of this model left the factory with, by invcollect.ini.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_bytes: Option<u64>,
    /// What a technician accepted; absent before anybody accepted this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_bytes: Option<u64>,
    /// What the kernel has to give (MemTotal).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usable_bytes: Option<u64>,
    /// What a new program could have (MemAvailable).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    /// How many slots there are, empty ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u64>,
    /// The modules, in the order of the firmware's table (SMBIOS type 17).
    pub modules: Vec<Module>,
}

/// A memory module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Where it is plugged in, as the board is labelled: `DIMM1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// The bank of the slot, by which boards tell slots of one name apart: `P0 CHANNEL A`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bank: Option<String>,
    /// Which slot that is in the firmware's table, from 1.
    #[serde(skip)]
    pub number: u64,
    /// The slot for people, by as much as tells it from the others.
    #[serde(skip)]
    pub place: Option<String>,
    /// How much it is; absent when the firmware does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Its kind, by the number of SMBIOS: 24 is DDR3, 26 DDR4, 34 DDR5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<u8>,
    /// The same as a word: `DDR4`; absent for kinds of the last century.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind_name: Option<&'static str>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// The maker's number of JEDEC, where the firmware has that instead of the name:
    /// `80AD000080AD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer_id: Option<String>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its part number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// How fast it runs, in mega-transfers a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub megatransfers_per_second: Option<u64>,
}

/// What was asked about a disk, by a word that stays the same, and the fault when it has one:
/// `smart`, `spare`, `read_only`, `backup`, `worn` (the disk's own), `state` (the kernel's),
/// `ext4:1` (of the file system on partition 1). What was not asked is not there.
pub type Checks = BTreeMap<String, Option<String>>;

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// What the kernel calls it now: `sda`.
    pub name: String,
    /// Its model; never of a removable one, which is somebody's. So are serial number and
    /// world-wide name.
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
    /// Whether it turns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
    /// How it is attached: `sata`, `nvme`, `usb`, `virtio`, `mmc`, `scsi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<&'static str>,
    /// Whether it comes and goes: on USB, a card (but not an eMMC, which is soldered), or behind a
    /// port that the firmware or the kernel has for one outside the case (Thunderbolt, eSATA). No
    /// events are told of it.
    pub removable: bool,
    /// False when the disk, the kernel or a file system on it reports a fault; true when the disk
    /// itself says that it is well, and no other source disagrees; otherwise absent, with the
    /// reason in `missing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// The faults, in words.
    pub faults: Vec<String>,
    /// True when it has faults, and a technician accepted each of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<bool>,
    /// What was asked, and the answers.
    #[serde(skip)]
    pub checks: Checks,
    /// Where it is plugged in: `0000:00:1f.2 ata1`.
    #[serde(skip)]
    pub place: Option<String>,
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// Where it is mounted.
    pub path: String,
    /// What is mounted: `/dev/sda1`, `server:/export`, `pool/base`.
    pub source: String,
    /// Its type: `ext4`.
    pub kind: String,
    /// Whether it can only be read.
    pub read_only: bool,
    /// Its size; absent when it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// What is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// What users other than root can still have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    /// Whether it did not answer within two seconds; absent, with a reason in `missing`, when it is
    /// served by a program that may only be busy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hanging: Option<bool>,
}

/// What a sensor says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Temperature {
    /// The chip and what it is at: `coretemp Package id 0`.
    pub sensor: String,
    /// Whether it is the processor's.
    pub processor: bool,
    /// Degrees.
    pub celsius: f64,
    /// Where the hardware throttles or switches off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical_celsius: Option<f64>,
}

/// A PCI device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Where it is plugged in: `0000:00:02.0`.
    pub address: String,
    /// What it is, `vendor:device` in hexadecimal: `8086:0152`.
    pub id: String,
    /// Its class in hexadecimal: `030000` is a graphics card.
    pub class: String,
    /// Its driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Whether it is set aside for a guest (the driver is vfio-pci).
    pub passed: bool,
    /// Whether it is behind a port for what is outside the case (Thunderbolt). No events are told
    /// of it.
    pub removable: bool,
}

/// The guest that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guest {
    /// The name of its base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The generation of its base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Since when it runs, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
}

/// When a guest failed last for a cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuestFailure {
    /// `memory`: the kernel killed QEMU for want of memory. `threads`: QEMU could start no more
    /// threads. `died`: another one (thesis, 3.3.3).
    pub cause: &'static str,
    /// When, RFC 3339.
    pub at: String,
}

/// A base on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Base {
    /// Its name: `windows`.
    pub name: String,
    /// The name for people.
    pub title: String,
    /// The generation that new sessions start from.
    pub generation: u64,
    /// The programs in it, as its manifest says.
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
