//! Tests of the trials: gateways that seem slow, and their challengers.

use super::*;

/// Gateways of two buildings, elected at 0; the arguments are the bytes that each receives per
/// second for five seconds, of an image of 100,000 bytes.
fn two_buildings(quick: u64, slow: u64) -> Lab {
    race(Lab::new(), quick, slow)
}

#[test]
fn a_slow_gateway_loses_its_place_to_a_quicker_host() {
    let mut lab = two_buildings(8000, 1000);
    assert_eq!(
        lab.told("10.2.1.2", 100_000),
        [SERVER, "10.1.1.1", "10.2.1.1"],
        "it is tried at once"
    );
    assert_eq!(lab.told("10.2.1.3", 100_000).len(), 2, "one at a time");
    // At first it receives what the gateway has brought, which proves nothing.
    lab.pass(1);
    lab.progress("10.2.1.2", 97_000);
    assert_eq!(lab.swarm.replaced.slow, 0);
    lab.pass(2);
    assert!(lab.is_gateway("10.2.1.1"));
    lab.progress("10.2.1.2", 80_000);
    assert_eq!(lab.swarm.replaced.slow, 1);
    assert_eq!(
        (lab.is_gateway("10.2.1.1"), lab.is_gateway("10.2.1.2")),
        (false, true)
    );
    // The slow one learns the result at its next report; from then on its building supplies it.
    assert!(lab.progress("10.2.1.1", 94_000));
    assert_eq!(lab.told("10.2.1.1", 94_000), ["10.2.1.2", "10.2.1.3"]);
    assert!(!lab.progress("10.2.1.1", 94_000), "once");
    // It is not tried again, and the new one, as fast as the other building's, is left alone.
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
        assert_eq!(
            lab.told("10.2.1.2", 100_000).contains(&SERVER.to_owned()),
            tried,
            "{slow}"
        );
    }
}

#[test]
fn a_slow_uplink_is_found_out_by_one_trial_and_the_next_is_later_and_later() {
    let mut lab = two_buildings(8000, 100);
    let (mut left, mut trials) = (99_700, Vec::new());
    for second in 4..900 {
        lab.pass(1);
        left -= 100;
        // The other building progresses; in this one every host has what any of them has.
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

/// The challenger 10.2.1.3, in a building with an earlier host, of a gateway that receives 1000
/// bytes per second.
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
            assert_eq!(
                addresses(&lab.announce("10.2.1.3", on_its_way(76_000))),
                ["10.2.1.1", "10.2.1.2"]
            );
        }
        // It keeps the servers that it knows, whatever it announces, until it restarts.
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
    assert_eq!(
        (lab.swarm.replaced.slow, lab.is_gateway("10.2.1.1")),
        (1, false)
    );
    lab.announce("10.2.1.1", on_its_way(92_000));
    assert!(
        lab.progress("10.2.1.1", 92_000),
        "an announce in between is no beginning"
    );
    lab.told("10.2.1.1", 92_000);
    assert!(!lab.progress("10.2.1.1", 92_000));
    // The same for one that received nothing.
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
        // First it receives what the gateway brings.
        lab.progress(
            "10.2.1.3",
            95_000 - 1000 * second - 6000 * second.saturating_sub(11),
        );
        assert_eq!(lab.swarm.replaced.slow, u64::from(second >= 17), "{second}");
    }
    assert_eq!(
        (lab.is_gateway("10.2.1.1"), lab.is_gateway("10.2.1.3")),
        (false, true)
    );
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
    // It left, and was not found slow.
    assert_eq!(
        (lab.swarm.replaced.slow, lab.swarm.replaced.stopped),
        (0, 1)
    );
    // A complete challenger ends the trial, and its building needs no outside.
    let mut lab = trial();
    lab.announce(
        "10.2.1.1",
        Announce {
            event: Event::Completed,
            ..said(0)
        },
    );
    assert!(lab.progress("10.2.1.3", 95_000) && !lab.is_gateway("10.2.1.3"));
}

#[test]
fn a_challenger_that_goes_has_shown_nothing() {
    let mut lab = trial();
    lab.announce("10.2.1.4", on_its_way(95_000));
    assert!(!lab.is_gateway("10.2.1.4"), "one at a time");
    lab.stop("10.2.1.3");
    lab.announce("10.2.1.4", on_its_way(95_000));
    assert_eq!(
        (lab.is_gateway("10.2.1.1"), lab.is_gateway("10.2.1.4")),
        (true, true)
    );
}

#[test]
fn only_what_comes_from_outside_is_what_a_gateway_can_get() {
    // The bytes that a host has when it restarts were on its disk.
    let mut lab = two_buildings(4000, 1900);
    lab.told("10.1.1.1", 1000);
    lab.progress("10.1.1.1", 900);
    assert!(!lab.told("10.2.1.2", 100_000).contains(&SERVER.to_owned()));
    // A challenger receives from its building what the gateway has brought.
    let mut lab = race(Lab::new(), 4000, 900);
    lab.told("10.3.1.1", 100_000);
    assert!(lab.told("10.2.1.2", 100_000).contains(&SERVER.to_owned()));
    lab.told("10.3.1.1", 100_000);
    lab.pass(5);
    for (address, left) in [
        ("10.2.1.1", 91_000),
        ("10.2.1.2", 92_000),
        ("10.3.1.1", 92_500),
    ] {
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
    // The first that reports must announce itself at once; the next one need not meanwhile.
    assert!(lab.progress("10.1.1.2", 99_000));
    lab.told("10.1.1.3", 100_000);
    assert!(!lab.is_gateway("10.1.1.2") || lab.is_gateway("10.1.1.3"));
    let tried = if lab.is_gateway("10.1.1.3") {
        "10.1.1.3"
    } else {
        "10.1.1.2"
    };
    lab.pass(3);
    // It completed before the trial was judged.
    lab.announce(
        tried,
        Announce {
            event: Event::Completed,
            ..said(0)
        },
    );
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
    // No other host has anything to give.
    let mut lab = two_buildings(8000, 1000);
    lab.stop(SERVER);
    refuses(&mut lab);
    // Nothing arrived at all: that is another fault, and only after three intervals.
    refuses(&mut two_buildings(8000, 0));
    // It is indistinguishable from an uplink that carries no more.
    let budget = |bytes| {
        [(
            "b2".to_owned(),
            Building {
                gateways: None,
                uplink_bytes_per_second: Some(bytes),
            },
        )]
        .into()
    };
    refuses(&mut race(
        Lab::with(&Numbers::default(), budget(3900)),
        8000,
        1000,
    ));
    refuses_nothing(&mut race(
        Lab::with(&Numbers::default(), budget(4100)),
        8000,
        1000,
    ));
    // A wireless host is not tried.
    let mut lab = two_buildings(8000, 1000);
    lab.told("10.254.0.9", 100_000);
    assert!(!lab.progress("10.254.0.9", 99_000));
    refuses_nothing(&mut lab);
}

/// The trial is still possible.
fn refuses_nothing(lab: &mut Lab) {
    assert!(
        lab.progress("10.2.1.2", 99_000)
            || lab.told("10.2.1.2", 99_000).contains(&SERVER.to_owned())
    );
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
    panic!("no host was tried");
}

#[test]
fn gateways_are_not_blamed_without_a_source() {
    let mut lab = Lab::new();
    lab.told("10.1.1.1", SIZE);
    for _ in 0..20 {
        lab.pass(10);
        lab.told("10.2.1.1", SIZE);
        lab.told("10.1.1.1", SIZE);
        lab.told("10.1.1.2", SIZE);
    }
    assert!(lab.swarm.is_gateway([10, 1, 1, 1].into()));
    // The server arrives at last.
    lab.told(SERVER, 0);
    assert!(lab.told("10.1.1.2", SIZE).contains(&"10.1.1.1".to_owned()));
    lab.told("10.1.1.1", SIZE);
    assert!(
        lab.told("10.1.1.2", SIZE).contains(&SERVER.to_owned()),
        "the gateway had its time"
    );
}
