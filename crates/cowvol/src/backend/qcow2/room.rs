//! The room of the file system that holds the volumes, and what of it is held for one of them.

use std::fs::File;
use std::io;
use std::path::Path;

use jsonpipe::{Exit, io_error};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statfs::{FsType, statfs};
use nix::sys::statvfs::statvfs;
use qcow2::CLUSTER_BYTES;

use crate::settings;

/// File systems whose fallocate(2), where it succeeds, promises no room on a disk: the first three
/// write elsewhere all the same, and the last takes memory. linux/magic.h, and bcachefs_format.h.
const WITHOUT_PROMISE: [(&str, i64); 4] = [
    ("btrfs", 0x9123_683e),
    ("bcachefs", 0xca45_1a4e),
    ("zfs", 0x2fc1_2fc1),
    ("tmpfs", 0x0102_1994),
];

/// The room that is free for users, root's reserve excluded.
pub fn free_bytes(directory: &Path) -> anyhow::Result<u64> {
    let found = statvfs(directory).map_err(|errno| looking(errno.into(), directory))?;
    Ok(found.blocks_available() * found.fragment_size())
}

/// Refuses (78) a file system on which no room can be held.
pub fn check_can_hold(directory: &Path) -> anyhow::Result<()> {
    let found = statfs(directory).map_err(|errno| looking(errno.into(), directory))?;
    let FsType(magic) = found.filesystem_type();
    match WITHOUT_PROMISE.iter().find(|(_, of)| *of == magic) {
        Some((name, _)) => Err(cannot_hold(directory, name)),
        None => Ok(()),
    }
}

/// Room cannot be held on a file system.
pub fn cannot_hold(directory: &Path, name: &str) -> anyhow::Error {
    Exit::Config.error(format_args!(
        "holding room in {}: {name} cannot promise it; use ext4 or xfs for volumes, or set reserve= in [room] of {}",
        directory.display(),
        settings::FILE
    ))
}

fn looking(error: io::Error, directory: &Path) -> anyhow::Error {
    io_error(
        error,
        Exit::of_read,
        format_args!("looking for room in {}", directory.display()),
    )
}

/// Holds that many bytes in all for a file, whose length stays. From offset 0, since the clusters
/// that an overlay has not written yet are holes.
pub fn hold(file: &File, bytes: u64) -> io::Result<()> {
    i64::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    hold_range(file, 0, bytes)
}

/// XFS wants as much free as the whole range is long, also where the file has it already. So a range
/// for which there is no room is tried by halves, down to a cluster.
fn hold_range(file: &File, start: u64, bytes: u64) -> io::Result<()> {
    let keep_size = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    match fallocate(file, keep_size, start as i64, bytes as i64) {
        Err(Errno::ENOSPC) if bytes > CLUSTER_BYTES => {
            let half = (bytes / 2).next_multiple_of(CLUSTER_BYTES);
            hold_range(file, start, half)?;
            hold_range(file, start + half, bytes - half)
        }
        held => Ok(held?),
    }
}

/// Gives back what is held beyond the end of the file. No program may have it open: one that makes it
/// longer meanwhile would be cut off.
pub fn give_back(file: &File) -> io::Result<()> {
    file.set_len(file.metadata()?.len())
}
