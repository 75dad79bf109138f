//! The flags of a tool on a machine that is a directory.

use std::path::PathBuf;

use crate::Common;

/// The flags with this `--root`, and no other.
pub fn common(root: impl Into<PathBuf>) -> Common {
    Common {
        verbose: false,
        log: false,
        root: root.into(),
        config: None,
    }
}
