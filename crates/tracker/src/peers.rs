//! The known hosts of one torrent: their progress, their place, and the order in which they become
//! gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use campus::{Net, Role};

use crate::announce::{Announce, Event};
use crate::pace::Pace;
use crate::policy::{Place, Policy};

/// The maximum number of clients of one address in one swarm. One more replaces the one that was
/// silent longest.
pub const PORTS_MAX: usize = 4;
/// The maximum number of hosts of one swarm: a whole campus twice.
pub const PEERS_MAX: usize = 20_000;

/// A host in a swarm. Times are since the tracker started.
#[derive(Debug)]
pub struct Peer {
    /// Its network.
    pub net: Arc<Net>,
    /// The bytes it lacks.
    pub left: u64,
    /// The bytes it received.
    pub downloaded: u64,
    /// The bytes it sent.
    pub uploaded: u64,
    /// Its first announce.
    pub first_seen: Duration,
    /// Its last.
    pub last_seen: Duration,
    /// The time it completed, if it lacked something before.
    pub complete_at: Option<Duration>,
    /// The time since which it learns peers outside of its place.
    pub elected_at: Option<Duration>,
    /// The last time it received something; initially, its arrival.
    pub moved_at: Duration,
    pub expires_at: Duration,
    /// Its recent pace.
    pub pace: Pace,
    /// Since when no other host of its building had more at its reports: its bytes came from
    /// outside.
    pub leads_since: Option<Duration>,
    /// Whether it was tried as a gateway, or replaced as one: others are tried first.
    pub was_tried: bool,
    /// Whether it has stopped fetching from outside: it keeps the peers it knows there until it
    /// restarts.
    pub lets_go: bool,
    pub order: Order,
    /// Its index in the list of its room.
    pub seat: usize,
}

/// The order in which hosts become gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// It was there before the tracker started: former gateways lack least now.
    Resumed(u64),
    /// Its number of arrival, or a later one if it was moved to the end.
    Arrived(u64),
}

impl Peer {
    /// Whether it has everything.
    pub fn is_complete(&self) -> bool {
        self.left == 0
    }
}

/// The hosts of one place.
#[derive(Debug, Default)]
pub struct Members {
    pub rooms: BTreeMap<String, Vec<SocketAddr>>,
    pub queue: BTreeSet<(Order, SocketAddr)>,
    pub complete: usize,
    pub incomplete: usize,
    pub trials: Trials,
}

/// The bytes that hosts report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Received bytes.
    pub downloaded: u64,
    /// Sent bytes.
    pub uploaded: u64,
}

/// The number of gateways that lost the role, by reason.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replaced {
    /// It received nothing.
    pub stalled: u64,
    /// Another host of its building received more.
    pub slow: u64,
    /// It was silent.
    pub silent: u64,
    /// It left.
    pub stopped: u64,
}

/// One torrent and its hosts.
#[derive(Debug)]
pub struct Swarm {
    pub size_bytes: u64,
    pub peers: BTreeMap<SocketAddr, Peer>,
    pub places: BTreeMap<Place, Members>,
    pub arrivals: u64,
    pub announces: u64,
    pub swept_at: Duration,
    /// The best observed rate of the gateways of a place, in bytes per second.
    pub best: BTreeMap<Place, f64>,
    /// By building and role.
    pub traffic: BTreeMap<(String, Role), Traffic>,
    /// Since the tracker started.
    pub replaced: Replaced,
}

/// The swarm has its maximum number of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A host that fetches beside a gateway.
#[derive(Clone, Debug)]
pub struct Trial {
    pub challenger: SocketAddr,
    pub incumbent: SocketAddr,
    /// The gateway's position in the order.
    pub order: Order,
    pub began: Duration,
    /// The gateway's rate in bytes per second.
    pub rate: f64,
    /// The bytes that the gateway and the challenger lacked at the beginning.
    pub left: u64,
    pub had_left: u64,
}

/// The trials of a place.
#[derive(Debug, Default)]
pub struct Trials {
    pub current: Option<Trial>,
    /// The host that was called to announce itself, and when.
    pub called: Option<(SocketAddr, Duration)>,
    pub next: Duration,
    pub pause: Option<Duration>,
}

impl Trials {
    /// Whether this host is a challenger.
    pub fn are_on(&self, key: SocketAddr) -> bool {
        self.current
            .as_ref()
            .is_some_and(|trial| trial.challenger == key)
    }
}

impl Peer {
    /// Updates the challenger's pace.
    pub fn get_on(&mut self, now: Duration, left: u64) {
        if left < self.left {
            self.moved_at = now;
        }
        self.left = left;
        self.pace.update(now, left);
    }
}

impl Members {
    pub fn count(&mut self, left: u64) -> &mut usize {
        if left == 0 {
            &mut self.complete
        } else {
            &mut self.incomplete
        }
    }
}

impl Swarm {
    /// A swarm without hosts, for a file of this length.
    pub fn new(size_bytes: u64) -> Swarm {
        let (peers, places, best, traffic) = Default::default();
        let (replaced, swept_at) = (Replaced::default(), Duration::ZERO);
        Swarm {
            size_bytes,
            peers,
            places,
            arrivals: 0,
            announces: 0,
            swept_at,
            best,
            traffic,
            replaced,
        }
    }

    /// Its hosts, by address and port.
    pub fn peers(&self) -> &BTreeMap<SocketAddr, Peer> {
        &self.peers
    }

    /// The numbers of complete and of incomplete hosts of a place.
    pub fn counts(&self, place: &Place) -> (usize, usize) {
        self.places
            .get(place)
            .map_or((0, 0), |members| (members.complete, members.incomplete))
    }

    /// Whether a client of this address learns peers outside of its building.
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        self.clients(address)
            .any(|(_, peer)| peer.elected_at.is_some() && peer.net.role == Role::Lab)
    }

    /// Removes hosts that were silent for three of their intervals. Runs at most once a second.
    pub fn sweep(&mut self, now: Duration) {
        if now < self.swept_at + Duration::from_secs(1) {
            return;
        }
        self.swept_at = now;
        let silent: Vec<SocketAddr> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.expires_at <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in silent {
            if self
                .remove(key)
                .is_some_and(|peer| peer.elected_at.is_some() && peer.net.role == Role::Lab)
            {
                self.replaced.silent += 1;
            }
        }
    }

    /// The clients of one address.
    pub fn clients(&self, address: IpAddr) -> impl Iterator<Item = (&SocketAddr, &Peer)> {
        self.peers
            .range(SocketAddr::new(address, 0)..)
            .take_while(move |(key, _)| key.ip() == address)
    }

    pub fn make_room(&mut self, address: IpAddr) -> Result<(), Full> {
        if self.clients(address).count() >= PORTS_MAX {
            let silent = self
                .clients(address)
                .min_by_key(|(_, peer)| peer.last_seen)
                .map(|(key, _)| *key);
            silent.and_then(|key| self.remove(key));
        }
        if self.peers.len() < PEERS_MAX {
            Ok(())
        } else {
            Err(Full)
        }
    }

    pub fn insert(
        &mut self,
        now: Duration,
        net: &Arc<Net>,
        key: SocketAddr,
        announce: &Announce,
        resumed: bool,
    ) {
        self.arrivals += 1;
        let left = announce.left.min(self.size_bytes);
        let order = if resumed {
            Order::Resumed(left)
        } else {
            Order::Arrived(self.arrivals)
        };
        let members = self.places.entry(Place::of(net)).or_default();
        *members.count(left) += 1;
        members.queue.insert((order, key));
        let room = members.rooms.entry(net.room.clone()).or_default();
        let seat = room.len();
        room.push(key);
        // The bytes that it had before its first announce here are not counted.
        let Announce {
            downloaded,
            uploaded,
            ..
        } = *announce;
        let net = Arc::clone(net);
        let (first_seen, last_seen, moved_at, expires_at) = (now, now, now, now);
        let (complete_at, elected_at) = (None, None);
        let (pace, leads_since, was_tried, lets_go) = (Pace::new(now, left), None, false, false);
        let peer = Peer {
            net,
            left,
            downloaded,
            uploaded,
            first_seen,
            last_seen,
            complete_at,
            elected_at,
            moved_at,
            expires_at,
            pace,
            leads_since,
            was_tried,
            lets_go,
            order,
            seat,
        };
        self.peers.insert(key, peer);
    }

    pub fn update(&mut self, now: Duration, key: SocketAddr, announce: &Announce) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let left = announce.left.min(self.size_bytes);
        if let Some(members) = self.places.get_mut(&Place::of(&peer.net)) {
            *members.count(peer.left) -= 1;
            *members.count(left) += 1;
        }
        peer.complete_at = match (peer.left, left) {
            (_, 1..) => None,
            (1.., 0) => Some(now),
            (0, 0) => peer.complete_at,
        };
        // A lower value: the client was restarted.
        let more = |new: u64, old: u64| new.checked_sub(old).unwrap_or(new);
        let traffic = self
            .traffic
            .entry((peer.net.building.clone(), peer.net.role))
            .or_default();
        traffic.downloaded = traffic
            .downloaded
            .saturating_add(more(announce.downloaded, peer.downloaded));
        traffic.uploaded = traffic
            .uploaded
            .saturating_add(more(announce.uploaded, peer.uploaded));
        (peer.downloaded, peer.uploaded, peer.last_seen) =
            (announce.downloaded, announce.uploaded, now);
        peer.get_on(now, left);
        // The bytes that it has when it begins were on its disk.
        if announce.event == Event::Started {
            peer.pace = Pace::new(now, left);
        }
    }

    pub fn remove(&mut self, key: SocketAddr) -> Option<Peer> {
        let peer = self.peers.remove(&key)?;
        let place = Place::of(&peer.net);
        if let Some(members) = self.places.get_mut(&place) {
            *members.count(peer.left) -= 1;
            members.queue.remove(&(peer.order, key));
            if let Some(room) = members.rooms.get_mut(&peer.net.room) {
                room.swap_remove(peer.seat);
                match room
                    .get(peer.seat)
                    .and_then(|moved| self.peers.get_mut(moved))
                {
                    Some(moved) => moved.seat = peer.seat,
                    None if room.is_empty() => drop(members.rooms.remove(&peer.net.room)),
                    None => {}
                }
            }
            if members.queue.is_empty() {
                self.places.remove(&place);
            }
        }
        Some(peer)
    }

    pub fn send_to_the_end(&mut self, place: &Place, key: SocketAddr) {
        self.arrivals += 1;
        let (Some(peer), Some(members)) = (self.peers.get_mut(&key), self.places.get_mut(place))
        else {
            return;
        };
        members.queue.remove(&(peer.order, key));
        peer.order = Order::Arrived(self.arrivals);
        (peer.elected_at, peer.lets_go) = (None, true);
        members.queue.insert((peer.order, key));
    }

    pub fn has_everything(&self, key: &SocketAddr) -> bool {
        self.peers.get(key).is_some_and(Peer::is_complete)
    }

    /// The servers, complete ones first; for a building also the first hosts of each other
    /// building.
    pub fn outside(&self, policy: &Policy, place: &Place) -> Vec<SocketAddr> {
        let servers = self
            .places
            .get(&Place::Servers)
            .into_iter()
            .flat_map(|servers| &servers.queue);
        let mut outside: Vec<SocketAddr> = servers.map(|(_, key)| *key).collect();
        outside.sort_by_key(|key| !self.has_everything(key));
        if matches!(place, Place::Building(_)) {
            let mut mesh = Vec::new();
            for (other, members) in &self.places {
                if matches!(other, Place::Building(_)) && other != place {
                    mesh.extend(
                        members
                            .queue
                            .iter()
                            .take(policy.gateways(other))
                            .map(|(_, key)| *key),
                    );
                }
            }
            let any = self.any(mesh.len());
            outside.extend(mesh.iter().cycle().skip(any).take(mesh.len()));
        }
        outside
    }

    /// A number below `length` that differs between announces, so that the lists start at different
    /// places.
    pub fn any(&self, length: usize) -> usize {
        let mixed = self.announces.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        if length == 0 {
            0
        } else {
            mixed as usize % length
        }
    }
}
