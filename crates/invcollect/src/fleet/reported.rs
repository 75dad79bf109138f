//! What is read of a report. Another program wrote it, on a machine that may be anybody's, so these types are of their own: what is
//! not understood is left out where it stands alone, and nothing is taken for more than it is.

use serde::Deserialize;

use crate::report::{Change, Program};

/// A document with the section `host`, as `T` reads it.
#[derive(Debug, Deserialize)]
pub struct Payload<T> {
    pub host: T,
}

/// What is read of every report.
#[derive(Debug, Default, Deserialize)]
pub struct Moment {
    pub schema: u64,
    pub collected_at: String,
    #[serde(default)]
    pub boot: Boot,
    pub guest: Option<Guest>,
    #[serde(default)]
    pub system: System,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Boot {
    pub id: Option<String>,
    pub uptime_seconds: Option<u64>,
    pub clock_before_image: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Guest {
    pub started_at: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct System {
    pub model: Option<String>,
    pub serial: Option<String>,
    pub uuid: Option<String>,
}

/// What is read of a machine's newest report, and of its first.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    pub hostname: Option<String>,
    pub place: Option<Place>,
    pub boot: Boot,
    pub image: Option<Image>,
    pub system: System,
    pub chassis: Chassis,
    pub memory: Memory,
    pub disks: Vec<Disk>,
    pub filesystems: Vec<Filesystem>,
    pub interfaces: Vec<Interface>,
    pub routes: Vec<Route>,
    pub devices: Vec<Device>,
    pub guest_failures: Vec<GuestFailure>,
    pub bases: Vec<Base>,
    pub changes: Vec<Change>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Place {
    pub campus: String,
    pub building: String,
    pub room: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Image {
    pub version: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Chassis {
    pub opened: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Memory {
    pub installed_bytes: Option<u64>,
    pub expected_bytes: Option<u64>,
    pub usable_bytes: Option<u64>,
    pub available_bytes: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Disk {
    pub name: String,
    #[serde(default)]
    pub removable: bool,
    pub healthy: Option<bool>,
    #[serde(default)]
    pub faults: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Filesystem {
    pub path: String,
    pub source: String,
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub read_only: bool,
    pub total_bytes: Option<u64>,
    pub used_bytes: Option<u64>,
    pub available_bytes: Option<u64>,
    #[serde(default)]
    pub hanging: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Interface {
    pub name: String,
    pub hardware: bool,
    pub wireless: bool,
    pub mac: Option<String>,
    pub carrier: Option<bool>,
    pub speed_bits_per_second: Option<u64>,
    pub best_speed_bits_per_second: Option<u64>,
    pub addresses: Vec<String>,
    pub received_bytes: Option<u64>,
    pub sent_bytes: Option<u64>,
    pub station: Option<Station>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Station {
    pub ssid: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Route {
    pub destination: String,
    pub gateway: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Device {
    pub address: String,
    pub id: String,
    pub class: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct GuestFailure {
    pub cause: String,
    pub at: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Base {
    pub name: String,
    pub generation: u64,
    #[serde(default)]
    pub programs: Vec<Program>,
}

impl Interface {
    /// A port for a cable.
    pub fn is_wired(&self) -> bool {
        self.hardware && !self.wireless
    }
}

impl Snapshot {
    /// The size of the file systems of its disks, and what is in use of them. What is mounted twice counts once, and the file
    /// systems of a pool of ZFS share its room.
    pub fn disk_use(&self) -> Option<(u64, u64)> {
        let mut counted: std::collections::BTreeMap<&str, (u64, u64)> = std::collections::BTreeMap::new();
        for filesystem in &self.filesystems {
            let (Some(total), Some(used)) = (filesystem.total_bytes, filesystem.used_bytes) else { continue };
            let local = filesystem.source.starts_with("/dev/");
            if !local && filesystem.kind != "zfs" {
                continue; // a server's
            }
            let source = if local { &*filesystem.source } else { filesystem.source.split('/').next().unwrap_or_default() };
            let pool = counted.entry(source).or_default();
            *pool = if local { (total, used) } else { (pool.0.max(total), pool.1.saturating_add(used)) };
        }
        let sum = |sum: (u64, u64), one: (u64, u64)| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1));
        counted.into_values().reduce(sum)
    }
}
