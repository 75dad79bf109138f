//! VFIO, by which a program such as QEMU gets devices.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use jsonpipe::Common;
use nix::libc;

use crate::{group_node, ioctl};

/// The driver that gives devices to guests.
pub const VFIO: &str = "vfio-pci";

/// Whether every member of the IOMMU group is bound to vfio or to no driver, by the kernel's own
/// word. The group's node is opened for it, and closed again. The error is `EBUSY` while another
/// process has the group, and `ENOENT` while vfio-pci has none of its members.
pub fn is_viable(common: &Common, group: u32) -> io::Result<bool> {
    let node = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(common.path(group_node(common, group).path))?;
    ioctl::is_viable(&node)
}
