//! The section `partitioning`.

use serde::Serialize;
use uuid::Uuid;

use crate::request::Firmware;
use crate::request::layout::Store;

/// The section `partitioning`: the disks of a machine, and their partitions.
#[derive(Debug, Serialize)]
pub struct Partitioning {
    /// Whether this call changed anything; in a dry run, would change it.
    pub changed: bool,
    /// What starts the machine.
    pub firmware: Firmware,
    /// What keeps the bases and the disks of users.
    pub store: Store,
    /// The disks that are used: that of the roots, then the second one if there is one.
    pub disks: Vec<Disk>,
    /// The partitions, in the order of the disks and of their numbers.
    pub partitions: Vec<Partition>,
    /// Why the answer is no, in words; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A disk that is used.
#[derive(Debug, Serialize)]
pub struct Disk {
    /// The device.
    pub path: String,
    /// Its GUID in the table.
    pub guid: Uuid,
    /// Its length.
    pub size_bytes: u64,
    /// The size of a logical sector.
    pub sector_bytes: u64,
    /// Whether it rotates; absent if the disk was named on the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotating: Option<bool>,
    /// What it held before this call.
    pub held: Held,
}

/// What a disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Nothing.
    Nothing,
    /// A layout of this document, whole or half-made.
    Layout,
    /// Anything else.
    Foreign,
}

/// A partition.
#[derive(Debug, Serialize)]
pub struct Partition {
    /// Its name, in the table and of its section.
    pub name: &'static str,
    /// The disk that it is on.
    pub disk: String,
    /// Its number, from 1.
    pub number: u32,
    /// Its device; absent in an image file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Its GUID in the table.
    pub partuuid: Uuid,
    /// Its first logical sector.
    pub first_sector: u64,
    /// Its length.
    pub size_bytes: u64,
    /// `ext4` or `vfat`; absent where something else makes it: on a root, and for a pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<&'static str>,
    /// The UUID of the file system, as fstab has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Where it is mounted; absent for what the fstab does not mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_point: Option<&'static str>,
}
