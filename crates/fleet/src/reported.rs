//! The keys of a report that are read. Another program wrote it, on a machine that may be
//! compromised, so these types are separate from its own: an unknown value that stands alone is
//! left out, and no value is trusted beyond its limits. Texts are in the form of [`shown`] from
//! here on: the document is read on terminals, and root on one machine must not be able to hide or
//! forge what is shown of others.

use std::borrow::Cow;

use envelope::Change;
use jsonpipe::shown;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The maximum length of a text, in bytes; the rest is cut off.
const TEXT_MAX: usize = 200;
/// The maximum length of a list: more than the programs of a base.
const LIST_MAX: usize = 1000;
/// The maximum size of a lab's file system (1 PiB); a larger claim would dominate the sums.
const FILESYSTEM_MAX_BYTES: u64 = 1 << 50;

/// A document with the section `host`, with the keys that are read of every report.
#[derive(Debug, Deserialize)]
pub struct Payload {
    pub host: Moment,
}

/// The keys that are read of every report.
#[derive(Debug, Default, Deserialize)]
pub struct Moment {
    pub schema: u64,
    pub collected_at: String,
    #[serde(default, deserialize_with = "known")]
    pub boot: Boot,
    #[serde(default, deserialize_with = "known")]
    pub guest: Option<Guest>,
    #[serde(default, deserialize_with = "known")]
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
#[serde(default)]
pub struct System {
    #[serde(deserialize_with = "text")]
    pub model: Option<String>,
    #[serde(deserialize_with = "text")]
    pub serial: Option<String>,
    #[serde(deserialize_with = "text")]
    pub uuid: Option<String>,
}

/// The keys that are read of a machine's newest report, and of its first.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    #[serde(deserialize_with = "known")]
    pub hostname: Option<String>,
    #[serde(deserialize_with = "known")]
    pub place: Option<Place>,
    #[serde(deserialize_with = "known")]
    pub boot: Boot,
    #[serde(deserialize_with = "known")]
    pub image: Option<Image>,
    #[serde(deserialize_with = "known")]
    pub system: System,
    #[serde(deserialize_with = "known")]
    pub firmware: Firmware,
    #[serde(deserialize_with = "known")]
    pub chassis: Chassis,
    #[serde(deserialize_with = "known")]
    pub memory: Memory,
    #[serde(deserialize_with = "list::<64, _, _>")]
    pub disks: Vec<Disk>,
    #[serde(deserialize_with = "list::<64, _, _>")]
    pub filesystems: Vec<Filesystem>,
    #[serde(deserialize_with = "list::<64, _, _>")]
    pub unmounted: Vec<String>,
    #[serde(deserialize_with = "list::<64, _, _>")]
    pub interfaces: Vec<Interface>,
    #[serde(deserialize_with = "list::<64, _, _>")]
    pub routes: Vec<Route>,
    #[serde(deserialize_with = "list::<LIST_MAX, _, _>")]
    pub devices: Vec<Device>,
    #[serde(deserialize_with = "list::<16, _, _>")]
    pub guest_failures: Vec<GuestFailure>,
    #[serde(deserialize_with = "list::<16, _, _>")]
    pub bases: Vec<Base>,
    #[serde(deserialize_with = "list::<LIST_MAX, _, _>")]
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
#[serde(default)]
pub struct Firmware {
    #[serde(deserialize_with = "text")]
    pub version: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Chassis {
    pub opened: Option<bool>,
    #[serde(default)]
    pub accepted: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Memory {
    pub installed_bytes: Option<u64>,
    pub expected_bytes: Option<u64>,
    pub accepted_bytes: Option<u64>,
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
    #[serde(default)]
    pub accepted: bool,
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
    pub removable: bool,
    pub wireless: bool,
    pub mac: Option<String>,
    pub permanent_mac: Option<String>,
    pub carrier: Option<bool>,
    pub speed_bits_per_second: Option<u64>,
    pub best_speed_bits_per_second: Option<u64>,
    pub duplex: Option<String>,
    pub accepted: bool,
    #[serde(deserialize_with = "list::<16, _, _>")]
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
    #[serde(default, deserialize_with = "list::<LIST_MAX, _, _>")]
    pub programs: Vec<Program>,
}

/// A program of a base.
#[derive(Clone, Debug, Deserialize)]
pub struct Program {
    pub name: String,
    pub version: String,
}

impl Interface {
    /// Whether it is a built-in wired port: no visit is needed for an adapter that comes and goes.
    pub fn is_wired(&self) -> bool {
        self.hardware && !self.removable && !self.wireless
    }

    /// Whether a change is about this one: by its permanent address, otherwise its current one,
    /// otherwise its name.
    pub fn is_subject(&self, subject: &str) -> bool {
        self.permanent_mac
            .as_ref()
            .or(self.mac.as_ref())
            .unwrap_or(&self.name)
            == subject
    }
}

/// A value of the wrong type counts as unknown; the rest of the report stays valid.
fn known<'de, D: Deserializer<'de>, T: Default + DeserializeOwned>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(T::deserialize(Value::deserialize(deserializer)?).unwrap_or_default())
}

/// At most `MAX` elements of a list, without those that are not a `T`: a newer invcollect may have
/// more kinds.
fn list<'de, const MAX: usize, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let Value::Array(items) = Value::deserialize(deserializer)? else {
        return Ok(Vec::new());
    };
    Ok(items
        .into_iter()
        .take(MAX)
        .filter_map(|item| T::deserialize(item).ok())
        .collect())
}

/// A text of a machine in printable form.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.map(|text| shown(&text).into_owned()))
}

/// Cuts all texts and lists, so that no machine takes the space of others, and makes the texts
/// printable. (serde_json bounds the depth.)
fn bound(value: &mut Value) {
    match value {
        Value::String(text) => {
            if text.len() > TEXT_MAX {
                text.truncate(
                    (0..=TEXT_MAX)
                        .rev()
                        .find(|at| text.is_char_boundary(*at))
                        .unwrap_or(0),
                );
                text.push('…');
            }
            if let Cow::Owned(shown) = shown(text) {
                *text = shown;
            }
        }
        Value::Array(items) => {
            items.truncate(LIST_MAX);
            items.iter_mut().for_each(bound);
        }
        Value::Object(fields) => fields.values_mut().for_each(bound),
        _ => {}
    }
}

impl Snapshot {
    /// Parses the payload of a report; `None` without a section `host`.
    pub fn parse(payload: &[u8]) -> Option<Snapshot> {
        let mut document: Value = serde_json::from_slice(payload).ok()?;
        let host = document.get_mut("host")?;
        bound(host);
        Snapshot::deserialize(host.take()).ok()
    }

    /// The size of the file systems on its disks, and the used part. A file system that is mounted
    /// twice counts once, and the file systems of a ZFS pool share its space.
    pub fn disk_use(&self) -> Option<(u64, u64)> {
        let mut counted: std::collections::BTreeMap<&str, (u64, u64)> =
            std::collections::BTreeMap::new();
        for filesystem in &self.filesystems {
            let (Some(total), Some(used)) = (filesystem.total_bytes, filesystem.used_bytes) else {
                continue;
            };
            if total > FILESYSTEM_MAX_BYTES || used > total {
                continue;
            }
            let local = filesystem.source.starts_with("/dev/");
            if !local && filesystem.kind != "zfs" {
                continue; // on a server
            }
            let source = if local {
                &*filesystem.source
            } else {
                filesystem.source.split('/').next().unwrap_or_default()
            };
            let pool = counted.entry(source).or_default();
            *pool = if local {
                (total, used)
            } else {
                (pool.0.max(total), pool.1.saturating_add(used))
            };
        }
        let sum = |sum: (u64, u64), one: (u64, u64)| {
            (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1))
        };
        counted.into_values().reduce(sum)
    }

    /// The hardware interfaces: traffic over a bridge or a tap also passes one of these.
    pub fn hardware(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces
            .iter()
            .filter(|interface| interface.hardware)
    }

    /// The gateways of its default routes.
    pub fn gateways(&self) -> Vec<String> {
        let default = self
            .routes
            .iter()
            .filter(|route| matches!(&*route.destination, "0.0.0.0/0" | "::/0"));
        default.filter_map(|route| route.gateway.clone()).collect()
    }

    /// The speed of the fastest wired link.
    pub fn link_bits_per_second(&self) -> Option<u64> {
        let wired = self
            .hardware()
            .filter(|interface| !interface.wireless && interface.carrier == Some(true));
        wired
            .filter_map(|interface| interface.speed_bits_per_second)
            .max()
    }

    /// The used memory.
    pub fn memory_used_bytes(&self) -> Option<u64> {
        let Memory {
            usable_bytes,
            available_bytes,
            ..
        } = &self.memory;
        Some(
            usable_bytes
                .as_ref()?
                .saturating_sub(*available_bytes.as_ref()?),
        )
    }
}
