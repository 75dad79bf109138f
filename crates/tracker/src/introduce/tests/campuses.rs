//! Whole campuses, and arbitrary announces.

use super::*;

/// Nine buildings of 28 hosts and a server, in steps of a second. Two hosts of which one knows the
/// other exchange missing pieces: 4 in a step, or 1 between buildings.
#[test]
fn nine_buildings_of_28_cross_each_uplink_once() {
    const PIECES: usize = 60;
    let mut lab = Lab::new();
    let mut hosts = vec![SERVER.to_owned()];
    hosts.extend(
        (1..=9).flat_map(|building| (1..=28).map(move |host| format!("10.{building}.1.{host}"))),
    );
    let index: HashMap<String, usize> = hosts
        .iter()
        .enumerate()
        .map(|(at, host)| (host.clone(), at))
        .collect();
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
                let event = if step == 0 {
                    Event::Started
                } else {
                    Event::None
                };
                for other in addresses(&lab.announce(
                    &hosts[at],
                    Announce {
                        event,
                        ..said(left)
                    },
                )) {
                    knows[at].insert(index[&other]);
                    knows[index[&other]].insert(at);
                }
            }
        }
        for at in 1..hosts.len() {
            let mut outside = 1;
            for _ in 0..4 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let from = (random >> 33) as usize;
                let found = (0..PIECES)
                    .map(|piece| (piece + from) % PIECES)
                    .filter(|piece| !has[at][*piece])
                    .find_map(|piece| {
                        let near = |other: &&usize| building(**other) == building(at);
                        let others = || knows[at].iter().filter(|other| has[**other][piece]);
                        others()
                            .find(near)
                            .or(others().rfind(|_| outside > 0))
                            .map(|other| (piece, *other))
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
            assert!(
                *most <= PIECES * 105 / 100,
                "crossings of {PIECES} pieces: {crossed:?}"
            );
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

    /// Hosts come, go, restart, and report large and small remainders.
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
            // Twice: a gateway that received nothing moves to the end at its own announce, and the
            // next one learns that later.
            for host in hosts.iter().chain(&hosts) {
                lab.announce(host, on_its_way(100_000));
            }
            let fetch = hosts.iter().filter(|host| lab.is_gateway(host)).count();
            prop_assert!((1..=2).contains(&fetch), "{fetch} hosts fetch from outside");
        }
    }
}
