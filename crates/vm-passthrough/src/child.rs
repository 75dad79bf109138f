//! Starting QEMU as its own user, with nothing but what it is handed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use jsonpipe::{Exit, ExitContext, io_error};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getpid, getppid};

use crate::identity::Identity;
use crate::tail::Tail;

/// The first number of a descriptor that QEMU inherits: above what a shell redirects by hand.
const FIRST_DESCRIPTOR: RawFd = 10;

/// A program to start.
#[derive(Debug)]
pub struct Start<'a> {
    /// The program and its arguments.
    pub argv: &'a [String],
    /// Whom it runs as; `None` leaves it to the caller's own user.
    pub identity: Option<Identity>,
    /// The only descriptors that it inherits, under the numbers that they have.
    pub hand_down: &'a [BorrowedFd<'a>],
    /// Whether it may keep all its memory from being moved, as devices that write to it need.
    pub lock_memory: bool,
}

/// A running program. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub struct Running(Child);

impl Start<'_> {
    /// Starts it. A program that is not there is status 69, one that this user may not run 78.
    pub fn spawn(&self) -> anyhow::Result<(Running, Tail)> {
        let program = self.argv.first().exit(Exit::Software, || "an empty command line")?;
        let mut command = Command::new(program);
        command.args(&self.argv[1..]).env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Ctrl-C is for us; we then tell QEMU in an orderly way.
        command.process_group(0);
        self.confine(&mut command);
        let mut child = command.spawn().map_err(|error| {
            let exit_of = |error: &io::Error| match error.kind() {
                io::ErrorKind::NotFound => Exit::Unavailable,
                _ => Exit::Config,
            };
            io_error(error, exit_of, format_args!("starting {program}"))
        })?;
        let stderr = child.stderr.take();
        Ok((Running(child), Tail::new(stderr)))
    }

    /// Gives everything up in the child, after the fork and before the program.
    #[expect(unsafe_code, reason = "the time between fork and exec belongs to whoever swears to keep its rules")]
    fn confine(&self, command: &mut Command) {
        let parent = getpid();
        let identity = self.identity;
        let lock_memory = self.lock_memory;
        let hand_down: Vec<RawFd> = self.hand_down.iter().map(AsRawFd::as_raw_fd).collect();
        let confine = move || -> io::Result<()> {
            if lock_memory {
                setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
            }
            if let Some(identity) = identity {
                identity.assume()?;
            }
            // Our own signals may be waiting, and a child inherits that.
            SigSet::empty().thread_set_mask()?;
            prctl::set_no_new_privs()?;
            // After the change of user, which would clear it. If our parent died before this line nobody would tell us.
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            // SAFETY: a system call that touches no memory; on exec it closes descriptors that nothing uses after it.
            let closing = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
            if closing != 0 {
                return Err(io::Error::last_os_error());
            }
            for fd in &hand_down {
                // SAFETY: the parent holds the descriptors until the child has become the program.
                let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
                fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
            }
            Ok(())
        };
        // SAFETY: `confine` makes system calls only; it neither allocates nor takes a lock.
        unsafe { command.pre_exec(confine) };
    }
}

/// The same open file under a number that is fit to be handed down.
#[expect(unsafe_code, reason = "nix returns the new descriptor as a bare number")]
pub fn renumber(fd: OwnedFd) -> io::Result<OwnedFd> {
    let number = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(FIRST_DESCRIPTOR))?;
    // SAFETY: the descriptor was made by the line above, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

impl Running {
    /// Waits until it has ended, and tells how.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) -> io::Result<()> {
        self.0.kill()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it has ended already, or ends now
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{Gid, Uid};

    #[test]
    fn a_program_that_would_stay_root_is_not_started() {
        let argv = ["/bin/true".to_owned()];
        let start = |uid: u32, gid: u32| {
            let identity = Some(Identity { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), kvm: Some(Gid::from_raw(64057)) });
            Start { argv: &argv, identity, hand_down: &[], lock_memory: false }.spawn()
        };
        assert!(nix::unistd::geteuid().is_root(), "only root can become another user");
        assert!(start(64055, 64055).unwrap().0.wait().unwrap().success());
        for (uid, gid) in [(u32::MAX, u32::MAX), (u32::MAX, 64055), (64055, u32::MAX)] {
            assert_eq!(Exit::of(&start(uid, gid).unwrap_err()), Exit::Config, "{uid}:{gid}");
        }
    }
}
