//! The policy, with a clock that is turned by hand.

use super::*;
use crate::origin::tests::campus;
use crate::request::{Building, Tracker};
use campus::Campus;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

const SIZE: u64 = 1000;
const SERVER: &str = "10.0.0.2";

static CAMPUS: LazyLock<Campus> = LazyLock::new(|| {
    let text: Vec<[String; 3]> =
        (1..=120).flat_map(|b| (1..=4).map(move |r| [format!("10.{b}.{r}.0/24"), format!("b{b}"), format!("r{r}")])).collect();
    let mut nets: Vec<(&str, &str, &str, Role)> =
        text.iter().map(|[cidr, building, room]| (cidr.as_str(), building.as_str(), room.as_str(), Role::Lab)).collect();
    nets.push(("10.0.0.0/16", "servers", "servers", Role::Servers));
    nets.push(("10.254.0.0/16", "b1", "air", Role::Wireless));
    nets.push(("10.200.0.0/16", "hall", "hall", Role::Lab));
    campus(&nets).unwrap()
});

/// A campus: building `bN` is 10.N.0.0/16, its room `rM` 10.N.M.0/24; the wireless network is 10.254.0.0/16.
struct Lab {
    campus: &'static Campus,
    policy: Policy,
    swarm: Swarm,
    now: Duration,
}

impl Lab {
    fn new() -> Lab {
        Lab::with(&Tracker { wireless_hosts: 2, ..Tracker::default() }, BTreeMap::new())
    }

    fn with(tracker: &Tracker, buildings: BTreeMap<String, Building>) -> Lab {
        // Long after its start: what comes is new.
        let now = Duration::from_secs(1000);
        Lab { campus: &CAMPUS, policy: Policy::new(tracker, buildings), swarm: Swarm::new(SIZE), now }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn announce(&mut self, address: &str, said: Announce) -> Answer {
        let address: IpAddr = address.parse().unwrap();
        let net = Arc::clone(self.campus.find(address).unwrap());
        let answer = self.swarm.announce(self.now, &self.policy, &net, address, &said).unwrap();
        check(&self.swarm);
        answer
    }

    /// Whom a host that lacks so much is told.
    fn told(&mut self, address: &str, left: u64) -> Vec<String> {
        addresses(&self.announce(address, said(left)))
    }

    /// A host that says how far it is. Whether it is to announce itself at once.
    fn progress(&mut self, address: &str, left: u64) -> bool {
        let again = self.swarm.progress(self.now, &self.policy, SocketAddr::new(address.parse().unwrap(), 6881), left);
        check(&self.swarm);
        again
    }

    fn is_gateway(&self, address: &str) -> bool {
        self.swarm.is_gateway(address.parse().unwrap())
    }

    fn stop(&mut self, address: &str) {
        self.announce(address, Announce { event: Event::Stopped, ..said(1) });
    }
}

fn said(left: u64) -> Announce {
    let infohash = manifest::Hex([0; 20]);
    Announce { infohash, port: 6881, left, downloaded: 0, uploaded: 0, event: Event::Started, wanted: TOLD_MAX }
}

fn addresses(answer: &Answer) -> Vec<String> {
    answer.peers.iter().map(|peer| peer.ip().to_string()).collect()
}

/// How many of a place have everything, how many have not, and their order.
type Counted = (usize, usize, BTreeSet<(Order, SocketAddr)>);

/// What must hold whatever was announced.
fn check(swarm: &Swarm) {
    let mut places: BTreeMap<Place, Counted> = BTreeMap::new();
    for (key, peer) in &swarm.peers {
        let (complete, incomplete, queue) = places.entry(Place::of(&peer.net)).or_default();
        *if peer.is_complete() { complete } else { incomplete } += 1;
        queue.insert((peer.order, *key));
        assert_eq!(swarm.places[&Place::of(&peer.net)].rooms[&peer.net.room][peer.seat], *key);
    }
    let kept: BTreeMap<Place, Counted> = swarm
        .places
        .iter()
        .map(|(place, members)| (place.clone(), (members.complete, members.incomplete, members.queue.clone())))
        .collect();
    assert_eq!(places, kept);
    let in_rooms: usize = swarm.places.values().flat_map(|members| members.rooms.values()).map(Vec::len).sum();
    assert_eq!(in_rooms, swarm.peers.len());
}

#[test]
fn only_the_first_of_a_building_is_told_the_servers() {
    let mut lab = Lab::new();
    assert!(lab.told(SERVER, 0).is_empty());
    assert_eq!(lab.told("10.1.1.1", SIZE), [SERVER]);
    assert_eq!(lab.told("10.1.1.2", SIZE), ["10.1.1.1"]);
    assert_eq!(lab.told("10.1.1.1", SIZE), [SERVER, "10.1.1.2"]);
    assert!(lab.swarm.is_gateway("10.1.1.1".parse().unwrap()) && !lab.swarm.is_gateway("10.1.1.2".parse().unwrap()));
    // Another building: its first host is told the first of the other one, too, and is told to it.
    assert_eq!(lab.told("10.2.1.1", SIZE), [SERVER, "10.1.1.1"]);
    assert_eq!(lab.told("10.2.1.2", SIZE), ["10.2.1.1"]);
    assert_eq!(lab.told("10.1.1.1", SIZE), [SERVER, "10.2.1.1", "10.1.1.2"]);
    assert!(lab.told(SERVER, 0).is_empty(), "a server opens nothing");
}

#[test]
fn the_own_room_comes_first() {
    let mut lab = Lab::new();
    for room in 1..=2 {
        for host in 1..=3 {
            lab.told(&format!("10.1.{room}.{host}"), SIZE);
        }
    }
    let told = lab.told("10.1.2.3", SIZE);
    assert_eq!(told.len(), 5);
    assert!(told[..2].iter().all(|address| address.starts_with("10.1.2.")), "{told:?}");
}

#[test]
fn a_building_may_have_more_gateways() {
    let buildings = [("b2".to_owned(), Building { gateways: Some(2), uplink_bytes_per_second: None })];
    let mut lab = Lab::with(&Tracker::default(), buildings.into());
    lab.told(SERVER, 0);
    let gateways = |lab: &mut Lab, building: u8| {
        (1..=3).filter(|host| lab.told(&format!("10.{building}.1.{host}"), SIZE).contains(&SERVER.to_owned())).count()
    };
    assert_eq!((gateways(&mut lab, 1), gateways(&mut lab, 2)), (1, 2));
}

#[test]
fn once_one_has_everything_nobody_needs_the_outside() {
    let mut lab = Lab::new();
    for (address, left) in [(SERVER, 0), ("10.1.1.1", SIZE), ("10.1.1.2", SIZE), ("10.1.1.3", SIZE)] {
        lab.told(address, left);
    }
    lab.announce("10.1.1.3", Announce { event: Event::Completed, ..said(0) });
    let again = lab.announce("10.1.1.3", Announce { event: Event::None, ..said(0) });
    assert!(again.peers.is_empty(), "who has everything opens nothing");
    assert_eq!(lab.told("10.1.1.1", 10), ["10.1.1.2", "10.1.1.3"]);
    assert!(!lab.swarm.is_gateway("10.1.1.1".parse().unwrap()));
    // A host that wakes later finds everything in its building ...
    lab.pass(20);
    lab.told("10.1.1.3", 0);
    assert!(!lab.told("10.1.1.4", SIZE).contains(&SERVER.to_owned()));
    // ... and other buildings still find its first host.
    assert_eq!(lab.told("10.2.1.1", SIZE), [SERVER, "10.1.1.1"]);
    // The finisher goes: the first that lacks something fetches from outside again.
    lab.stop("10.1.1.3");
    assert!(lab.told("10.1.1.1", 10).contains(&SERVER.to_owned()));
}

#[test]
fn who_begins_with_everything_is_told_who_in_its_building_lacks_something() {
    let mut lab = Lab::new();
    for (address, left) in
        [("10.1.2.1", SIZE), ("10.1.1.2", SIZE), ("10.1.1.3", 0), ("10.2.1.1", SIZE), ("10.254.0.1", SIZE), ("10.0.0.3", SIZE)]
    {
        lab.told(address, left);
    }
    assert_eq!(lab.told("10.1.1.4", 0), ["10.1.1.2", "10.1.2.1"]);
    // Neither servers nor wireless hosts, which would go on with strangers.
    assert_eq!((lab.told(SERVER, 0), lab.told("10.254.0.2", 0)), (vec![], vec![]));
}

#[test]
fn a_gateway_that_goes_or_is_silent_is_replaced() {
    let mut lab = Lab::new();
    for (address, left) in [(SERVER, 0), ("10.1.1.1", SIZE), ("10.1.1.2", SIZE), ("10.1.1.3", SIZE)] {
        lab.told(address, left);
    }
    lab.stop("10.1.1.1");
    assert_eq!(lab.told("10.1.1.2", SIZE), [SERVER, "10.1.1.3"]);
    // 10.1.1.2 loses its power.
    for _ in 0..2 {
        lab.pass(10);
        lab.told(SERVER, 0);
        assert_eq!(lab.told("10.1.1.3", SIZE), ["10.1.1.2"]);
    }
    lab.pass(10);
    lab.told(SERVER, 0);
    assert_eq!(lab.told("10.1.1.3", SIZE), [SERVER], "after three intervals");
    // All are gone; the next one begins anew.
    lab.pass(31);
    lab.told(SERVER, 0);
    assert_eq!(lab.told("10.1.1.4", SIZE), [SERVER]);
    let Replaced { stalled, slow, silent, stopped } = lab.swarm.replaced;
    assert_eq!((stalled, slow, silent, stopped), (0, 0, 2, 1));
}

#[test]
fn a_gateway_that_gets_nothing_goes_to_the_end() {
    let mut lab = Lab::new();
    for (address, left) in [(SERVER, 0), ("10.1.1.1", SIZE), ("10.1.1.2", SIZE), ("10.1.1.3", SIZE)] {
        lab.told(address, left);
    }
    let is_gateway = |lab: &Lab, host: u8| lab.swarm.is_gateway(IpAddr::from([10, 1, 1, host]));
    let mut left = SIZE;
    for round in 1..=6 {
        lab.pass(10);
        lab.told(SERVER, 0);
        // Fast enough not to be slow.
        left = 3_u64.saturating_sub(round) * 150 + 100;
        lab.told("10.1.1.1", left);
        lab.told("10.1.1.2", SIZE);
        lab.told("10.1.1.3", SIZE);
        assert_eq!((is_gateway(&lab, 1), is_gateway(&lab, 2)), (round < 6, round == 6), "round {round}");
    }
    assert_eq!(lab.told("10.1.1.2", SIZE)[0], SERVER);
    assert!(lab.told("10.1.1.2", SIZE).contains(&"10.1.1.1".to_owned()), "its building still has it");
    // So do the next ones, by turns, until it is the first one's turn again.
    for host in [2, 3, 1] {
        assert!(is_gateway(&lab, host), "{host}");
        for _ in 0..3 {
            lab.pass(10);
            lab.told(SERVER, 0);
            for host in [1, 2, 3] {
                lab.told(&format!("10.1.1.{host}"), if host == 1 { left } else { SIZE });
            }
        }
        lab.told(&format!("10.1.1.{}", host % 3 + 1), if host == 3 { left } else { SIZE });
    }
    assert_eq!(lab.swarm.replaced.stalled, 4);
}

/// Gateways of two buildings, elected at 0; what each gets in a second for five seconds, of an image of 100,000 bytes.
fn two_buildings(quick: u64, slow: u64) -> Lab {
    race(Lab::new(), quick, slow)
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

#[test]
fn a_slow_gateway_loses_its_place_to_a_quicker_host() {
    let mut lab = two_buildings(8000, 1000);
    assert_eq!(lab.told("10.2.1.2", 100_000), [SERVER, "10.1.1.1", "10.2.1.1"], "it is tried at once");
    assert_eq!(lab.told("10.2.1.3", 100_000).len(), 2, "one at a time");
    // At first it gets what the gateway has brought. That proves nothing.
    lab.pass(1);
    lab.progress("10.2.1.2", 97_000);
    assert_eq!(lab.swarm.replaced.slow, 0);
    lab.pass(2);
    assert!(lab.is_gateway("10.2.1.1"));
    lab.progress("10.2.1.2", 80_000);
    assert_eq!(lab.swarm.replaced.slow, 1);
    assert_eq!((lab.is_gateway("10.2.1.1"), lab.is_gateway("10.2.1.2")), (false, true));
    // The slow one hears of it with its next word, and from then on its building brings it what it lacks.
    assert!(lab.progress("10.2.1.1", 94_000));
    assert_eq!(lab.told("10.2.1.1", 94_000), ["10.2.1.2", "10.2.1.3"]);
    assert!(!lab.progress("10.2.1.1", 94_000), "once");
    // It is not tried again, and the new one, which is as quick as the other building's, is left alone.
    for round in 1..=5 {
        lab.pass(3);
        lab.progress("10.1.1.1", 76_000 - 8000 * round);
        assert!(!lab.progress("10.2.1.2", 80_000 - 8000 * round));
        for waiting in ["10.2.1.1", "10.2.1.3"] {
            assert!(!lab.progress(waiting, 90_000) && !lab.is_gateway(waiting));
        }
    }
}

#[test]
fn in_the_first_seconds_only_a_large_difference_is_slow() {
    for (slow, tried) in [(1000, false), (800, true)] {
        let mut lab = Lab::new();
        lab.swarm.size_bytes = 100_000;
        for (address, left) in [(SERVER, 0), ("10.1.1.1", 100_000), ("10.2.1.1", 100_000)] {
            lab.told(address, left);
        }
        lab.pass(3);
        lab.progress("10.1.1.1", 100_000 - 3 * 7000);
        lab.progress("10.2.1.1", 100_000 - 3 * slow);
        assert_eq!(lab.told("10.2.1.2", 100_000).contains(&SERVER.to_owned()), tried, "{slow}");
    }
}

#[test]
fn a_slow_uplink_is_found_out_by_one_trial_and_the_next_is_later_and_later() {
    let mut lab = two_buildings(8000, 100);
    let (mut left, mut trials) = (99_700, Vec::new());
    for second in 4..900 {
        lab.pass(1);
        left -= 100;
        // The other building goes on; in this one all have what any of them has.
        lab.told("10.1.1.1", 76_000);
        for host in ["10.2.1.1", "10.2.1.2", "10.2.1.3", "10.2.1.4", "10.2.1.5"] {
            let before = lab.is_gateway(host);
            if lab.progress(host, left) || second % 10 == 0 {
                lab.told(host, left);
            }
            if host != "10.2.1.1" && !before && lab.is_gateway(host) {
                trials.push(second);
            }
        }
        lab.told(SERVER, 0);
        assert!(lab.is_gateway("10.2.1.1"));
    }
    assert_eq!(lab.swarm.replaced.slow, 0);
    let pauses: Vec<u64> = trials.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(matches!(pauses[..], [80..100, 260..280]), "{trials:?}");
}

/// The challenger 10.2.1.3, whose building has another host that came before it, for a gateway that gets 1000 bytes a second.
fn trial() -> Lab {
    let mut lab = Lab::new();
    lab.swarm.size_bytes = 100_000;
    for host in ["10.2.1.1", "10.2.1.2", "10.2.1.3"] {
        lab.told(host, 100_000);
    }
    let mut lab = race(lab, 8000, 1000);
    lab.announce("10.2.1.3", on_its_way(95_000));
    assert!(lab.is_gateway("10.2.1.3"));
    lab
}

fn on_its_way(left: u64) -> Announce {
    Announce { event: Event::None, ..said(left) }
}

#[test]
fn a_challenger_that_is_not_better_lets_go_of_the_outside() {
    for by_announce in [false, true] {
        let mut lab = trial();
        for seconds in 1..=19 {
            lab.pass(1);
            lab.announce(SERVER, on_its_way(0));
            for host in ["10.1.1.1", "10.2.1.1", "10.2.1.3"] {
                lab.announce(host, on_its_way(95_000 - 1000 * seconds));
                assert!(!lab.progress(host, 95_000 - 1000 * seconds) && lab.is_gateway(host));
            }
        }
        lab.pass(1);
        if by_announce {
            assert_eq!(addresses(&lab.announce("10.2.1.3", on_its_way(76_000))), ["10.2.1.1", "10.2.1.2"]);
        }
        // It keeps the servers that it knows, whatever it announces, until it begins anew.
        assert!(lab.progress("10.2.1.3", 76_000), "{by_announce}");
        lab.announce("10.2.1.3", on_its_way(76_000));
        assert!(lab.progress("10.2.1.3", 76_000), "{by_announce}");
        assert_eq!(lab.told("10.2.1.3", 76_000), ["10.2.1.1", "10.2.1.2"]);
        assert!(!lab.progress("10.2.1.3", 76_000));
    }
}

#[test]
fn a_gateway_that_is_replaced_lets_go_of_the_outside() {
    let mut lab = trial();
    lab.pass(3);
    lab.progress("10.2.1.3", 80_000);
    assert_eq!((lab.swarm.replaced.slow, lab.is_gateway("10.2.1.1")), (1, false));
    lab.announce("10.2.1.1", on_its_way(92_000));
    assert!(lab.progress("10.2.1.1", 92_000), "an announce in between is no beginning");
    lab.told("10.2.1.1", 92_000);
    assert!(!lab.progress("10.2.1.1", 92_000));
    // One that got nothing, as well.
    let mut lab = Lab::new();
    for (address, left) in [(SERVER, 0), ("10.1.1.1", SIZE), ("10.1.1.2", SIZE)] {
        lab.told(address, left);
    }
    for round in 1..=6 {
        lab.pass(10);
        for (address, left) in [(SERVER, 0), ("10.1.1.1", SIZE), ("10.1.1.2", SIZE)] {
            lab.announce(address, on_its_way(left));
        }
        assert_eq!(lab.progress("10.1.1.1", SIZE), round >= 3, "{round}");
        assert_eq!(lab.progress("10.1.1.2", SIZE), round == 6, "{round}");
    }
}

#[test]
fn a_challenger_that_a_server_lets_wait_makes_up_for_it() {
    let mut lab = trial();
    for second in 1..=20_u64 {
        lab.pass(1);
        lab.announce(SERVER, on_its_way(0));
        lab.progress("10.2.1.1", 95_000 - 1000 * second);
        // First it gets what the gateway brings.
        lab.progress("10.2.1.3", 95_000 - 1000 * second - 6000 * second.saturating_sub(11));
        assert_eq!(lab.swarm.replaced.slow, u64::from(second >= 17), "{second}");
    }
    assert_eq!((lab.is_gateway("10.2.1.1"), lab.is_gateway("10.2.1.3")), (false, true));
}

#[test]
fn a_challenger_whose_gateway_goes_takes_its_place() {
    let mut lab = trial();
    lab.announce("10.2.1.2", on_its_way(95_000));
    lab.stop("10.2.1.1");
    assert!(!lab.progress("10.2.1.2", 95_000));
    for host in ["10.2.1.3", "10.2.1.2"] {
        lab.announce(host, on_its_way(95_000));
        assert_eq!(lab.is_gateway(host), host == "10.2.1.3");
    }
    // It went, and was not found slow.
    assert_eq!((lab.swarm.replaced.slow, lab.swarm.replaced.stopped), (0, 1));
    // One that has everything needs no challenger, and its building no outside.
    let mut lab = trial();
    lab.announce("10.2.1.1", Announce { event: Event::Completed, ..said(0) });
    assert!(lab.progress("10.2.1.3", 95_000) && !lab.is_gateway("10.2.1.3"));
}

#[test]
fn a_challenger_that_goes_has_shown_nothing() {
    let mut lab = trial();
    lab.announce("10.2.1.4", on_its_way(95_000));
    assert!(!lab.is_gateway("10.2.1.4"), "one at a time");
    lab.stop("10.2.1.3");
    lab.announce("10.2.1.4", on_its_way(95_000));
    assert_eq!((lab.is_gateway("10.2.1.1"), lab.is_gateway("10.2.1.4")), (true, true));
}

#[test]
fn only_what_comes_from_outside_is_what_a_gateway_can_get() {
    // What a host has when it begins again was on its disk.
    let mut lab = two_buildings(4000, 1900);
    lab.told("10.1.1.1", 1000);
    lab.progress("10.1.1.1", 900);
    assert!(!lab.told("10.2.1.2", 100_000).contains(&SERVER.to_owned()));
    // A challenger gets from its building what the gateway has brought.
    let mut lab = race(Lab::new(), 4000, 900);
    lab.told("10.3.1.1", 100_000);
    assert!(lab.told("10.2.1.2", 100_000).contains(&SERVER.to_owned()));
    lab.told("10.3.1.1", 100_000);
    lab.pass(5);
    for (address, left) in [("10.2.1.1", 91_000), ("10.2.1.2", 92_000), ("10.3.1.1", 92_500)] {
        lab.progress(address, left);
    }
    lab.pass(3);
    lab.progress("10.2.1.1", 60_000);
    lab.progress("10.2.1.2", 62_000);
    lab.told("10.3.1.2", 100_000);
    assert!(!lab.is_gateway("10.3.1.2"), "{:?}", lab.swarm.best);
}

#[test]
fn a_building_alone_finds_out_as_well() {
    let mut lab = Lab::new();
    lab.swarm.size_bytes = 100_000;
    lab.told(SERVER, 0);
    lab.told("10.1.1.1", 100_000);
    lab.told("10.1.1.2", 100_000);
    assert!(!lab.progress("10.1.1.2", 100_000), "nothing is known yet");
    lab.pass(3);
    lab.progress("10.1.1.1", 97_000);
    // The first that says something is to come at once; meanwhile the next one is not asked to.
    assert!(lab.progress("10.1.1.2", 99_000));
    lab.told("10.1.1.3", 100_000);
    assert!(!lab.is_gateway("10.1.1.2") || lab.is_gateway("10.1.1.3"));
    let tried = if lab.is_gateway("10.1.1.3") { "10.1.1.3" } else { "10.1.1.2" };
    lab.pass(3);
    // It has everything before anybody looked.
    lab.announce(tried, Announce { event: Event::Completed, ..said(0) });
    assert_eq!(lab.swarm.replaced.slow, 1);
}

#[test]
fn a_gateway_that_is_quick_or_nearly_done_or_waits_for_others_is_left_alone() {
    let refuses = |lab: &mut Lab| {
        assert!(!lab.told("10.2.1.2", 100_000).contains(&SERVER.to_owned()));
        assert!(!lab.progress("10.2.1.2", 99_000));
    };
    refuses(&mut two_buildings(8000, 2100)); // more than a quarter
    let mut nearly_done = two_buildings(20_000, 1000);
    nearly_done.pass(3);
    nearly_done.progress("10.2.1.1", 60_000);
    nearly_done.pass(3);
    nearly_done.progress("10.2.1.1", 15_000);
    refuses(&mut nearly_done);
    // Nobody has anything to give.
    let mut lab = two_buildings(8000, 1000);
    lab.stop(SERVER);
    refuses(&mut lab);
    // Nothing came at all: that is another fault, and three intervals long none.
    refuses(&mut two_buildings(8000, 0));
    // It cannot be told from an uplink that may carry no more.
    let budget = |bytes| [("b2".to_owned(), Building { gateways: None, uplink_bytes_per_second: Some(bytes) })].into();
    refuses(&mut race(Lab::with(&Tracker::default(), budget(3900)), 8000, 1000));
    refuses_nothing(&mut race(Lab::with(&Tracker::default(), budget(4100)), 8000, 1000));
    // No wireless host is tried.
    let mut lab = two_buildings(8000, 1000);
    lab.told("10.254.0.9", 100_000);
    assert!(!lab.progress("10.254.0.9", 99_000));
    refuses_nothing(&mut lab);
}

/// The trial is still to be had.
fn refuses_nothing(lab: &mut Lab) {
    assert!(lab.progress("10.2.1.2", 99_000) || lab.told("10.2.1.2", 99_000).contains(&SERVER.to_owned()));
}

#[test]
fn a_gateway_that_falls_to_a_part_of_what_it_got_is_replaced() {
    let mut lab = Lab::new();
    lab.swarm.size_bytes = 100_000;
    for (address, left) in [(SERVER, 0), ("10.2.1.1", 100_000), ("10.1.1.1", 100_000)] {
        lab.told(address, left);
    }
    let mut left = 100_000;
    for second in 1..=60 {
        lab.pass(1);
        left -= if second <= 10 { 4000 } else { 100 };
        lab.progress("10.1.1.1", left);
        lab.progress("10.2.1.1", 100_000 - 500 * second);
        if lab.progress("10.1.1.2", left.max(50_000)) {
            assert!(second > 10, "while it is quick it is left alone");
            assert!(lab.told("10.1.1.2", left).contains(&SERVER.to_owned()));
            return;
        }
        if second % 10 == 0 {
            for (address, left) in [(SERVER, 0), ("10.1.1.1", left), ("10.1.1.2", left)] {
                lab.told(address, left);
            }
        }
    }
    panic!("nobody was tried");
}

#[test]
fn nobody_is_blamed_while_there_is_nothing_to_get() {
    let mut lab = Lab::new();
    lab.told("10.1.1.1", SIZE);
    for _ in 0..20 {
        lab.pass(10);
        lab.told("10.2.1.1", SIZE);
        lab.told("10.1.1.1", SIZE);
        lab.told("10.1.1.2", SIZE);
    }
    assert!(lab.swarm.is_gateway([10, 1, 1, 1].into()));
    // The server comes at last.
    lab.told(SERVER, 0);
    assert!(lab.told("10.1.1.2", SIZE).contains(&"10.1.1.1".to_owned()));
    lab.told("10.1.1.1", SIZE);
    assert!(lab.told("10.1.1.2", SIZE).contains(&SERVER.to_owned()), "the gateway had its time");
}

#[test]
fn a_host_that_its_building_does_not_help_is_told_the_servers() {
    let mut lab = Lab::new();
    lab.told(SERVER, 0);
    lab.told("10.1.1.1", 0);
    // Its firewall lets nobody in.
    for round in 0..3 {
        assert_eq!(lab.told("10.1.1.2", SIZE), ["10.1.1.1"], "round {round}");
        lab.pass(10);
        lab.told(SERVER, 0);
        lab.told("10.1.1.1", 0);
    }
    assert_eq!(lab.told("10.1.1.2", SIZE), [SERVER, "10.1.1.1"]);
    assert_eq!(lab.told("10.1.1.2", SIZE - 1), ["10.1.1.1"], "it moves, and needs no more addresses");
}

#[test]
fn wireless_hosts_get_the_servers_a_few_at_a_time_and_nothing_else() {
    let mut lab = Lab::new();
    lab.told(SERVER, 0);
    lab.told("10.1.1.1", SIZE);
    let servers = [SERVER.to_owned()];
    let told: Vec<Vec<String>> = (1..=4).map(|host| lab.told(&format!("10.254.0.{host}"), SIZE)).collect();
    assert_eq!(told, [&servers[..], &servers, &[], &[]]);
    assert_eq!(lab.announce("10.254.0.3", said(SIZE)).interval, Duration::from_secs(10), "it asks again soon");
    assert_eq!(lab.told("10.1.1.1", SIZE), servers, "a lab host is told no wireless one of its building");
    assert!(!lab.swarm.is_gateway([10, 254, 0, 1].into()));
    // The first has everything, the second goes.
    lab.told("10.254.0.1", 0);
    assert_eq!(lab.told("10.254.0.4", SIZE), Vec::<String>::new());
    assert_eq!(lab.told("10.254.0.3", SIZE), servers);
    lab.stop("10.254.0.2");
    assert_eq!(lab.told("10.254.0.4", SIZE), servers);
    // A complete wireless host does not make its building complete.
    assert_eq!(lab.told("10.1.1.1", SIZE), servers);
}

#[test]
fn a_new_server_fills_from_the_others() {
    let mut lab = Lab::new();
    lab.told(SERVER, 0);
    assert_eq!(lab.told("10.0.0.3", SIZE), [SERVER]);
    assert_eq!(lab.told("10.1.1.1", SIZE), [SERVER, "10.0.0.3"], "who has everything comes first");
    assert!(lab.told("10.0.0.3", 0).is_empty());
}

#[test]
fn hosts_behind_one_address_are_told_apart_by_their_ports() {
    let mut lab = Lab::new();
    lab.told(SERVER, 0);
    let on = |port: u16, left: u64| Announce { port, ..said(left) };
    lab.announce("10.1.1.1", on(6881, SIZE));
    let told = lab.announce("10.1.1.1", on(6882, SIZE)).peers;
    assert_eq!(told, ["10.1.1.1:6881".parse().unwrap()]);
    // 10,000 that are none: the address keeps what it may have, and nobody else is touched.
    lab.told("10.1.1.2", SIZE);
    for port in 10_000..20_000 {
        lab.pass(u64::from(port % 1000 == 0));
        let net = Arc::clone(lab.campus.find([10, 1, 1, 1].into()).unwrap());
        lab.swarm.announce(lab.now, &lab.policy, &net, [10, 1, 1, 1].into(), &on(port, SIZE)).unwrap();
    }
    check(&lab.swarm);
    assert_eq!(lab.swarm.peers().len(), 2 + PORTS_MAX);
    assert!(lab.swarm.peers().contains_key(&"10.1.1.2:6881".parse().unwrap()));
}

#[test]
fn a_swarm_is_bounded() {
    let mut lab = Lab::new();
    let net = Arc::clone(lab.campus.find([10, 200, 0, 0].into()).unwrap());
    for host in 0..PEERS_MAX as u32 {
        let address = IpAddr::V4((0x0ac8_0000 + host).into());
        lab.swarm.announce(lab.now, &lab.policy, &net, address, &said(SIZE)).unwrap();
    }
    let one_more = lab.swarm.announce(lab.now, &lab.policy, &net, [10, 200, 255, 255].into(), &said(SIZE));
    assert_eq!(one_more, Err(Full));
    check(&lab.swarm);
    lab.swarm.announce(lab.now, &lab.policy, &net, [10, 200, 0, 0].into(), &said(1)).unwrap();
    lab.pass(30);
    lab.swarm.sweep(lab.now);
    assert!(lab.swarm.peers().is_empty());
}

#[test]
fn a_client_gets_as_many_as_it_wants_at_most() {
    let mut lab = Lab::new();
    lab.told(SERVER, 0);
    for host in 1..=5 {
        lab.told(&format!("10.1.1.{host}"), SIZE);
    }
    for wanted in [0, 1, 3] {
        let answer = lab.announce("10.1.1.1", Announce { wanted, ..said(SIZE) });
        assert_eq!(answer.peers.len(), wanted);
        assert!(wanted == 0 || answer.peers[0].ip().to_string() == SERVER);
    }
}

#[test]
fn a_large_building_stays_connected_and_listens_to_the_tracker() {
    let mut lab = Lab::new();
    let hosts: Vec<String> = (1..=4).flat_map(|room| (1..=60).map(move |host| format!("10.1.{room}.{host}"))).collect();
    for host in &hosts {
        lab.told(host, SIZE);
    }
    let mut known: HashMap<&str, HashSet<String>> = HashMap::new();
    for host in &hosts {
        let told = lab.told(host, SIZE);
        let near = told.iter().filter(|other| other[..7] == host[..7]).count();
        assert_eq!((told.len(), near), (SOME_TOLD, SOME_TOLD * 3 / 4));
        for other in told {
            let other = hosts.iter().find(|known| **known == other).unwrap();
            known.entry(host).or_default().insert(other.clone());
            known.entry(other).or_default().insert(host.clone());
        }
    }
    let mut reached: HashSet<&str> = HashSet::new();
    let mut next = vec![hosts[0].as_str()];
    while let Some(host) = next.pop() {
        if reached.insert(host) {
            next.extend(known[host].iter().map(|other| hosts.iter().find(|known| *known == other).unwrap().as_str()));
        }
    }
    assert_eq!(reached.len(), hosts.len());
}

#[test]
fn many_buildings_leave_room_for_the_own_one() {
    let mut lab = Lab::new();
    lab.told(SERVER, 0);
    for building in 1..=100 {
        for host in 1..=2 {
            lab.told(&format!("10.{building}.1.{host}"), SIZE);
        }
    }
    let told = lab.told("10.1.1.1", SIZE);
    assert_eq!((told.len(), told[0].as_str()), (TOLD_MAX / 2 + 1, SERVER));
    assert_eq!(told.last().unwrap(), "10.1.1.2");
}

#[test]
fn a_tracker_that_starts_again_finds_the_old_gateway() {
    let mut lab = Lab::new();
    lab.now = Duration::from_secs(1);
    let again = |left| Announce { event: Event::None, ..said(left) };
    lab.announce(SERVER, again(0));
    // Nobody is told the outside by a tracker that knows half of a building: they are connected already.
    for (host, left) in [(2, 600), (3, 700), (1, 500)] {
        let answer = lab.announce(&format!("10.1.1.{host}"), again(left));
        assert!(!addresses(&answer).contains(&SERVER.to_owned()));
    }
    lab.now = Duration::from_secs(21);
    lab.announce(SERVER, again(0));
    for (host, left) in [(2, 500), (3, 600), (1, 400)] {
        let answer = lab.announce(&format!("10.1.1.{host}"), again(left));
        assert_eq!(addresses(&answer).contains(&SERVER.to_owned()), host == 1, "{host}");
    }
    // Who begins meanwhile is not kept waiting, also when the server comes after it.
    let mut lab = Lab::new();
    lab.now = Duration::ZERO;
    assert_eq!(lab.told("10.1.1.1", SIZE), [""; 0]);
    lab.told(SERVER, 0);
    lab.pass(10);
    assert_eq!(addresses(&lab.announce("10.1.1.1", again(SIZE))), [SERVER]);
    assert_eq!(lab.told("10.2.1.1", SIZE), [SERVER, "10.1.1.1"]);
}

#[test]
fn a_complete_building_is_asked_less_often() {
    let mut lab = Lab::new();
    let interval = |lab: &mut Lab, address: &str, left| lab.announce(address, said(left)).interval.as_secs();
    assert_eq!(interval(&mut lab, SERVER, 0), 10);
    assert_eq!(interval(&mut lab, "10.1.1.1", SIZE), 10);
    assert_eq!(interval(&mut lab, "10.1.1.1", 0), 60);
    assert_eq!(interval(&mut lab, "10.1.1.2", SIZE), 10);
    assert_eq!(interval(&mut lab, "10.1.1.1", 0), 10);
    assert_eq!(interval(&mut lab, "10.1.1.2", 0), 60);
    lab.pass(179);
    lab.told(SERVER, 0);
    assert_eq!(lab.told("10.1.1.3", SIZE).len(), 1, "who was told to come after 60 seconds is expected for 180");
    lab.pass(1);
    assert_eq!(lab.told("10.1.1.3", SIZE), [SERVER]);
}

#[test]
fn what_hosts_say_of_their_traffic_is_summed() {
    let mut lab = Lab::new();
    let moved = |downloaded, uploaded, left| Announce { downloaded, uploaded, ..said(left) };
    lab.announce("10.1.1.1", moved(0, 0, SIZE));
    lab.announce("10.1.1.1", moved(400, 50, SIZE - 400));
    lab.announce("10.1.1.1", moved(0, 0, SIZE)); // started again
    lab.announce("10.1.1.1", moved(i64::MAX as u64, 7, 0));
    lab.announce("10.1.1.2", moved(0, 0, i64::MAX as u64));
    for _ in 0..3 {
        lab.announce("10.1.1.2", moved(i64::MAX as u64, 0, i64::MAX as u64));
        lab.announce("10.1.1.2", moved(0, 0, 0));
    }
    let traffic = lab.swarm.traffic[&("b1".to_owned(), Role::Lab)];
    assert_eq!((traffic.downloaded, traffic.uploaded), (u64::MAX, 57));
    let peer = &lab.swarm.peers()[&"10.1.1.1:6881".parse().unwrap()];
    assert_eq!((peer.left, peer.complete_at), (0, Some(lab.now)));
    lab.announce("10.1.1.3", said(i64::MAX as u64));
    assert_eq!(lab.swarm.peers()[&"10.1.1.3:6881".parse().unwrap()].left, SIZE, "nobody lacks more than there is");
}

/// Nine buildings of 28 hosts and a server, in steps of a second. A host that knows another, or is known to it, can get from it
/// what it lacks: 4 pieces in a step, from outside of its building 1.
#[test]
fn nine_buildings_of_28_cross_each_uplink_once() {
    const PIECES: usize = 60;
    let mut lab = Lab::new();
    let mut hosts = vec![SERVER.to_owned()];
    hosts.extend((1..=9).flat_map(|building| (1..=28).map(move |host| format!("10.{building}.1.{host}"))));
    let index: HashMap<String, usize> = hosts.iter().enumerate().map(|(at, host)| (host.clone(), at)).collect();
    let building = |at: usize| if at == 0 { 0 } else { (at - 1) / 28 + 1 };
    let mut has = vec![vec![false; PIECES]; hosts.len()];
    has[0] = vec![true; PIECES];
    let mut knows: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); hosts.len()];
    let (mut crossed, mut sent) = ([0; 10], 0);
    let mut random = 1u64;
    for step in 0..2000 {
        for at in 0..hosts.len() {
            if step == 0 || (step + at) % 10 == 0 {
                let left = has[at].iter().filter(|has| !**has).count() as u64;
                let event = if step == 0 { Event::Started } else { Event::None };
                for other in addresses(&lab.announce(&hosts[at], Announce { event, ..said(left) })) {
                    knows[at].insert(index[&other]);
                    knows[index[&other]].insert(at);
                }
            }
        }
        for at in 1..hosts.len() {
            let mut outside = 1;
            for _ in 0..4 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let from = (random >> 33) as usize;
                let found = (0..PIECES).map(|piece| (piece + from) % PIECES).filter(|piece| !has[at][*piece]).find_map(|piece| {
                    let near = |other: &&usize| building(**other) == building(at);
                    let others = || knows[at].iter().filter(|other| has[**other][piece]);
                    others().find(near).or(others().rfind(|_| outside > 0)).map(|other| (piece, *other))
                });
                let Some((piece, other)) = found else { break };
                has[at][piece] = true;
                if building(other) != building(at) {
                    crossed[building(at)] += 1;
                    outside -= 1;
                }
                sent += usize::from(other == 0);
            }
        }
        lab.pass(1);
        if has.iter().all(|has| has.iter().all(|has| *has)) {
            assert!(step < 2 * PIECES, "{step} steps");
            let most = crossed.iter().max().unwrap();
            assert!(*most <= PIECES * 105 / 100, "crossings of {PIECES} pieces: {crossed:?}");
            assert!(sent <= 2 * PIECES, "the server sent {sent} pieces");
            return;
        }
    }
    panic!("they did not finish: {crossed:?}");
}

proptest! {
    #[test]
    fn whatever_is_announced_what_is_kept_stays_whole(
        announces in proptest::collection::vec((0u8..6, 0u8..3, 0u8..4, 0u64..3, 0u64..20, 0u8..5), 0..120),
        start in 0u64..40,
    ) {
        let mut lab = Lab::new();
        lab.now = Duration::from_secs(start);
        for (building, host, port, left, seconds, event) in announces {
            let address = match building {
                0 => format!("10.0.0.{host}"),
                5 => format!("10.254.0.{host}"),
                _ => format!("10.{building}.{}.{host}", host + 1),
            };
            let event = [Event::None, Event::Started, Event::Completed, Event::Stopped, Event::None][usize::from(event)];
            let answer = lab.announce(&address, Announce { port: 6881 + u16::from(port), event, ..said(left) });
            let own = SocketAddr::new(address.parse().unwrap(), 6881 + u16::from(port));
            prop_assert!(!answer.peers.contains(&own));
            let distinct: HashSet<&SocketAddr> = answer.peers.iter().collect();
            prop_assert_eq!(distinct.len(), answer.peers.len());
            prop_assert!(answer.peers.iter().all(|peer| lab.swarm.peers().contains_key(peer)));
            lab.pass(seconds);
        }
    }

    /// Hosts that come, go, begin anew, and say now that they lack much and now little.
    #[test]
    fn whatever_hosts_say_a_building_has_its_gateway_and_one_challenger_at_most(
        steps in proptest::collection::vec((1u8..3, 1u8..5, 0u8..9, 0u64..100, 0u64..5), 0..150),
    ) {
        let mut lab = race(Lab::new(), 8000, 1000);
        for (building, host, does, left, seconds) in steps {
            lab.announce(SERVER, on_its_way(0));
            let (address, left) = (format!("10.{building}.1.{host}"), 1000 * left);
            match does {
                0 => lab.stop(&address),
                1 => drop(lab.told(&address, left + 1)),
                2 | 3 => drop(lab.announce(&address, on_its_way(left + 1))),
                _ => drop(lab.progress(&address, left)),
            }
            lab.pass(seconds);
        }
        for building in 1..3 {
            let hosts = [1, 2, 3, 4].map(|host| format!("10.{building}.1.{host}"));
            // Twice: one that got nothing goes to the end when it says so, and the next one hears of it later.
            for host in hosts.iter().chain(&hosts) {
                lab.announce(host, on_its_way(100_000));
            }
            let fetch = hosts.iter().filter(|host| lab.is_gateway(host)).count();
            prop_assert!((1..=2).contains(&fetch), "{fetch} hosts fetch from outside");
        }
    }
}
