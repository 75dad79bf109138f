//! The state of a VFIO group, which only an ioctl answers.
#![expect(unsafe_code, reason = "an ioctl without a safe wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `struct vfio_group_status` (linux/vfio.h).
#[repr(C)]
struct GroupStatus {
    argsz: u32,
    flags: u32,
}

/// `VFIO_GROUP_FLAGS_VIABLE`.
const VIABLE: u32 = 1;

nix::ioctl_readwrite_bad!(
    vfio_group_get_status,
    nix::request_code_none!(b';', 103),
    GroupStatus
);

pub(crate) fn is_viable(group: &File) -> io::Result<bool> {
    let mut status = GroupStatus {
        argsz: size_of::<GroupStatus>() as u32,
        flags: 0,
    };
    // SAFETY: the descriptor is open, and the structure is the one that the kernel expects, with
    // its size in it.
    unsafe { vfio_group_get_status(group.as_raw_fd(), &raw mut status) }?;
    Ok(status.flags & VIABLE != 0)
}
