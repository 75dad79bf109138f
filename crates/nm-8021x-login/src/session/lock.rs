//! The lock of this machine's session. A login holds it from before its first packet until its
//! ports are closed, and a logout while it closes what was left.
//!
//! It has two parts, and the kernel holds both. The lock on `login.lock` says at once that a user
//! is logged in. But that file can be deleted, with its directory: the next login would lock a new
//! file while the session before is still closing its ports, and each would undo what the other
//! does. So the second part has no file: an abstract socket, which belongs to the network of this
//! machine and is there until the last process of the session has ended.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

use jsonpipe::{Common, Exit, ExitContext, lock, signals::Deferred};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const FILE: &str = "/run/labtools/login.lock";
const NAME: &[u8] = b"labtools/nm-8021x-login";

/// For a session whose directory was deleted to close its ports: a little more than the supplicant
/// may take to leave a link.
const PATIENCE: Duration = Duration::from_secs(15);
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// Held until it is dropped, and by every process that has inherited it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    name: Option<UnixListener>,
}

impl Lock {
    /// Takes it. Status 75 when a user is logged in.
    pub fn take(common: &Common, signals: &Deferred) -> anyhow::Result<Lock> {
        let why = "a user is logged in, or another login is under way; close it first: \
                   nm-8021x-login logout";
        let file = lock::take(common, FILE, why)?;
        let name = name(NAME, PATIENCE, signals)?;
        Ok(Lock { file, name })
    }

    /// The same, after waiting a few seconds for another process that holds it.
    pub fn wait(common: &Common, signals: &Deferred) -> anyhow::Result<Lock> {
        let file = lock::wait(common, FILE, signals)?;
        let name = name(NAME, PATIENCE, signals)?;
        Ok(Lock { file, name })
    }

    /// Leaves it to the processes that are started from now on as well.
    pub fn bequeath(&self) -> anyhow::Result<()> {
        fcntl(&self.file, FcntlArg::F_SETFD(FdFlag::empty()))?;
        if let Some(name) = &self.name {
            fcntl(name, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    }
}

/// Takes a name, when the one before has ended. `None` where another user's process has it: every
/// process may take such a name, and must not be able to keep people from logging in.
fn name(
    name: &[u8],
    patience: Duration,
    signals: &Deferred,
) -> anyhow::Result<Option<UnixListener>> {
    let doing = || "taking the name of this machine's session";
    let address = SocketAddr::from_abstract_name(name).exit(Exit::Software, doing)?;
    let deadline = Instant::now() + patience;
    loop {
        match UnixListener::bind_addr(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound.map(Some).exit(Exit::Io, doing),
        }
        let is_late = Instant::now() >= deadline || signals.pending();
        match lock::reach(name) {
            Ok((_, false)) => return Ok(None),
            Ok((session, true)) if !is_late => wait_for_end(&session, deadline, signals),
            Ok((_, true)) => {
                return Err(Exit::TemporaryFailure.error(
                    "waiting for the session before, whose /run/labtools was deleted: \
                     it is still closing its ports; try again",
                ));
            }
            // It ended just now, or has not begun to listen; no session does that for long.
            Err(_) if !is_late => sleep(BETWEEN_TRIES),
            Err(_) => return Ok(None),
        }
    }
}

/// Nobody accepts the connection: it breaks when the last process of the session ends.
fn wait_for_end(session: &OwnedFd, deadline: Instant, signals: &Deferred) {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let mut fds = [
        PollFd::new(session.as_fd(), PollFlags::POLLIN),
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
    ];
    let _: Result<_, Errno> = poll(&mut fds, left); // whatever it was, the name is tried again
}
