//! EAPOL frames of our own, which need no supplicant. (IEEE 802.1X-2004, section 7.5.)
//!
//! wpa_supplicant can send a Logoff and a Start, too. But many switches ask who is there as soon as
//! they have a Logoff, and a supplicant that is still on the link may answer, and open the port
//! again behind a refusal; so it leaves the link first. And a Start that it sends by itself can
//! cross its own answer: then it holds one exchange for two, and fails in both.

#![allow(
    unsafe_code,
    reason = "the address of a packet socket, which nix can only take as the kernel's structure"
)]

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket,
};

/// The PAE group address, which no bridge forwards.
const SWITCH: [u8; 8] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x03, 0, 0];
const ETHERTYPE: u16 = 0x888e;
/// Of the protocol.
const VERSION: u8 = 2;
const START: u8 = 1;
const LOGOFF: u8 = 2;

/// Asks the switch to ask who is there.
pub fn start(interface: &str) -> io::Result<()> {
    send(interface, START)
}

/// Has the switch close the port.
pub fn logoff(interface: &str) -> io::Result<()> {
    if jsonpipe::sabotaged("skip-logoff") {
        return Ok(());
    }
    send(interface, LOGOFF)
}

/// Sends a frame without a body. An interface that is gone or down has no open port at its other
/// end.
fn send(interface: &str, kind: u8) -> io::Result<()> {
    let index = match nix::net::if_::if_nametoindex(interface) {
        Err(Errno::ENODEV) => return Ok(()),
        index => index?,
    };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ETHERTYPE.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: SWITCH,
    };
    // SAFETY: the structure is a whole address of its family, and as long as is said; it is copied.
    let address = unsafe {
        LinkAddr::from_raw(
            (&raw const address).cast(),
            Some(size_of_val(&address) as u32),
        )
    };
    let address = address.expect("an address of the family AF_PACKET");
    // No protocol: it sends, and hears nothing.
    let socket = socket(
        AddressFamily::Packet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    match sendto(
        socket.as_raw_fd(),
        &[VERSION, kind, 0, 0],
        &address,
        MsgFlags::empty(),
    ) {
        Ok(_) | Err(Errno::ENETDOWN | Errno::ENXIO | Errno::ENODEV) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
