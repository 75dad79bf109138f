//! A run that is killed before one of its system calls.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// The calls that change something on a disk; between two of them there is nothing to tell apart. A file that is made is made by
/// `openat`, of which most only read.
const CHANGING: &[i64] = &[
    libc::SYS_write,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdir,
    libc::SYS_unlink,
    libc::SYS_fchmod,
    libc::SYS_chmod,
    libc::SYS_flock,
    libc::SYS_exit_group,
];

/// Lets the command make that many calls that change something, and kills it before the next; false when it ended before. What it
/// prints is lost.
pub fn killed_before(command: Command, changes: usize) -> bool {
    killed_before_any(command, changes, |call| CHANGING.contains(&call))
}

/// The same, of those calls that `counts` takes: between the changes there is what a server hears.
pub fn killed_before_any(mut command: Command, calls: usize, counts: impl Fn(i64) -> bool) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    #[allow(unsafe_code, clippy::zombie_processes, reason = "only the child itself can ask to be stopped; waitpid waits for it")]
    // SAFETY: between fork and exec the child makes one system call and allocates nothing.
    let child = unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) }.spawn().unwrap();
    let child = Pid::from_raw(child.id() as i32);
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Stopped(child, Signal::SIGTRAP)));
    ptrace::setoptions(child, ptrace::Options::PTRACE_O_EXITKILL).unwrap();
    ptrace::syscall(child, None).unwrap();
    assert!(matches!(waitpid(child, None), Ok(WaitStatus::Stopped(..))), "it is before its first call");
    let mut left = calls;
    loop {
        let call = ptrace::getregs(child).unwrap().orig_rax as i64;
        if counts(call) {
            match left.checked_sub(1) {
                Some(fewer) => left = fewer,
                None => break,
            }
        }
        // Out of the call, and before the next.
        for _ in 0..2 {
            ptrace::syscall(child, None).unwrap();
            if !matches!(waitpid(child, None).unwrap(), WaitStatus::Stopped(..)) {
                return false;
            }
        }
    }
    kill(child, Signal::SIGKILL).unwrap();
    let _ = ptrace::detach(child, None); // it is gone already
    waitpid(child, None).unwrap();
    true
}
