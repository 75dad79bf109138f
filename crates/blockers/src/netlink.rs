//! The default routes of the kernel, of all its tables (rtnetlink(7)). The files below /proc/net show
//! those of one table only, and a host may have others for policy routing.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use nix::libc;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use crate::network::Route;

/// Above any message: the kernel fills at most 32 KiB.
const MESSAGE_MAX_BYTES: usize = 64 << 10;
/// The length of a struct nlmsghdr.
const HEADER: usize = 16;
/// The length of a struct rtmsg.
const ROUTE: usize = 12;
/// The length of a struct rtnexthop.
const NEXT_HOP: usize = 8;

/// The answers that may be incomplete before the routes count as unknown.
const ATTEMPTS: u32 = 5;

/// Reads them; a route over several interfaces is several.
pub(crate) fn default_routes() -> io::Result<Vec<Route>> {
    for _ in 0..ATTEMPTS {
        let answer = dump()?;
        if answer.is_whole {
            return Ok(answer.routes);
        }
    }
    Err(io::Error::other("they change all the time"))
}

/// The kernel's answer, which consists of several messages.
#[derive(Debug)]
struct Answer {
    routes: Vec<Route>,
    /// False where routes changed meanwhile, and some may be missing.
    is_whole: bool,
}

fn dump() -> io::Result<Answer> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    send(socket.as_raw_fd(), &request(), MsgFlags::empty())?;
    let mut answer = Answer {
        routes: Vec::new(),
        is_whole: true,
    };
    let mut buffer = vec![0; MESSAGE_MAX_BYTES];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC)?;
        if answer.take(buffer.get(..length).ok_or(ErrorKind::InvalidData)?)? {
            return Ok(answer);
        }
    }
}

impl Answer {
    /// Takes messages, and returns whether they are the last ones.
    fn take(&mut self, mut rest: &[u8]) -> io::Result<bool> {
        while !rest.is_empty() {
            let (message, next) = split(rest, 4, u32_at(rest, 0)? as usize)?;
            rest = next;
            self.is_whole &= i32::from(u16_at(message, 6)?) & libc::NLM_F_DUMP_INTR == 0;
            match i32::from(u16_at(message, 4)?) {
                libc::NLMSG_DONE => return Ok(true),
                libc::NLMSG_ERROR => {
                    let error = u32_at(message, HEADER)?.cast_signed();
                    return Err(io::Error::from_raw_os_error(-error));
                }
                kind if kind == i32::from(libc::RTM_NEWROUTE) => {
                    let message = message.get(HEADER..).unwrap_or_default();
                    add(message, &mut self.routes)?;
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

/// The request for all routes of all families.
fn request() -> [u8; HEADER + ROUTE] {
    let mut request = [0; HEADER + ROUTE];
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
    request[..4].copy_from_slice(&((HEADER + ROUTE) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_GETROUTE.to_ne_bytes());
    request[6..8].copy_from_slice(&(flags as u16).to_ne_bytes());
    request
}

/// Adds a struct rtmsg with its attributes, if it is a default route that is not refused.
fn add(message: &[u8], routes: &mut Vec<Route>) -> io::Result<()> {
    let (route, attributes) = message
        .split_at_checked(ROUTE)
        .ok_or(ErrorKind::InvalidData)?;
    let (family, destination_bits, kind) = (i32::from(route[0]), route[1], route[7]);
    let is_cached = u32_at(route, 8)? & libc::RTM_F_CLONED != 0;
    if ![libc::AF_INET, libc::AF_INET6].contains(&family)
        || destination_bits != 0
        || kind != libc::RTN_UNICAST
        || is_cached
    {
        return Ok(());
    }
    let mut table = u32::from(route[4]);
    let mut hops: Vec<Hop> = vec![Hop::default()];
    for_each(attributes, |kind, value| {
        match kind {
            libc::RTA_TABLE => table = u32_at(value, 0)?,
            libc::RTA_MULTIPATH => hops.extend(next_hops(value)?),
            _ => hops[0].take(kind, value)?,
        }
        Ok(())
    })?;
    // A route over several interfaces has none itself.
    for Hop { interface, gateway } in hops.into_iter().filter(|hop| hop.interface != 0) {
        // An interface may have gone meanwhile.
        let Ok(interface) = if_indextoname(interface) else {
            continue;
        };
        let interface = interface.to_string_lossy().into_owned();
        routes.push(Route::new(interface, gateway, table));
    }
    Ok(())
}

/// The interface and the gateway of a route.
#[derive(Default)]
struct Hop {
    interface: u32,
    gateway: Option<String>,
}

impl Hop {
    fn take(&mut self, kind: u16, value: &[u8]) -> io::Result<()> {
        match kind {
            libc::RTA_OIF => self.interface = u32_at(value, 0)?,
            libc::RTA_GATEWAY => self.gateway = address(value),
            // An IPv6 gateway of an IPv4 route, after its family.
            libc::RTA_VIA => self.gateway = address(value.get(2..).unwrap_or_default()),
            _ => {}
        }
        Ok(())
    }
}

/// The hops of RTA_MULTIPATH: each a struct rtnexthop with its attributes.
fn next_hops(mut rest: &[u8]) -> io::Result<Vec<Hop>> {
    let mut hops = Vec::new();
    while !rest.is_empty() {
        let (next_hop, next) = split(rest, 4, u16_at(rest, 0)?.into())?;
        rest = next;
        let mut hop = Hop {
            interface: u32_at(next_hop, 4)?,
            gateway: None,
        };
        let attributes = next_hop.get(NEXT_HOP..).ok_or(ErrorKind::InvalidData)?;
        for_each(attributes, |kind, value| hop.take(kind, value))?;
        hops.push(hop);
    }
    Ok(hops)
}

/// Hands out the kind and the value of each attribute, a struct rtattr.
fn for_each(mut rest: &[u8], mut take: impl FnMut(u16, &[u8]) -> io::Result<()>) -> io::Result<()> {
    while !rest.is_empty() {
        let (attribute, next) = split(rest, 4, u16_at(rest, 0)?.into())?;
        rest = next;
        take(
            u16_at(attribute, 2)?,
            attribute.get(4..).unwrap_or_default(),
        )?;
    }
    Ok(())
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).to_string());
    }
    let bytes = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(bytes).to_string())
}

/// The first `length` bytes, at least `least`, and those after the padding to a multiple of 4.
fn split(bytes: &[u8], least: usize, length: usize) -> io::Result<(&[u8], &[u8])> {
    if length < least {
        return Err(ErrorKind::InvalidData.into());
    }
    let first = bytes.get(..length).ok_or(ErrorKind::InvalidData)?;
    let next = length.next_multiple_of(4);
    Ok((first, bytes.get(next..).unwrap_or_default()))
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    Ok(u16::from_ne_bytes(*field.ok_or(ErrorKind::InvalidData)?))
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_ne_bytes(*field.ok_or(ErrorKind::InvalidData)?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// The kernel cannot be made to change a route at the right instant: these are its last messages.
    #[test]
    fn an_answer_during_which_routes_changed_is_not_whole() {
        for (flags, is_whole) in [(libc::NLM_F_MULTI, true), (libc::NLM_F_DUMP_INTR, false)] {
            let mut answer = Answer {
                routes: Vec::new(),
                is_whole: true,
            };
            let mut done = [0; HEADER];
            done[..4].copy_from_slice(&(HEADER as u32).to_ne_bytes());
            done[4..6].copy_from_slice(&(libc::NLMSG_DONE as u16).to_ne_bytes());
            done[6..8].copy_from_slice(&(flags as u16).to_ne_bytes());
            assert!(answer.take(&done).unwrap());
            assert_eq!(answer.is_whole, is_whole);
        }
    }

    #[test]
    fn default_routes_of_all_tables_are_read() {
        unshare(CloneFlags::CLONE_NEWNET).expect("root, for a network namespace of this test");
        assert_eq!(default_routes().unwrap(), []);
        for arguments in [
            "link add one type veth peer name two",
            "address add 192.0.2.1/24 dev one",
            "address add 2001:db8::1/64 dev one nodad",
            "address add 198.51.100.1/24 dev two",
            "link set one up",
            "link set two up",
            "route add default via 192.0.2.9 dev one table 1000",
            "route add default dev two table 10",
            "-6 route add default via 2001:db8::9 dev one metric 1",
            "route add unreachable default table 11",
            "route add 203.0.113.0/24 dev one",
            "route add default table 12 nexthop via 192.0.2.8 dev one nexthop via 198.51.100.8 dev two",
        ] {
            let mut ip = Command::new("ip");
            let status = ip.args(arguments.split(' ')).status().unwrap();
            assert!(status.success(), "ip {arguments}");
        }
        let mut shown: Vec<String> = default_routes()
            .unwrap()
            .into_iter()
            .map(|route| format!("{}: {}", route.interface, route.shown))
            .collect();
        shown.sort();
        assert_eq!(
            shown,
            [
                "one: default via 192.0.2.8 dev one table 12",
                "one: default via 192.0.2.9 dev one table 1000",
                "one: default via 2001:db8::9 dev one",
                "two: default dev two table 10",
                "two: default via 198.51.100.8 dev two table 12",
            ]
        );
    }
}
