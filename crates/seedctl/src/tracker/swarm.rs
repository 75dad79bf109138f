//! Who is introduced to whom: one torrent, its hosts, and the policy. No input or output; the clock is handed in.
//!
//! - A lab host is told hosts of its own building, most of them of its own room.
//! - While nobody in a building has everything, its *gateways*, the first few in the order in which its hosts came, are also told
//!   the servers and the gateways of the other buildings. Once one has everything, nobody there needs the outside.
//! - A gateway that is silent for three intervals is gone; one that gets nothing for three intervals, though somebody outside has
//!   everything, goes to the end of the order. Its building still knows it: what it has got is not fetched again.
//! - Beside a gateway that seems slow another host tries it for a moment, and takes its place when it does better: `trial`.
//! - A host that gets nothing for three intervals though its building has everything is treated as if the building had not.
//! - Servers are told other servers while they lack something, wireless hosts the servers, a few hosts at a time.
//! - Who has everything opens nothing, and is told nobody; but when it begins, it is told who in its building lacks something: they
//!   may have known it before, and would look for it again only an interval later.

use std::cmp::max;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::tracker::announce::{Announce, Event, TOLD_MAX};
use crate::tracker::answer::Answer;
use crate::tracker::policy::{Place, Policy};
use campus::Net;
use campus::Role;
use trial::{Pace, Trials};

mod trial;

/// Clients of one address in one swarm; one more and the one that was silent longest is forgotten.
const PORTS_MAX: usize = 4;
/// Hosts of one swarm: a whole campus twice.
const PEERS_MAX: usize = 20_000;
/// aria2 listens to no tracker while it has 44 connections (0.8 of --bt-max-peers), so that it could not be made a gateway: in a
/// building of more hosts than this ...
const ALL_TOLD_MAX: usize = 41;
/// ... each is told so many.
const SOME_TOLD: usize = 24;

/// A host in a swarm. Times are since the tracker started.
#[derive(Debug)]
pub struct Peer {
    /// Where it is.
    pub net: Arc<Net>,
    /// What it lacks, in bytes.
    pub left: u64,
    /// What it received, in bytes.
    pub downloaded: u64,
    /// What it sent, in bytes.
    pub uploaded: u64,
    /// Its first announce.
    pub first_seen: Duration,
    /// Its last.
    pub last_seen: Duration,
    /// When it had everything, if it lacked something before.
    pub complete_at: Option<Duration>,
    /// Since when it is told what is outside of its place.
    pub elected_at: Option<Duration>,
    /// When it last got something; before that, when it came.
    moved_at: Duration,
    expires_at: Duration,
    /// How fast it got on lately.
    pace: Pace,
    /// Since when nobody of its building had more when it said how far it was: what it got came from outside.
    leads_since: Option<Duration>,
    /// Whether it was tried as a gateway, or replaced as one: others are tried before it.
    was_tried: bool,
    /// Whether it fetches from outside no longer: it keeps whom it knows there until it begins anew.
    lets_go: bool,
    order: Order,
    /// Where it stands in the list of its room.
    seat: usize,
}

/// The order in which hosts become gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// Was there before the tracker was: the gateways of then lack least now.
    Resumed(u64),
    /// Came as the so-manieth, or was sent to the end.
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
struct Members {
    rooms: BTreeMap<String, Vec<SocketAddr>>,
    queue: BTreeSet<(Order, SocketAddr)>,
    complete: usize,
    incomplete: usize,
    trials: Trials,
}

/// What hosts received and sent, as they say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Received, in bytes.
    pub downloaded: u64,
    /// Sent, in bytes.
    pub uploaded: u64,
}

/// Why a gateway is none any more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replaced {
    /// It got nothing.
    pub stalled: u64,
    /// Another one of its building got more.
    pub slow: u64,
    /// It said nothing.
    pub silent: u64,
    /// It went.
    pub stopped: u64,
}

/// One torrent and its hosts.
#[derive(Debug)]
pub struct Swarm {
    size_bytes: u64,
    peers: BTreeMap<SocketAddr, Peer>,
    places: BTreeMap<Place, Members>,
    arrivals: u64,
    announces: u64,
    swept_at: Duration,
    /// The best rate that gateways of a place were seen at, in bytes a second.
    best: BTreeMap<Place, f64>,
    /// By building and role.
    pub traffic: BTreeMap<(String, Role), Traffic>,
    /// Since the tracker started.
    pub replaced: Replaced,
}

/// The swarm has as many hosts as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Swarm {
    /// Without hosts; of a file of so many bytes.
    pub fn new(size_bytes: u64) -> Swarm {
        let (peers, places, best, traffic) = Default::default();
        let (replaced, swept_at) = (Replaced::default(), Duration::ZERO);
        Swarm { size_bytes, peers, places, arrivals: 0, announces: 0, swept_at, best, traffic, replaced }
    }

    /// Its hosts, by address and port.
    pub fn peers(&self) -> &BTreeMap<SocketAddr, Peer> {
        &self.peers
    }

    /// How many hosts of a place have everything, and how many have not.
    pub fn counts(&self, place: &Place) -> (usize, usize) {
        self.places.get(place).map_or((0, 0), |members| (members.complete, members.incomplete))
    }

    /// Whether some client of this address is told what is outside of its building.
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        self.clients(address).any(|(_, peer)| peer.elected_at.is_some() && peer.net.role == Role::Lab)
    }

    /// A host says something, and is told with whom it belongs.
    pub fn announce(
        &mut self,
        now: Duration,
        policy: &Policy,
        net: &Arc<Net>,
        address: IpAddr,
        said: &Announce,
    ) -> Result<Answer, Full> {
        self.sweep(now);
        self.announces += 1;
        let key = SocketAddr::new(address, said.port);
        let place = Place::of(net);
        if said.event == Event::Stopped {
            if self.remove(key).is_some_and(|peer| peer.elected_at.is_some() && peer.net.role == Role::Lab) {
                self.replaced.stopped += 1;
            }
            let (complete, incomplete) = self.counts(&place);
            return Ok(Answer { interval: policy.interval, complete, incomplete, peers: Vec::new() });
        }
        // What was there before the tracker was need not be introduced again; the others of its building come first.
        let known = self.peers.get(&key);
        let was_there = known.is_none_or(|peer| matches!(peer.order, Order::Resumed(_)));
        let resumed = now < policy.settling() && was_there && said.event != Event::Started;
        if !self.peers.contains_key(&key) {
            self.make_room(address)?;
            self.insert(now, net, key, said, resumed);
        }
        self.update(now, key, said);
        // An announce in between is no beginning: a client that is told nobody keeps whom it knows.
        if let Some(peer) = self.peers.get_mut(&key).filter(|_| said.event == Event::Started) {
            peer.lets_go = false;
        }
        self.judge(now, &place, key);
        let gateway = self.elect(now, policy, &place, key, resumed);
        self.note_pace(now, key);
        let mut peers = self.introduce(policy, &place, key, gateway, said.event);
        peers.truncate(said.wanted);
        let (complete, incomplete) = self.counts(&place);
        let interval = match place {
            Place::Servers => policy.interval,
            Place::Wireless if said.left > 0 => policy.interval,
            Place::Building(_) if incomplete > 0 => policy.interval,
            _ => policy.idle_interval(),
        };
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.expires_at = now + 3 * interval;
        }
        Ok(Answer { interval, complete, incomplete, peers })
    }

    /// A host that announces itself tells in between what it lacks. Whether it is to announce itself at once.
    pub fn progress(&mut self, now: Duration, policy: &Policy, key: SocketAddr, left: u64) -> bool {
        let left = left.min(self.size_bytes);
        // What has everything says so itself, and is believed then.
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.is_complete() && left > 0) else { return false };
        peer.get_on(now, left);
        let place = Place::of(&peer.net);
        self.note_pace(now, key);
        self.judge(now, &place, key);
        self.call(now, policy, &place, key) || self.peers.get(&key).is_some_and(|peer| peer.lets_go)
    }

    /// Forgets who was silent for three of the intervals that it was told. Looks once a second.
    pub fn sweep(&mut self, now: Duration) {
        if now < self.swept_at + Duration::from_secs(1) {
            return;
        }
        self.swept_at = now;
        let silent: Vec<SocketAddr> = self.peers.iter().filter(|(_, peer)| peer.expires_at <= now).map(|(key, _)| *key).collect();
        for key in silent {
            if self.remove(key).is_some_and(|peer| peer.elected_at.is_some() && peer.net.role == Role::Lab) {
                self.replaced.silent += 1;
            }
        }
    }

    /// The clients of one address.
    fn clients(&self, address: IpAddr) -> impl Iterator<Item = (&SocketAddr, &Peer)> {
        self.peers.range(SocketAddr::new(address, 0)..).take_while(move |(key, _)| key.ip() == address)
    }

    fn make_room(&mut self, address: IpAddr) -> Result<(), Full> {
        if self.clients(address).count() >= PORTS_MAX {
            let silent = self.clients(address).min_by_key(|(_, peer)| peer.last_seen).map(|(key, _)| *key);
            silent.and_then(|key| self.remove(key));
        }
        if self.peers.len() < PEERS_MAX { Ok(()) } else { Err(Full) }
    }

    fn insert(&mut self, now: Duration, net: &Arc<Net>, key: SocketAddr, said: &Announce, resumed: bool) {
        self.arrivals += 1;
        let left = said.left.min(self.size_bytes);
        let order = if resumed { Order::Resumed(left) } else { Order::Arrived(self.arrivals) };
        let members = self.places.entry(Place::of(net)).or_default();
        *members.count(left) += 1;
        members.queue.insert((order, key));
        let room = members.rooms.entry(net.room.clone()).or_default();
        let seat = room.len();
        room.push(key);
        // What it had before we knew it was fetched before we counted.
        let Announce { downloaded, uploaded, .. } = *said;
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

    fn update(&mut self, now: Duration, key: SocketAddr, said: &Announce) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let left = said.left.min(self.size_bytes);
        if let Some(members) = self.places.get_mut(&Place::of(&peer.net)) {
            *members.count(peer.left) -= 1;
            *members.count(left) += 1;
        }
        peer.complete_at = match (peer.left, left) {
            (_, 1..) => None,
            (1.., 0) => Some(now),
            (0, 0) => peer.complete_at,
        };
        // Less than before: the client was started again.
        let more = |new: u64, old: u64| new.checked_sub(old).unwrap_or(new);
        let traffic = self.traffic.entry((peer.net.building.clone(), peer.net.role)).or_default();
        traffic.downloaded = traffic.downloaded.saturating_add(more(said.downloaded, peer.downloaded));
        traffic.uploaded = traffic.uploaded.saturating_add(more(said.uploaded, peer.uploaded));
        (peer.downloaded, peer.uploaded, peer.last_seen) = (said.downloaded, said.uploaded, now);
        peer.get_on(now, left);
        // What it has when it begins was on its disk.
        if said.event == Event::Started {
            peer.pace = Pace::new(now, left);
        }
    }

    fn remove(&mut self, key: SocketAddr) -> Option<Peer> {
        let peer = self.peers.remove(&key)?;
        let place = Place::of(&peer.net);
        if let Some(members) = self.places.get_mut(&place) {
            *members.count(peer.left) -= 1;
            members.queue.remove(&(peer.order, key));
            if let Some(room) = members.rooms.get_mut(&peer.net.room) {
                room.swap_remove(peer.seat);
                match room.get(peer.seat).and_then(|moved| self.peers.get_mut(moved)) {
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

    /// Whether this host is to be told what is outside of its place; remembers it.
    fn elect(&mut self, now: Duration, policy: &Policy, place: &Place, key: SocketAddr, resumed: bool) -> bool {
        let patience = policy.patience();
        let Some(peer) = self.peers.get(&key) else { return false };
        let on_trial = |swarm: &Swarm| swarm.places.get(place).is_some_and(|members| members.trials.are_on(key));
        let got_nothing = peer.elected_at.is_some_and(|elected| now >= max(elected, peer.moved_at) + patience);
        let others = self.counts(place).1 > policy.gateways(place);
        if got_nothing
            && others
            && !on_trial(self)
            && self.outside(policy, place).iter().any(|outside| self.has_everything(outside))
        {
            self.send_to_the_end(place, key);
            self.replaced.stalled += u64::from(matches!(place, Place::Building(_)));
        }
        let (Some(peer), Some(members)) = (self.peers.get(&key), self.places.get(place)) else { return false };
        let needs = |peer: &Peer| {
            let helped = matches!(place, Place::Building(_)) && members.complete > 0 && now < peer.moved_at + patience;
            !peer.is_complete() && !helped
        };
        let mut waiting = members.queue.iter().filter(|(_, key)| self.peers.get(key).is_some_and(needs));
        let mut first = waiting.by_ref().take(policy.gateways(place));
        let elected = needs(peer) && (first.any(|(_, other)| *other == key) || on_trial(self));
        let elected = !resumed && (elected || self.try_instead(now, policy, place, key));
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.elected_at = if elected { peer.elected_at.or(Some(now)) } else { None };
            peer.lets_go &= !elected;
            peer.leads_since = peer.leads_since.filter(|_| elected);
        }
        elected
    }

    fn send_to_the_end(&mut self, place: &Place, key: SocketAddr) {
        self.arrivals += 1;
        let (Some(peer), Some(members)) = (self.peers.get_mut(&key), self.places.get_mut(place)) else { return };
        members.queue.remove(&(peer.order, key));
        peer.order = Order::Arrived(self.arrivals);
        (peer.elected_at, peer.lets_go) = (None, true);
        members.queue.insert((peer.order, key));
    }

    fn has_everything(&self, key: &SocketAddr) -> bool {
        self.peers.get(key).is_some_and(Peer::is_complete)
    }

    /// The servers, those that have everything first; for a building also the first hosts of each other building.
    fn outside(&self, policy: &Policy, place: &Place) -> Vec<SocketAddr> {
        let servers = self.places.get(&Place::Servers).into_iter().flat_map(|servers| &servers.queue);
        let mut outside: Vec<SocketAddr> = servers.map(|(_, key)| *key).collect();
        outside.sort_by_key(|key| !self.has_everything(key));
        if matches!(place, Place::Building(_)) {
            let mut mesh = Vec::new();
            for (other, members) in &self.places {
                if matches!(other, Place::Building(_)) && other != place {
                    mesh.extend(members.queue.iter().take(policy.gateways(other)).map(|(_, key)| *key));
                }
            }
            let any = self.any(mesh.len());
            outside.extend(mesh.iter().cycle().skip(any).take(mesh.len()));
        }
        outside
    }

    fn introduce(&self, policy: &Policy, place: &Place, key: SocketAddr, elected: bool, event: Event) -> Vec<SocketAddr> {
        #[cfg(debug_assertions)]
        if std::env::var_os("LABTOOLS_SABOTAGE").is_some_and(|sabotage| sabotage == "introduce-all") {
            return self.peers.keys().filter(|other| **other != key).copied().collect();
        }
        let (Some(peer), Some(members)) = (self.peers.get(&key), self.places.get(place)) else { return Vec::new() };
        if peer.is_complete() {
            if event != Event::Started || !matches!(place, Place::Building(_)) {
                return Vec::new();
            }
            let mut told: Vec<_> =
                members.queue.iter().map(|(_, other)| *other).filter(|other| !self.has_everything(other)).collect();
            let any = self.any(told.len());
            told.rotate_left(any);
            told.sort_by_key(|other| self.peers.get(other).is_some_and(|other| other.net.room != peer.net.room));
            return told;
        }
        let mut told = Vec::new();
        match place {
            Place::Servers => told.extend(members.queue.iter().map(|(_, other)| *other).filter(|other| *other != key)),
            Place::Wireless if !elected => {}
            Place::Wireless => told = self.outside(policy, place),
            Place::Building(_) => {
                if elected {
                    told = self.outside(policy, place);
                    told.truncate(TOLD_MAX / 2);
                }
                told.extend(self.own(members, &peer.net.room, key));
            }
        }
        told
    }

    /// Hosts of the own building: all, or of a large one some, which are mostly of the own room but never only.
    fn own(&self, members: &Members, room: &str, key: SocketAddr) -> Vec<SocketAddr> {
        let near = members.rooms.get(room).map_or(&[][..], Vec::as_slice);
        let far = members.rooms.iter().filter(|(other, _)| *other != room).flat_map(|(_, hosts)| hosts);
        let total = members.queue.len();
        let limit = if total <= ALL_TOLD_MAX { total } else { SOME_TOLD };
        let far_share = (total - near.len()).min(max(limit / 4, limit.saturating_sub(near.len())));
        let far = far.cycle().skip(self.any(total - near.len())).take(far_share);
        let near_share = limit - far_share;
        // One more, in place of the asking host itself.
        let near = near.iter().cycle().skip(self.any(near.len())).take(near.len().min(near_share + 1));
        near.filter(|host| **host != key).take(near_share).chain(far).copied().collect()
    }

    /// A number below `length`, another one for each announce: lists begin somewhere else for each.
    fn any(&self, length: usize) -> usize {
        let mixed = self.announces.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        if length == 0 { 0 } else { mixed as usize % length }
    }
}

impl Members {
    fn count(&mut self, left: u64) -> &mut usize {
        if left == 0 { &mut self.complete } else { &mut self.incomplete }
    }
}

#[cfg(test)]
mod tests;
