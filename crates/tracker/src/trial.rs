//! Whether another host would be the better gateway: it is tried, not guessed.
//!
//! A gateway gets little because something is wrong with itself (a cable, a port of the switch that
//! fell from 1 Gb/s to 100 Mb/s), or because that is all that the uplink of its building carries.
//! Only another host that fetches beside it can tell. So one gateway that seems slow, by its own
//! best, by the gateways of other buildings, or because there is no other building to compare it
//! with, though not by the budget of its building, gets a challenger. Who gets ahead of it takes
//! its place; otherwise the uplink is the reason, and the next trial is later and later. Nobody is
//! tried for the little that a gateway still lacks.

use std::net::SocketAddr;
use std::time::Duration;

use campus::Role;

use crate::pace::{MEASURED, RECENT};
use crate::peers::{Members, Order, Swarm, Trial, Trials};
use crate::policy::{Place, Policy};

/// A gateway that needs no longer than this for the rest is left alone: two that fetch at once ask
/// for some pieces twice, which is little of what takes long, and much of what does not.
const WORTH: Duration = Duration::from_secs(60);
/// Who gets less than a quarter of what others get seems slow, in the first seconds, when a server
/// serves some before others, less than an eighth ...
const SLOW: f64 = 4.0;
const SLOW_AT_FIRST: f64 = 8.0;
/// ... and who gets three times what it got is better. A rate of the first seconds may be half of
/// what it becomes.
const BETTER: f64 = 3.0;
/// A trial may take this long: a server lets a newcomer wait for up to ten seconds, and then it has
/// that to make up for.
const TRIAL: Duration = Duration::from_secs(20);
/// The time from a trial that showed nothing to the next one, at first and then so many times
/// longer.
const PAUSE: Duration = Duration::from_secs(60);
const LONGER: u32 = 4;

impl Swarm {
    /// Remembers what gateways can get from outside. Who has less than another one of its building
    /// gets that from there.
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

    /// Whether a host is to come and try. It begins when it announces itself.
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

    /// Lets a host that has come try, if that is due. Whether it does.
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

    /// The gateway that seems slow, and its rate, when this host is the one to try instead.
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
        // With several, the fastest: it brings the building what the others do not.
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

    /// Whether no other building can be compared with.
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

    /// Ends a trial that has shown something, or lasted long enough.
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
        // Who went has shown nothing: another one may try at once.
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
        // It first gets what the gateway has brought already: only what nobody had before counts.
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

    /// The challenger is a host like the others again.
    fn give_up(&mut self, place: &Place, trial: &Trial, then: Trials) {
        if let Some(challenger) = self.peers.get_mut(&trial.challenger) {
            (challenger.elected_at, challenger.lets_go) = (None, true);
        }
        self.end_trial(place, then);
    }

    /// The challenger takes the place of the gateway, which goes to the end, if it is still there,
    /// and is a host like the others.
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
