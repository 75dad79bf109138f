//! SIGINT, SIGTERM and SIGHUP bring the machine to a consistent state first, then end the process
//! by the signal.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::exit::{Exit, ExitContext};

/// While this lives the ending signals wait. Dropping it lets them through, and the kernel ends the
/// process by the signal: whoever waits for it sees the truth.
///
/// Take it before the first thread starts, so that every thread inherits the mask. Programs that
/// are started inherit it, too (`std::process::Command` does not clear it): one that is to hear
/// these signals needs its mask emptied between fork and exec.
#[derive(Debug)]
pub struct Deferred {
    arrived: SignalFd,
    before: SigSet,
}

/// Makes the ending signals wait. That this fails is a fault of our own (70).
pub fn defer() -> anyhow::Result<Deferred> {
    block().exit(Exit::Software, || "making the ending signals wait")
}

fn block() -> io::Result<Deferred> {
    let status = fs::read_to_string("/proc/self/status")?;
    let ignored =
        ignored(&status).ok_or_else(|| io::Error::other("no SigIgn in /proc/self/status"))?;
    let mut ending = SigSet::empty();
    // One that the caller ignores, as nohup does, would be seen while it waits, and then not end
    // the process.
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        if ignored >> (signal as u32 - 1) & 1 == 0 {
            ending.add(signal);
        }
    }
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ending), Some(&mut before))?;
    // Not read but by `consume`: then nothing ends the process.
    let arrived = SignalFd::with_flags(&ending, SfdFlags::SFD_CLOEXEC)?;
    Ok(Deferred { arrived, before })
}

/// The signals that this process ignores, the first one in the lowest bit: `SigIgn` of
/// proc_pid_status(5).
fn ignored(status: &str) -> Option<u64> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

impl Deferred {
    /// Whether one has arrived.
    pub fn pending(&self) -> bool {
        let mut fds = [PollFd::new(self.arrived.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

impl Deferred {
    /// Takes one that has arrived, for a process that passes it on instead of ending by it. Waits
    /// if none has.
    pub(crate) fn consume(&self) -> Option<Signal> {
        let arrived = self.arrived.read_signal().ok()??;
        Signal::try_from(i32::try_from(arrived.ssi_signo).ok()?).ok()
    }
}

impl AsFd for Deferred {
    /// Readable once one has arrived; for poll(2), not for reading.
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
