//! The entries of a directory that may not exist.

use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;

use jsonpipe::{Exit, io_error};

/// The entries of a directory; empty when it does not exist or is not a directory.
pub fn entries(directory: &Path) -> anyhow::Result<Vec<DirEntry>> {
    let gone = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    };
    match fs::read_dir(directory).and_then(Iterator::collect) {
        Ok(entries) => Ok(entries),
        Err(error) if gone(&error) => Ok(Vec::new()),
        Err(error) => Err(io_error(
            error,
            Exit::of_read,
            format_args!("reading {}", directory.display()),
        )),
    }
}
