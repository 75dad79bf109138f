//! Stops a run before each of its system calls, so that it can be ended or inspected there.
//!
//! Only its first thread is stepped; other threads and the programs that it starts run freely.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::{fs, io};

use nix::errno::Errno;
use nix::libc::{PTRACE_SYSCALL_INFO_ENTRY, SYS_fsync, c_long, user_regs_struct};
use nix::sys::ptrace;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// The run. It is killed when the thread that started it ends.
#[derive(Debug)]
pub struct Stepped {
    child: Child,
    run: Pid,
}

/// A system call that is about to be made.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its number, of `libc::SYS_*`.
    pub number: c_long,
    /// Its arguments.
    pub arguments: [u64; 6],
}

impl Stepped {
    /// Starts a command and stops it before its first call.
    pub fn start(command: &mut Command) -> Stepped {
        let child = traced(command);
        let run = Pid::from_raw(child.id() as i32);
        assert_eq!(
            waitpid(run, None),
            Ok(WaitStatus::Stopped(run, Signal::SIGTRAP))
        );
        ptrace::setoptions(
            run,
            ptrace::Options::PTRACE_O_EXITKILL | ptrace::Options::PTRACE_O_TRACESYSGOOD,
        )
        .expect("ptrace");
        let mut stepped = Stepped { child, run };
        assert!(stepped.goes_on(), "it is stopped before its first call");
        stepped
    }

    /// Makes that many system calls; returns false when it ended earlier.
    pub fn steps(&mut self, calls: u64) -> bool {
        // Each call has two stops: after it, and before the next.
        (0..2 * calls).all(|_| self.goes_on())
    }

    /// Runs to the next stop at a call; returns false when it ended.
    fn goes_on(&mut self) -> bool {
        let mut signal = None;
        loop {
            ptrace::syscall(self.run, signal).expect("ptrace");
            match waitpid(self.run, None).expect("waitpid") {
                WaitStatus::PtraceSyscall(_) => return true,
                WaitStatus::Stopped(_, received) => signal = Some(received),
                _ended => return false,
            }
        }
    }

    /// The next call.
    pub fn next_call(&self) -> Call {
        let stop = ptrace::syscall_info(self.run).expect("ptrace");
        assert_eq!(
            stop.op, PTRACE_SYSCALL_INFO_ENTRY,
            "it is stopped before a call"
        );
        #[allow(unsafe_code, reason = "a union of the kernel's")]
        // SAFETY: at the entry of a call, the kernel has filled this part of it.
        let entry = unsafe { stop.u.entry };
        Call {
            number: entry.nr as c_long,
            arguments: entry.args,
        }
    }

    /// The file of one of its descriptors; empty when the descriptor is not open.
    pub fn file(&self, descriptor: u64) -> PathBuf {
        fs::read_link(format!("/proc/{}/fd/{descriptor}", self.run)).unwrap_or_default()
    }

    /// The file that the next call syncs, if it is such a call.
    pub fn syncs(&self) -> Option<PathBuf> {
        let Call { number, arguments } = self.next_call();
        (number == SYS_fsync).then(|| self.file(arguments[0]))
    }

    /// Makes the next call fail with an error instead of doing anything; returns false when the run
    /// ended.
    pub fn fails(&mut self, error: Errno) -> bool {
        self.change_registers(|registers| registers.orig_rax = u64::MAX); // the number of no call
        assert!(self.goes_on(), "a call that is not made comes back");
        self.change_registers(|registers| registers.rax = -i64::from(error as i32) as u64);
        self.goes_on()
    }

    /// Makes the next call, which writes, write only the first half of its bytes; returns false when
    /// the run ended.
    pub fn writes_half(&mut self) -> bool {
        self.change_registers(|registers| registers.rdx /= 2);
        self.steps(1)
    }

    /// As the kernel names them for x86-64.
    fn change_registers(&self, change: impl FnOnce(&mut user_regs_struct)) {
        let mut registers = ptrace::getregs(self.run).expect("ptrace");
        change(&mut registers);
        ptrace::setregs(self.run, registers).expect("ptrace");
    }

    /// Lets it run to its end.
    pub fn end(self) -> WaitStatus {
        ptrace::detach(self.run, None).expect("ptrace");
        waitpid(self.run, None).expect("waitpid")
    }

    /// The same, and returns its output, where that is a pipe.
    pub fn output(self) -> Output {
        ptrace::detach(self.run, None).expect("ptrace");
        self.child.wait_with_output().expect("it ends")
    }

    /// Sends it a signal and lets it run.
    pub fn end_by(self, signal: Signal) -> WaitStatus {
        kill(self.run, signal).expect("kill");
        let _ = ptrace::detach(self.run, None); // a killed one is gone already
        waitpid(self.run, None).expect("waitpid")
    }
}

/// Runs a command, whose output is discarded, and kills it before its `nth` system call, from 0,
/// among those that `counts` selects; returns false when it made fewer.
pub fn killed_before(command: &mut Command, nth: u64, counts: impl Fn(c_long) -> bool) -> bool {
    let mut stepped = Stepped::start(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let mut left = nth;
    loop {
        if counts(stepped.next_call().number) {
            if left == 0 {
                break;
            }
            left -= 1;
        }
        if !stepped.steps(1) {
            return false;
        }
    }
    stepped.end_by(Signal::SIGKILL);
    true
}

#[allow(unsafe_code, reason = "only the child itself can ask to be stopped")]
fn traced(command: &mut Command) -> Child {
    let begin = || -> io::Result<()> {
        // As of `heeding_signals`, whose second exec would be one of the steps.
        for ending in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
            // SAFETY: no handler is set.
            unsafe { signal(ending, SigHandler::SigDfl) }?;
        }
        Ok(ptrace::traceme()?)
    };
    // SAFETY: between fork and exec the child makes system calls and allocates nothing.
    unsafe { command.pre_exec(begin) }
        .spawn()
        .expect("the program starts")
}
