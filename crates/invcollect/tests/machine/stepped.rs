//! A run that is killed before one of its system calls.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Lets the command make that many system calls and kills it before the next; false when it ended before. What it prints is lost.
///
/// Calls of its threads are not counted: they ask file systems for their sizes, and change nothing.
pub fn killed_before(mut command: Command, calls: u64) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    #[allow(unsafe_code, clippy::zombie_processes, reason = "only the child itself can ask to be stopped; waitpid waits for it")]
    // SAFETY: between fork and exec the child makes one system call and allocates nothing.
    let child = unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) }.spawn().unwrap();
    let child = Pid::from_raw(child.id() as i32);
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Stopped(child, Signal::SIGTRAP)));
    ptrace::setoptions(child, ptrace::Options::PTRACE_O_EXITKILL).unwrap();
    // Each call is two stops: before it, and out of it.
    for _ in 0..=2 * calls {
        ptrace::syscall(child, None).unwrap();
        if !matches!(waitpid(child, None).unwrap(), WaitStatus::Stopped(..)) {
            return false;
        }
    }
    kill(child, Signal::SIGKILL).unwrap();
    let _ = ptrace::detach(child, None); // it is gone already
    waitpid(child, None).unwrap();
    true
}
