//! The machines of the campus, hosts.ini: their names, addresses and places.

use std::collections::HashSet;
use std::net::IpAddr;

use jsonpipe::{Common, Exit, ini};
use serde::Deserialize;

/// `[host.NAME]` in hosts.ini: a machine of the campus.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Machine {
    /// The Ethernet address of its wired port, with which it is woken: `00:1b:21:0a:0b:0c`.
    pub mac: String,
    /// Its address, at which it receives commands.
    pub address: IpAddr,
    /// Its building.
    pub building: String,
    /// Its room.
    pub room: String,
    /// Its model, as in its firmware: `OptiPlex 7010`.
    pub model: Option<String>,
}

/// The machines of hosts.ini, in its order.
///
/// Status 66 when the file does not exist, 78 when it is invalid, for example when two machines
/// share an address.
pub fn read(common: &Common) -> anyhow::Result<Vec<(String, Machine)>> {
    let path = common.config("hosts.ini");
    ini::require(
        &path,
        "list the machines there; seedctl-report(8) describes it",
    )?;
    let machines = ini::read_table::<Machine>(&path, "host")?;
    check(&machines)
        .map_err(|message| Exit::Config.error(format_args!("{}: {message}", path.display())))?;
    Ok(machines)
}

/// Checks that the types cannot express.
fn check(machines: &[(String, Machine)]) -> Result<(), String> {
    let mut addresses: HashSet<IpAddr> = HashSet::new();
    let mut macs = HashSet::new();
    for (name, machine) in machines {
        if !is_host_name(name) {
            return Err(format!(
                "[host.{name}]: not the name of a host; a-z, 0-9, and hyphens and single dots between them, at most {NAME_MAX_BYTES} bytes, and no address"
            ));
        }
        if !is_mac(&machine.mac) {
            return Err(format!(
                "host.{name}.mac: not an Ethernet address of one machine, 00:1b:21:0a:0b:0c"
            ));
        }
        for (key, value) in [("building", &machine.building), ("room", &machine.room)] {
            if value.is_empty() {
                return Err(format!("host.{name}.{key}: empty"));
            }
        }
        if !addresses.insert(machine.address) {
            return Err(format!("host.{name}.address: another host also has it"));
        }
        if !macs.insert(machine.mac.to_ascii_lowercase()) {
            return Err(format!("host.{name}.mac: another host also has it"));
        }
    }
    Ok(())
}

/// The kernel takes no longer name (HOST_NAME_MAX of limits.h).
const NAME_MAX_BYTES: usize = 64;

/// A machine has it as its name (RFC 1123, section 2.1), and it is part of paths and of ssh's
/// arguments: it cannot be an option, another directory or a hidden file.
pub fn is_host_name(name: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_label = |label: &str| {
        label.len() <= 63
            && label.bytes().all(|b| alphanumeric(b) || b == b'-')
            && label.bytes().next().is_some_and(alphanumeric)
            && label.bytes().next_back().is_some_and(alphanumeric)
    };
    name.len() <= NAME_MAX_BYTES
        && name.split('.').all(is_label)
        && name != "localhost"
        && name.parse::<IpAddr>().is_err()
}

/// Six bytes in hexadecimal, with an even first byte: an odd one is a group address.
pub fn is_mac(mac: &str) -> bool {
    let bytes: Vec<&str> = mac.split(':').collect();
    let hex = |text: &&str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
    bytes.len() == 6
        && bytes.iter().all(hex)
        && u8::from_str_radix(bytes[0], 16).is_ok_and(|first| first % 2 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(mac: &str, address: &str) -> Machine {
        Machine {
            mac: mac.into(),
            address: address.parse().unwrap(),
            building: "b1".into(),
            room: "101".into(),
            model: None,
        }
    }

    #[test]
    fn machines_are_told_apart() {
        let a = || ("a".to_owned(), machine("02:00:00:00:00:0a", "10.0.1.1"));
        let check = |name: &str, machine: Machine| check(&[a(), (name.into(), machine)]);
        assert_eq!(
            check("b-1.lab", machine("02:00:00:00:00:0B", "10.0.1.2")),
            Ok(())
        );
        let error = |name: &str, machine: Machine| check(name, machine).unwrap_err();
        assert_eq!(
            error("b", machine("02:00:00:00:00:0A", "10.0.1.2")),
            "host.b.mac: another host also has it"
        );
        assert_eq!(
            error("b", machine("02:00:00:00:00:0b", "10.0.1.1")),
            "host.b.address: another host also has it"
        );
        for name in [
            "-oProxyCommand=x",
            "..",
            "a/b",
            "B",
            "a b",
            "a,b",
            "a[1-9]",
            "",
            "a-",
            "a..b",
            "a.",
            "localhost",
            "10.0.2.1",
            &"a".repeat(65),
        ] {
            assert!(
                error(name, machine("02:00:00:00:00:0b", "10.0.1.2"))
                    .contains("not the name of a host"),
                "{name}"
            );
        }
        for mac in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:0b:00",
            "02-00-00-00-00-0b",
            "ff:ff:ff:ff:ff:ff",
            "02:00:00:00:00:+b",
        ] {
            assert!(
                error("b", machine(mac, "10.0.1.2")).contains("not an Ethernet address"),
                "{mac}"
            );
        }
        let homeless = Machine {
            room: String::new(),
            ..machine("02:00:00:00:00:0b", "10.0.1.2")
        };
        assert_eq!(error("b", homeless), "host.b.room: empty");
    }
}
