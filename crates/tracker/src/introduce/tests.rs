//! Tests of the policy, with a manual clock.

mod campuses;
mod gateways;
mod lists;
mod trials;

use super::*;
use crate::peers::{PEERS_MAX, PORTS_MAX, Replaced};
use crate::settings::{Building, Numbers};
use campus::Campus;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

const SIZE: u64 = 1000;
const SERVER: &str = "10.0.0.2";

static CAMPUS: LazyLock<Campus> = LazyLock::new(|| {
    let text: Vec<[String; 3]> = (1..=120)
        .flat_map(|b| {
            (1..=4).map(move |r| [format!("10.{b}.{r}.0/24"), format!("b{b}"), format!("r{r}")])
        })
        .collect();
    let mut nets: Vec<(&str, &str, &str, Role)> = text
        .iter()
        .map(|[cidr, building, room]| (cidr.as_str(), building.as_str(), room.as_str(), Role::Lab))
        .collect();
    nets.push(("10.0.0.0/16", "servers", "servers", Role::Servers));
    nets.push(("10.254.0.0/16", "b1", "air", Role::Wireless));
    nets.push(("10.200.0.0/16", "hall", "hall", Role::Lab));
    campus(&nets).unwrap()
});

fn campus(nets: &[(&str, &str, &str, Role)]) -> Result<Campus, String> {
    let entry = |(index, (cidr, building, room, role)): (usize, &(&str, &str, &str, Role))| {
        let [cidr, campus, building, room] =
            [cidr, "campus", building, room].map(|text: &str| text.to_owned());
        (
            format!("n{index}"),
            campus::Entry {
                cidr,
                ethernet: None,
                campus,
                building,
                room,
                role: *role,
                segment: None,
            },
        )
    };
    Campus::new(nets.iter().enumerate().map(entry).collect())
}

/// A campus: building `bN` is 10.N.0.0/16, its room `rM` 10.N.M.0/24; the wireless network is
/// 10.254.0.0/16.
struct Lab {
    campus: &'static Campus,
    policy: Policy,
    swarm: Swarm,
    now: Duration,
}

impl Lab {
    fn new() -> Lab {
        Lab::with(
            &Numbers {
                wireless_hosts: 2,
                ..Numbers::default()
            },
            BTreeMap::new(),
        )
    }

    fn with(numbers: &Numbers, buildings: BTreeMap<String, Building>) -> Lab {
        // Long after the tracker's start: arrivals are new.
        let now = Duration::from_secs(1000);
        Lab {
            campus: &CAMPUS,
            policy: Policy::new(numbers, buildings),
            swarm: Swarm::new(SIZE),
            now,
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn announce(&mut self, address: &str, said: Announce) -> Answer {
        let address: IpAddr = address.parse().unwrap();
        let net = Arc::clone(self.campus.find(address).unwrap());
        let answer = self
            .swarm
            .announce(self.now, &self.policy, &net, address, &said)
            .unwrap();
        check(&self.swarm);
        answer
    }

    /// Announces a host that lacks so much, and returns the peers it learns.
    fn told(&mut self, address: &str, left: u64) -> Vec<String> {
        addresses(&self.announce(address, said(left)))
    }

    /// Reports a host's progress. Returns whether it should announce itself at once.
    fn progress(&mut self, address: &str, left: u64) -> bool {
        let again = self.swarm.progress(
            self.now,
            &self.policy,
            SocketAddr::new(address.parse().unwrap(), 6881),
            left,
        );
        check(&self.swarm);
        again
    }

    fn is_gateway(&self, address: &str) -> bool {
        self.swarm.is_gateway(address.parse().unwrap())
    }

    fn stop(&mut self, address: &str) {
        self.announce(
            address,
            Announce {
                event: Event::Stopped,
                ..said(1)
            },
        );
    }
}

fn said(left: u64) -> Announce {
    let infohash = manifest::Hex([0; 20]);
    Announce {
        infohash,
        port: 6881,
        left,
        downloaded: 0,
        uploaded: 0,
        event: Event::Started,
        wanted: TOLD_MAX,
    }
}

fn addresses(answer: &Answer) -> Vec<String> {
    answer
        .peers
        .iter()
        .map(|peer| peer.ip().to_string())
        .collect()
}

/// Of a place: the number of complete hosts, the number of incomplete hosts, and their order.
type Counted = (usize, usize, BTreeSet<(Order, SocketAddr)>);

/// The invariants after any announces.
fn check(swarm: &Swarm) {
    let mut places: BTreeMap<Place, Counted> = BTreeMap::new();
    for (key, peer) in &swarm.peers {
        let (complete, incomplete, queue) = places.entry(Place::of(&peer.net)).or_default();
        *if peer.is_complete() {
            complete
        } else {
            incomplete
        } += 1;
        queue.insert((peer.order, *key));
        assert_eq!(
            swarm.places[&Place::of(&peer.net)].rooms[&peer.net.room][peer.seat],
            *key
        );
    }
    let kept: BTreeMap<Place, Counted> = swarm
        .places
        .iter()
        .map(|(place, members)| {
            (
                place.clone(),
                (members.complete, members.incomplete, members.queue.clone()),
            )
        })
        .collect();
    assert_eq!(places, kept);
    let in_rooms: usize = swarm
        .places
        .values()
        .flat_map(|members| members.rooms.values())
        .map(Vec::len)
        .sum();
    assert_eq!(in_rooms, swarm.peers.len());
}

fn race(mut lab: Lab, quick: u64, slow: u64) -> Lab {
    lab.swarm.size_bytes = 100_000;
    for (address, left) in [(SERVER, 0), ("10.1.1.1", 100_000), ("10.2.1.1", 100_000)] {
        lab.told(address, left);
    }
    lab.pass(5);
    lab.progress("10.1.1.1", 100_000 - 5 * quick);
    lab.progress("10.2.1.1", 100_000 - 5 * slow);
    lab
}

fn on_its_way(left: u64) -> Announce {
    Announce {
        event: Event::None,
        ..said(left)
    }
}
