//! The lock on the slots: one run at a time writes, flips, tries or repairs.

use std::fs::File;

use jsonpipe::{Common, lock};

const LOCK: &str = "/run/labtools/abflip.lock";

/// Takes the lock, which is held until the file is closed. Status 75 when another run holds it.
pub fn lock(common: &Common) -> anyhow::Result<File> {
    lock::take(common, LOCK, "another abflip is at work; try again when that has ended")
}
