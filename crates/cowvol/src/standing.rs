//! The identity of a checked file, to verify that its name still leads to it.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// The properties that show that a name still leads to the checked file, unchanged.
#[derive(Debug, PartialEq, Eq)]
pub struct Standing {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Standing {
    /// The identity of the file found under the name.
    pub fn of(found: &fs::Metadata) -> Standing {
        let modified = (found.mtime(), found.mtime_nsec());
        Standing {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified,
        }
    }
}
