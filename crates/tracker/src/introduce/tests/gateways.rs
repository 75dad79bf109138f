//! Tests of the gateways: the hosts of a building that learn peers outside of it.

use super::*;

#[test]
fn only_the_first_of_a_building_is_told_the_servers() {
    let mut lab = Lab::new();
    assert!(lab.told(SERVER, 0).is_empty());
    assert_eq!(lab.told("10.1.1.1", SIZE), [SERVER]);
    assert_eq!(lab.told("10.1.1.2", SIZE), ["10.1.1.1"]);
    assert_eq!(lab.told("10.1.1.1", SIZE), [SERVER, "10.1.1.2"]);
    assert!(
        lab.swarm.is_gateway("10.1.1.1".parse().unwrap())
            && !lab.swarm.is_gateway("10.1.1.2".parse().unwrap())
    );
    // Another building: its first host also learns the first of the other one, and becomes known
    // there.
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
    assert!(
        told[..2]
            .iter()
            .all(|address| address.starts_with("10.1.2.")),
        "{told:?}"
    );
}

#[test]
fn a_building_may_have_more_gateways() {
    let buildings = [(
        "b2".to_owned(),
        Building {
            gateways: Some(2),
            uplink_bytes_per_second: None,
        },
    )];
    let mut lab = Lab::with(&Numbers::default(), buildings.into());
    lab.told(SERVER, 0);
    let gateways = |lab: &mut Lab, building: u8| {
        (1..=3)
            .filter(|host| {
                lab.told(&format!("10.{building}.1.{host}"), SIZE)
                    .contains(&SERVER.to_owned())
            })
            .count()
    };
    assert_eq!((gateways(&mut lab, 1), gateways(&mut lab, 2)), (1, 2));
}

#[test]
fn once_one_has_everything_nobody_needs_the_outside() {
    let mut lab = Lab::new();
    for (address, left) in [
        (SERVER, 0),
        ("10.1.1.1", SIZE),
        ("10.1.1.2", SIZE),
        ("10.1.1.3", SIZE),
    ] {
        lab.told(address, left);
    }
    lab.announce(
        "10.1.1.3",
        Announce {
            event: Event::Completed,
            ..said(0)
        },
    );
    let again = lab.announce(
        "10.1.1.3",
        Announce {
            event: Event::None,
            ..said(0)
        },
    );
    assert!(again.peers.is_empty(), "a complete host opens nothing");
    assert_eq!(lab.told("10.1.1.1", 10), ["10.1.1.2", "10.1.1.3"]);
    assert!(!lab.swarm.is_gateway("10.1.1.1".parse().unwrap()));
    // A host that wakes later finds everything in its building ...
    lab.pass(20);
    lab.told("10.1.1.3", 0);
    assert!(!lab.told("10.1.1.4", SIZE).contains(&SERVER.to_owned()));
    // ... and other buildings still find its first host.
    assert_eq!(lab.told("10.2.1.1", SIZE), [SERVER, "10.1.1.1"]);
    // The complete host leaves: the first incomplete one fetches from outside again.
    lab.stop("10.1.1.3");
    assert!(lab.told("10.1.1.1", 10).contains(&SERVER.to_owned()));
}

#[test]
fn complete_hosts_learn_who_lacks_something() {
    let mut lab = Lab::new();
    for (address, left) in [
        ("10.1.2.1", SIZE),
        ("10.1.1.2", SIZE),
        ("10.1.1.3", 0),
        ("10.2.1.1", SIZE),
        ("10.254.0.1", SIZE),
        ("10.0.0.3", SIZE),
    ] {
        lab.told(address, left);
    }
    assert_eq!(lab.told("10.1.1.4", 0), ["10.1.1.2", "10.1.2.1"]);
    // Neither servers nor wireless hosts, which would continue with strangers.
    assert_eq!(
        (lab.told(SERVER, 0), lab.told("10.254.0.2", 0)),
        (vec![], vec![])
    );
}

#[test]
fn a_gateway_that_goes_or_is_silent_is_replaced() {
    let mut lab = Lab::new();
    for (address, left) in [
        (SERVER, 0),
        ("10.1.1.1", SIZE),
        ("10.1.1.2", SIZE),
        ("10.1.1.3", SIZE),
    ] {
        lab.told(address, left);
    }
    lab.stop("10.1.1.1");
    assert_eq!(lab.told("10.1.1.2", SIZE), [SERVER, "10.1.1.3"]);
    // 10.1.1.2 loses power.
    for _ in 0..2 {
        lab.pass(10);
        lab.told(SERVER, 0);
        assert_eq!(lab.told("10.1.1.3", SIZE), ["10.1.1.2"]);
    }
    lab.pass(10);
    lab.told(SERVER, 0);
    assert_eq!(
        lab.told("10.1.1.3", SIZE),
        [SERVER],
        "after three intervals"
    );
    // All have left; the next host starts over.
    lab.pass(31);
    lab.told(SERVER, 0);
    assert_eq!(lab.told("10.1.1.4", SIZE), [SERVER]);
    let Replaced {
        stalled,
        slow,
        silent,
        stopped,
    } = lab.swarm.replaced;
    assert_eq!((stalled, slow, silent, stopped), (0, 0, 2, 1));
}

#[test]
fn a_gateway_that_gets_nothing_goes_to_the_end() {
    let mut lab = Lab::new();
    for (address, left) in [
        (SERVER, 0),
        ("10.1.1.1", SIZE),
        ("10.1.1.2", SIZE),
        ("10.1.1.3", SIZE),
    ] {
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
        assert_eq!(
            (is_gateway(&lab, 1), is_gateway(&lab, 2)),
            (round < 6, round == 6),
            "round {round}"
        );
    }
    assert_eq!(lab.told("10.1.1.2", SIZE)[0], SERVER);
    assert!(
        lab.told("10.1.1.2", SIZE).contains(&"10.1.1.1".to_owned()),
        "its building still has it"
    );
    // So do the next ones, in turn, until the first one's turn comes again.
    for host in [2, 3, 1] {
        assert!(is_gateway(&lab, host), "{host}");
        for _ in 0..3 {
            lab.pass(10);
            lab.told(SERVER, 0);
            for host in [1, 2, 3] {
                lab.told(
                    &format!("10.1.1.{host}"),
                    if host == 1 { left } else { SIZE },
                );
            }
        }
        lab.told(
            &format!("10.1.1.{}", host % 3 + 1),
            if host == 3 { left } else { SIZE },
        );
    }
    assert_eq!(lab.swarm.replaced.stalled, 4);
}

#[test]
fn a_host_that_its_building_does_not_help_is_told_the_servers() {
    let mut lab = Lab::new();
    lab.told(SERVER, 0);
    lab.told("10.1.1.1", 0);
    // Its firewall blocks all incoming connections.
    for round in 0..3 {
        assert_eq!(lab.told("10.1.1.2", SIZE), ["10.1.1.1"], "round {round}");
        lab.pass(10);
        lab.told(SERVER, 0);
        lab.told("10.1.1.1", 0);
    }
    assert_eq!(lab.told("10.1.1.2", SIZE), [SERVER, "10.1.1.1"]);
    assert_eq!(
        lab.told("10.1.1.2", SIZE - 1),
        ["10.1.1.1"],
        "it progresses, and needs no more addresses"
    );
}

#[test]
fn a_tracker_that_starts_again_finds_the_old_gateway() {
    let mut lab = Lab::new();
    lab.now = Duration::from_secs(1);
    let again = |left| Announce {
        event: Event::None,
        ..said(left)
    };
    lab.announce(SERVER, again(0));
    // A tracker that knows half of a building elects no gateway: its hosts are connected already.
    for (host, left) in [(2, 600), (3, 700), (1, 500)] {
        let answer = lab.announce(&format!("10.1.1.{host}"), again(left));
        assert!(!addresses(&answer).contains(&SERVER.to_owned()));
    }
    lab.now = Duration::from_secs(21);
    lab.announce(SERVER, again(0));
    for (host, left) in [(2, 500), (3, 600), (1, 400)] {
        let answer = lab.announce(&format!("10.1.1.{host}"), again(left));
        assert_eq!(
            addresses(&answer).contains(&SERVER.to_owned()),
            host == 1,
            "{host}"
        );
    }
    // A host that begins meanwhile does not wait, even if the server arrives after it.
    let mut lab = Lab::new();
    lab.now = Duration::ZERO;
    assert_eq!(lab.told("10.1.1.1", SIZE), [""; 0]);
    lab.told(SERVER, 0);
    lab.pass(10);
    assert_eq!(addresses(&lab.announce("10.1.1.1", again(SIZE))), [SERVER]);
    assert_eq!(lab.told("10.2.1.1", SIZE), [SERVER, "10.1.1.1"]);
}
