//! Output: the sections `volume`, `released`, `discarded`, `restored`, `exported`, `imported`, `layout`,
//! `catalog`, `base` and `pruned`. Paths are relative to the root.

use std::fmt;
use std::time::SystemTime;

use jsonpipe::{Missing, timestamp};
use serde::Serialize;

use crate::backend::VolumeId;
use crate::carry::stream;
use crate::request::RestoreTo;

/// The section `volume`: the user's disk.
#[derive(Debug, Serialize)]
pub struct Volume<'a> {
    /// The user's full name, as it came in.
    pub user: &'a str,
    /// The user in paths: SHA3-224 of the name, in Base64Url, 38 characters.
    pub token: &'a str,
    /// The name of the base.
    pub base: &'a str,
    /// The kind of guest, from bases.ini.
    pub ostype: &'a str,
    /// The generation of the base.
    pub generation: u64,
    /// The copy-on-write mechanism: `qcow2` or `zfs`.
    pub backend: &'static str,
    /// The format of `path`: `qcow2` or `raw`.
    pub format: &'static str,
    /// The user's overlay, or the device of the volume.
    pub path: &'a str,
    /// The base's image, which an overlay reads through to; absent for a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing_path: Option<&'a str>,
    /// The format of `backing_path`: `qcow2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing_format: Option<&'static str>,
    /// The size of the guest's disk.
    pub virtual_bytes: u64,
    /// The whole room that the volume can come to need, or what is configured in its place.
    pub room_bytes: u64,
    /// Whether that room is held for it.
    pub reserved: bool,
    /// The volume's disk space, with what is held for it; 0 in a dry run that would create it.
    pub held_bytes: u64,
    /// What went so that it has its room (in a dry run: would go), in that order.
    pub evicted: &'a [Evicted],
    /// The user's volumes on earlier generations of the base that went (in a dry run: would go) for
    /// it, by generation.
    pub replaced: &'a [Evicted],
    /// Whether it ends with the session, and is not the user's volume.
    pub ephemeral: bool,
    /// What the user had it restored to (in a dry run: would).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoreTo>,
    /// When its restore point was taken; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_point_at: Option<String>,
    /// The keys that are not there, and why.
    pub missing: Vec<Missing>,
    /// Whether this call made it (in a dry run: would make it).
    pub created: bool,
    /// Whether this call made it or removed something: finding a volume changes nothing.
    pub changed: bool,
}

/// What goes of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gone {
    /// All of it.
    Volume,
    /// The room that was held for it, and nothing that is in it.
    Reservation,
    /// What a power cut left of a volume that was being made.
    Remains,
    /// What was written since its restore point was taken.
    Writes,
    /// The restore point of the volume of the user who logs in; its content stays.
    RestorePoint,
    /// An ephemeral volume whose session has ended.
    Ephemeral,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gone::Volume => "removing the volume",
            Gone::Reservation => "giving back the room of",
            Gone::Remains => "removing the remains of",
            Gone::Writes => "restoring",
            Gone::RestorePoint => "removing the restore point of",
            Gone::Ephemeral => "removing the ephemeral volume",
        })
    }
}

/// A volume that goes, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evicted {
    /// What goes.
    pub what: Gone,
    /// The user's token.
    pub token: String,
    /// The name of its base.
    pub base: String,
    /// The generation of its base.
    pub generation: u64,
    /// The time of its last login; absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_login_at: Option<String>,
    /// The room that becomes free.
    pub freed_bytes: u64,
}

impl Evicted {
    /// Of the volume `id`.
    pub fn of(
        what: Gone,
        id: &VolumeId,
        freed_bytes: u64,
        last_login: Option<SystemTime>,
    ) -> Evicted {
        Evicted {
            what,
            token: id.token.to_string(),
            base: id.base.clone(),
            generation: id.generation,
            last_login_at: last_login.map(timestamp::rfc3339),
            freed_bytes,
        }
    }
}

/// A volume that could not be evicted, in the event log.
#[derive(Clone, Debug, Serialize)]
pub struct NotEvicted {
    /// The volume. No room becomes free.
    #[serde(flatten)]
    pub volume: Evicted,
    /// The cause.
    pub reason: String,
}

/// The section `released`.
#[derive(Debug, Default, Serialize)]
pub struct Released {
    /// Whether any room was given back (in a dry run: would be).
    pub changed: bool,
    /// The volumes that gave their room back, by token, base and generation.
    pub volumes: Vec<ReleasedVolume>,
    /// Those that keep it, because a program has them open.
    pub in_use: Vec<ReleasedVolume>,
    /// Those that keep it, because of a failure.
    pub failed: Vec<NotReleased>,
}

/// A volume for which room was held.
#[derive(Debug, Serialize)]
pub struct ReleasedVolume {
    /// The user's token.
    pub token: String,
    /// The name of its base.
    pub base: String,
    /// The generation of its base.
    pub generation: u64,
    /// Whether it was an ephemeral one, which is gone.
    pub ephemeral: bool,
    /// The room that became free.
    pub freed_bytes: u64,
}

impl ReleasedVolume {
    /// Of the volume `id`.
    pub fn of(id: &VolumeId, freed_bytes: u64) -> ReleasedVolume {
        ReleasedVolume {
            token: id.token.to_string(),
            base: id.base.clone(),
            generation: id.generation,
            ephemeral: id.is_ephemeral,
            freed_bytes,
        }
    }
}

/// A volume that could not give its room back.
#[derive(Debug, Serialize)]
pub struct NotReleased {
    /// The user's token.
    pub token: String,
    /// The name of its base.
    pub base: String,
    /// The generation of its base.
    pub generation: u64,
    /// Whether it is an ephemeral one.
    pub ephemeral: bool,
    /// The cause.
    pub reason: String,
}

impl NotReleased {
    /// Of the volume `id`.
    pub fn of(id: &VolumeId, reason: String) -> NotReleased {
        NotReleased {
            token: id.token.to_string(),
            base: id.base.clone(),
            generation: id.generation,
            ephemeral: id.is_ephemeral,
            reason,
        }
    }
}

/// The section `layout`.
#[derive(Debug, Default, Serialize)]
pub struct Layout {
    /// Whether any dataset was made (in a dry run: would be).
    pub changed: bool,
    /// The datasets that were made.
    pub made: Vec<String>,
    /// What is not as it has to be, by dataset.
    pub wrong: Vec<Wrong>,
}

/// A dataset that is not as it has to be.
#[derive(Debug, Serialize)]
pub struct Wrong {
    /// Its name.
    pub dataset: String,
    /// What is wrong, and the way out.
    pub reason: String,
}

impl Wrong {
    /// Of a dataset.
    pub fn of(dataset: &str, reason: String) -> Wrong {
        Wrong {
            dataset: dataset.to_owned(),
            reason,
        }
    }
}

/// The section `discarded`.
#[derive(Debug, Serialize)]
pub struct Discarded<'a> {
    /// Whether anything was removed (in a dry run: would be).
    pub changed: bool,
    /// The user's full name, as it was given; absent where the token was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// The user's token.
    pub token: &'a str,
    /// The removed volumes, by base and generation.
    pub volumes: &'a [Evicted],
    /// Why others are not removed, or why a power cut may bring one back.
    pub failed: &'a [String],
}

/// The section `restored`.
#[derive(Debug, Serialize)]
pub struct Restored<'a> {
    /// Always true.
    pub changed: bool,
    /// The user's full name, as it was given.
    pub user: &'a str,
    /// The user's token.
    pub token: &'a str,
    /// The name of the base.
    pub base: &'a str,
    /// The generation of the base.
    pub generation: u64,
    /// What the volume contains now (in a dry run: would).
    pub to: RestoreTo,
    /// When the restore point was taken; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_point_at: Option<String>,
    /// What went so that it could be restored (in a dry run: would go), in that order.
    pub evicted: &'a [Evicted],
}

/// A volume that a stream carries.
#[derive(Clone, Debug, Serialize)]
pub struct Carried {
    /// The user's token.
    pub token: String,
    /// The name of its base.
    pub base: String,
    /// The generation of its base.
    pub generation: u64,
    /// The size of the guest's disk.
    pub virtual_bytes: u64,
    /// The part of the disk whose data is in the stream.
    pub data_bytes: u64,
    /// The part of the disk that reads as zeros by the stream.
    pub zero_bytes: u64,
    /// The length of the stream.
    pub stream_bytes: u64,
    /// The digest at its end, in hexadecimal: of all before it.
    pub sha256: String,
}

impl Carried {
    /// Of the volume `id`.
    pub fn of(id: &VolumeId, virtual_bytes: u64, carried: &stream::Carried) -> Carried {
        Carried {
            token: id.token.to_string(),
            base: id.base.clone(),
            generation: id.generation,
            virtual_bytes,
            data_bytes: carried.data_bytes,
            zero_bytes: carried.zero_bytes,
            stream_bytes: carried.stream_bytes,
            sha256: manifest::Hex(carried.sha256).to_string(),
        }
    }
}

/// The section `exported`.
#[derive(Debug, Serialize)]
pub struct Exported<'a> {
    /// Always true: a stream was written (in a dry run: would be).
    pub changed: bool,
    /// The user's full name, as it was given.
    pub user: &'a str,
    /// The volume.
    #[serde(flatten)]
    pub carried: &'a Carried,
}

/// The section `imported`.
#[derive(Debug, Serialize)]
pub struct Imported<'a> {
    /// Always true: a volume was made (in a dry run: would be).
    pub changed: bool,
    /// The user's full name, as it was given.
    pub user: &'a str,
    /// The volume.
    #[serde(flatten)]
    pub carried: &'a Carried,
    /// Whether the whole room that it can come to need is held for it.
    pub reserved: bool,
    /// Its disk space, with what is held for it; 0 in a dry run.
    pub held_bytes: u64,
    /// What went so that it has its room (in a dry run: would go), in that order.
    pub evicted: &'a [Evicted],
    /// The user's volume whose place it took (in a dry run: would take), if there was one.
    pub replaced: &'a [Evicted],
}

/// The section `catalog`: the bases and volumes of this machine.
#[derive(Debug, Serialize)]
pub struct Catalog {
    /// Always false: listing changes nothing.
    pub changed: bool,
    /// The bases of bases.ini, by name.
    pub bases: Vec<Base>,
    /// The volumes whose base is not in bases.ini, by token, base and generation.
    pub orphans: Vec<ListedVolume>,
    /// The keys that are not known, and why.
    pub missing: Vec<Missing>,
}

impl Catalog {
    /// Whether no volume is listed.
    pub fn is_without_volumes(&self) -> bool {
        self.orphans.is_empty() && self.bases.iter().all(|base| base.volumes.is_empty())
    }
}

/// A base and the volumes on it.
#[derive(Debug, Serialize)]
pub struct Base {
    /// Its name in paths and documents.
    pub name: String,
    /// Its title.
    pub title: String,
    /// The kind of guest.
    pub ostype: String,
    /// Whether it is used when the user chooses none.
    pub default: bool,
    /// The generation that new sessions start from.
    pub generation: u64,
    /// The format of `path`: `qcow2`.
    pub format: &'static str,
    /// The base's image.
    pub path: String,
    /// The size of the guest's disk; absent when the image is missing or damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_bytes: Option<u64>,
    /// Its other generations in the store: older ones waiting to be pruned, newer ones waiting to
    /// be installed.
    pub other_generations: Vec<OtherGeneration>,
    /// The volumes on any generation of it, by token and generation.
    pub volumes: Vec<ListedVolume>,
}

/// A generation in the store that is not the current one.
#[derive(Debug, Serialize)]
pub struct OtherGeneration {
    /// The generation.
    pub generation: u64,
    /// The disk space of its image and the files beside it.
    pub held_bytes: u64,
}

/// A user's volume, as found on the disk.
#[derive(Debug, Serialize)]
pub struct ListedVolume {
    /// The user's token.
    pub token: String,
    /// The name of its base.
    pub base: String,
    /// The generation of its base.
    pub generation: u64,
    /// Whether it ends with its session.
    pub ephemeral: bool,
    /// The overlay.
    pub path: String,
    /// The image that it reads through to, from its own header; absent when that cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing_path: Option<String>,
    /// Its disk space, with what is held for it.
    pub held_bytes: u64,
    /// The part of it that is held and not written yet.
    pub reserved_bytes: u64,
    /// Whether a program has it open, or it is promised to a session that has not ended.
    pub in_use: bool,
    /// The size of the guest's disk; absent when the header cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_bytes: Option<u64>,
    /// When its restore point was taken; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_point_at: Option<String>,
    /// The time of its last login, or of the last write after it; absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_login_at: Option<String>,
}

/// The section `checked`.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// Always false: checking changes nothing.
    pub changed: bool,
    /// All that is wrong, by path.
    pub faults: Vec<Fault>,
}

/// Something that is wrong with bases or volumes.
#[derive(Debug, Serialize)]
pub struct Fault {
    /// What it is, a word of the page.
    pub kind: &'static str,
    /// Where it is, relative to the root, or the name of a dataset.
    pub path: String,
    /// The cause, in words.
    pub what: String,
    /// The way out.
    pub way_out: String,
}

/// The section `repaired`.
#[derive(Debug, Serialize)]
pub struct Repaired {
    /// Whether anything was repaired (in a dry run: would be).
    pub changed: bool,
    /// The faults that were repaired (in a dry run: would be), by path.
    pub repaired: Vec<Fault>,
    /// Those that are left.
    pub left: Vec<Fault>,
}

/// The section `base`: the installed image.
#[derive(Debug, Serialize)]
pub struct Installed {
    /// Whether anything was changed (in a dry run: would be); false when this generation was the
    /// current one and nothing was left to prune.
    pub changed: bool,
    /// The name of the base.
    pub name: String,
    /// The generation that new sessions now start from.
    pub generation: u64,
    /// Its image.
    pub path: String,
    /// The previous current generation; absent when there was none, or when it is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<u64>,
    /// The result of the pruning that follows.
    #[serde(flatten)]
    pub pruned: Pruned,
}

/// The pruned generations of all bases; the section `pruned` has `changed` in front.
#[derive(Debug, Default, Serialize)]
pub struct Pruned {
    /// The removed generations (in a dry run: those that would be), by base and generation.
    pub removed: Vec<Removed>,
    /// The retained generations that are not current, by base and generation, with reasons.
    pub retained: Vec<Retained>,
    /// The disk space that was freed (in a dry run: would be).
    pub freed_bytes: u64,
}

impl Pruned {
    /// Whether anything was removed, even if only a part of a generation.
    pub fn changed(&self) -> bool {
        !self.removed.is_empty() || self.freed_bytes > 0
    }
}

/// A removed generation, including its users' volumes.
#[derive(Debug, Serialize)]
pub struct Removed {
    /// The name of the base.
    pub base: String,
    /// The generation.
    pub generation: u64,
    /// The number of users' volumes removed with it.
    pub volumes: u64,
    /// The disk space that it had.
    pub freed_bytes: u64,
    /// The target, if its image was a link; it stays and is now unused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linked_path: Option<String>,
}

/// A retained generation that is not current.
#[derive(Debug, Serialize)]
pub struct Retained {
    /// The name of the base.
    pub base: String,
    /// The generation.
    pub generation: u64,
    /// The number of users' volumes on it.
    pub volumes: u64,
    /// The reason, in words.
    pub reason: String,
}

/// The volumes that have been idle for longer than is configured.
#[derive(Debug, Default)]
pub struct Idle {
    /// Those that went (in a dry run: would go), the least recently used first.
    pub volumes: Vec<Evicted>,
    /// Why the others, if there are any, stay; `None` when all idle ones went that nothing uses.
    pub stopped: Option<String>,
    /// Whether that is a failure.
    pub failed: bool,
}

/// The section `pruned`.
#[derive(Debug, Serialize)]
pub struct PrunedSection {
    /// Whether anything was removed (in a dry run: would be).
    pub changed: bool,
    /// The generations.
    #[serde(flatten)]
    pub pruned: Pruned,
    /// The volumes that were idle, the least recently used first.
    pub idle: Vec<Evicted>,
    /// Why there may be more of them; absent when there are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postponed: Option<String>,
}

impl PrunedSection {
    /// Of both kinds of removals; `freed_bytes` is their sum.
    pub fn of(pruned: Pruned, idle: Idle) -> PrunedSection {
        let of_idle: u64 = idle.volumes.iter().map(|gone| gone.freed_bytes).sum();
        PrunedSection {
            changed: pruned.changed() || !idle.volumes.is_empty(),
            pruned: Pruned {
                freed_bytes: pruned.freed_bytes + of_idle,
                ..pruned
            },
            idle: idle.volumes,
            postponed: idle.stopped,
        }
    }
}
