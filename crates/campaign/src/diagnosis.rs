//! The findings of a distribution, and their likely causes.
//!
//! A single slow machine in a fast room has a bad cable, wall point or switch port; a slow building
//! has a narrow uplink. Buildings are compared first, then machines within a building.

use campus::Role;
use page::numbers::duration;

use crate::known::{Known, medians};
use crate::report::{Building, Finding, State, What};

/// More crossings of an uplink than a gateway's mistakes explain.
const CROSSINGS_MAX: f64 = 1.2;

/// A rate below this share of the others' is slow.
const SLOW_SHARE: f64 = 0.5;

/// The minimum delay behind the others. Times are whole seconds, so short transfers prove nothing.
const SLOW_SECONDS: u64 = 5;

/// The minimum number of others; fewer do not show what is usual.
const OTHERS_MIN: usize = 2;

/// All findings, buildings first.
pub fn findings(buildings: &[Building], machines: &[Known]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for building in buildings {
        findings.extend(crossings(building));
        findings.extend(slow_building(&building.building, buildings, machines));
    }
    for machine in machines {
        if machine.state.is_done() {
            findings.extend(wireless(machine).or_else(|| server_only(machine, machines)));
            findings.extend(slow_host(machine, machines));
        } else {
            findings.push(not_done(machine));
        }
    }
    findings
}

fn crossings(building: &Building) -> Option<Finding> {
    let crossings = building
        .crossings
        .filter(|crossings| *crossings > CROSSINGS_MAX)?;
    Some(Finding {
        what: What::Crossings,
        building: building.building.clone(),
        room: None,
        name: None,
        bytes_per_second: None,
        others_bytes_per_second: None,
        seen: format!("the image came in {crossings:.2} times"),
        likely: vec![
            "a network of this building is not in campus.ini, or in another building there",
            "a gateway was replaced, or the tracker restarted, more than once",
            "another tracker, peer exchange or a web seed introduces machines to each other",
        ],
    })
}

/// Compares the machines on cables: those on wireless networks take another path.
fn slow_building(name: &str, all: &[Building], machines: &[Known]) -> Option<Finding> {
    let usual_of = |building: &str, of: fn(&Known) -> Option<u64>| {
        let wired = machines
            .iter()
            .filter(|machine| machine.building == building && machine.role != Role::Wireless);
        Some(medians(wired.filter_map(of).collect())?.0)
    };
    let elsewhere = |of| {
        let others = all.iter().filter(|other| other.building != name);
        medians(
            others
                .filter_map(|other| usual_of(&other.building, of))
                .collect(),
        )
    };
    let (rate_of, time_of) = (
        |machine: &Known| machine.bytes_per_second,
        |machine: &Known| machine.seconds,
    );
    let (rate, time) = (usual_of(name, rate_of)?, usual_of(name, time_of)?);
    // The better of two others counts, so that a second slow one excuses nothing.
    let ((_, usual), (usual_time, _)) = (elsewhere(rate_of)?, elsewhere(time_of)?);
    if rate as f64 >= usual as f64 * SLOW_SHARE || time < usual_time.saturating_add(SLOW_SECONDS) {
        return None;
    }
    let gateways = machines
        .iter()
        .filter(|machine| machine.building == name && machine.gateway);
    let gateways: Vec<_> = gateways.map(|machine| machine.name.as_str()).collect();
    let by = if gateways.is_empty() {
        String::new()
    } else {
        format!("; fetched by {}", gateways.join(", "))
    };
    Some(Finding {
        what: What::SlowBuilding,
        building: name.to_owned(),
        room: None,
        name: None,
        bytes_per_second: Some(rate),
        others_bytes_per_second: Some(usual),
        seen: format!(
            "the whole building was slow: {} each, elsewhere {}{by}",
            duration(time),
            duration(usual_time)
        ),
        likely: vec![
            "its uplink",
            "the cable or the switch port of the machine that fetched for it",
        ],
    })
}

fn about(machine: &Known, what: What, seen: String, likely: Vec<&'static str>) -> Finding {
    Finding {
        what,
        building: machine.building.clone(),
        room: Some(machine.room.clone()),
        name: Some(machine.name.clone()),
        bytes_per_second: machine.bytes_per_second,
        others_bytes_per_second: None,
        seen,
        likely,
    }
}

fn slow_host(machine: &Known, all: &[Known]) -> Option<Finding> {
    if machine.role == Role::Wireless {
        return None;
    }
    let (rate, seconds) = (machine.bytes_per_second?, machine.seconds?);
    let others = || {
        all.iter().filter(|other| {
            (&other.building, &other.room, other.role)
                == (&machine.building, &machine.room, machine.role)
                && other.name != machine.name
        })
    };
    let rates: Vec<_> = others()
        .filter_map(|other| other.bytes_per_second)
        .collect();
    if rates.len() < OTHERS_MIN {
        return None;
    }
    let (usual, _) = medians(rates)?;
    let (usual_seconds, _) = medians(others().filter_map(|other| other.seconds).collect())?;
    if rate as f64 >= usual as f64 * SLOW_SHARE
        || seconds < usual_seconds.saturating_add(SLOW_SECONDS)
    {
        return None;
    }
    let seen = format!(
        "slower than its room: {}, the others {}",
        duration(seconds),
        duration(usual_seconds)
    );
    let likely = vec![
        "a damaged cable",
        "a bad wall point",
        "a bad port of the switch",
        "a failing disk",
    ];
    Some(Finding {
        others_bytes_per_second: Some(usual),
        ..about(machine, What::SlowHost, seen, likely)
    })
}

fn wireless(machine: &Known) -> Option<Finding> {
    let alone = machine
        .server_only
        .unwrap_or(machine.building_bytes == Some(0));
    let seen = if alone {
        "on a wireless network: it reached only the servers"
    } else {
        "on a wireless network"
    };
    let likely = vec!["meant to be there; on a cable it would take part in its room"];
    (machine.role == Role::Wireless).then(|| about(machine, What::Wireless, seen.into(), likely))
}

/// A gateway has nothing from its building at first, and neither does a machine that came before
/// the building had data.
fn server_only(machine: &Known, all: &[Known]) -> Option<Finding> {
    let in_building = |other: &&Known| {
        other.building == machine.building && other.name != machine.name && other.state.is_done()
    };
    let received = machine.outside_bytes.is_some_and(|bytes| bytes > 0);
    let alone = machine
        .server_only
        .unwrap_or(machine.building_bytes == Some(0));
    if !(alone && received)
        || machine.gateway
        || all.iter().filter(in_building).count() < OTHERS_MIN
    {
        return None;
    }
    let seen = "it had nothing from its building, only from the servers".into();
    Some(about(
        machine,
        What::ServerOnly,
        seen,
        vec![
            "in another segment than its room",
            "a firewall between it and its room",
        ],
    ))
}

/// The causes that ssh's message suggests. Of an unknown host key it only reports that it could not
/// be verified.
fn no_login(said: &str) -> Vec<&'static str> {
    if said.contains("Host key for") && said.contains("has changed") {
        vec![
            "it was reinstalled, which changes its host key: put the new one into known_hosts",
            "another machine has its address",
        ]
    } else if said.contains("Host key") {
        vec!["its host key is not in known_hosts"]
    } else if said.contains("Permission denied") {
        vec!["the public key of the server is not in its authorized_keys"]
    } else {
        vec![
            "it is still starting, or stopping",
            "its disk is full or failing",
        ]
    }
}

fn not_done(machine: &Known) -> Finding {
    let unresolved = machine
        .said
        .as_ref()
        .is_some_and(|said| said.contains("Could not resolve"));
    let likely = match machine.state {
        _ if unresolved => vec!["its name has no address on this server"],
        State::NoLink => vec![
            "its power cable or network cable is not plugged in",
            "it stopped while starting, before its network came up: a weak BIOS battery",
            "its wall point or its port of the switch is dead",
        ],
        State::NoPing => vec![
            "it stopped while starting, in its firmware: a weak BIOS battery",
            "it is off",
        ],
        State::NoAgent => vec![
            "it is still starting",
            "its system started without ssh: its disk is full or failing",
        ],
        State::Lost | State::Unreachable => vec!["it was switched off", "its cable"],
        State::Hung => vec![
            "its disk is failing, or a file system of it hangs",
            "it has more to do than it can",
        ],
        State::NoLogin => no_login(machine.said.as_deref().unwrap_or_default()),
        State::Failed | State::Refused => {
            vec!["its message; distribute again once that is mended"]
        }
        State::InUse => vec!["another distribution; distribute again once that has ended"],
        _ => Vec::new(),
    };
    let status = machine
        .status
        .map_or(String::new(), |status| format!(" with status {status}"));
    let said = machine
        .said
        .as_ref()
        .map_or(String::new(), |said| format!(": {said}"));
    about(
        machine,
        What::NotDone,
        format!("{}{status}{said}", machine.state.words()),
        likely,
    )
}
