//! A run that is stopped at one of its system calls.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use nix::libc::{PTRACE_SYSCALL_INFO_ENTRY, SYS_pwritev2};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Starts a command, stopped out of exec; it is killed when this process ends.
fn stopped(command: &mut Command) -> (Child, Pid) {
    #[allow(unsafe_code, reason = "only the child itself can ask to be stopped")]
    // SAFETY: between fork and exec the child makes one system call and allocates nothing.
    let child = unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) }.spawn().unwrap();
    let run = Pid::from_raw(child.id() as i32);
    assert_eq!(waitpid(run, None), Ok(WaitStatus::Stopped(run, Signal::SIGTRAP)));
    ptrace::setoptions(run, ptrace::Options::PTRACE_O_EXITKILL | ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    (child, run)
}

/// Runs a command, and kills it before its `call`th system call, from 0; false when it made fewer.
#[allow(clippy::zombie_processes, reason = "waitpid waits for it")]
pub fn killed_before(command: &mut Command, call: u64) -> bool {
    let (_child, run) = stopped(command.stdout(Stdio::null()).stderr(Stdio::null()));
    // Out of exec, then in and out of each call, and into the one that is not made.
    for _ in 0..2 * call + 2 {
        ptrace::syscall(run, None).unwrap();
        if !matches!(waitpid(run, None).unwrap(), WaitStatus::PtraceSyscall(..)) {
            return false;
        }
    }
    ptrace::kill(run).unwrap();
    waitpid(run, None).unwrap();
    true
}

/// Runs a command to its end, and does something between its `nth` durable write, from 1, and whatever it does next.
pub fn after_write(command: &mut Command, nth: u32, act: impl FnOnce()) -> Output {
    let (child, run) = stopped(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let next_stop = || {
        ptrace::syscall(run, None).unwrap();
        assert!(matches!(waitpid(run, None).unwrap(), WaitStatus::PtraceSyscall(..)), "it ended before write {nth}");
    };
    let mut writes = 0;
    while writes < nth {
        next_stop();
        let stop = ptrace::syscall_info(run).unwrap();
        #[allow(unsafe_code, reason = "a union of the kernel's")]
        // SAFETY: where a call is entered, the kernel has filled this part of it.
        if stop.op == PTRACE_SYSCALL_INFO_ENTRY && unsafe { stop.u.entry.nr } == SYS_pwritev2 as u64 {
            writes += 1;
        }
    }
    next_stop(); // out of it
    act();
    ptrace::detach(run, None).unwrap();
    child.wait_with_output().unwrap()
}
