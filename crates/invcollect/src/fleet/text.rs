//! The text of the thesis's script (Figure 28): the output of eight commands, each under `---- COMMAND ----`, errors among it.
//!
//! It is read into what a signed report is read into, so that all machines stand in one table. A command that is not there, or that
//! printed something else, leaves its part unknown.

use std::collections::{BTreeMap, BTreeSet};

use jsonpipe::shown;

use super::reported::{Chassis, Filesystem, Interface, Memory, Route, Snapshot, Station, System};
use crate::cctk;
use crate::firmware;

/// No command of the script prints longer lines, or knows more interfaces, file systems and routes.
const LINE_MAX: usize = 500;
const LIST_MAX: usize = 64;

/// `None` when not one of the headers is there.
pub fn parse(text: &str) -> Option<Snapshot> {
    let lines = text.lines().filter(|line| line.len() <= LINE_MAX);
    // Some commands put tabs between words; nothing else that is hidden has a place here.
    let lines: Vec<String> = lines.map(|line| shown(&line.replace('\t', " ")).into_owned()).collect();
    let mut outputs: BTreeMap<&str, String> = BTreeMap::new();
    let mut current = None;
    for line in &lines {
        if let Some(command) = line.strip_prefix("---- ").and_then(|rest| rest.trim_end().strip_suffix(" ----")) {
            current = Some(command);
            outputs.entry(command).or_default();
        } else if let Some(output) = current.and_then(|command| outputs.get_mut(command)) {
            output.push_str(line);
            output.push('\n');
        }
    }
    let of = |command: &str| outputs.get(command).map(String::as_str).unwrap_or_default();
    let known = ["cctk -o /dev/stdout", "cat /proc/meminfo", "df", "cat /proc/net/dev", "ip addr"];
    if !known.iter().any(|command| outputs.contains_key(command)) {
        return None;
    }
    let settings = cctk::parse(of("cctk -o /dev/stdout"));
    let setting = |name: &str| settings.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let opened = ["ChassisIntrusionStatus", "chasintrusion"].iter().find_map(|name| firmware::opened(setting(name)?));
    let mut interfaces = addresses(of("ip addr"));
    traffic(of("cat /proc/net/dev"), &mut interfaces);
    wireless(of("cat /proc/net/wireless"), &mut interfaces);
    for (command, output) in &outputs {
        if let Some(name) = command.strip_prefix("ethtool ").filter(|_| output.contains("Settings for")) {
            link(output, interfaces.entry(name.to_owned()).or_default());
        }
    }
    Some(Snapshot {
        system: System { serial: setting("svctag").cloned(), ..System::default() },
        chassis: Chassis { opened, accepted: false },
        memory: memory(of("cat /proc/meminfo")),
        filesystems: df(of("df")),
        interfaces: interfaces.into_iter().take(LIST_MAX).map(|(name, interface)| Interface { name, ..interface }).collect(),
        routes: routes(of("ip route")),
        ..Snapshot::default()
    })
}

fn memory(text: &str) -> Memory {
    let kib = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
    };
    Memory { usable_bytes: kib("MemTotal"), available_bytes: kib("MemAvailable"), ..Memory::default() }
}

/// In units of 1 KiB. A long source, and what follows it, may stand on a line of its own; a path may have spaces.
fn df(text: &str) -> Vec<Filesystem> {
    let mut filesystems = Vec::new();
    let mut source: Option<&str> = None;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if source.is_none() {
            source = words.next();
        }
        let mut rest = words.peekable();
        if rest.peek().is_none() {
            continue; // the rest is on the next line
        }
        let Some(name) = source.take() else { continue };
        let mut kib = || rest.next()?.parse::<u64>().ok()?.checked_mul(1 << 10);
        let (Some(total), Some(used), Some(available)) = (kib(), kib(), kib()) else { continue };
        rest.next(); // the percentage
        let path = rest.collect::<Vec<_>>().join(" ");
        filesystems.push(Filesystem {
            path,
            source: name.to_owned(),
            kind: String::new(),
            read_only: false,
            total_bytes: Some(total),
            used_bytes: Some(used),
            available_bytes: Some(available),
            hanging: false,
        });
    }
    filesystems.truncate(LIST_MAX);
    filesystems
}

/// `2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 …`, and below it the addresses.
fn addresses(text: &str) -> BTreeMap<String, Interface> {
    let mut interfaces: BTreeMap<String, Interface> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if !line.starts_with(' ') {
            let mut parts = line.splitn(3, ": ");
            let (Some(_), Some(name), Some(flags)) = (parts.next(), parts.next(), parts.next()) else { continue };
            current = name.split('@').next().unwrap_or_default().to_owned();
            let flags = flags.trim_start_matches('<').split('>').next().unwrap_or_default();
            if flags.split(',').any(|flag| flag == "LOOPBACK") {
                current.clear();
                continue;
            }
            let interface = interfaces.entry(current.clone()).or_default();
            interface.hardware = !name.contains('@') && !current.starts_with("br") && !current.starts_with("tap");
            interface.carrier =
                flags.split(',').any(|flag| flag == "UP").then(|| flags.split(',').any(|flag| flag == "LOWER_UP"));
            continue;
        }
        let Some(interface) = interfaces.get_mut(&current) else { continue };
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("link/ether"), Some(mac)) => interface.mac = Some(mac.to_ascii_lowercase()),
            (Some("inet" | "inet6"), Some(address)) => interface.addresses.push(address.to_owned()),
            _ => {}
        }
    }
    interfaces
}

/// The first number after the colon is what was received, the ninth what was sent.
fn traffic(text: &str, interfaces: &mut BTreeMap<String, Interface>) {
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        let Some(interface) = interfaces.get_mut(name.trim()) else { continue };
        let numbers: Vec<u64> = numbers.split_ascii_whitespace().map_while(|number| number.parse().ok()).collect();
        interface.received_bytes = numbers.first().copied();
        interface.sent_bytes = numbers.get(8).copied();
    }
}

/// Who is listed is wireless; a network's name is not told.
fn wireless(text: &str, interfaces: &mut BTreeMap<String, Interface>) {
    for line in text.lines() {
        let Some((name, status)) = line.split_once(':') else { continue };
        let Some(interface) = interfaces.get_mut(name.trim()) else { continue };
        interface.wireless = true;
        interface.station = (interface.carrier == Some(true) && !status.is_empty()).then_some(Station { ssid: None });
    }
}

fn routes(text: &str) -> Vec<Route> {
    let route = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let destination = words.next()?;
        let destination = if destination == "default" { "0.0.0.0/0" } else { destination };
        let is_route = destination.starts_with(|c: char| c.is_ascii_digit());
        let gateway = words.next().filter(|word| *word == "via").and_then(|_| words.next()).map(str::to_owned);
        is_route.then(|| Route { destination: destination.to_owned(), gateway })
    };
    text.lines().filter_map(route).take(LIST_MAX).collect()
}

/// The speed, and the best that both ends offer.
fn link(text: &str, interface: &mut Interface) {
    let value = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':')).map(str::trim);
    let speed = value("Speed").and_then(|speed| speed.strip_suffix("Mb/s")?.parse::<u64>().ok()?.checked_mul(1_000_000));
    interface.speed_bits_per_second = speed.filter(|speed| *speed != u64::from(u32::MAX) * 1_000_000);
    match value("Link detected") {
        Some("yes") => interface.carrier = Some(true),
        Some("no") => interface.carrier = Some(false),
        _ => {}
    }
    let (ours, theirs) = (modes(text, "Supported link modes"), modes(text, "Link partner advertised link modes"));
    interface.best_speed_bits_per_second = ours.iter().filter(|mode| theirs.contains(mode)).max().map(|mode| mode * 1_000_000);
    interface.hardware = true;
}

/// `1000baseT/Full` and so on, over several lines, the first of them behind the title.
fn modes(text: &str, title: &str) -> Vec<u64> {
    let mut lines = text.lines().skip_while(|line| !line.trim().starts_with(title));
    let first = lines.next().and_then(|line| line.split_once(':')).map(|(_, modes)| modes);
    let more = lines.take_while(|line| !line.contains(':'));
    let words = first.into_iter().chain(more).flat_map(str::split_ascii_whitespace);
    words.filter_map(|mode| mode.split_once("base")?.0.parse().ok()).filter(|megabits| *megabits < 10_000_000).collect()
}

/// How many disks hold its file systems: `/dev/sda1` and `/dev/sda2` are one. `None` when it does not say.
pub fn disks(snapshot: &Snapshot) -> Option<u64> {
    let disk = |filesystem: &Filesystem| {
        let name = filesystem.source.strip_prefix("/dev/")?;
        if name.starts_with("mapper/") || name.starts_with("loop") {
            return None;
        }
        let whole = name.trim_end_matches(|c: char| c.is_ascii_digit());
        // nvme0n1p2, mmcblk0p1: a digit stands before the p.
        let whole = match whole.strip_suffix('p') {
            Some(disk) if whole != name && disk.ends_with(|c: char| c.is_ascii_digit()) => disk,
            _ if name.starts_with("nvme") || name.starts_with("mmcblk") => name,
            _ => whole,
        };
        Some(whole.to_owned())
    };
    let disks: BTreeSet<_> = snapshot.filesystems.iter().filter_map(disk).collect();
    Some(disks.len() as u64).filter(|disks| *disks > 0)
}
