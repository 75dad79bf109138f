//! Finds the users of images, by kernel locks alone.
//!
//! A session holds session.lock from before its volume is made until its end, and a guest holds
//! guest.lock from before its disks are opened. QEMU and its tools hold their own locks on every
//! image that they have open, including the bases below it, however they were started.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jsonpipe::{Common, Exit, io_error, lock};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, O_NONBLOCK};
use occupancy::{GUEST, SESSION};

/// Proof that no session and no guest is running; while this exists, no guest starts.
#[derive(Debug)]
pub struct Quiet {
    _guest: Option<File>,
}

/// The reason why something is in use, in words.
pub type Reason = String;

/// Ensures that the machine is idle. Only under the pool's lock: a session that begins after the
/// check makes its volume under that lock, hence on a current generation.
///
/// A dry run only looks, and creates and holds nothing.
pub fn quiet(common: &Common, dry_run: bool) -> anyhow::Result<Result<Quiet, Reason>> {
    // The lock is released at once: a login must not mistake us for a session.
    if lock::is_held(common, SESSION)? {
        return Ok(Err("a session is running on this machine".into()));
    }
    let guest = if dry_run {
        None
    } else {
        lock::attempt(common, GUEST)?
    };
    if guest.is_none() && (!dry_run || lock::is_held(common, GUEST)?) {
        return Ok(Err("a guest is running on this machine".into()));
    }
    Ok(Ok(Quiet { _guest: guest }))
}

/// Whether a program holds a lock on the file, or on the target of the link.
pub fn is_locked(path: &Path) -> anyhow::Result<bool> {
    let failed = |error: io::Error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("looking for locks on {}", path.display()),
        )
    };
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false), // a dangling link
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Ok(false);
    }
    // QEMU locks single bytes with different meanings; a lock on any of them counts.
    let mut any = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut any)).map_err(|errno| failed(errno.into()))?;
    if any.l_type != libc::F_UNLCK as libc::c_short {
        return Ok(true);
    }
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
