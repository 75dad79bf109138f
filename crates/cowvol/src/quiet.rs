//! Whether the machine is idle, by kernel locks alone.
//!
//! A session holds session.lock from before its volume is made until its end, and a guest holds
//! guest.lock from before its disks are opened.

use std::fs::File;

use jsonpipe::{Common, lock};
use occupancy::{GUEST, SESSION};

/// Proof that no session and no guest is running; while this exists, no guest starts.
#[derive(Debug)]
pub struct Quiet {
    _guest: Option<File>,
}

/// The reason why the machine is not idle, in words.
pub type Reason = String;

/// Ensures that the machine is idle. Only under the pool's lock: a session that begins after the
/// check makes its volume under that lock, hence on a current generation.
///
/// A dry run only looks, and creates and holds nothing.
pub fn ensure(common: &Common, dry_run: bool) -> anyhow::Result<Result<Quiet, Reason>> {
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
