//! The system calls of this crate for which nix has no word, or none that is fit for the time
//! between fork and exec.
#![expect(unsafe_code, reason = "each call with its reason")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::unistd::Gid;

/// The first number of a descriptor that a program inherits: above what a shell redirects by hand.
const FIRST_DESCRIPTOR: RawFd = 10;

/// capget(2) and capset(2), version 3: who, and 64 bits for each set.
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// Gives up every capability.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    let (header, none) = (
        Header {
            version: VERSION_3,
            pid: 0,
        },
        [Half::default(); 2],
    );
    // SAFETY: the kernel reads the two structures, which are as large as this version says.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) })
}

/// Whether there is one.
pub(crate) fn has_capabilities() -> io::Result<bool> {
    let (mut header, mut found) = (
        Header {
            version: VERSION_3,
            pid: 0,
        },
        [Half::default(); 2],
    );
    // SAFETY: the kernel writes to the two structures, which are as large as this version says.
    done(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, found.as_mut_ptr()) })?;
    Ok(found != [Half::default(); 2])
}

/// Whether these are the supplementary groups, of which there is one at most.
pub(crate) fn is_in_groups(groups: &[Gid]) -> io::Result<bool> {
    let mut found = [0; 2];
    // SAFETY: the kernel writes two groups at most, and refuses when there are more.
    let count = unsafe { libc::getgroups(2, found.as_mut_ptr()) };
    done(count.into())?;
    let found = found.iter().take(count as usize);
    Ok(found.copied().eq(groups.iter().map(|group| group.as_raw())))
}

/// Closes every descriptor on exec, but the first three and these.
pub(crate) fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    // SAFETY: a system call that touches no memory; on exec it closes descriptors that nothing uses
    // after it.
    let closing = unsafe {
        libc::close_range(
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
        )
    };
    done(closing.into())?;
    kept.iter().try_for_each(|fd| {
        // SAFETY: a system call that touches no memory; a number that is no descriptor is an error.
        done(unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) }.into())
    })
}

/// Has `step` done in the child, between fork and exec.
///
/// `step` makes system calls only: it neither allocates nor takes a lock, which another thread may
/// have held at the fork.
pub(crate) fn before_exec(
    command: &mut Command,
    step: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: callers keep the rule above; there is one, in start.rs.
    unsafe { command.pre_exec(step) };
}

/// The same open file under a number that is fit to be handed down.
pub fn renumber(fd: OwnedFd) -> io::Result<OwnedFd> {
    let number = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(FIRST_DESCRIPTOR))?;
    // SAFETY: the descriptor was made by the line above, and nobody else knows of it.
    let renumbered = unsafe { OwnedFd::from_raw_fd(number) };
    debug_assert!(renumbered.as_raw_fd() >= FIRST_DESCRIPTOR);
    Ok(renumbered)
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
