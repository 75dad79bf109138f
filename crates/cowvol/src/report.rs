//! What goes out: the sections `volume` and `catalog`. Paths are as seen below the root.

use jsonpipe::Missing;
use serde::Serialize;

/// The section `volume`: the user's disk.
#[derive(Debug, Serialize)]
pub struct Volume<'a> {
    /// The user's full name, as it came in.
    pub user: &'a str,
    /// What stands for the user in paths: SHA3-224 of the name in lower case, in Base64Url, 38 characters.
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
    /// The volumes made on any generation of it, by token and generation.
    pub volumes: Vec<ListedVolume>,
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
