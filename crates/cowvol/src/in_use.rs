//! Users of images: found by kernel locks alone.
//!
//! A session holds session.lock from before its volume is made to the end, and a guest guest.lock
//! from before its disks are opened. QEMU and its tools hold their own locks on every image that
//! they have open, the bases below it included, whoever started them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jsonpipe::{Common, Exit, io_error, lock};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, O_NONBLOCK};
use occupancy::{GUEST, SESSION};

/// Nobody's session and nobody's guest is on this machine, and while this lives no guest starts.
#[derive(Debug)]
pub struct Quiet {
    _guest: Option<File>,
}

/// Why something is in use, in words.
pub type Reason = String;

/// Makes sure that nobody is at work. Only under the pool's lock: a session that begins after the
/// look at its lock makes its volume under that lock, hence on a current generation.
///
/// In a dry run it looks, and creates and keeps nothing.
pub fn quiet(common: &Common, dry_run: bool) -> anyhow::Result<Result<Quiet, Reason>> {
    // What is taken is dropped at once: a login must not take us for a session.
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

/// Whether some program has a lock on the file, or on what it links to.
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
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false), // a link to nothing
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Ok(false);
    }
    // QEMU locks single bytes, each for something that it does or lets nobody else do; any of them
    // will do.
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
