//! What the tracker says to this host about its own building, and whether it is there at all.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use manifest::InfoHash;
use ureq::http::Uri;

use crate::http;
use crate::report::Building;

/// The tracker answers in a millisecond; a building's uplink may be full.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What one of the trackers is connected to by.
#[derive(Debug)]
pub struct Reached {
    /// The own address towards it.
    pub own: IpAddr,
    /// What it says; `None` from a tracker that cannot tell.
    pub building: Option<Building>,
}

/// Asks the trackers in their order; the error is the last one's.
pub fn ask(trackers: &[Uri], infohash: InfoHash) -> io::Result<Reached> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for tracker in trackers {
        match reach(tracker) {
            Ok(own) => return Ok(Reached { own, building: building(tracker, infohash) }),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The own address towards a tracker that lets itself be connected to: aria2's first announce must not be refused, or it
/// waits two minutes for the next.
fn reach(tracker: &Uri) -> io::Result<IpAddr> {
    let host = tracker.host().unwrap_or_default().trim_matches(['[', ']']);
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, tracker.port_u16().unwrap_or(80)).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT).and_then(|stream| stream.local_addr()) {
            Ok(own) => return Ok(SocketAddr::ip(&own)),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// A tracker that is none of ours has no such page, and then nothing is known.
fn building(tracker: &Uri, infohash: InfoHash) -> Option<Building> {
    let url = format!("http://{}/building?info_hash={infohash}", tracker.authority()?);
    let mut response = http::agent(TIMEOUT).get(&url).call().ok()?;
    if !response.status().is_success() {
        return None;
    }
    response.body_mut().with_config().limit(http::ANSWER_MAX_BYTES).read_json().ok()
}
