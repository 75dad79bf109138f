//! Trials find the better gateway by measurement.
//!
//! A gateway receives little because of its own fault (a cable, a switch port that fell from 1 Gb/s
//! to 100 Mb/s), or because the uplink of its building carries no more. Only another host that
//! fetches beside it can show which. So one gateway at a time that seems slow gets a challenger:
//! slow compared with its own best rate or with the gateways of other buildings, or because no
//! other building can be compared; a rate that the budget of its building explains is not slow. A
//! challenger that gets ahead takes the gateway's place. Otherwise the uplink is the reason, and
//! the intervals between trials grow. The small remainder of a gateway starts no trial.

use std::net::SocketAddr;
use std::time::Duration;

use campus::Role;

use crate::pace::{MEASURED, RECENT};
use crate::peers::{Members, Order, Swarm, Trial, Trials};
use crate::policy::{Place, Policy};

/// A gateway that needs no longer than this for the rest is left alone: two hosts that fetch at
/// once request some pieces twice, a small share of a long transfer and a large one of a short one.
const WORTH: Duration = Duration::from_secs(60);
/// A gateway with less than a quarter of the others' rate seems slow; in the first seconds, when a
/// server serves some hosts before others, less than an eighth ...
const SLOW: f64 = 4.0;
const SLOW_AT_FIRST: f64 = 8.0;
/// ... and a challenger with three times its rate is better. A rate of the first seconds may double
/// later.
const BETTER: f64 = 3.0;
/// The maximum time of a trial: a server lets a newcomer wait for up to ten seconds, which it then
/// has to make up for.
const TRIAL: Duration = Duration::from_secs(20);
/// The time from an inconclusive trial to the next one; each further one multiplies it by LONGER.
const PAUSE: Duration = Duration::from_secs(60);
const LONGER: u32 = 4;

impl Swarm {
    /// Records the rates that gateways reach from outside. A host with less than another gateway of
    /// its building receives from that one.
    pub fn note_pace(&mut self, now: Duration, key: SocketAddr) {
        let Some(peer) = self
            .peers
            .get(&key)
            .filter(|peer| peer.elected_at.is_some() && peer.net.role == Role::Lab)
        else {
            return;
        };
        let (place, rate) = (Place::of(&peer.net), peer.pace.rate());
        let queue = self
            .places
            .get(&place)
            .into_iter()
            .flat_map(|members| &members.queue);
        let leads = queue
            .filter_map(|(_, other)| self.peers.get(other))
            .all(|other| other.left >= peer.left);
        let leads_since = if leads {
            peer.leads_since.or(Some(now))
        } else {
            None
        };
        if let Some(rate) = rate
            && leads_since.is_some_and(|since| since <= peer.pace.earlier.at)
        {
            let best = self.best.entry(place).or_default();
            *best = best.max(rate);
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.leads_since = leads_since;
        }
    }

    /// Whether a host should announce itself to become a challenger. The trial begins with that
    /// announce.
    pub fn call(&mut self, now: Duration, policy: &Policy, place: &Place, key: SocketAddr) -> bool {
        let due = self.slow_gateway(now, policy, place, key).is_some();
        let Some(members) = self.places.get_mut(place) else {
            return false;
        };
        let calls = due
            && members
                .trials
                .called
                .is_none_or(|(_, called)| now >= called + RECENT);
        if calls {
            members.trials.called = Some((key, now));
        }
        calls
    }

    /// Starts a trial with an announcing host, if one is due. Returns whether it did.
    pub fn try_instead(
        &mut self,
        now: Duration,
        policy: &Policy,
        place: &Place,
        key: SocketAddr,
    ) -> bool {
        let Some((incumbent, rate)) = self.slow_gateway(now, policy, place, key) else {
            return false;
        };
        let of_incumbent = self
            .peers
            .get(&incumbent)
            .map(|peer| (peer.order, peer.pace.left(now, rate)));
        let Some((order, left)) = of_incumbent else {
            return false;
        };
        let (Some(peer), Some(members)) = (self.peers.get_mut(&key), self.places.get_mut(place))
        else {
            return false;
        };
        peer.was_tried = true;
        members.trials.current = Some(Trial {
            challenger: key,
            incumbent,
            order,
            began: now,
            rate,
            left,
            had_left: peer.left,
        });
        true
    }

    /// The gateway that seems slow, and its rate, if this host is the one to challenge it.
    fn slow_gateway(
        &self,
        now: Duration,
        policy: &Policy,
        place: &Place,
        key: SocketAddr,
    ) -> Option<(SocketAddr, f64)> {
        let (peer, members) = (self.peers.get(&key)?, self.places.get(place)?);
        let Trials { current, next, .. } = &members.trials;
        let may_try = !peer.was_tried && !peer.is_complete() && peer.elected_at.is_none();
        let Place::Building(building) = place else {
            return None;
        };
        if !may_try || current.is_some() || now < *next || members.complete > 0 {
            return None;
        }
        // Of several gateways the fastest: it brings the building the pieces that the others do
        // not.
        let mut fastest: Option<(SocketAddr, f64)> = None;
        for (_, gateway) in members.queue.iter().take(policy.gateways(place)) {
            let rate = self
                .peers
                .get(gateway)
                .filter(|peer| peer.elected_at.is_some())?
                .pace
                .rate()?;
            fastest = fastest
                .filter(|(_, other)| *other >= rate)
                .or(Some((*gateway, rate)));
        }
        let (gateway, rate) = fastest?;
        let peer = self.peers.get(&gateway)?;
        let rest = peer.left as f64 / rate;
        let slow = if peer.pace.took() < RECENT {
            SLOW_AT_FIRST
        } else {
            SLOW
        };
        let best = self.best.values().copied().fold(0.0, f64::max);
        let others = if self.is_alone(place) {
            f64::INFINITY
        } else {
            best
        };
        let budget = policy
            .uplink_bytes_per_second(building)
            .map_or(f64::INFINITY, |budget| budget as f64);
        let seems_slow = rate * slow < others.min(budget);
        let has_source = || {
            self.outside(policy, place)
                .iter()
                .any(|outside| self.has_everything(outside))
        };
        (rest > WORTH.as_secs_f64() && seems_slow && has_source()).then_some((gateway, rate))
    }

    /// Whether there is no other building to compare with.
    fn is_alone(&self, place: &Place) -> bool {
        let elsewhere = |(other, members): (&Place, &Members)| {
            let fetches = |(_, key): &(Order, SocketAddr)| {
                self.peers
                    .get(key)
                    .is_some_and(|peer| peer.elected_at.is_some())
            };
            other != place
                && matches!(other, Place::Building(_))
                && members.queue.iter().any(fetches)
        };
        !self.best.keys().any(|other| other != place) && !self.places.iter().any(elsewhere)
    }

    /// Ends a trial that has a result or has lasted long enough.
    pub fn judge(&mut self, now: Duration, place: &Place, key: SocketAddr) {
        let Some(trial) = self
            .places
            .get(place)
            .and_then(|members| members.trials.current.clone())
        else {
            return;
        };
        let pause = self
            .places
            .get(place)
            .and_then(|members| members.trials.pause);
        // A host that left has proved nothing: another one may try at once.
        let Some(challenger) = self.peers.get(&trial.challenger) else {
            return self.end_trial(
                place,
                Trials {
                    pause,
                    ..Trials::default()
                },
            );
        };
        let Some(incumbent) = self.peers.get(&trial.incumbent) else {
            return self.replace(now, place, &trial);
        };
        let took = now.saturating_sub(trial.began);
        let better = (BETTER * trial.rate * took.max(MEASURED).as_secs_f64()) as u64;
        // It first receives what the gateway has already brought: only pieces new to the building
        // count.
        let is_ahead = trial.left.saturating_sub(challenger.left) >= better;
        let is_behind = challenger.left > trial.left;
        let catches_up = is_behind && trial.had_left.saturating_sub(challenger.left) >= better;
        if incumbent.is_complete() {
            self.give_up(place, &trial, Trials::default());
        } else if is_ahead {
            self.replaced.slow += 1;
            self.replace(now, place, &trial);
        } else if challenger.is_complete() {
            self.end_trial(place, Trials::default());
        } else if key == trial.challenger && took >= TRIAL && !catches_up {
            let pause = pause.map_or(PAUSE, |pause| pause * LONGER);
            self.give_up(
                place,
                &trial,
                Trials {
                    next: now + pause,
                    pause: Some(pause),
                    ..Trials::default()
                },
            );
        }
    }

    fn end_trial(&mut self, place: &Place, then: Trials) {
        if let Some(members) = self.places.get_mut(place) {
            members.trials = then;
        }
    }

    /// Ends the trial without a change: the challenger becomes an ordinary host.
    fn give_up(&mut self, place: &Place, trial: &Trial, then: Trials) {
        if let Some(challenger) = self.peers.get_mut(&trial.challenger) {
            (challenger.elected_at, challenger.lets_go) = (None, true);
        }
        self.end_trial(place, then);
    }

    /// The challenger takes the place of the gateway, which becomes an ordinary host at the end of
    /// the order, if it is still there.
    fn replace(&mut self, now: Duration, place: &Place, trial: &Trial) {
        self.send_to_the_end(place, trial.incumbent);
        if let Some(incumbent) = self.peers.get_mut(&trial.incumbent) {
            incumbent.was_tried = true;
        }
        if let (Some(members), Some(challenger)) = (
            self.places.get_mut(place),
            self.peers.get_mut(&trial.challenger),
        ) {
            members.queue.remove(&(challenger.order, trial.challenger));
            challenger.order = trial.order;
            members.queue.insert((trial.order, trial.challenger));
        }
        self.end_trial(
            place,
            Trials {
                next: now + TRIAL,
                ..Trials::default()
            },
        );
    }
}
