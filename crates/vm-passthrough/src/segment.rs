//! The isolated network segment of a room, on which guests exchange raw Ethernet frames.
//!
//! QEMU sends each frame of the guest's second card in a UDP packet to the room's multicast group,
//! and hands the guest the packets of the others. A bridge would not do: a card in a bridge cannot
//! authenticate by 802.1X, and switch ports refuse a second address.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::Path;

use campus::Campus;
use jsonpipe::{Common, Exit, ExitContext};
use nix::ifaddrs::getifaddrs;

use crate::machine::Mac;
use crate::request::Login;

const DOING: &str = "finding the room's network segment";
const OFF: &str = "set segment=false in profiles.ini";

/// The largest packet of the guest that needs no fragments: 1500 bytes less the headers of IPv4,
/// UDP and the guest's Ethernet.
pub const MTU: u16 = 1500 - 20 - 8 - 14;

/// The connection to the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The room's multicast group, and its port.
    pub group: SocketAddrV4,
    /// The host's address on the interface that carries it.
    pub local: Ipv4Addr,
}

impl Segment {
    /// The segment of the room that one of `addresses`, the host's, is in. Status 78 when there is
    /// none.
    pub fn of_room(campus: &Campus, addresses: &[Ipv4Addr]) -> anyhow::Result<Segment> {
        let found = addresses.iter().copied().find_map(|local| {
            let group = campus.find(local.into())?.segment?;
            Some(Segment { group, local })
        });
        found.exit(Exit::Config, || {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!(
                "{DOING}: campus.ini has no segment for {}; add one to its network, or {OFF}",
                addresses.join(", ")
            )
        })
    }
}

/// The map of the rooms. Status 78 without one, or when `mac`, the host's, does not tell its guest
/// from the others.
pub fn campus(common: &Common, mac: Option<Mac>) -> anyhow::Result<Campus> {
    if mac.is_none() {
        return Err(Exit::Config.error(format_args!(
            "{DOING}: this machine has no network card whose address tells its guest from the others; {OFF}"
        )));
    }
    Campus::read(common).map_err(|error| match Exit::of(&error) {
        Exit::NoInput => Exit::Config.error(format_args!("{DOING}: {error:#}, or {OFF}")),
        _ => error,
    })
}

/// The host's address on the interface that logged in. Status 65 when the login has none.
pub fn local_address(login: Option<&Login>) -> anyhow::Result<Ipv4Addr> {
    let addresses = login.map(Login::addresses).unwrap_or_default();
    let mut addresses = addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    addresses.next().exit(Exit::Data, || {
        format!("{DOING}: login.links[0].addresses has no IPv4 address; log in by nm-8021x-login, or {OFF}")
    })
}

/// The addresses of this machine, one of which the login may be on; none where the machine is a
/// directory.
pub fn own_addresses(common: &Common) -> anyhow::Result<Vec<Ipv4Addr>> {
    if common.root != Path::new("/") {
        return Ok(Vec::new());
    }
    let interfaces = getifaddrs().exit(Exit::Io, || "reading this machine's addresses")?;
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?.as_sockaddr_in()?.ip();
        (!address.is_loopback()).then_some(address)
    });
    Ok(addresses.collect())
}
