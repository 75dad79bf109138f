//! Real guests: QEMU boots a disk of one sector, whose few instructions do what each test needs.
//!
//! Every test works in its own network namespace, which lasts as long as the test's thread:
//! the machine's firewall is not touched. They need root, for QEMU becomes another user; and QEMU,
//! nft, qemu-img, setpriv, ip, ss, losetup, chattr and mount.

mod boot;
mod faults;
mod firmware;
mod guest;
mod kvm;
mod machine;
mod obstacles;
mod refusals;
mod sleep;

/// The user that QEMU runs as, and another; neither needs to exist.
const QEMU_USER: &str = "64055";
const OTHER_USER: &str = "64056";

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
