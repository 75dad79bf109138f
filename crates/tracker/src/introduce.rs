//! The policy of introductions for one torrent and its hosts. It does no input or output; the clock
//! is an argument.
//!
//! - A lab host learns hosts of its building, mostly of its room.
//! - While no host of a building has everything, its *gateways*, the first few in the order of
//!   arrival, also learn the servers and the gateways of the other buildings. Once a host has
//!   everything, the building no longer needs the outside.
//! - A gateway that is silent for three intervals is removed. One that receives nothing for three
//!   intervals, although a host outside has everything, moves to the end of the order. Its building
//!   still learns it, so that its pieces are not fetched again.
//! - If a gateway seems slow, another host is tried beside it, and takes its place if it does
//!   better: see `trial`.
//! - A host that receives nothing for three intervals, although its building has everything, is
//!   treated as if the building were incomplete.
//! - Servers learn other servers while they lack something. Wireless hosts learn the servers, a few
//!   hosts at a time.
//! - A complete host opens no connections and learns no peers. But when it begins, it learns the
//!   incomplete hosts of its building: they may have known it before, and would otherwise retry it
//!   only an interval later.

use std::cmp::max;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use campus::{Net, Role};

use crate::announce::{Announce, Event, TOLD_MAX};
use crate::answer::Answer;
use crate::peers::{Full, Members, Order, Peer, Swarm};
use crate::policy::{Place, Policy};

/// aria2 ignores a tracker's peers while it has 44 connections (0.8 of --bt-max-peers), so that it
/// could not become a gateway. In a building of more hosts than this ...
const ALL_TOLD_MAX: usize = 41;
/// ... each host learns only so many.
const SOME_TOLD: usize = 24;

impl Swarm {
    /// Handles an announce and returns the peers that the host learns.
    pub fn announce(
        &mut self,
        now: Duration,
        policy: &Policy,
        net: &Arc<Net>,
        address: IpAddr,
        announce: &Announce,
    ) -> Result<Answer, Full> {
        self.sweep(now);
        self.announces += 1;
        let key = SocketAddr::new(address, announce.port);
        let place = Place::of(net);
        if announce.event == Event::Stopped {
            if self
                .remove(key)
                .is_some_and(|peer| peer.elected_at.is_some() && peer.net.role == Role::Lab)
            {
                self.replaced.stopped += 1;
            }
            let (complete, incomplete) = self.counts(&place);
            return Ok(Answer {
                interval: policy.interval,
                complete,
                incomplete,
                peers: Vec::new(),
            });
        }
        // Hosts from before the tracker's start need no introduction to each other; the others of
        // the building come first.
        let known = self.peers.get(&key);
        let was_there = known.is_none_or(|peer| matches!(peer.order, Order::Resumed(_)));
        let resumed = now < policy.settling() && was_there && announce.event != Event::Started;
        if !self.peers.contains_key(&key) {
            self.make_room(address)?;
            self.insert(now, net, key, announce, resumed);
        }
        self.update(now, key, announce);
        // A regular announce is no beginning: a client that learns no peers keeps those it knows.
        if let Some(peer) = self
            .peers
            .get_mut(&key)
            .filter(|_| announce.event == Event::Started)
        {
            peer.lets_go = false;
        }
        self.judge(now, &place, key);
        let gateway = self.elect(now, policy, &place, key, resumed);
        self.note_pace(now, key);
        let mut peers = self.introduce(policy, &place, key, gateway, announce.event);
        peers.truncate(announce.wanted);
        let (complete, incomplete) = self.counts(&place);
        let interval = match place {
            Place::Servers => policy.interval,
            Place::Wireless if announce.left > 0 => policy.interval,
            Place::Building(_) if incomplete > 0 => policy.interval,
            _ => policy.idle_interval(),
        };
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.expires_at = now + 3 * interval;
        }
        Ok(Answer {
            interval,
            complete,
            incomplete,
            peers,
        })
    }

    /// Records the progress that a known host reports between announces. Returns whether it should
    /// announce itself at once.
    pub fn progress(&mut self, now: Duration, policy: &Policy, key: SocketAddr, left: u64) -> bool {
        let left = left.min(self.size_bytes);
        // Completion counts only when the host announces it.
        let Some(peer) = self
            .peers
            .get_mut(&key)
            .filter(|peer| !peer.is_complete() && left > 0)
        else {
            return false;
        };
        peer.get_on(now, left);
        let place = Place::of(&peer.net);
        self.note_pace(now, key);
        self.judge(now, &place, key);
        self.call(now, policy, &place, key) || self.peers.get(&key).is_some_and(|peer| peer.lets_go)
    }

    /// Whether this host learns peers outside of its place; records the election.
    fn elect(
        &mut self,
        now: Duration,
        policy: &Policy,
        place: &Place,
        key: SocketAddr,
        resumed: bool,
    ) -> bool {
        let patience = policy.patience();
        let Some(peer) = self.peers.get(&key) else {
            return false;
        };
        let on_trial = |swarm: &Swarm| {
            swarm
                .places
                .get(place)
                .is_some_and(|members| members.trials.are_on(key))
        };
        let got_nothing = peer
            .elected_at
            .is_some_and(|elected| now >= max(elected, peer.moved_at) + patience);
        let others = self.counts(place).1 > policy.gateways(place);
        if got_nothing
            && others
            && !on_trial(self)
            && self
                .outside(policy, place)
                .iter()
                .any(|outside| self.has_everything(outside))
        {
            self.send_to_the_end(place, key);
            self.replaced.stalled += u64::from(matches!(place, Place::Building(_)));
        }
        let (Some(peer), Some(members)) = (self.peers.get(&key), self.places.get(place)) else {
            return false;
        };
        let needs = |peer: &Peer| {
            let helped = matches!(place, Place::Building(_))
                && members.complete > 0
                && now < peer.moved_at + patience;
            !peer.is_complete() && !helped
        };
        let mut waiting = members
            .queue
            .iter()
            .filter(|(_, key)| self.peers.get(key).is_some_and(needs));
        let mut first = waiting.by_ref().take(policy.gateways(place));
        let elected = needs(peer) && (first.any(|(_, other)| *other == key) || on_trial(self));
        let elected = !resumed && (elected || self.try_instead(now, policy, place, key));
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.elected_at = if elected {
                peer.elected_at.or(Some(now))
            } else {
                None
            };
            peer.lets_go &= !elected;
            peer.leads_since = peer.leads_since.filter(|_| elected);
        }
        elected
    }

    fn introduce(
        &self,
        policy: &Policy,
        place: &Place,
        key: SocketAddr,
        elected: bool,
        event: Event,
    ) -> Vec<SocketAddr> {
        if jsonpipe::sabotaged("introduce-all") {
            return self
                .peers
                .keys()
                .filter(|other| **other != key)
                .copied()
                .collect();
        }
        let (Some(peer), Some(members)) = (self.peers.get(&key), self.places.get(place)) else {
            return Vec::new();
        };
        if peer.is_complete() {
            if event != Event::Started || !matches!(place, Place::Building(_)) {
                return Vec::new();
            }
            let mut told: Vec<_> = members
                .queue
                .iter()
                .map(|(_, other)| *other)
                .filter(|other| !self.has_everything(other))
                .collect();
            let any = self.any(told.len());
            told.rotate_left(any);
            told.sort_by_key(|other| {
                self.peers
                    .get(other)
                    .is_some_and(|other| other.net.room != peer.net.room)
            });
            return told;
        }
        let mut told = Vec::new();
        match place {
            Place::Servers => told.extend(
                members
                    .queue
                    .iter()
                    .map(|(_, other)| *other)
                    .filter(|other| *other != key),
            ),
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

    /// The hosts of this building: all of a small one, some of a large one, mostly but not only of
    /// this room.
    fn own(&self, members: &Members, room: &str, key: SocketAddr) -> Vec<SocketAddr> {
        let near = members.rooms.get(room).map_or(&[][..], Vec::as_slice);
        let far = members
            .rooms
            .iter()
            .filter(|(other, _)| *other != room)
            .flat_map(|(_, hosts)| hosts);
        let total = members.queue.len();
        let limit = if total <= ALL_TOLD_MAX {
            total
        } else {
            SOME_TOLD
        };
        let far_share = (total - near.len()).min(max(limit / 4, limit.saturating_sub(near.len())));
        let far = far
            .cycle()
            .skip(self.any(total - near.len()))
            .take(far_share);
        let near_share = limit - far_share;
        // One more, in place of the asking host itself.
        let near = near
            .iter()
            .cycle()
            .skip(self.any(near.len()))
            .take(near.len().min(near_share + 1));
        near.filter(|host| **host != key)
            .take(near_share)
            .chain(far)
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests;
