//! A finding: one obstacle, or one thing to know.

use std::fmt;

use jsonpipe::shown;
use pci::PciAddress;
use serde::Serialize;

/// The way out where the host needs the device.
pub(crate) const NEEDED: &str =
    "the host needs it: remove the device from the model's devices and parked devices";

/// The cause of a finding. The order here is the order of the findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The machine has no IOMMU, or the kernel does not use it.
    IommuAbsent,
    /// Interrupts of devices are not remapped, so that a guest could forge those of others.
    InterruptRemappingOff,
    /// The kernel leaves the integrated graphics out of the IOMMU.
    IntelIommuNotOn,
    /// A kernel module of VFIO is not there.
    VfioMissing,
    /// No section of models.ini has this machine's name.
    ModelUnknown,
    /// A listed device is not there.
    DeviceMissing,
    /// A listed device has another id.
    DeviceDiffers,
    /// A graphics card that the model does not have.
    ExtraGraphics,
    /// The BIOS is older than the oldest that was tested.
    BiosOld,
    /// The version of the BIOS cannot be compared.
    BiosUnknown,
    /// Less memory is installed than the factory installs.
    MemoryInstalled,
    /// The processor is not the model's.
    ProcessorDiffers,
    /// The device is in no IOMMU group.
    NoGroup,
    /// The device is a bridge.
    Bridge,
    /// A member of the device's group has a driver of the host, and may not be parked.
    GroupSibling,
    /// The kernel does not accept the group, for no visible reason.
    GroupNotViable,
    /// A process has the group open.
    GroupInUse,
    /// A guest's run was killed, or has not given everything back.
    NotGivenBack,
    /// The device was not given back, and a driver of the host has it since.
    Reclaimed,
    /// vfio-pci has the device, and no guest and no journal says why.
    Stray,
    /// The integrated graphics is older than Sandy Bridge.
    GraphicsOld,
    /// The integrated graphics is not at 00:02.0.
    GraphicsAddress,
    /// A mounted file system is on the device.
    Mounted,
    /// The device holds active swap.
    Swap,
    /// A device-mapper or RAID device is on the device.
    Stacked,
    /// A disk of the device is in use by the kernel, such as for a ZFS pool.
    DiskInUse,
    /// The default route goes through the device.
    DefaultRoute,
    /// The root file system comes over the network, through the device.
    NetworkRoot,
    /// A process has a sound, graphics or video node of the device open.
    NodeOpen,
    /// The guest and the host need more memory than there is.
    MemoryShort,
    /// The guest of a ZFS volume leaves the host too little memory.
    ZfsMemory,
    /// The memory is unknown, and the profile bounds no guest's.
    MemoryUnknown,
    /// The huge pages cannot be had.
    HugePages,
    /// There is no profile for the guest.
    ProfileMissing,
    /// The address for remote desktops is missing, or is all addresses.
    ManagementAddress,
    /// The room has no network segment.
    SegmentMissing,
    /// The guest has no slot for the device.
    SlotTaken,
    /// QEMU's user is not there, or is root.
    QemuUser,
    /// QEMU is not there, does not answer, or its user may not run it.
    QemuMissing,
    /// QEMU is older than 7.2.
    QemuOld,
    /// QEMU lacks a device or a property.
    QemuLacks,
    /// The program of the firewall is not there.
    NftMissing,
    /// KVM is not there, or does not work.
    KvmMissing,
    /// KVM does not give guests the registers that their graphics drivers divide by.
    KvmRegisters,
    /// The check could not look at something.
    NotLookedAt,
}

/// One obstacle, or one thing to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Its cause.
    pub kind: Kind,
    /// The PCI device.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "displayed")]
    pub device: Option<PciAddress>,
    /// The driver or kernel module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The mount point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// The route, as ip(8) writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The setting to change: a parameter of the kernel, or a key of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// The cause, in words.
    pub what: String,
    /// The way out.
    pub way_out: String,
}

impl Finding {
    /// Names come from firmware, drivers, processes and mounts: hidden characters are replaced.
    pub fn new(kind: Kind, what: impl fmt::Display, way_out: impl fmt::Display) -> Finding {
        Finding {
            kind,
            device: None,
            driver: None,
            pid: None,
            mount: None,
            route: None,
            setting: None,
            what: plain(what),
            way_out: plain(way_out),
        }
    }

    /// The same, about this PCI device.
    pub fn device(mut self, device: PciAddress) -> Finding {
        self.device = Some(device);
        self
    }

    /// The same, about this driver or kernel module.
    pub fn driver(mut self, driver: impl fmt::Display) -> Finding {
        self.driver = Some(plain(driver));
        self
    }

    /// The same, about this process.
    pub fn pid(mut self, pid: u32) -> Finding {
        self.pid = Some(pid);
        self
    }

    /// The same, about this mount point.
    pub fn mount(mut self, mount: impl fmt::Display) -> Finding {
        self.mount = Some(plain(mount));
        self
    }

    /// The same, about this route.
    pub fn route(mut self, route: impl fmt::Display) -> Finding {
        self.route = Some(plain(route));
        self
    }

    /// The same, about this setting.
    pub fn setting(mut self, setting: impl fmt::Display) -> Finding {
        self.setting = Some(plain(setting));
        self
    }
}

/// One line: `PCI device 0000:00:14.0: CAUSE; WAY OUT`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(device) = self.device {
            write!(f, "PCI device {device}: ")?;
        }
        write!(f, "{}; {}", self.what, self.way_out)
    }
}

/// All findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Each of them prevents the hand-over.
    pub blockers: Vec<Finding>,
    /// None of them does.
    pub warnings: Vec<Finding>,
}

impl Findings {
    /// Adds an obstacle.
    pub fn block(&mut self, finding: Finding) {
        self.blockers.push(finding);
    }

    /// Adds something to know.
    pub fn warn(&mut self, finding: Finding) {
        self.warnings.push(finding);
    }

    /// The same machine gives the same list, however the kernel orders its tables.
    pub fn sort(&mut self) {
        for list in [&mut self.blockers, &mut self.warnings] {
            list.sort();
            list.dedup();
        }
    }
}

fn plain(text: impl fmt::Display) -> String {
    shown(&text.to_string()).into_owned()
}

fn displayed<S: serde::Serializer>(
    device: &Option<PciAddress>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match device {
        Some(device) => serializer.collect_str(device),
        None => serializer.serialize_none(),
    }
}
