//! A run that stands still before each of its system calls, so that it can be ended at any of them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Machine;

/// The run, stopped.
pub struct Stepped(Pid);

impl Stepped {
    /// With `input` on standard input; what it prints is lost.
    pub fn start(machine: &Machine, arguments: &[&str], input: &str) -> Stepped {
        let request = machine.root().join("request");
        fs::write(&request, input).unwrap();
        let mut command = machine.command(arguments);
        command.stdin(File::open(request).unwrap()).stdout(Stdio::null()).stderr(Stdio::null());
        #[allow(
            unsafe_code,
            clippy::zombie_processes,
            reason = "only the child itself can ask to be stopped; waitpid waits for it"
        )]
        // SAFETY: between fork and exec the child makes one system call and allocates nothing.
        let child = unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) }.spawn().unwrap();
        let run = Stepped(Pid::from_raw(child.id() as i32));
        assert_eq!(waitpid(run.0, None), Ok(WaitStatus::Stopped(run.0, Signal::SIGTRAP)));
        ptrace::setoptions(run.0, ptrace::Options::PTRACE_O_EXITKILL).unwrap();
        assert!(run.goes_on());
        run
    }

    /// Makes that many system calls; false when it ended before.
    pub fn steps(&mut self, calls: u64) -> bool {
        // Each is two stops: out of the call, and before the next.
        (0..2 * calls).all(|_| self.goes_on())
    }

    fn goes_on(&self) -> bool {
        ptrace::syscall(self.0, None).unwrap();
        matches!(waitpid(self.0, None).unwrap(), WaitStatus::Stopped(..))
    }

    /// What the next call makes durable, if that is what it does.
    pub fn syncs(&self) -> Option<PathBuf> {
        let (number, arguments) = self.call()?;
        (number == nix::libc::SYS_fsync).then(|| self.file(arguments[0]))
    }

    /// Whether the next call reads a piece of the content of a file of that name, and not of its tables, which are read by the page.
    pub fn reads(&self, name: &str) -> bool {
        let reads = |(number, arguments): (i64, Vec<u64>)| {
            number == nix::libc::SYS_pread64 && arguments[2] > 4096 && self.file(arguments[0]).ends_with(name)
        };
        self.call().is_some_and(reads)
    }

    /// The next call, and what it is called with.
    fn call(&self) -> Option<(i64, Vec<u64>)> {
        let call = fs::read_to_string(format!("/proc/{}/syscall", self.0)).unwrap();
        let (number, arguments) = call.split_once(' ')?;
        let hex = |text: &str| u64::from_str_radix(text.trim().strip_prefix("0x").unwrap(), 16).unwrap();
        Some((number.parse().ok()?, arguments.split(' ').map(hex).collect()))
    }

    fn file(&self, descriptor: u64) -> PathBuf {
        fs::read_link(format!("/proc/{}/fd/{descriptor}", self.0)).unwrap_or_default()
    }

    /// Lets it run to its end.
    pub fn end(self) -> WaitStatus {
        ptrace::detach(self.0, None).unwrap();
        waitpid(self.0, None).unwrap()
    }

    /// Sends it a signal and lets it run.
    pub fn end_by(self, signal: Signal) -> WaitStatus {
        kill(self.0, signal).unwrap();
        let _ = ptrace::detach(self.0, None); // a killed one is gone already
        waitpid(self.0, None).unwrap()
    }
}
