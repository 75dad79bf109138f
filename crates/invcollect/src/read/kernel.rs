//! Queries of the running kernel by system calls: addresses, link modes, wireless networks.
//!
//! The kernel knows nothing of a machine in a directory (`--root DIR`), where `DIR/netlink.json`
//! may hold the answers instead.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use serde::Deserialize;

use crate::read::link_modes;
use crate::read::machine::{Machine, PATIENCE};
use crate::read::netlink;
use crate::read::wireless;

const RECORDED: &str = "/netlink.json";
const PERMANENT: &str = "interfaces[].permanent_mac";
const BEST_SPEED: &str = "interfaces[].best_speed_bits_per_second";

/// The kernel's answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answers {
    /// The addresses of each interface with the length of the prefix, in the kernel's order:
    /// `10.0.3.7/24`.
    pub addresses: HashMap<String, Vec<String>>,
    /// The permanent Ethernet address of each interface.
    pub permanent_addresses: HashMap<String, String>,
    /// The best speed that both ends of a link offer, in bits per second, for each interface whose
    /// other end reports it.
    pub best_speeds: HashMap<String, u64>,
    /// The network of each connected wireless interface.
    pub stations: HashMap<String, wireless::Answer>,
}

/// Queries the kernel about these interfaces.
pub fn ask(machine: &Machine, interfaces: &[String]) -> Answers {
    if !machine.is_running() {
        return recorded(machine);
    }
    // A stuck driver holds the kernel's lock for all of them, and a query would block.
    let addresses = machine.ask(PATIENCE, "interfaces[].addresses", |machine| {
        addresses()
            .map_err(|error| machine.missing("interfaces[].addresses", error))
            .unwrap_or_default()
    });
    let permanent_addresses = machine.ask(PATIENCE, PERMANENT, |machine| {
        netlink::permanent_addresses()
            .map_err(|error| machine.missing(PERMANENT, error))
            .unwrap_or_default()
    });
    let names = interfaces.to_vec();
    let best_speeds = machine.ask(PATIENCE, BEST_SPEED, move |machine| {
        let failed = |error| machine.missing(BEST_SPEED, format_args!("asking ethtool: {error}"));
        link_modes::best_speeds(&names)
            .map_err(failed)
            .unwrap_or_default()
    });
    let stations = machine.ask(
        PATIENCE,
        "interfaces[].station",
        |machine| match wireless::stations() {
            Ok(stations) => stations,
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashMap::new(), // no wireless hardware, no nl80211
            Err(error) => {
                machine.missing(
                    "interfaces[].station",
                    format_args!("asking nl80211: {error}"),
                );
                HashMap::new()
            }
        },
    );
    Answers {
        addresses: addresses.answer(machine).unwrap_or_default(),
        permanent_addresses: permanent_addresses.answer(machine).unwrap_or_default(),
        best_speeds: best_speeds.answer(machine).unwrap_or_default(),
        stations: stations.answer(machine).unwrap_or_default(),
    }
}

fn recorded(machine: &Machine) -> Answers {
    let answers = machine
        .bytes(RECORDED)
        .and_then(|json| Ok(serde_json::from_slice(&json)?));
    answers.unwrap_or_else(|error| {
        machine.unreadable("interfaces[].addresses", RECORDED, &error);
        Answers::default()
    })
}

fn addresses() -> nix::Result<HashMap<String, Vec<String>>> {
    let mut addresses: HashMap<String, Vec<String>> = HashMap::new();
    for entry in getifaddrs()? {
        let (Some(address), Some(mask)) = (
            entry.address.as_ref().and_then(ip),
            entry.netmask.as_ref().and_then(ip),
        ) else {
            continue;
        };
        let prefix = match mask {
            IpAddr::V4(mask) => mask.to_bits().count_ones(),
            IpAddr::V6(mask) => mask.to_bits().count_ones(),
        };
        addresses
            .entry(entry.interface_name)
            .or_default()
            .push(format!("{address}/{prefix}"));
    }
    Ok(addresses)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    address
        .as_sockaddr_in()
        .map(|v4| v4.ip().into())
        .or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}
