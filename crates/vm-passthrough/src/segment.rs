//! The isolated network segment of a room, on which guests exchange raw Ethernet frames.
//!
//! QEMU sends each frame of the guest's second card in a UDP packet to the room's multicast group,
//! and hands the guest the packets of the others. A bridge would not do: a card in a bridge cannot
//! authenticate by 802.1X, and switch ports refuse a second address.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use campus::Campus;
use jsonpipe::{Common, Exit};

use crate::request::Login;

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
    /// The segment of the room in which the machine logged in. Status 78 when campus.ini has none
    /// for it, 65 when the login has no address.
    pub fn of_room(common: &Common, login: Option<&Login>) -> anyhow::Result<Segment> {
        const DOING: &str = "finding the room's network segment";
        let addresses = login.map(Login::addresses).unwrap_or_default();
        let Some(local) = addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        }) else {
            return Err(Exit::Data.error(format_args!(
                "{DOING}: login.links[0].addresses has no IPv4 address"
            )));
        };
        let campus = Campus::read(common).map_err(|error| match Exit::of(&error) {
            Exit::NoInput => Exit::Config.error(format_args!("{DOING}: {error:#}")),
            _ => error,
        })?;
        let group = campus.find(local.into()).and_then(|net| net.segment);
        let group = group.ok_or_else(|| {
            Exit::Config.error(format_args!(
                "{DOING}: campus.ini has no segment for {local}; add one to its network, or set segment=false in profiles.ini"
            ))
        })?;
        Ok(Segment { group, local })
    }
}
