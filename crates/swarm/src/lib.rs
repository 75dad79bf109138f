//! The tracker's answers about its swarms: the progress of each host with each image. Belongs here:
//! the types that a tracker and its clients must agree on. Not: the
//! policy of introductions.

use std::net::IpAddr;

use campus::Role;
use manifest::InfoHash;
use serde::{Deserialize, Serialize};

/// The maximum length of an answer that a client reads.
pub const ANSWER_MAX_BYTES: u64 = 16 << 20;

/// The section `swarm`, which is also the tracker's answer at `/swarms`: the progress of each host
/// with each image, at one moment.
///
/// `seedctl report` reads a file of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Snapshot {
    /// The time, RFC 3339.
    pub at: String,
    /// Every torrent that the tracker knows.
    pub swarms: Vec<Swarm>,
}

/// One torrent of [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Swarm {
    /// Its infohash.
    pub infohash: InfoHash,
    /// The name of the base.
    pub name: String,
    /// Its generation.
    pub generation: u64,
    /// Its content: the image or its block map.
    pub what: Content,
    /// The length of the file.
    pub size_bytes: u64,
    /// The buildings with a host in it, by campus and name.
    pub buildings: Vec<SwarmBuilding>,
}

/// The content of a torrent.
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
    /// Its campus.
    pub campus: String,
    /// The building, by its name in campus.ini.
    pub building: String,
    /// The number of its hosts that have all of it.
    pub complete: u64,
    /// The number of its hosts that lack something.
    pub incomplete: u64,
    /// The hosts that may fetch from outside.
    pub gateways: Vec<IpAddr>,
    /// All of its hosts.
    pub hosts: Vec<SwarmHost>,
}

/// A host of [`SwarmBuilding`], as it announced itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SwarmHost {
    /// The address from which it announced.
    pub address: IpAddr,
    /// Its network in campus.ini.
    pub net: String,
    /// The room.
    pub room: String,
    /// The role of its network: `lab`, `servers`, `wireless`.
    pub role: Role,
    /// The bytes that it still lacks.
    pub left_bytes: u64,
    /// The bytes that its client received since it started; restarts at 0 with the client.
    pub downloaded_bytes: u64,
    /// The bytes that its client sent since it started.
    pub uploaded_bytes: u64,
    /// Whether it may fetch from outside.
    pub gateway: bool,
    /// The time of its first announce, RFC 3339.
    pub first_seen_at: String,
    /// The time of its last announce.
    pub last_seen_at: String,
    /// The time when it had all of it; absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_at: Option<String>,
}

/// The tracker's answer at `/building`: the progress of the asking host's building with one
/// torrent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Building {
    /// The building of the asking host, by its name in campus.ini.
    pub building: String,
    /// The role of the asking host's network; it is counted with the hosts of this role.
    pub role: Role,
    /// The number of them that have all of it.
    pub complete: u64,
    /// The number of them that lack something.
    pub incomplete: u64,
    /// Whether the asking host may fetch from outside.
    pub gateway: bool,
    /// The uplink budget of each gateway, an equal share of the building's; absent for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink_bytes_per_second: Option<u64>,
    /// The number of servers that have all of it.
    pub servers: u64,
    /// The announce interval of an incomplete host.
    pub interval_seconds: u64,
    /// Whether the asking host should announce itself at once, with new connections, because it
    /// starts or stops being a gateway.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub announce_again: bool,
}

/// The progress of a host between two announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The port on which its client listens.
    pub port: u16,
    /// The bytes that it still lacks.
    pub left: u64,
}

/// Why an announce is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It is not valid.
    Malformed(&'static str),
    /// It comes from a network that is not of this campus.
    Stranger,
    /// No manifest in the store has this infohash.
    UnknownTorrent,
    /// There are too many hosts.
    Full,
}

impl Refusal {
    /// The reason, in one line.
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::Malformed(reason) => reason,
            Refusal::Stranger => "this address is not in campus.ini",
            Refusal::UnknownTorrent => "no signed manifest has this info_hash",
            Refusal::Full => "too many hosts",
        }
    }
}
