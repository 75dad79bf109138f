//! A child without an exec.
#![expect(unsafe_code, reason = "each call with its reason")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork};

/// Runs `work` in a child that has no descriptor except `kept` and dies with this process. `work`
/// makes system calls only: it neither allocates nor takes a lock, which another thread may hold at
/// the fork.
pub(crate) fn in_child(kept: BorrowedFd, work: impl FnOnce()) -> io::Result<Pid> {
    let parent = Pid::this();
    // SAFETY: the child only makes system calls, and ends by _exit, which runs no handlers of the
    // parent.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            // A parent that dies before the first line is noticed by the second.
            if set_pdeathsig(Signal::SIGKILL).is_ok() && nix::unistd::getppid() == parent {
                close_all_but(kept);
                work();
            }
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
    }
}

/// A child that never ends must hold neither the lock of the guest nor the pipes of the tool.
fn close_all_but(kept: BorrowedFd) {
    let kept = kept.as_raw_fd().unsigned_abs();
    let below = kept.checked_sub(1).map(|last| (0, last));
    for (first, last) in below.into_iter().chain([(kept + 1, libc::c_uint::MAX)]) {
        // SAFETY: a system call that touches no memory; the child uses none of these descriptors.
        unsafe { libc::close_range(first, last, 0) };
    }
}
