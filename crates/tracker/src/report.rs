//! Output at the end of the tracker.

use std::net::SocketAddr;

use serde::Serialize;

/// The section `tracker`: the tracker's work between its start and its end.
#[derive(Debug, Serialize)]
pub struct Tracker {
    /// Always false: the tracker stores nothing.
    pub changed: bool,
    /// The address it listened on.
    pub listen: SocketAddr,
    /// The time of its start, RFC 3339.
    pub started_at: String,
    /// The time of the signal that ended it.
    pub ended_at: String,
    /// The number of announces answered with peers.
    pub announces: u64,
    /// The number of refused announces.
    pub refused: u64,
    /// The number of torrents known at the end.
    pub torrents: u64,
    /// The number of hosts known at the end, in all torrents.
    pub peers: u64,
}
