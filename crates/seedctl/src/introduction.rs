//! The tracker's answer about this host's building, and whether the tracker is reachable.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use jsonpipe::Exit;
use manifest::InfoHash;
use swarm::{ANSWER_MAX_BYTES, Building, Progress, Refusal};
use ureq::http::{StatusCode, Uri};

/// The tracker answers in a millisecond, but a building's uplink may be full.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to one of the trackers.
#[derive(Debug)]
pub struct Reached {
    /// This host's address towards it.
    pub own: IpAddr,
    /// Its answer; `None` from a foreign tracker, which has no such answer.
    pub building: Option<Building>,
}

/// Why no tracker answers.
#[derive(Debug)]
pub enum Failure {
    /// It cannot be reached.
    Away(io::Error),
    /// It does not serve this host or this torrent, and will not before its server is reconfigured.
    Refused(Refused),
}

/// A refusal by a tracker of ours.
#[derive(Debug)]
pub struct Refused {
    tracker: String,
    own: IpAddr,
    refusal: Refusal,
}

impl Refused {
    /// Status 78 when the tracker's map of the campus lacks this host, 69 when the tracker lacks
    /// the image.
    pub fn error(&self, doing: &str) -> anyhow::Error {
        let exit = if self.refusal == Refusal::Stranger {
            Exit::Config
        } else {
            Exit::Unavailable
        };
        exit.error(format_args!("{doing}: {self}"))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused {
            tracker,
            own,
            refusal,
        } = self;
        write!(f, "asking the tracker {tracker}: ")?;
        match refusal {
            Refusal::Stranger => write!(
                f,
                "this machine's address, {own}, is not in campus.ini there; add its network on that server and restart the tracker"
            ),
            _ => write!(
                f,
                "no signed manifest of this image is in the store there; publish it on that server"
            ),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Away(error) => error.fmt(f),
            Failure::Refused(refused) => refused.fmt(f),
        }
    }
}

/// Asks the trackers in their order, and reports this host's progress; a failure is the last
/// tracker's.
pub fn ask(
    trackers: &[Uri],
    infohash: InfoHash,
    progress: Option<Progress>,
) -> Result<Reached, Failure> {
    let mut failed = Failure::Away(io::ErrorKind::AddrNotAvailable.into());
    for tracker in trackers {
        let own = match reach(tracker) {
            Ok(own) => own,
            Err(error) => {
                failed = Failure::Away(error);
                continue;
            }
        };
        match building(tracker, infohash, progress) {
            Ok(building) => return Ok(Reached { own, building }),
            Err(refusal) => {
                failed = Failure::Refused(Refused {
                    tracker: http_client::public(tracker),
                    own: own.to_canonical(),
                    refusal,
                })
            }
        }
    }
    Err(failed)
}

/// This host's address towards a reachable tracker: aria2's first announce must not be refused, or
/// it waits two minutes for the next.
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

/// A foreign tracker has no such page, and nothing is known. Ours gives the reason of a refusal.
fn building(
    tracker: &Uri,
    infohash: InfoHash,
    progress: Option<Progress>,
) -> Result<Option<Building>, Refusal> {
    let Some(authority) = tracker.authority() else {
        return Ok(None);
    };
    let mut url = format!("http://{authority}/building?info_hash={infohash}");
    if let Some(Progress { port, left }) = progress {
        url += &format!("&port={port}&left={left}");
    }
    let Ok(mut response) = http_client::agent(TIMEOUT).get(&url).call() else {
        return Ok(None);
    };
    let status = response.status();
    let body = response.body_mut().with_config().limit(ANSWER_MAX_BYTES);
    if status.is_success() {
        return Ok(body.read_json().ok());
    }
    let said = body.read_to_string().unwrap_or_default();
    let ours = [
        (StatusCode::FORBIDDEN, Refusal::Stranger),
        (StatusCode::NOT_FOUND, Refusal::UnknownTorrent),
    ];
    let refusal = ours
        .into_iter()
        .find(|(code, refusal)| status == *code && said.trim_end() == refusal.reason());
    refusal.map_or(Ok(None), |(_, refusal)| Err(refusal))
}
