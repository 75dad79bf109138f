//! A run that is ended before one of its system calls.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Runs a command, and kills it before its `call`th system call, from 0; false when it made fewer.
pub fn killed_before(command: &mut Command, call: u64) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    #[allow(unsafe_code, clippy::zombie_processes, reason = "only the child itself can ask to be stopped; waitpid waits for it")]
    // SAFETY: between fork and exec the child makes one system call and allocates nothing.
    let child = unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) }.spawn().unwrap();
    let run = Pid::from_raw(child.id() as i32);
    assert_eq!(waitpid(run, None), Ok(WaitStatus::Stopped(run, Signal::SIGTRAP)));
    ptrace::setoptions(run, ptrace::Options::PTRACE_O_EXITKILL).unwrap();
    // Out of exec, then in and out of each call, and into the one that is not made.
    for _ in 0..2 * call + 2 {
        ptrace::syscall(run, None).unwrap();
        if !matches!(waitpid(run, None).unwrap(), WaitStatus::Stopped(..)) {
            return false;
        }
    }
    ptrace::kill(run).unwrap();
    waitpid(run, None).unwrap();
    true
}
