//! SIGINT, SIGTERM and SIGHUP bring the machine to a consistent state first, then end the process
//! by the signal.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::exit::{Exit, ExitContext};

/// While this exists, the ending signals are deferred. Dropping it delivers them, and the kernel
/// ends the process by the signal, so that the parent sees the true cause.
///
/// Create it before the first thread starts, so that every thread inherits the mask. Child programs
/// also inherit it (`std::process::Command` does not clear it): a child that must receive these
/// signals needs its mask cleared between fork and exec.
#[derive(Debug)]
pub struct Deferred {
    arrived: SignalFd,
    before: SigSet,
}

/// Defers the ending signals. A failure is an internal fault (70).
pub fn defer() -> anyhow::Result<Deferred> {
    block().exit(Exit::Software, || "making the ending signals wait")
}

fn block() -> io::Result<Deferred> {
    let status = fs::read_to_string("/proc/self/status")?;
    let ignored =
        ignored(&status).ok_or_else(|| io::Error::other("no SigIgn in /proc/self/status"))?;
    let mut ending = SigSet::empty();
    // A signal that the caller ignores, as nohup does, would be seen while it is deferred, and then
    // not end the process.
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        if ignored >> (signal as u32 - 1) & 1 == 0 {
            ending.add(signal);
        }
    }
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ending), Some(&mut before))?;
    // Only `consume` reads it: otherwise nothing would end the process.
    let arrived = SignalFd::with_flags(&ending, SfdFlags::SFD_CLOEXEC)?;
    Ok(Deferred { arrived, before })
}

/// The signals that this process ignores, the first in the lowest bit: `SigIgn` of
/// proc_pid_status(5).
fn ignored(status: &str) -> Option<u64> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

impl Deferred {
    /// Whether a signal has arrived.
    pub fn pending(&self) -> bool {
        let mut fds = [PollFd::new(self.arrived.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

impl Deferred {
    /// Takes a signal that has arrived, for a process that passes it on instead of ending. Waits
    /// for one if necessary.
    pub(crate) fn consume(&self) -> Option<Signal> {
        let arrived = self.arrived.read_signal().ok()??;
        Signal::try_from(i32::try_from(arrived.ssi_signo).ok()?).ok()
    }
}

impl AsFd for Deferred {
    /// Readable once a signal has arrived; for poll(2), not for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.arrived.as_fd()
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None); // cannot fail with these arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_kernel() {
        assert_eq!(
            ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"),
            Some(0x1001)
        );
        assert_eq!(ignored("Name:\tx\n"), None);
    }
}
