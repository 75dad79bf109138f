//! Links that are slower than they could be, gone, or switched off.

use super::{FIRST_BOOT, actions, known, told};
use crate::machine::Machine;

#[test]
fn a_slow_link_is_told_when_it_stays_slow() {
    let machine = known();
    let at = |uptime| machine.boot(FIRST_BOOT, uptime);
    machine.speed("eth0", Some(100));
    assert_eq!(told(&machine), Vec::<String>::new(), "it has just come up");
    at(3630);
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.speed("eth0", Some(1000));
    assert_eq!(
        told(&machine),
        Vec::<String>::new(),
        "that was too early to read it"
    );
    at(4000);
    machine.speed("eth0", Some(100));
    assert_eq!(
        told(&machine),
        Vec::<String>::new(),
        "and this is another time"
    );
    at(4061);
    let ended = machine.run(&["changes"]);
    assert_eq!(
        ended.lines()[0]["message"],
        "the interface 00:1b:21:0a:0b:0c is worse: 100 Mb/s (before: 1000 Mb/s)"
    );
    machine.speed("eth0", Some(10));
    assert_eq!(
        machine.run(&["changes"]).stdout,
        "",
        "how slow is in the report"
    );
    machine.run(&["accept"]);
    at(9000);
    assert_eq!(told(&machine), Vec::<String>::new(), "accepted");
    machine.speed("eth0", None);
    assert_eq!(told(&machine), Vec::<String>::new());
    at(9060);
    assert_eq!(told(&machine), ["link_degraded"], "the cable is out");
}

/// What both ends offer is what a link could be, or a machine whose cable was always bad would
/// never tell.
#[test]
fn a_link_that_was_always_slow_is_told() {
    let machine = Machine::optiplex();
    machine.speed("eth0", Some(100));
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.boot(FIRST_BOOT, 3600 + 60);
    assert_eq!(told(&machine), ["link_degraded"]);

    // So is one that came up only after the first look.
    let machine = Machine::optiplex();
    machine.speed("eth0", None);
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.speed("eth0", Some(100));
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.boot(FIRST_BOOT, 3600 + 60);
    let ended = machine.run(&["changes"]);
    assert_eq!(
        ended.lines()[0]["message"],
        "the interface 00:1b:21:0a:0b:0c is worse: 100 Mb/s (before: 1000 Mb/s)"
    );

    // A technician who knows why says so once.
    machine.run(&["accept"]);
    machine.boot(FIRST_BOOT, 9000);
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.boot(FIRST_BOOT, 9060);
    assert_eq!(told(&machine), Vec::<String>::new());
}

#[test]
fn a_new_interface_is_told_with_its_slow_link() {
    let machine = known();
    machine.wired("eth1", "00:1b:21:0a:0b:0d", Some(100));
    machine.netlink(r#"{"best_speeds":{"eth0":1000000000,"eth1":1000000000}}"#);
    assert_eq!(told(&machine), ["link_added"]);
    machine.boot(FIRST_BOOT, 3600 + 60);
    let [event] = machine.run(&["changes"]).lines().try_into().unwrap();
    assert_eq!(
        event["message"],
        "the interface 00:1b:21:0a:0b:0d is worse: 100 Mb/s (before: 1000 Mb/s)"
    );
    machine.run(&["accept"]);
    machine.boot(FIRST_BOOT, 9000);
    assert_eq!(told(&machine), Vec::<String>::new());
}

/// Nobody can know whether it has a link: reading that fails.
#[test]
fn an_interface_that_somebody_switched_off_is_no_fault() {
    let machine = known();
    let at = |uptime| machine.boot(FIRST_BOOT, uptime);
    let down = || machine.write("sys/class/net/eth0/carrier", "");
    down();
    for uptime in [4000, 4100] {
        at(uptime);
        assert_eq!(told(&machine), Vec::<String>::new());
    }
    // Accepted like that, what it was is not forgotten.
    machine.run(&["accept"]);
    machine.speed("eth0", Some(100));
    at(5000);
    assert_eq!(told(&machine), Vec::<String>::new());
    at(5100);
    assert_eq!(told(&machine), ["link_degraded"]);
    down();
    at(6000);
    let ended = machine.run(&["changes"]);
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (1, ""),
        "what cannot be read is not gone"
    );
}

#[test]
fn an_interface_whose_address_somebody_set_is_the_same() {
    let machine = Machine::optiplex();
    machine.netlink(r#"{"permanent_addresses":{"eth0":"00:1b:21:0a:0b:0c"}}"#);
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.write("sys/class/net/eth0/address", "02:00:00:00:00:01\n");
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.netlink(r#"{"permanent_addresses":{"eth0":"00:1b:21:0a:0b:ff"}}"#);
    assert_eq!(
        told(&machine),
        ["link_removed", "link_added"],
        "this is another one"
    );
}

/// What is told is what is so: a slow link that is gone by now is one without a link, and an event.
#[test]
fn a_slow_link_that_is_gone_is_told_as_it_is() {
    let machine = known();
    let at = |uptime| machine.boot(FIRST_BOOT, uptime);
    let after = || machine.host()["changes"][0]["after"].clone();
    machine.speed("eth0", Some(100));
    told(&machine);
    at(3700);
    assert_eq!(told(&machine), ["link_degraded"]);
    machine.speed("eth0", Some(10));
    assert_eq!(
        (machine.run(&["changes"]).stdout.as_str(), after()),
        ("", "10 Mb/s".into())
    );
    at(3800);
    machine.speed("eth0", None);
    let waits = machine.run(&["changes"]);
    assert_eq!(
        (waits.status, waits.stdout.as_str(), after()),
        (1, "", "no link".into())
    );
    at(3900);
    let ended = machine.run(&["changes"]);
    assert_eq!(
        ended.lines()[0]["message"],
        "the interface 00:1b:21:0a:0b:0c is worse: no link (before: 1000 Mb/s)"
    );
    assert_eq!(machine.host()["changes"].as_array().unwrap().len(), 1);
    assert_eq!(machine.run(&["changes"]).stdout, "", "told once");
    // That it is slow again is no event, and one that is gone again is.
    machine.speed("eth0", Some(100));
    assert_eq!(
        (machine.run(&["changes"]).stdout.as_str(), after()),
        ("", "100 Mb/s".into())
    );
    machine.speed("eth0", None);
    machine.run(&["changes"]);
    at(4000);
    assert_eq!(actions(&machine.run(&["changes"])), ["link_degraded"]);
}

/// Two ends of which one sends by turns and the other does not lose frames, at whatever speed.
#[test]
fn a_link_at_half_duplex_is_told() {
    let machine = known();
    let duplex = |duplex: &str| machine.write("sys/class/net/eth0/duplex", format!("{duplex}\n"));
    duplex("half");
    told(&machine);
    machine.boot(FIRST_BOOT, 3700);
    let ended = machine.run(&["changes"]);
    let message =
        "the interface 00:1b:21:0a:0b:0c is worse: 1000 Mb/s, half duplex (before: 1000 Mb/s)";
    assert_eq!(ended.lines()[0]["message"], message);
    machine.run(&["accept"]);
    assert_eq!(told(&machine), Vec::<String>::new());
    duplex("full");
    assert_eq!(told(&machine), Vec::<String>::new());
    duplex("half");
    told(&machine);
    machine.boot(FIRST_BOOT, 3800);
    assert_eq!(
        told(&machine),
        ["link_degraded"],
        "it was mended in between"
    );
}

/// Some drivers have a link and do not say how fast it is: that is neither better nor worse than
/// what was told, and nobody accepted it.
#[test]
fn a_speed_that_is_not_told_changes_nothing() {
    let machine = known();
    let silent = || {
        machine.write("sys/class/net/eth0/speed", "-1\n");
        machine.write("sys/class/net/eth0/duplex", "unknown\n");
    };
    silent();
    assert_eq!(told(&machine), Vec::<String>::new());
    assert_eq!(machine.host()["interfaces"][0].get("accepted"), None);
    machine.speed("eth0", Some(100));
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.boot(FIRST_BOOT, 3600 + 60);
    assert_eq!(told(&machine), ["link_degraded"]);
    silent();
    assert_eq!(machine.run(&["changes"]).status, 1);
    assert_eq!(machine.host()["changes"][0]["after"], "100 Mb/s");
    machine.speed("eth0", Some(1000));
    assert_eq!(told(&machine), Vec::<String>::new());
}

/// An interface that is back is not gone, whether or not it is switched on.
#[test]
fn an_interface_that_is_back_and_switched_off_is_not_gone() {
    let machine = Machine::optiplex();
    machine.wired("eth1", "00:1b:21:0a:0b:0d", Some(1000));
    assert_eq!(told(&machine), Vec::<String>::new());
    machine.remove("sys/class/net/eth1");
    assert_eq!(told(&machine), ["link_removed"]);
    machine.wired("eth1", "00:1b:21:0a:0b:0d", None);
    machine.write("sys/class/net/eth1/carrier", "");
    assert_eq!(told(&machine), Vec::<String>::new());
}
