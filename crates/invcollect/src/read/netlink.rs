//! The part of netlink that queries of ethtool, nl80211 and the list of interfaces need: requests,
//! dumps and attributes (RFC 3549; Documentation/userspace-api/netlink/intro.rst of the kernel).
//!
//! Implemented here, because it is less than a page, and a crate for it would be larger than this
//! tool. A malformed attribute ends the list, whatever the kernel sends.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

const HEADER_BYTES: usize = 16;
const GENERIC_BYTES: usize = 4;
/// The kernel answers at once; a driver that does not is not waited for.
const PATIENCE_SECONDS: i64 = 1;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_DUMP: u16 = 0x300;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
/// `struct ifinfomsg` of linux/rtnetlink.h.
const LINK_BYTES: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_PERM_ADDRESS: u16 = 54;
/// The two upper bits of an attribute's type are flags.
const NLA_TYPE_MASK: u16 = 0x3fff;
const NLA_F_NESTED: u16 = 0x8000;

/// A netlink family of this kernel: `ethtool`, `nl80211`.
#[derive(Debug)]
pub struct Family {
    id: u16,
    connection: Connection,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    sequence: u32,
}

/// The form of the answers to a request: their type, and the length of the part before their
/// attributes.
#[derive(Clone, Copy)]
struct Answers {
    kind: u16,
    header_bytes: usize,
}

impl Family {
    /// Finds a family; `NotFound` when the kernel lacks it.
    pub fn find(name: &str) -> io::Result<Family> {
        let connection = Connection::open(SockProtocol::NetlinkGeneric)?;
        let mut family = Family {
            id: GENL_ID_CTRL,
            connection,
        };
        let name = attribute(CTRL_ATTR_FAMILY_NAME, &[name.as_bytes(), b"\0"].concat());
        let answers = family.ask(CTRL_CMD_GETFAMILY, false, &name)?;
        let id = answers.iter().find_map(|answer| {
            find(answer, CTRL_ATTR_FAMILY_ID)?
                .try_into()
                .ok()
                .map(u16::from_ne_bytes)
        });
        family.id = id.ok_or(io::ErrorKind::NotFound)?;
        Ok(family)
    }

    /// The attributes of each answer to a command: one, or all of a dump.
    pub fn ask(&mut self, command: u8, dump: bool, attributes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let header = [command, 1, 0, 0];
        let answers = Answers {
            kind: self.id,
            header_bytes: GENERIC_BYTES,
        };
        let flags = if dump { NLM_F_DUMP } else { NLM_F_ACK };
        self.connection
            .ask(self.id, flags, &[&header, attributes].concat(), answers)
    }
}

/// The permanent Ethernet address of each interface, by its name: `ip link` shows it as permaddr.
/// Changing an interface's address does not replace the interface. Virtual interfaces have none.
pub fn permanent_addresses() -> io::Result<HashMap<String, String>> {
    let answers = Answers {
        kind: RTM_NEWLINK,
        header_bytes: LINK_BYTES,
    };
    let links = Connection::open(SockProtocol::NetlinkRoute)?.ask(
        RTM_GETLINK,
        NLM_F_DUMP,
        &[0; LINK_BYTES],
        answers,
    )?;
    Ok(links
        .iter()
        .filter_map(|link| permanent_address(link))
        .collect())
}

fn permanent_address(link: &[u8]) -> Option<(String, String)> {
    let name = find(link, IFLA_IFNAME)?.strip_suffix(b"\0")?;
    let bytes: &[u8; 6] = find(link, IFLA_PERM_ADDRESS)?.try_into().ok()?;
    let address = bytes.map(|byte| format!("{byte:02x}")).join(":");
    Some((String::from_utf8(name.to_vec()).ok()?, address))
}

impl Connection {
    fn open(protocol: SockProtocol) -> io::Result<Connection> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        setsockopt(
            &socket,
            sockopt::ReceiveTimeout,
            &TimeVal::seconds(PATIENCE_SECONDS),
        )?;
        Ok(Connection {
            socket,
            sequence: 0,
        })
    }

    /// The part of each answer after its header.
    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        expected: Answers,
    ) -> io::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let length = (HEADER_BYTES + body.len()) as u32;
        let mut request = Vec::with_capacity(length as usize);
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend([0; 4]); // the kernel fills in the sender
        request.extend(body);
        sendto(
            self.socket.as_raw_fd(),
            &request,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;

        let mut answers = Vec::new();
        let mut datagram = vec![0; 1 << 15]; // the kernel's own limit for a dump's datagram
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut datagram, MsgFlags::empty())?;
            if self.take(&datagram[..length], expected, &mut answers)? {
                return Ok(answers);
            }
        }
    }

    /// Takes the answers out of a datagram; returns true after the last one.
    fn take(
        &self,
        mut datagram: &[u8],
        expected: Answers,
        answers: &mut Vec<Vec<u8>>,
    ) -> io::Result<bool> {
        while let Some((message, rest)) = Message::split(datagram) {
            datagram = rest;
            if message.sequence != self.sequence {
                continue; // of an abandoned request
            }
            match message.kind {
                NLMSG_DONE => return Ok(true),
                NLMSG_ERROR => {
                    let code = message
                        .body
                        .first_chunk()
                        .map_or(0, |code| i32::from_ne_bytes(*code));
                    return if code == 0 {
                        Ok(true)
                    } else {
                        Err(Errno::from_raw(-code).into())
                    };
                }
                kind if kind == expected.kind => answers.extend(
                    message
                        .body
                        .get(expected.header_bytes..)
                        .map(<[u8]>::to_vec),
                ),
                _ => {}
            }
        }
        Ok(false)
    }
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Message<'_> {
    fn split(datagram: &[u8]) -> Option<(Message<'_>, &[u8])> {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        let message = datagram.get(..length)?;
        let body = message.get(HEADER_BYTES..)?;
        let kind = u16::from_ne_bytes(message[4..6].try_into().ok()?);
        let sequence = u32::from_ne_bytes(message[8..12].try_into().ok()?);
        let rest = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((
            Message {
                kind,
                sequence,
                body,
            },
            rest,
        ))
    }
}

/// An attribute, padded.
pub fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 4 + payload.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// A nested attribute.
pub fn nest(kind: u16, attributes: &[u8]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, attributes)
}

/// The payload of the first attribute of a kind.
pub fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    loop {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let found = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let payload = rest.get(4..length)?;
        if found == kind {
            return Some(payload);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// The first attribute of a kind as a number of 32 bits.
pub fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    find(attributes, kind)?
        .try_into()
        .ok()
        .map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_found_again() {
        let attributes = [
            attribute(1, b"abc"),
            nest(2, &attribute(7, &5u32.to_ne_bytes())),
            attribute(3, b""),
        ]
        .concat();
        assert_eq!(find(&attributes, 1), Some(&b"abc"[..]));
        assert_eq!(number(find(&attributes, 2).unwrap(), 7), Some(5));
        assert_eq!(find(&attributes, 3), Some(&b""[..]));
        assert_eq!((find(&attributes, 4), number(&attributes, 1)), (None, None));
    }

    /// Every kernel has the family that lists the others.
    #[test]
    fn the_kernel_answers() {
        let family = Family::find("nlctrl").unwrap();
        assert_eq!(family.id, GENL_ID_CTRL);
        assert_eq!(
            Family::find("no such family").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn the_permanent_address_is_in_the_list_of_interfaces() {
        let link = [
            attribute(IFLA_IFNAME, b"eth0\0"),
            attribute(IFLA_PERM_ADDRESS, &[0, 0x1b, 0x21, 10, 11, 12]),
        ]
        .concat();
        assert_eq!(
            permanent_address(&link),
            Some(("eth0".into(), "00:1b:21:0a:0b:0c".into()))
        );
        assert_eq!(permanent_address(&attribute(IFLA_IFNAME, b"lo\0")), None);
        // Every kernel has this list, and the loopback has no permanent address.
        assert!(!permanent_addresses().unwrap().contains_key("lo"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_attributes_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..64), kind in 0u16..8) {
            let _ = number(&bytes, kind);
            let _ = Message::split(&bytes).map(|(message, _)| message.body.len());
        }
    }
}
