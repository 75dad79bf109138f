//! Output: the sections `volume`, `catalog`, `base` and `pruned`. Paths are as seen below the root.

use jsonpipe::Missing;
use serde::Serialize;

/// The section `volume`: the user's disk.
#[derive(Debug, Serialize)]
pub struct Volume<'a> {
    /// The user's full name, as it came in.
    pub user: &'a str,
    /// What stands for the user in paths: SHA3-224 of the name, in Base64Url, 38 characters.
    pub token: &'a str,
    /// The name of the base.
    pub base: &'a str,
    /// The kind of guest, from bases.ini.
    pub ostype: &'a str,
    /// The generation of the base.
    pub generation: u64,
    /// What does the copy on write: `qcow2`.
    pub backend: &'static str,
    /// The format of `path`: `qcow2`.
    pub format: &'static str,
    /// The user's overlay.
    pub path: &'a str,
    /// The base's image, which the overlay reads through to.
    pub backing_path: &'a str,
    /// The format of `backing_path`: `qcow2`.
    pub backing_format: &'static str,
    /// The size of the disk as the guest sees it.
    pub virtual_bytes: u64,
    /// What the overlay holds on the disk; 0 in a dry run that would create it.
    pub held_bytes: u64,
    /// Whether this call made it (in a dry run: would make it).
    pub created: bool,
    /// The same: finding a volume changes nothing.
    pub changed: bool,
}

/// The section `catalog`: what is on this machine.
#[derive(Debug, Serialize)]
pub struct Catalog {
    /// Always false: listing changes nothing.
    pub changed: bool,
    /// The bases of bases.ini, by name.
    pub bases: Vec<Base>,
    /// The volumes whose base is not in bases.ini, by token, base and generation.
    pub orphans: Vec<ListedVolume>,
    /// What is not known, and why.
    pub missing: Vec<Missing>,
}

/// A base and the volumes on it.
#[derive(Debug, Serialize)]
pub struct Base {
    /// Its name in paths and documents.
    pub name: String,
    /// The name for people.
    pub title: String,
    /// The kind of guest.
    pub ostype: String,
    /// Whether it is taken where nothing is chosen.
    pub default: bool,
    /// The generation that new sessions start from.
    pub generation: u64,
    /// The format of `path`: `qcow2`.
    pub format: &'static str,
    /// The base's image.
    pub path: String,
    /// The size of the disk as the guest sees it; absent when the image is not there or not right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_bytes: Option<u64>,
    /// What else the store has of it, by generation: older ones that wait to be pruned, newer ones
    /// that wait to be installed.
    pub other_generations: Vec<OtherGeneration>,
    /// The volumes made on any generation of it, by token and generation.
    pub volumes: Vec<ListedVolume>,
}

/// A generation in the store that is not the current one.
#[derive(Debug, Serialize)]
pub struct OtherGeneration {
    /// Which.
    pub generation: u64,
    /// What its image and the files beside it hold on the disk.
    pub held_bytes: u64,
}

/// A user's volume, as found on the disk.
#[derive(Debug, Serialize)]
pub struct ListedVolume {
    /// Whose it is.
    pub token: String,
    /// The name of the base that it was made on.
    pub base: String,
    /// The generation of the base that it was made on.
    pub generation: u64,
    /// The overlay.
    pub path: String,
    /// The image that it reads through to, by its own header; absent when that cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing_path: Option<String>,
    /// What it holds on the disk.
    pub held_bytes: u64,
    /// The size of the disk as the guest sees it; absent when its header cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_bytes: Option<u64>,
    /// When it was last handed out or written.
    pub last_used_at: String,
}

/// The section `base`: the image that was installed.
#[derive(Debug, Serialize)]
pub struct Installed {
    /// Whether anything was changed (in a dry run: would be); false when this generation was the
    /// current one and nothing was left to prune.
    pub changed: bool,
    /// The name of the base.
    pub name: String,
    /// The generation that new sessions start from now.
    pub generation: u64,
    /// Its image.
    pub path: String,
    /// The generation that was current before; absent when there was none, or when it is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<u64>,
    /// What was pruned afterwards.
    #[serde(flatten)]
    pub pruned: Pruned,
}

/// What was pruned, of any base; the section `pruned` with `changed` in front.
#[derive(Debug, Default, Serialize)]
pub struct Pruned {
    /// The generations that are gone (in a dry run: would be), by base and generation.
    pub removed: Vec<Removed>,
    /// The generations that are there and not current, by base and generation, and why.
    pub retained: Vec<Retained>,
    /// The room on the disk that this made (in a dry run: would make).
    pub freed_bytes: u64,
}

impl Pruned {
    /// Whether anything was removed, though it may not have been all of a generation.
    pub fn changed(&self) -> bool {
        !self.removed.is_empty() || self.freed_bytes > 0
    }
}

/// A generation that is gone, its users' volumes included.
#[derive(Debug, Serialize)]
pub struct Removed {
    /// The name of the base.
    pub base: String,
    /// The generation.
    pub generation: u64,
    /// How many users' volumes went with it.
    pub volumes: u64,
    /// The room on the disk that it held.
    pub freed_bytes: u64,
    /// Where its image was a link: the file that it led to, which stays and is nobody's now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linked_path: Option<String>,
}

/// A generation that stays although it is not current.
#[derive(Debug, Serialize)]
pub struct Retained {
    /// The name of the base.
    pub base: String,
    /// The generation.
    pub generation: u64,
    /// How many users' volumes are on it.
    pub volumes: u64,
    /// Why, in words.
    pub reason: String,
}

/// The section `pruned`.
#[derive(Debug, Serialize)]
pub struct PrunedSection {
    /// Whether anything was removed (in a dry run: would be).
    pub changed: bool,
    /// What.
    #[serde(flatten)]
    pub pruned: Pruned,
}
