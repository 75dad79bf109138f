//! Output: the sections `transfer` and `transfers`.

use jsonpipe::Missing;
use manifest::{Digest, InfoHash};
use serde::Serialize;
use swarm::{Building, Content};

/// The section `transfer`: a complete image, and the origin of its bytes. The path is relative to
/// the root.
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
    /// The digest of the image.
    pub sha256: Digest,
    /// The length of the image, which is the sum of the bytes from the building, from outside, from
    /// old images and of zeros.
    pub size_bytes: u64,
    /// `complete`: it is in its place, whole and verified, and is offered to others. A dry run may
    /// report `absent`.
    pub state: &'static str,
    /// The bytes from hosts of this building.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building_bytes: Option<u64>,
    /// The bytes from servers and other buildings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside_bytes: Option<u64>,
    /// The bytes that were on this machine already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused_bytes: Option<u64>,
    /// The bytes that are zeros, and came from nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_bytes: Option<u64>,
    /// Whether it was a gateway at some time; absent when the tracker did not report that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<bool>,
    /// Whether it reached only servers; absent when it reached no peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_only: Option<bool>,
    /// The start of this call, if it fetched something, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// The time when the image was in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete_at: Option<String>,
    /// Whether this call changed anything (in a dry run: would change).
    pub changed: bool,
    /// The keys that are not known, and why.
    pub missing: Vec<Missing>,
}

/// The section `transfers`: aria2's work on this host.
#[derive(Clone, Debug, Serialize)]
pub struct Transfers {
    /// Whether this call changed anything; always false for `status`.
    pub changed: bool,
    /// aria2's version; absent when it is not running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aria2: Option<String>,
    /// Every torrent, by name and generation.
    pub transfers: Vec<Listed>,
    /// The keys that are not known, and why.
    pub missing: Vec<Missing>,
}

/// A torrent of [`Transfers`].
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// The infohash; absent for a foreign torrent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infohash: Option<InfoHash>,
    /// The name of the base; absent where neither the store nor the account of a transfer contains
    /// it.
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
    /// The length of the file.
    pub size_bytes: u64,
    /// The bytes of it that are present.
    pub present_bytes: u64,
    /// The bytes sent to others since aria2 has had this torrent.
    pub uploaded_bytes: u64,
    /// The download rate, in bytes per second.
    pub download_bytes_per_second: u64,
    /// The upload rate, in bytes per second.
    pub upload_bytes_per_second: u64,
    /// The hosts that aria2 is connected to.
    pub peers: Peers,
    /// The bytes from hosts of this building, for an image that `seedctl get` fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building_bytes: Option<u64>,
    /// The bytes from servers and other buildings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside_bytes: Option<u64>,
    /// The bytes that were on this machine already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused_bytes: Option<u64>,
    /// The bytes that are zeros, and came from nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_bytes: Option<u64>,
    /// Whether it reached only servers; absent when it reached no peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_only: Option<bool>,
    /// The tracker's counts of this building; absent without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building: Option<Building>,
    /// Conditions that need attention, in words.
    pub warnings: Vec<String>,
}

/// The numbers of peers of [`Listed`], by their place.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Peers {
    /// Hosts of this building.
    pub building: u64,
    /// Hosts of other and of unknown buildings.
    pub outside: u64,
    /// Servers.
    pub server: u64,
}
