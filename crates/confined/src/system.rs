//! The system calls of this crate that nix lacks, or does not offer in a form usable between fork
//! and exec.
#![expect(unsafe_code, reason = "each call with its reason")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::unistd::Gid;

/// The lowest number of a descriptor for a program: above those that a shell redirects by hand.
const FIRST_DESCRIPTOR: RawFd = 10;

/// capget(2) and capset(2), version 3: the process, and 64 bits for each set.
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

/// Drops every capability.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    let (header, none) = (
        Header {
            version: VERSION_3,
            pid: 0,
        },
        [Half::default(); 2],
    );
    // SAFETY: the kernel reads the two structures, whose size is that of this version.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) })
}

/// Whether there is any capability.
pub(crate) fn has_capabilities() -> io::Result<bool> {
    let (mut header, mut found) = (
        Header {
            version: VERSION_3,
            pid: 0,
        },
        [Half::default(); 2],
    );
    // SAFETY: the kernel writes to the two structures, whose size is that of this version.
    done(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, found.as_mut_ptr()) })?;
    Ok(found != [Half::default(); 2])
}

/// Whether these are the supplementary groups, at most one.
pub(crate) fn is_in_groups(groups: &[Gid]) -> io::Result<bool> {
    let mut found = [0; 2];
    // SAFETY: the kernel writes at most two groups, and refuses when there are more.
    let count = unsafe { libc::getgroups(2, found.as_mut_ptr()) };
    done(count.into())?;
    let found = found.iter().take(count as usize);
    Ok(found.copied().eq(groups.iter().map(|group| group.as_raw())))
}

/// Marks every descriptor to be closed on exec, except the first three and these.
pub(crate) fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    // SAFETY: a system call that touches no memory; on exec it closes descriptors that are unused
    // afterwards.
    let closing = unsafe {
        libc::close_range(
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
        )
    };
    done(closing.into())?;
    kept.iter().try_for_each(|fd| {
        // SAFETY: a system call that touches no memory; an invalid number is an error.
        done(unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) }.into())
    })
}

/// Runs `step` in the child, between fork and exec.
///
/// `step` makes system calls only: it neither allocates nor takes a lock, which another thread may
/// hold at the fork.
pub(crate) fn before_exec(
    command: &mut Command,
    step: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: callers follow the rule above; the only one is in start.rs.
    unsafe { command.pre_exec(step) };
}

/// The same open file under a number suitable for handing down.
pub fn renumber(fd: OwnedFd) -> io::Result<OwnedFd> {
    let number = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(FIRST_DESCRIPTOR))?;
    // SAFETY: the line above created the descriptor, and nothing else uses it.
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
