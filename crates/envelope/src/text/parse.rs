//! Parses the text of a machine or of the script. A missing command, or an unexpected output,
//! leaves its values unknown.

use std::collections::BTreeMap;

use jsonpipe::shown;

use super::cctk;
use super::form::{
    ADDRESSES, CCTK, DF, ETHTOOL, Filesystem, Interface, MEMINFO, Memory, NET_DEV, NET_WIRELESS,
    ROUTES, Route, Text,
};

/// The maximum length of a line, and number of interfaces, file systems and routes, above any real
/// output.
const LINE_MAX: usize = 500;
const LIST_MAX: usize = 64;

/// `None` without any of the headers.
pub fn parse(text: &str) -> Option<Text> {
    let lines = text.lines().filter(|line| line.len() <= LINE_MAX);
    // Some commands print tabs between words; other hidden characters are removed.
    let lines: Vec<String> = lines
        .map(|line| shown(&line.replace('\t', " ")).into_owned())
        .collect();
    let mut outputs: BTreeMap<&str, String> = BTreeMap::new();
    let mut current = None;
    for line in &lines {
        if let Some(command) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.trim_end().strip_suffix(" ----"))
        {
            current = Some(command);
            outputs.entry(command).or_default();
        } else if let Some(output) = current.and_then(|command| outputs.get_mut(command)) {
            output.push_str(line);
            output.push('\n');
        }
    }
    let of = |command: &str| outputs.get(command).map(String::as_str).unwrap_or_default();
    let known = [CCTK, MEMINFO, DF, NET_DEV, ADDRESSES];
    if !known.iter().any(|command| outputs.contains_key(command)) {
        return None;
    }
    let settings = cctk::settings(of(CCTK));
    let mut interfaces = addresses(of(ADDRESSES));
    traffic(of(NET_DEV), &mut interfaces);
    wireless(of(NET_WIRELESS), &mut interfaces);
    for (command, output) in &outputs {
        if let Some(name) = command
            .strip_prefix(ETHTOOL)
            .filter(|_| output.contains("Settings for"))
        {
            link(output, interfaces.entry(name.to_owned()).or_default());
        }
    }
    Some(Text {
        serial: setting(&settings, "svctag").map(str::to_owned),
        opened: opened(&settings),
        memory: memory(of(MEMINFO)),
        filesystems: df(of(DF)),
        interfaces: interfaces
            .into_iter()
            .take(LIST_MAX)
            .map(|(name, interface)| Interface { name, ..interface })
            .collect(),
        routes: routes(of(ROUTES)),
        settings,
    })
}

fn setting<'a>(settings: &'a [(String, String)], name: &str) -> Option<&'a str> {
    settings
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// From the status of the switch; otherwise from its setting, as in Figure 28: `tripped`, or that
/// it is watched.
fn opened(settings: &[(String, String)]) -> Option<bool> {
    let by_status = setting(settings, "ChassisIntrusionStatus").and_then(cctk::opened);
    by_status.or_else(|| match setting(settings, "chasintrusion")? {
        "enabled" => Some(false),
        setting => cctk::opened(setting),
    })
}

fn memory(text: &str) -> Memory {
    let kib = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()?
            .checked_mul(1 << 10)
    };
    Memory {
        usable_bytes: kib("MemTotal"),
        available_bytes: kib("MemAvailable"),
    }
}

/// In units of 1 KiB. A long source and the rest may be on separate lines; a path may contain
/// spaces.
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
        let (Some(total), Some(used), Some(available)) = (kib(), kib(), kib()) else {
            continue;
        };
        rest.next(); // the percentage
        let path = rest.collect::<Vec<_>>().join(" ");
        filesystems.push(Filesystem {
            path,
            source: name.to_owned(),
            total_bytes: total,
            used_bytes: used,
            available_bytes: available,
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
            let (Some(_), Some(name), Some(flags)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            current = name.split('@').next().unwrap_or_default().to_owned();
            let flags = flags
                .trim_start_matches('<')
                .split('>')
                .next()
                .unwrap_or_default();
            if flags.split(',').any(|flag| flag == "LOOPBACK") {
                current.clear();
                continue;
            }
            let interface = interfaces.entry(current.clone()).or_default();
            interface.hardware =
                !name.contains('@') && !current.starts_with("br") && !current.starts_with("tap");
            interface.carrier = flags
                .split(',')
                .any(|flag| flag == "UP")
                .then(|| flags.split(',').any(|flag| flag == "LOWER_UP"));
            continue;
        }
        let Some(interface) = interfaces.get_mut(&current) else {
            continue;
        };
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("link/ether"), Some(mac)) => interface.mac = Some(mac.to_ascii_lowercase()),
            (Some("inet" | "inet6"), Some(address)) => interface.addresses.push(address.to_owned()),
            _ => {}
        }
    }
    interfaces
}

/// The first number after the colon is the received bytes, the ninth the sent bytes.
fn traffic(text: &str, interfaces: &mut BTreeMap<String, Interface>) {
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else {
            continue;
        };
        let Some(interface) = interfaces.get_mut(name.trim()) else {
            continue;
        };
        let numbers: Vec<u64> = numbers
            .split_ascii_whitespace()
            .map_while(|number| number.parse().ok())
            .collect();
        interface.received_bytes = numbers.first().copied();
        interface.sent_bytes = numbers.get(8).copied();
    }
}

/// An interface on the list is wireless; the name of its network is not reported.
fn wireless(text: &str, interfaces: &mut BTreeMap<String, Interface>) {
    for line in text.lines() {
        let Some((name, _)) = line.split_once(':') else {
            continue;
        };
        let Some(interface) = interfaces.get_mut(name.trim()) else {
            continue;
        };
        interface.wireless = true;
    }
}

fn routes(text: &str) -> Vec<Route> {
    let route = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let destination = words.next()?;
        let destination = if destination == "default" {
            "0.0.0.0/0"
        } else {
            destination
        };
        let rest: Vec<&str> = words.collect();
        let after = |key: &str| {
            rest.windows(2)
                .find(|pair| pair[0] == key)
                .map(|pair| pair[1])
        };
        destination
            .starts_with(|c: char| c.is_ascii_digit())
            .then(|| Route {
                destination: destination.to_owned(),
                gateway: after("via").map(str::to_owned),
                interface: after("dev").unwrap_or_default().to_owned(),
                metric: after("metric")
                    .and_then(|metric| metric.parse().ok())
                    .unwrap_or(0),
            })
    };
    text.lines().filter_map(route).take(LIST_MAX).collect()
}

/// The speed, and the best that both ends offer.
fn link(text: &str, interface: &mut Interface) {
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'))
            .map(str::trim)
    };
    let speed = value("Speed").and_then(|speed| {
        speed
            .strip_suffix("Mb/s")?
            .parse::<u64>()
            .ok()?
            .checked_mul(1_000_000)
    });
    interface.speed_bits_per_second =
        speed.filter(|speed| *speed != u64::from(u32::MAX) * 1_000_000);
    interface.duplex = value("Duplex")
        .map(str::to_ascii_lowercase)
        .filter(|duplex| matches!(&**duplex, "full" | "half"));
    match value("Link detected") {
        Some("yes") => interface.carrier = Some(true),
        Some("no") => interface.carrier = Some(false),
        _ => {}
    }
    let (ours, theirs) = (
        modes(text, "Supported link modes"),
        modes(text, "Link partner advertised link modes"),
    );
    interface.best_speed_bits_per_second = ours
        .iter()
        .filter(|mode| theirs.contains(mode))
        .max()
        .map(|mode| mode * 1_000_000);
    interface.hardware = true;
}

/// `1000baseT/Full` and so on, over several lines, the first of them behind the title.
fn modes(text: &str, title: &str) -> Vec<u64> {
    let mut lines = text
        .lines()
        .skip_while(|line| !line.trim().starts_with(title));
    let first = lines
        .next()
        .and_then(|line| line.split_once(':'))
        .map(|(_, modes)| modes);
    let more = lines.take_while(|line| !line.contains(':'));
    let words = first
        .into_iter()
        .chain(more)
        .flat_map(str::split_ascii_whitespace);
    words
        .filter_map(|mode| mode.split_once("base")?.0.parse().ok())
        .filter(|megabits| *megabits < 10_000_000)
        .collect()
}
