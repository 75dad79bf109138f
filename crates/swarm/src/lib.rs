//! The tracker's answers about its swarms: which host has how much of which image. Belongs here:
//! the types that a tracker and its clients must agree on, and how they ask. Not: the policy of
//! introductions.

pub mod http;

use std::net::IpAddr;

use campus::Role;
use manifest::InfoHash;
use serde::{Deserialize, Serialize};

/// The section `swarm`, which is also what the tracker answers at `/swarms`: who has how much of
/// which image, at one moment.
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
    /// The building, by its name in campus.ini.
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
    /// What its client received since it started; it counts from 0 again when the client is started
    /// again.
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

/// What the tracker answers at `/building`: how far the building of the asking host is, with one
/// torrent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Building {
    /// The building of the asking host, by its name in campus.ini.
    pub building: String,
    /// What the network of the asking host is for; it is counted with the hosts of such networks.
    pub role: Role,
    /// How many of them have all of it.
    pub complete: u64,
    /// How many do not yet.
    pub incomplete: u64,
    /// Whether the asking host may fetch from outside.
    pub gateway: bool,
    /// What each gateway of the building may fetch from outside, its share of the budget; absent
    /// for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink_bytes_per_second: Option<u64>,
    /// How many servers have all of it.
    pub servers: u64,
    /// How often a host that lacks something is to announce itself.
    pub interval_seconds: u64,
    /// Whether the asking host is to announce itself at once, with new connections: it is to fetch
    /// from outside, or no longer to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub announce_again: bool,
}

/// How far a host is, told between two announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where its client listens.
    pub port: u16,
    /// What it still lacks, in bytes.
    pub left: u64,
}

/// Why an announce is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It is none.
    Malformed(&'static str),
    /// It comes from a network that is not of this campus.
    Stranger,
    /// No manifest in the store has this infohash.
    UnknownTorrent,
    /// There are too many hosts.
    Full,
}

impl Refusal {
    /// For people, in one line.
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::Malformed(reason) => reason,
            Refusal::Stranger => "this address is not in campus.ini",
            Refusal::UnknownTorrent => "no signed manifest has this info_hash",
            Refusal::Full => "too many hosts",
        }
    }
}
