//! Output, at the end.

use std::net::SocketAddr;

use serde::Serialize;

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
