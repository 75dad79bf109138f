//! Reads the document, and checks what its types cannot.

use std::collections::HashMap;

use jsonpipe::{Document, Exit};
use uuid::Uuid;

use super::part::{Content, Part};
use crate::request::layout::{Bytes, Partition, Partitioning, Size, Store, VolumeId};

/// The section of this subcommand.
pub const SECTION: &str = "partitioning";

const MIB: u64 = 1 << 20;
/// mke2fs makes smaller file systems without a journal.
const EXT4_MIN_BYTES: u64 = 8 * MIB;
/// With sectors of 4096 bytes, a smaller FAT16 has too few clusters.
const ESP_MIN_BYTES: u64 = 32 * MIB;

/// A document that was checked.
#[derive(Debug)]
pub struct Wanted {
    /// `[partitioning]`.
    pub partitioning: Partitioning,
    partitions: Vec<(Part, WantedPartition)>,
}

/// A partition that was checked.
#[derive(Clone, Debug)]
pub struct WantedPartition {
    /// Its length.
    pub length: Length,
    /// Its GUID in the table.
    pub partuuid: Uuid,
    /// Its file system.
    pub filesystem: Option<Filesystem>,
}

/// The length of a partition in bytes, of whole MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// This long.
    Exactly(u64),
    /// At least this long, and a share of the rest.
    AtLeast(u64),
}

impl Length {
    /// The smallest length in bytes.
    pub fn min_bytes(self) -> u64 {
        match self {
            Length::Exactly(bytes) | Length::AtLeast(bytes) => bytes,
        }
    }
}

/// A file system that layout makes, and its UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// ext4.
    Ext4(Uuid),
    /// FAT.
    Vfat(VolumeId),
}

impl Filesystem {
    /// Its name for mount(8).
    pub fn name(self) -> &'static str {
        match self {
            Filesystem::Ext4(_) => "ext4",
            Filesystem::Vfat(_) => "vfat",
        }
    }

    /// Its UUID, as fstab has it.
    pub fn uuid(self) -> String {
        match self {
            Filesystem::Ext4(uuid) => uuid.to_string(),
            Filesystem::Vfat(id) => id.to_string(),
        }
    }
}

impl Wanted {
    /// Reads the sections. Status 65 when one is unknown, missing or impossible.
    pub fn read(document: &Document) -> anyhow::Result<Wanted> {
        let sections = Part::ALL.map(|part| format!("partition.{}", part.name()));
        let known: Vec<&str> = [SECTION]
            .into_iter()
            .chain(sections.iter().map(String::as_str))
            .collect();
        document.only(&known)?;
        let partitioning: Partitioning = document.require(SECTION)?;
        let is_used = |part: &Part| match part {
            Part::Backing | Part::User => partitioning.store == Store::Qcow2,
            Part::Pool => partitioning.store == Store::Zfs,
            _ => true,
        };
        let mut partitions = Vec::new();
        for part in Part::ALL {
            let section = format!("partition.{}", part.name());
            // One of the other store may stay in the file, but is no less right.
            let read: Option<Partition> = document.read(&section)?;
            let checked = read.map(|read| check(part, read)).transpose();
            let checked = checked
                .map_err(|(key, why)| Exit::Data.error(format_args!("{section}.{key}: {why}")))?;
            match checked {
                Some(checked) if is_used(&part) => partitions.push((part, checked)),
                None if is_used(&part) => {
                    return Err(Exit::Data.error(format_args!("{section}: missing")));
                }
                _ => {}
            }
        }
        let wanted = Wanted {
            partitioning,
            partitions,
        };
        wanted.check_identities()?;
        let root = |part| wanted.of(part).map(|root| root.length);
        if root(Part::RootA) != root(Part::RootB) {
            return Err(Exit::Data
                .error("partition.root_b.size: not that of root_a; an image must fit both"));
        }
        Ok(wanted)
    }

    /// A partition; `None` for one of the other store.
    pub fn of(&self, part: Part) -> Option<&WantedPartition> {
        let found = self.partitions.iter().find(|(other, _)| *other == part);
        found.map(|(_, partition)| partition)
    }

    /// Whether a PARTUUID is one of these.
    pub fn has(&self, partuuid: Uuid) -> bool {
        self.partitions
            .iter()
            .any(|(_, partition)| partition.partuuid == partuuid)
    }

    /// Refuses a GUID or UUID that is given twice, or is zero. A partition and its file system may
    /// have the same one.
    fn check_identities(&self) -> anyhow::Result<()> {
        let disks = [
            ("system_guid", self.partitioning.system_guid),
            ("user_guid", self.partitioning.user_guid),
        ];
        let in_table = disks
            .into_iter()
            .map(|(key, guid)| (format!("{SECTION}.{key}"), guid.to_string()))
            .chain(self.partitions.iter().map(|(part, partition)| {
                let key = format!("partition.{}.partuuid", part.name());
                (key, partition.partuuid.to_string())
            }));
        let filesystems = self.partitions.iter().filter_map(|(part, partition)| {
            let key = format!("partition.{}.uuid", part.name());
            Some((key, partition.filesystem?.uuid()))
        });
        for identities in [in_table.collect::<Vec<_>>(), filesystems.collect()] {
            let mut seen = HashMap::new();
            for (key, value) in identities {
                if value.chars().all(|c| matches!(c, '0' | '-')) {
                    return Err(Exit::Data.error(format_args!("{key}: all zeros")));
                }
                if let Some(other) = seen.insert(value, key.clone()) {
                    return Err(Exit::Data.error(format_args!("{key}: that of {other}")));
                }
            }
        }
        Ok(())
    }
}

/// Checks one partition. The error has the key and the reason.
fn check(
    part: Part,
    partition: Partition,
) -> Result<WantedPartition, (&'static str, &'static str)> {
    let length = match (partition.size, partition.at_least.map(Bytes::get)) {
        (Size::Exactly(bytes), None) => Length::Exactly(bytes.get()),
        (Size::Rest, Some(bytes)) => Length::AtLeast(bytes),
        (Size::Exactly(_), Some(_)) => return Err(("at_least", "only with size=rest")),
        (Size::Rest, None) => return Err(("at_least", "missing; size=rest needs it")),
    };
    if length != Length::Exactly(length.min_bytes()) && part.content() == Content::Image {
        return Err((
            "size",
            "rest; both roots need the same size on every machine",
        ));
    }
    let (min, too_small) = match part.content() {
        Content::Vfat => (ESP_MIN_BYTES, "less than 32M"),
        _ => (EXT4_MIN_BYTES, "less than 8M"),
    };
    if length.min_bytes() < min {
        return Err(("size", too_small));
    }
    let no_uuid = ("uuid", "missing");
    let filesystem = match part.content() {
        Content::Image | Content::Zfs if partition.uuid.is_some() => {
            return Err(("uuid", "none; layout makes no file system there"));
        }
        Content::Image | Content::Zfs => None,
        Content::Vfat => {
            let id = VolumeId::parse(partition.uuid.as_deref().ok_or(no_uuid)?);
            Some(Filesystem::Vfat(
                id.ok_or(("uuid", "expected a volume ID such as 1234-ABCD"))?,
            ))
        }
        Content::Ext4 { .. } => {
            let uuid = partition.uuid.as_deref().ok_or(no_uuid)?;
            let uuid = Uuid::try_parse(uuid).map_err(|_| ("uuid", "expected a UUID"))?;
            Some(Filesystem::Ext4(uuid))
        }
    };
    Ok(WantedPartition {
        length,
        partuuid: partition.partuuid,
        filesystem,
    })
}
