//! Writes a machine's text from its values.

use std::fmt::Write;

use super::form::{
    ADDRESSES, CCTK, DF, ETHTOOL, ETHTOOL_INTERFACE, Files, Filesystem, Interface, MEMINFO,
    NET_DEV, NET_WIRELESS, ROUTES, Route, Text,
};

/// The text of a machine.
pub fn write(text: &Text, files: &Files) -> String {
    let cat = |file: &Option<String>, command: &str| {
        let none = || {
            format!(
                "cat: {}: No such file or directory\n",
                command.trim_start_matches("cat ")
            )
        };
        file.clone().unwrap_or_else(none)
    };
    let outputs = [
        (CCTK, firmware(text)),
        (MEMINFO, cat(&files.meminfo, MEMINFO)),
        (DF, df(&text.filesystems)),
        (NET_DEV, cat(&files.net_dev, NET_DEV)),
        (NET_WIRELESS, cat(&files.net_wireless, NET_WIRELESS)),
        (ADDRESSES, addresses(&text.interfaces)),
        (ROUTES, routes(&text.routes)),
        (
            &format!("{ETHTOOL}{ETHTOOL_INTERFACE}"),
            ethtool(&text.interfaces),
        ),
    ];
    outputs
        .into_iter()
        .map(|(command, output)| format!("---- {command} ----\n{output}"))
        .collect()
}

/// The settings of the firmware in the manner of Dell's cctk, the service tag among them.
fn firmware(machine: &Text) -> String {
    let mut text = String::from("[cctk]\n");
    for (name, value) in &machine.settings {
        let _ = writeln!(text, "{name}={value}");
    }
    if let Some(opened) = machine.opened {
        let _ = writeln!(
            text,
            "chasintrusion={}",
            if opened { "tripped" } else { "enabled" }
        );
    }
    if let Some(tag) = &machine.serial {
        let _ = writeln!(text, "svctag={tag}");
    }
    text
}

fn df(filesystems: &[Filesystem]) -> String {
    let mut text = String::from("Filesystem     1K-blocks     Used Available Use% Mounted on\n");
    for Filesystem {
        source,
        path,
        total_bytes: total,
        used_bytes: used,
        available_bytes: available,
    } in filesystems
    {
        let percent = used
            .saturating_mul(100)
            .div_ceil(used.saturating_add(*available).max(1));
        let _ = writeln!(
            text,
            "{source:<14} {:>9} {:>8} {:>9} {percent:>3}% {path}",
            total >> 10,
            used >> 10,
            available >> 10
        );
    }
    text
}

fn addresses(interfaces: &[Interface]) -> String {
    let mut text = String::new();
    for (number, interface) in (1..).zip(interfaces) {
        let flags = match interface.carrier {
            Some(true) => "UP,LOWER_UP",
            Some(false) => "UP",
            None => "",
        };
        let _ = writeln!(text, "{number}: {}: <{flags}>", interface.name);
        if let Some(mac) = &interface.mac {
            let _ = writeln!(text, "    link/ether {mac} brd ff:ff:ff:ff:ff:ff");
        }
        for address in &interface.addresses {
            let family = if address.contains(':') {
                "inet6"
            } else {
                "inet"
            };
            let _ = writeln!(
                text,
                "    {family} {address} scope global {}",
                interface.name
            );
        }
    }
    text
}

fn routes(routes: &[Route]) -> String {
    let mut text = String::new();
    for Route {
        destination,
        gateway,
        interface,
        metric,
    } in routes
    {
        if destination.contains(':') {
            continue; // ip -6 route
        }
        let destination = if destination == "0.0.0.0/0" {
            "default"
        } else {
            destination
        };
        let via = gateway
            .as_ref()
            .map(|gateway| format!(" via {gateway}"))
            .unwrap_or_default();
        let _ = writeln!(text, "{destination}{via} dev {interface} metric {metric}");
    }
    text
}

/// For eth0, as the script does.
fn ethtool(interfaces: &[Interface]) -> String {
    let Some(eth0) = interfaces
        .iter()
        .find(|interface| interface.name == ETHTOOL_INTERFACE)
    else {
        return "netlink error: no device matches name (offset 24)\n".into();
    };
    let mut text = format!("Settings for {ETHTOOL_INTERFACE}:\n");
    let _ = match eth0.speed_bits_per_second {
        Some(speed) => writeln!(text, "\tSpeed: {}Mb/s", speed / 1_000_000),
        None => writeln!(text, "\tSpeed: Unknown!"),
    };
    if let Some(duplex) = &eth0.duplex {
        let _ = writeln!(
            text,
            "\tDuplex: {}",
            if duplex == "full" { "Full" } else { "Half" }
        );
    }
    if let Some(carrier) = eth0.carrier {
        let _ = writeln!(
            text,
            "\tLink detected: {}",
            if carrier { "yes" } else { "no" }
        );
    }
    text
}
