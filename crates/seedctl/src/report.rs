//! What goes out: the sections `transfer`, `swarm` and `campaign`, and what the tracker answers.

pub mod campaign;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use jsonpipe::Missing;
use manifest::{Digest, InfoHash};
use serde::{Deserialize, Serialize};

use campus::Role;

/// The section `transfer`: an image that arrived, and where its bytes came from. The path is as seen below the root.
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
    /// How long the image is; what came from the building, from outside, from old images and as zeros is as much together.
    pub size_bytes: u64,
    /// `complete`: it is in its place, whole and verified, and is offered to others. In a dry run it may be `absent`.
    pub state: &'static str,
    /// What came from hosts of the own building.
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
    /// What came from hosts of the own building, of an image that `seedctl get` fetched.
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
    /// What the tracker says of the own building; absent when it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building: Option<Building>,
    /// What a person should look at, in words.
    pub warnings: Vec<String>,
}

/// The peers of [`Listed`], by where they are.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Peers {
    /// Hosts of the own building.
    pub building: u64,
    /// Hosts of other buildings, and of none that is known.
    pub outside: u64,
    /// Servers.
    pub server: u64,
}

/// The section `swarm`, which is also what the tracker answers at `/swarms`: who has how much of which image, at one moment.
///
/// It is read again, by `seedctl report` from a file of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Snapshot {
    /// When, RFC 3339.
    pub at: String,
    /// Every torrent that the tracker knows.
    pub swarms: Vec<Swarm>,
}

/// One torrent of [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Swarm {
    /// Which torrent.
    pub infohash: InfoHash,
    /// The name of the base.
    pub name: String,
    /// Its generation.
    pub generation: u64,
    /// Whether it is the image, or its block map.
    pub what: Content,
    /// How long the file is.
    pub size_bytes: u64,
    /// The buildings that have a host in it, by campus and name.
    pub buildings: Vec<SwarmBuilding>,
}

/// What a torrent carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// The image.
    Image,
    /// Its block map.
    Blocks,
}

/// A building of [`Swarm`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SwarmBuilding {
    /// The campus that it stands on.
    pub campus: String,
    /// Its name.
    pub building: String,
    /// How many of its hosts have all of it.
    pub complete: u64,
    /// How many do not yet.
    pub incomplete: u64,
    /// The hosts that may fetch from outside.
    pub gateways: Vec<IpAddr>,
    /// All of its hosts.
    pub hosts: Vec<SwarmHost>,
}

/// A host of [`SwarmBuilding`], as it announced itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SwarmHost {
    /// From where it announced.
    pub address: IpAddr,
    /// The network of campus.ini that it is in.
    pub net: String,
    /// The room.
    pub room: String,
    /// What the network is for: `lab`, `servers`, `wireless`.
    pub role: Role,
    /// What it still lacks.
    pub left_bytes: u64,
    /// What its client received since it started; it counts from 0 again when the client is started again.
    pub downloaded_bytes: u64,
    /// What its client sent since it started.
    pub uploaded_bytes: u64,
    /// Whether it may fetch from outside.
    pub gateway: bool,
    /// When it announced itself first, RFC 3339.
    pub first_seen_at: String,
    /// When last.
    pub last_seen_at: String,
    /// When it had all of it; absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_at: Option<String>,
}

/// What the tracker answers at `/building`: how far the building of the asking host is, with one torrent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Building {
    /// Its name.
    pub building: String,
    /// What the network of the asking host is for; it is counted with the hosts of such networks.
    pub role: Role,
    /// How many of them have all of it.
    pub complete: u64,
    /// How many do not yet.
    pub incomplete: u64,
    /// Whether the asking host may fetch from outside.
    pub gateway: bool,
    /// What each gateway of the building may fetch from outside, its share of the budget; absent for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink_bytes_per_second: Option<u64>,
    /// How many servers have all of it.
    pub servers: u64,
    /// How often a host that lacks something is to announce itself.
    pub interval_seconds: u64,
    /// Whether the asking host is to announce itself at once, with new connections: it is to fetch from outside, or no longer to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub announce_again: bool,
}

/// The section `tracker`: what a tracker did between its start and its end.
#[derive(Debug, Serialize)]
pub struct Tracker {
    /// Always false: it keeps nothing.
    pub changed: bool,
    /// Where it listened.
    pub listen: SocketAddr,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// When it was told to end.
    pub ended_at: String,
    /// How many announces it answered with peers.
    pub announces: u64,
    /// How many it refused.
    pub refused: u64,
    /// How many torrents it knew at the end.
    pub torrents: u64,
    /// How many hosts it knew at the end, in all torrents.
    pub peers: u64,
}

/// The section `hosts`: machines of the campus, from hosts.ini.
#[derive(Debug, Serialize)]
pub struct Hosts {
    /// Always false: listing changes nothing.
    pub changed: bool,
    /// In the order of the file.
    pub hosts: Vec<Host>,
}

/// A machine of [`Hosts`].
#[derive(Debug, Serialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its Ethernet address, in lower case.
    pub mac: String,
    /// Its address.
    pub address: IpAddr,
    /// The building that it stands in.
    pub building: String,
    /// The room.
    pub room: String,
    /// The network of campus.ini that it is in; absent when it is in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
    /// The campus of that network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campus: Option<String>,
    /// The addresses of its Ethernet, which may hold several networks of campus.ini.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ethernet: Option<String>,
    /// The address by which all of that Ethernet is spoken to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<Ipv4Addr>,
    /// What its firmware calls it; absent when the file does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}
