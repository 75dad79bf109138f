//! Starts a program: the child gives up all rights after the fork and before the exec.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getpid, getppid, setsid};

use crate::Identity;
use crate::system;

/// The conditions of a program's start.
#[derive(Debug)]
pub struct Start<'a> {
    /// The user it runs as; `None` keeps the caller's user.
    pub identity: Option<Identity>,
    /// The only descriptors that it inherits besides the standard ones, with unchanged numbers.
    pub hand_down: &'a [BorrowedFd<'a>],
    /// Its lifetime.
    pub life: Life,
    /// Whether it may lock all its memory, which devices that write to it need.
    pub lock_memory: bool,
}

/// The lifetime of a program. In both cases it does not receive Ctrl-C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Until it or we end, whichever comes first.
    WithUs,
    /// Until it ends: a session without a terminal.
    Beyond,
}

impl Start<'_> {
    /// Starts the program: without an environment, in the root directory, with an empty standard
    /// input, no blocked signal, and no way to gain rights.
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        command.env_clear().current_dir("/").stdin(Stdio::null());
        if self.life == Life::WithUs {
            command.process_group(0);
        }
        let Start {
            identity,
            life,
            lock_memory,
            ..
        } = *self;
        let parent = getpid();
        // The borrow lasts until the child has executed the program, or has failed to.
        let hand_down: Vec<RawFd> = self.hand_down.iter().map(AsRawFd::as_raw_fd).collect();
        system::before_exec(&mut command, move || {
            if lock_memory {
                setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
            }
            if life == Life::Beyond {
                setsid()?;
            }
            if let Some(identity) = identity {
                identity.assume()?;
            }
            // Our own signals may be blocked, and a child inherits the mask.
            SigSet::empty().thread_set_mask()?;
            prctl::set_no_new_privs()?;
            if life == Life::WithUs {
                // After the change of user, which would clear it. It does not report a parent that
                // died before this line.
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                if getppid() != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
            }
            system::close_all_but(&hand_down)
        });
        command.spawn()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    use nix::unistd::{Gid, Uid, geteuid};

    fn output(
        identity: Option<Identity>,
        life: Life,
        hand_down: &[BorrowedFd],
        script: &str,
    ) -> io::Result<String> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        let child = Start {
            identity,
            hand_down,
            life,
            lock_memory: false,
        }
        .spawn(command)?;
        Ok(String::from_utf8_lossy(&child.wait_with_output()?.stdout).into_owned())
    }

    fn identity(uid: u32, gid: u32) -> Option<Identity> {
        Some(Identity {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            group: Some(Gid::from_raw(64057)),
        })
    }

    #[test]
    fn a_program_that_would_stay_root_is_not_started() {
        assert!(geteuid().is_root(), "only root can become another user");
        for life in [Life::WithUs, Life::Beyond] {
            let run = |uid, gid| {
                output(
                    identity(uid, gid),
                    life,
                    &[],
                    "id -u; id -G; pwd; env | grep -v ^PWD= | grep -v ^_= | grep -v ^SHLVL=",
                )
            };
            assert_eq!(run(64055, 64056).unwrap(), "64055\n64056 64057\n/\n");
            for (uid, gid) in [(u32::MAX, u32::MAX), (u32::MAX, 64055), (64055, u32::MAX)] {
                assert_eq!(
                    run(uid, gid).unwrap_err().raw_os_error(),
                    Some(libc::EPERM),
                    "{uid}:{gid}"
                );
            }
        }
    }

    #[test]
    fn a_program_inherits_what_it_is_handed() {
        let pipes = [(); 2].map(|()| io::pipe().unwrap());
        let numbers = [&pipes[0].0, &pipes[1].0]
            .map(|pipe| system::renumber(pipe.try_clone().unwrap().into()).unwrap());
        let open = numbers.each_ref().map(AsRawFd::as_raw_fd);
        let script = format!(
            "for fd in {} {}; do test -e /proc/self/fd/$fd && echo $fd; done",
            open[0], open[1]
        );
        let handed = output(None, Life::WithUs, &[numbers[1].as_fd()], &script).unwrap();
        assert_eq!(handed, format!("{}\n", open[1]));
    }
}
