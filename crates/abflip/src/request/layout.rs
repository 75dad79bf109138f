//! The document of `abflip layout`: the section `partitioning`, and one section per partition.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

/// `[partitioning]`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Partitioning {
    /// Whether a disk that holds anything else is made anew.
    #[serde(default)]
    pub replace: bool,
    /// What keeps the bases and the disks of users.
    #[serde(default)]
    pub store: Store,
    /// The GUID of the disk with the roots.
    pub system_guid: Uuid,
    /// The GUID of the second disk.
    pub user_guid: Uuid,
}

/// What keeps the bases and the disks of users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// Files, on two partitions.
    #[default]
    Qcow2,
    /// A ZFS pool, on one partition.
    Zfs,
}

/// `[partition.NAME]`.
#[derive(Clone, Debug, Deserialize)]
pub struct Partition {
    /// Its length.
    pub size: Size,
    /// The smallest length; with `size=rest`, and only there.
    pub at_least: Option<Bytes>,
    /// Its GUID in the table.
    pub partuuid: Uuid,
    /// The UUID of its file system; `1234-ABCD` on an EFI system partition.
    pub uuid: Option<String>,
}

/// The length of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// This long.
    Exactly(Bytes),
    /// Its share of what the others leave.
    Rest,
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        let text = String::deserialize(deserializer)?;
        let size = if text == "rest" {
            Ok(Size::Rest)
        } else {
            Bytes::try_from(text).map(Size::Exactly)
        };
        size.map_err(|why| de::Error::custom(format_args!("{why}, or rest")))
    }
}

/// A number of whole MiB, written `512M`, `4G` or `1T`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Bytes(u64);

/// More than any disk has; the sum of all partitions cannot overflow.
const MAX_BYTES: u64 = 1 << 56;

impl Bytes {
    /// In bytes.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<String> for Bytes {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Bytes, Self::Error> {
        let parse = || {
            let shift = match text.bytes().last()? {
                b'M' => 20,
                b'G' => 30,
                b'T' => 40,
                _ => return None,
            };
            let number = &text[..text.len() - 1];
            // Only one spelling: no sign and no leading zero.
            let parsed = number
                .parse::<u32>()
                .ok()
                .filter(|parsed| *parsed > 0 && parsed.to_string() == number)?;
            u64::from(parsed)
                .checked_mul(1 << shift)
                .filter(|bytes| *bytes <= MAX_BYTES)
                .map(Bytes)
        };
        parse().ok_or("expected a size such as 512M, 4G or 1T")
    }
}

/// The volume ID of a FAT file system, as fstab and blkid write it: `1234-ABCD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeId(pub u32);

impl VolumeId {
    /// Reads the one spelling, with capital letters.
    pub fn parse(text: &str) -> Option<VolumeId> {
        let (high, low) = text.split_once('-')?;
        let half = |text: &str| {
            let number = u16::from_str_radix(text, 16).ok()?;
            (format!("{number:04X}") == text).then_some(u32::from(number))
        };
        Some(VolumeId(half(high)? << 16 | half(low)?))
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}-{:04X}", self.0 >> 16, self.0 & 0xffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_spelling() {
        for (text, bytes) in [
            ("1M", 1 << 20),
            ("4G", 4 << 30),
            ("2T", 2 << 40),
            ("65536T", MAX_BYTES),
        ] {
            let read = Bytes::try_from(text.to_owned()).map(Bytes::get);
            assert_eq!(read, Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "0M",
            "01M",
            "+1M",
            "-1M",
            "1",
            "1K",
            "1.5G",
            "1 G",
            "1g",
            "1MiB",
            "４G",
            "65537T",
            "4294967296M",
            "18446744073709551616M",
        ] {
            assert!(Bytes::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn volume_ids_have_one_spelling() {
        let id = VolumeId::parse("00A1-B2FF").unwrap();
        assert_eq!(
            (id.0, id.to_string()),
            (0x00a1_b2ff, "00A1-B2FF".to_owned())
        );
        for text in [
            "",
            "-",
            "00a1-B2FF",
            "0A1-B2FF",
            "+0A1-B2FF",
            "00A1B2FF",
            "00A1-B2FF-",
        ] {
            assert_eq!(VolumeId::parse(text), None, "{text}");
        }
    }
}
