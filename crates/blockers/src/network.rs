//! The host's network below a device: the default route, and a root file system that comes over it.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use jsonpipe::{Common, Exit, ExitContext};

use crate::finding::{Finding, Findings, Kind, NEEDED};
use crate::mounts;
use crate::netlink;
use crate::sysfs::{Taken, names, text};

const INTERFACES: &str = "/sys/class/net";
const IPV4: &str = "/proc/net/route";
const IPV6: &str = "/proc/net/ipv6_route";
/// RT_TABLE_MAIN of rtnetlink(7), which ip(8) does not write.
const MAIN_TABLE: u32 = 254;
const UP: u32 = 0x0001;
const REJECT: u32 = 0x0200;
/// The types of file systems whose data comes over the network.
const NETWORK_TYPES: [&str; 8] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "ceph",
    "afs",
    "glusterfs",
    "fuse.glusterfs",
];

pub(crate) fn find(common: &Common, taken: &Taken, findings: &mut Findings) -> anyhow::Result<()> {
    let interfaces = taken.below(common, "net")?;
    if interfaces.is_empty() {
        return Ok(());
    }
    let routes = routes(common)?;
    let root = network_root(common)?;
    for interface in &interfaces {
        let name = &interface.name;
        let all = with_uppers(common, name)?;
        for Route {
            interface: by,
            shown,
        } in &routes
        {
            if all.contains(by) {
                findings.block(
                    Finding::new(
                        Kind::DefaultRoute,
                        format_args!(
                            "the host's route \"{shown}\" goes through its network interface {name}"
                        ),
                        NEEDED,
                    )
                    .device(interface.device)
                    .route(shown),
                );
            }
        }
        if let Some(source) = &root {
            findings.block(
                Finding::new(
                    Kind::NetworkRoot,
                    format_args!("the host's root file system {source} comes over the network, perhaps through its interface {name}"),
                    NEEDED,
                )
                .device(interface.device)
                .mount("/"),
            );
        }
    }
    Ok(())
}

/// The interface, and those that are stacked on it: bridges, bonds, VLANs.
fn with_uppers(common: &Common, name: &str) -> anyhow::Result<HashSet<String>> {
    let mut found = HashSet::from([name.to_owned()]);
    let mut next = vec![name.to_owned()];
    while let Some(name) = next.pop() {
        for entry in names(&common.path(INTERFACES).join(name))? {
            let entry = entry.to_string_lossy();
            if let Some(upper) = entry.strip_prefix("upper_")
                && found.insert(upper.to_owned())
            {
                next.push(upper.to_owned());
            }
        }
    }
    Ok(found)
}

/// The default routes of all tables; those of the main one where a tree stands for a machine.
fn routes(common: &Common) -> anyhow::Result<Vec<Route>> {
    if common.root == Path::new("/") {
        return netlink::default_routes().exit(Exit::Io, || "reading the kernel's routes");
    }
    let mut routes = default_routes(&text(&common.path(IPV4))?.unwrap_or_default(), ipv4);
    routes.extend(default_routes(
        &text(&common.path(IPV6))?.unwrap_or_default(),
        ipv6,
    ));
    Ok(routes)
}

/// A default route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Its interface.
    pub interface: String,
    /// As ip(8) writes it.
    pub shown: String,
}

impl Route {
    pub fn new(interface: String, gateway: Option<String>, table: u32) -> Route {
        let via = gateway.map_or(String::new(), |gateway| format!(" via {gateway}"));
        let table = match table {
            MAIN_TABLE => String::new(),
            table => format!(" table {table}"),
        };
        Route {
            shown: format!("default{via} dev {interface}{table}"),
            interface,
        }
    }
}

fn default_routes(table: &str, parse: fn(&[&str]) -> Option<Route>) -> Vec<Route> {
    table
        .lines()
        .filter_map(|line| parse(&line.split_whitespace().collect::<Vec<&str>>()))
        .collect()
}

/// `eth0 00000000 0202000A 0003 0 0 0 00000000 0 0 0`: numbers of this processor's byte order.
fn ipv4(fields: &[&str]) -> Option<Route> {
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    let (destination, gateway, flags, mask) = (number(1)?, number(2)?, number(3)?, number(7)?);
    if destination != 0 || mask != 0 || flags & (UP | REJECT) != UP {
        return None;
    }
    let gateway = Ipv4Addr::from(gateway.to_ne_bytes());
    let gateway = (!gateway.is_unspecified()).then(|| gateway.to_string());
    Some(Route::new(fields[0].to_owned(), gateway, MAIN_TABLE))
}

/// `DESTINATION PREFIX SOURCE PREFIX GATEWAY METRIC REFERENCES USE FLAGS INTERFACE`.
fn ipv6(fields: &[&str]) -> Option<Route> {
    let address = |at: usize| u128::from_str_radix(fields.get(at)?, 16).ok();
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    let interface = *fields.get(9)?;
    if address(0)? != 0 || number(1)? != 0 || number(8)? & (UP | REJECT) != UP || interface == "lo"
    {
        return None;
    }
    let gateway = Ipv6Addr::from(address(4)?);
    let gateway = (!gateway.is_unspecified()).then(|| gateway.to_string());
    Some(Route::new(interface.to_owned(), gateway, MAIN_TABLE))
}

/// The source of the root file system, if it comes over the network.
fn network_root(common: &Common) -> anyhow::Result<Option<String>> {
    let mounts = mounts::read(common)?;
    let Some(root) = mounts.iter().rfind(|mount| mount.point == "/") else {
        return Ok(None);
    };
    let is_network = NETWORK_TYPES.contains(&&*root.kind) || is_network_disk(common, &root.number)?;
    Ok(is_network.then(|| root.source.clone()))
}

/// Whether a block device, or one that it is stacked on, is behind iSCSI or NBD.
fn is_network_disk(common: &Common, number: &str) -> anyhow::Result<bool> {
    let mut next = vec![common.path("/sys/dev/block").join(number)];
    let mut seen = HashSet::new();
    while let Some(path) = next.pop() {
        let Ok(place) = fs::canonicalize(path) else {
            continue; // a file system without a block device
        };
        // iSCSI: .../host2/session1/target2:0:0/...; NBD: .../block/nbd0
        let is_remote = place.components().any(|part| {
            let part = part.as_os_str().to_string_lossy();
            ["session", "nbd"].iter().any(|word| {
                part.strip_prefix(word)
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            })
        });
        if is_remote {
            return Ok(true);
        }
        let slaves = place.join("slaves");
        if seen.insert(place) {
            next.extend(names(&slaves)?.into_iter().map(|name| slaves.join(name)));
        }
    }
    Ok(false)
}
