//! The locks by which QEMU and its tools show that they have an image open: OFD locks on single
//! bytes, also of block devices, however they were started.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// A lock that any number of holders share, for which the file is open for reading.
pub const SHARED: libc::c_int = libc::F_RDLCK;

/// A lock of one holder, for which the file is open for writing.
pub const EXCLUSIVE: libc::c_int = libc::F_WRLCK;

/// The bytes that QEMU locks: what it does with an image, from 100, and what it lets others do, from
/// 200. QEMU shares each lock, and opens no image on which another program has one.
const QEMU_LOCKS: (i64, i64) = (100, 200);

/// Takes the bytes that QEMU locks, which keeps it out; false when another holder prevents it.
pub fn take(file: &File, kind: libc::c_int) -> io::Result<bool> {
    let (start, length) = QEMU_LOCKS;
    match fcntl(file, FcntlArg::F_OFD_SETLK(&range(kind, start, length))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether another holder has a lock on any byte.
pub fn is_taken(file: &File) -> io::Result<bool> {
    // QEMU locks single bytes with different meanings; a lock on any of them counts.
    let mut any = range(EXCLUSIVE, 0, 0);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut any))?;
    Ok(any.l_type != libc::F_UNLCK as libc::c_short)
}

fn range(kind: libc::c_int, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}
