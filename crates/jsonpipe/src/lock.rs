//! Kernel locks on files in /run/labtools. A lock is held by the process that has the file open,
//! and released by the kernel when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::libc::O_NONBLOCK; // to open a pipe must not block
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket};

use crate::atomic;
use crate::exit::{Exit, io_error};
use crate::process::Common;
use crate::signals::Deferred;

const DIRECTORY: &str = "/run/labtools";

/// The limit of [`wait`]. Most holders finish in milliseconds; a longer one, such as a disk that
/// does not answer, is not worth a queue.
const PATIENCE: Duration = Duration::from_secs(5);
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// Takes the lock at `path` below the root, and holds it until the file is closed. Status 75 when
/// another process holds it; `why` names the holder and the way out.
pub fn take(common: &Common, path: &str, why: &str) -> anyhow::Result<File> {
    match attempt(common, path)? {
        Some(file) => Ok(file),
        None => Err(held(common, path, why)),
    }
}

/// The same, after waiting a few seconds for the other process. A signal ends the wait at once.
pub fn wait(common: &Common, path: &str, signals: &Deferred) -> anyhow::Result<File> {
    let since = Instant::now();
    let file = open(common, path)?;
    while !try_lock(common, path, &file)? {
        if since.elapsed() > PATIENCE || signals.pending() {
            return Err(held(
                common,
                path,
                "another run holds it; try again when that has ended",
            ));
        }
        sleep(BETWEEN_TRIES);
    }
    Ok(file)
}

/// Whether another process holds the lock. The file is not created for that, and the lock stays
/// free.
pub fn is_held(common: &Common, path: &str) -> anyhow::Result<bool> {
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(O_NONBLOCK)
        .open(common.path(path));
    match file {
        Ok(file) => Ok(!try_lock(common, path, &file)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(common, path, error)),
    }
}

/// The same as [`take`], but `None` when another process holds it.
pub fn attempt(common: &Common, path: &str) -> anyhow::Result<Option<File>> {
    let file = open(common, path)?;
    Ok(try_lock(common, path, &file)?.then_some(file))
}

/// A connection to the process that listens at an abstract socket's `name`, and whether it is our
/// user's. Such a name is a lock that cannot be deleted, in one network namespace; but every user's
/// processes may take it. The connection breaks when the last process that has the socket ends.
pub fn reach(name: &[u8]) -> nix::Result<(OwnedFd, bool)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(stream.as_raw_fd(), &UnixAddr::new_abstract(name)?)?;
    let owner = getsockopt(&stream, PeerCredentials)?.uid();
    Ok((stream, owner == nix::unistd::geteuid().as_raw()))
}

fn open(common: &Common, path: &str) -> anyhow::Result<File> {
    atomic::create_directory(&common.path(DIRECTORY), 0o700)?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(O_NONBLOCK)
        .open(common.path(path));
    file.map_err(|error| failed(common, path, error))
}

/// Whether the lock was obtained.
fn try_lock(common: &Common, path: &str, file: &File) -> anyhow::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(failed(common, path, error)),
    }
}

fn failed(common: &Common, path: &str, error: io::Error) -> anyhow::Error {
    io_error(
        error,
        Exit::of_write,
        format_args!("locking {}", common.path(path).display()),
    )
}

fn held(common: &Common, path: &str, why: &str) -> anyhow::Error {
    Exit::TemporaryFailure.error(format_args!(
        "locking {}: {why}",
        common.path(path).display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "/run/labtools/x.lock";

    #[test]
    fn a_lock_that_is_a_pipe_is_an_error_and_does_not_block() {
        let root = tempfile::tempdir().unwrap();
        let common = Common {
            verbose: false,
            log: false,
            root: root.path().to_owned(),
            config: None,
        };
        atomic::create_directory(&common.path(DIRECTORY), 0o700).unwrap();
        nix::unistd::mkfifo(&common.path(LOCK), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(Exit::of(&take(&common, LOCK, "x").unwrap_err()), Exit::Io);
        assert_eq!(Exit::of(&is_held(&common, LOCK).unwrap_err()), Exit::Io);
    }

    #[test]
    fn lock_is_held_until_it_is_unlocked() {
        let root = tempfile::tempdir().unwrap();
        let common = Common {
            verbose: false,
            log: false,
            root: root.path().to_owned(),
            config: None,
        };
        assert!(!is_held(&common, LOCK).unwrap() && !root.path().join("run").exists());
        let ours = take(&common, LOCK, "x").unwrap();
        assert!(is_held(&common, LOCK).unwrap());
        assert!(attempt(&common, LOCK).unwrap().is_none());
        let error = take(&common, LOCK, "another one has it; wait").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::TemporaryFailure);
        assert!(
            format!("{error:#}").ends_with("/run/labtools/x.lock: another one has it; wait"),
            "{error:#}"
        );
        // A close alone leaves the lock with a child that another test has just forked, until its
        // exec.
        ours.unlock().unwrap();
        attempt(&common, LOCK).unwrap().unwrap().unlock().unwrap();
        assert!(!is_held(&common, LOCK).unwrap());
    }
}
