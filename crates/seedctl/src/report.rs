//! Output: the sections `transfer` and `transfers`.

use jsonpipe::Missing;
use manifest::{Digest, InfoHash};
use serde::Serialize;
use swarm::{Building, Content};

/// The section `transfer`: an image that arrived, and where its bytes came from. The path is as
/// seen below the root.
#[derive(Clone, Debug, Serialize)]
pub struct Transfer {
    /// The torrent of the image.
    pub infohash: InfoHash,
    /// The torrent of its block map.
    pub blocks_infohash: InfoHash,
    /// The name of the base.
    pub name: String,
    /// Its generation.
    pub generation: u64,
    /// The image.
    pub path: String,
    /// Of the image.
    pub sha256: Digest,
    /// How long the image is; what came from the building, from outside, from old images and as
    /// zeros is as much together.
    pub size_bytes: u64,
    /// `complete`: it is in its place, whole and verified, and is offered to others. In a dry run
    /// it may be `absent`.
    pub state: &'static str,
    /// What came from hosts of this building.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building_bytes: Option<u64>,
    /// What came from servers and other buildings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside_bytes: Option<u64>,
    /// What was on this machine already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused_bytes: Option<u64>,
    /// What is zeros, and came from nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_bytes: Option<u64>,
    /// Whether it fetched for its building at some time; absent where the tracker did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<bool>,
    /// Whether it never reached anybody but servers; absent when it reached nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_only: Option<bool>,
    /// When this call began, where it fetched something, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When the image was in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete_at: Option<String>,
    /// Whether this call changed anything (in a dry run: would change).
    pub changed: bool,
    /// What is not known, and why.
    pub missing: Vec<Missing>,
}

/// The section `transfers`: what aria2 does on this host.
#[derive(Clone, Debug, Serialize)]
pub struct Transfers {
    /// Whether this call changed anything; looking does not.
    pub changed: bool,
    /// aria2's version; absent when it is not running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aria2: Option<String>,
    /// Every torrent, by name and generation.
    pub transfers: Vec<Listed>,
    /// What is not known, and why.
    pub missing: Vec<Missing>,
}

/// A torrent of [`Transfers`].
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// Which torrent; absent for one that is none of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infohash: Option<InfoHash>,
    /// The name of the base; absent where neither the store nor the account of a transfer knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The image or its block map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<Content>,
    /// `checking`, `getting`, `complete`, `waiting`, `failed` or `stopped`.
    pub state: &'static str,
    /// Why it failed, in aria2's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long the file is.
    pub size_bytes: u64,
    /// How much of it is there.
    pub present_bytes: u64,
    /// What was sent to others since aria2 has this torrent.
    pub uploaded_bytes: u64,
    /// What arrives, in bytes a second.
    pub download_bytes_per_second: u64,
    /// What is sent, in bytes a second.
    pub upload_bytes_per_second: u64,
    /// The hosts that aria2 is connected to.
    pub peers: Peers,
    /// What came from hosts of this building, of an image that `seedctl get` fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building_bytes: Option<u64>,
    /// What came from servers and other buildings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside_bytes: Option<u64>,
    /// What was on this machine already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused_bytes: Option<u64>,
    /// What is zeros, and came from nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_bytes: Option<u64>,
    /// Whether it never reached anybody but servers; absent when it reached nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_only: Option<bool>,
    /// What the tracker says of this building; absent when it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building: Option<Building>,
    /// What a person should look at, in words.
    pub warnings: Vec<String>,
}

/// The peers of [`Listed`], by where they are.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Peers {
    /// Hosts of this building.
    pub building: u64,
    /// Hosts of other buildings, and of none that is known.
    pub outside: u64,
    /// Servers.
    pub server: u64,
}
