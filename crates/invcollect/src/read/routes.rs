//! The routes of the main table, from /proc/net/route and /proc/net/ipv6_route.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::read::machine::Machine;
use crate::report::Route;

const IPV4: &str = "/proc/net/route";
const IPV6: &str = "/proc/net/ipv6_route";
const UP: u64 = 0x0001;
const REJECT: u64 = 0x0200;
/// Set for the table `local`, which IPv6 lists with the others.
const LOCAL: u64 = 0x8000_0000;

/// IPv4 before IPv6, each in the kernel's order.
pub fn read(machine: &Machine) -> Vec<Route> {
    let read = |path: &str, parse: fn(&str) -> Option<Route>| match machine.text(path) {
        Ok(text) => text.lines().filter_map(parse).collect(),
        Err(error) => {
            // A kernel may be built without IPv6, so that a missing file is no fault.
            if path == IPV4 {
                machine.unreadable("routes", path, &error);
            }
            Vec::new()
        }
    };
    [read(IPV4, ipv4), read(IPV6, ipv6)].concat()
}

/// `eth0 00000000 0100000A 0003 0 0 100 00000000 ...`: addresses in network order, read as a number
/// of this processor.
fn ipv4(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let hex = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    let address = |at| hex(at).map(|bits| Ipv4Addr::from(bits.swap_bytes()));
    if u64::from(hex(3)?) & (UP | REJECT) != UP {
        return None;
    }
    let gateway = address(2)?;
    Some(Route {
        destination: format!("{}/{}", address(1)?, hex(7)?.count_ones()),
        gateway: (!gateway.is_unspecified()).then(|| gateway.to_string()),
        interface: jsonpipe::shown(fields.first()?).into_owned(),
        metric: fields.get(6)?.parse().ok()?,
    })
}

/// `DESTINATION PREFIX SOURCE PREFIX GATEWAY METRIC REFERENCES USE FLAGS INTERFACE`, all in
/// hexadecimal.
fn ipv6(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let hex = |at: usize| u64::from_str_radix(fields.get(at)?, 16).ok();
    let address = |at: usize| {
        u128::from_str_radix(fields.get(at)?, 16)
            .ok()
            .map(Ipv6Addr::from)
    };
    let interface = *fields.get(9)?;
    let destination = address(0)?;
    if hex(8)? & (UP | REJECT | LOCAL) != UP || interface == "lo" || destination.is_multicast() {
        return None;
    }
    let gateway = address(4)?;
    Some(Route {
        destination: format!("{destination}/{}", hex(1)?),
        gateway: (!gateway.is_unspecified()).then(|| gateway.to_string()),
        interface: jsonpipe::shown(interface).into_owned(),
        metric: hex(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(route: Option<Route>) -> String {
        route.map_or_else(
            || "-".into(),
            |r| {
                format!(
                    "{} {} {} {}",
                    r.destination,
                    r.gateway.unwrap_or_default(),
                    r.interface,
                    r.metric
                )
            },
        )
    }

    #[test]
    fn routes_are_read() {
        assert_eq!(
            shown(ipv4(
                "eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0"
            )),
            "0.0.0.0/0 192.0.2.1 eth0 100"
        );
        assert_eq!(
            shown(ipv4(
                "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"
            )),
            "192.0.2.0/24  eth0 0"
        );
        assert_eq!(shown(ipv4("Iface\tDestination\tGateway \tFlags")), "-");
        assert_eq!(
            shown(ipv4(
                "*\t0000FEA9\t00000000\t0200\t0\t0\t0\t0000FFFF\t0\t0\t0"
            )),
            "-",
            "an unreachable one"
        );
        let zeros = "0".repeat(32);
        let v6 = |rest: &str| shown(ipv6(&rest.replace("ZERO", &zeros)));
        assert_eq!(
            v6(
                "ZERO 00 ZERO 00 fd000000000000000000000000000001 00000400 00000003 00000000 00000003     eth0"
            ),
            "::/0 fd00::1 eth0 1024"
        );
        assert_eq!(
            v6("fe800000000000000000000000000000 40 ZERO 00 ZERO 00000100 1 0 00000001 eth0"),
            "fe80::/64  eth0 256"
        );
        assert_eq!(
            v6("ff000000000000000000000000000000 08 ZERO 00 ZERO 00000100 1 0 00000001 eth0"),
            "-"
        );
        assert_eq!(
            v6("fd000000000000000000000000000007 80 ZERO 00 ZERO 00000000 1 0 80200001 eth0"),
            "-"
        );
        assert_eq!(v6("garbage"), "-");
    }

    proptest! {
        #[test]
        fn any_line_is_a_route_or_not(line in "([0-9a-fA-F]{1,32}|eth0|[ \t]|\\PC){0,30}") {
            let _ = (ipv4(&line), ipv6(&line));
        }
    }
}
