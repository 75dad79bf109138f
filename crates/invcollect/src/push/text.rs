//! The text of the thesis's script (Figure 28), for collectors that know nothing else: the output of a few commands, each under
//! `---- COMMAND ----`. None of them is run: what they would say is put together from what `collect` read.

use std::fmt::Write;
use std::fs;

use jsonpipe::Common;

use crate::report::{Filesystem, Host, Interface, Route};

/// The text of a machine.
pub fn of(common: &Common, host: &Host) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    section(&mut text, "cctk -o /dev/stdout", &firmware(host)?)?;
    section(&mut text, "cat /proc/meminfo", &file(common, "/proc/meminfo"))?;
    section(&mut text, "df", &df(&host.filesystems)?)?;
    section(&mut text, "cat /proc/net/dev", &of_interfaces(common, "/proc/net/dev", &host.interfaces))?;
    section(&mut text, "cat /proc/net/wireless", &of_interfaces(common, "/proc/net/wireless", &host.interfaces))?;
    section(&mut text, "ip addr", &addresses(&host.interfaces)?)?;
    section(&mut text, "ip route", &routes(&host.routes)?)?;
    section(&mut text, "ethtool eth0", &ethtool(&host.interfaces)?)?;
    Ok(text)
}

fn section(text: &mut String, command: &str, output: &str) -> std::fmt::Result {
    write!(text, "---- {command} ----\n{output}")
}

/// A file as cat shows it, errors included.
fn file(common: &Common, path: &str) -> String {
    fs::read_to_string(common.path(path)).unwrap_or_else(|_| format!("cat: {path}: No such file or directory\n"))
}

/// The same of a file with a line for each interface: the name of what somebody plugged in spells its address, and is left out.
fn of_interfaces(common: &Common, path: &str, interfaces: &[Interface]) -> String {
    let is_told = |name: &str| name == "lo" || interfaces.iter().any(|interface| interface.name == name);
    let Ok(lines) = fs::read_to_string(common.path(path)) else { return file(common, path) };
    lines.split_inclusive('\n').filter(|line| line.split_once(": ").is_none_or(|(name, _)| is_told(name.trim()))).collect()
}

/// The settings of the firmware in the manner of Dell's cctk, the service tag among them.
fn firmware(host: &Host) -> Result<String, std::fmt::Error> {
    let mut text = String::from("[cctk]\n");
    for attribute in &host.firmware.attributes {
        writeln!(text, "{}={}", attribute.name, attribute.value)?;
    }
    if let Some(opened) = host.chassis.opened {
        writeln!(text, "chasintrusion={}", if opened { "tripped" } else { "enabled" })?;
    }
    if let Some(tag) = &host.system.serial {
        writeln!(text, "svctag={tag}")?;
    }
    Ok(text)
}

fn df(filesystems: &[Filesystem]) -> Result<String, std::fmt::Error> {
    let mut text = String::from("Filesystem     1K-blocks     Used Available Use% Mounted on\n");
    for Filesystem { source, path, total_bytes, used_bytes, available_bytes, .. } in filesystems {
        let (Some(total), Some(used), Some(available)) = (total_bytes, used_bytes, available_bytes) else { continue };
        let percent = (used * 100).div_ceil((used + available).max(1));
        writeln!(text, "{source:<14} {:>9} {:>8} {:>9} {percent:>3}% {path}", total >> 10, used >> 10, available >> 10)?;
    }
    Ok(text)
}

fn addresses(interfaces: &[Interface]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for (number, interface) in (1..).zip(interfaces) {
        let flags = if interface.carrier == Some(true) { "UP,LOWER_UP" } else { "UP" };
        writeln!(text, "{number}: {}: <{flags}>", interface.name)?;
        if let Some(mac) = &interface.mac {
            writeln!(text, "    link/ether {mac} brd ff:ff:ff:ff:ff:ff")?;
        }
        for address in &interface.addresses {
            let family = if address.contains(':') { "inet6" } else { "inet" };
            writeln!(text, "    {family} {address} scope global {}", interface.name)?;
        }
    }
    Ok(text)
}

fn routes(routes: &[Route]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for Route { destination, gateway, interface, metric } in routes {
        if destination.contains(':') {
            continue; // ip -6 route
        }
        let destination = if destination == "0.0.0.0/0" { "default" } else { destination };
        let via = gateway.as_ref().map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        writeln!(text, "{destination}{via} dev {interface} metric {metric}")?;
    }
    Ok(text)
}

/// Of eth0, as the script has it.
fn ethtool(interfaces: &[Interface]) -> Result<String, std::fmt::Error> {
    let Some(eth0) = interfaces.iter().find(|interface| interface.name == "eth0") else {
        return Ok("netlink error: no device matches name (offset 24)\n".into());
    };
    let mut text = String::from("Settings for eth0:\n");
    match eth0.speed_bits_per_second {
        Some(speed) => writeln!(text, "\tSpeed: {}Mb/s", speed / 1_000_000)?,
        None => writeln!(text, "\tSpeed: Unknown!")?,
    }
    if let Some(duplex) = &eth0.duplex {
        writeln!(text, "\tDuplex: {}", if duplex == "full" { "Full" } else { "Half" })?;
    }
    if let Some(carrier) = eth0.carrier {
        writeln!(text, "\tLink detected: {}", if carrier { "yes" } else { "no" })?;
    }
    Ok(text)
}
