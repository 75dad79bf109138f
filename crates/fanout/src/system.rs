//! The steps in a child between fork and exec.
#![expect(unsafe_code, reason = "std has no safe function for it")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getpid, getppid};

/// Lets the program receive the signals that this process defers, and kills it when this process
/// dies.
pub fn live_with_us(command: &mut Command) {
    let parent = getpid();
    let before_exec = move || {
        SigSet::empty().thread_set_mask()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            return Err(io::Error::from_raw_os_error(nix::libc::ESRCH)); // it died before the last line
        }
        Ok(())
    };
    // SAFETY: it makes three system calls, takes no lock and allocates nothing.
    unsafe { command.pre_exec(before_exec) };
}
