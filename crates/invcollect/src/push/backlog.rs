//! The reports waiting in the spool, counted by their files.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use crate::push::spool::{DIRECTORY, REJECTED, is_report};
use crate::read::machine::Machine;

/// The waiting files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Their total size.
    pub bytes: u64,
    /// Their number.
    pub reports: u64,
    /// The modification time of the oldest.
    pub oldest: Option<SystemTime>,
    /// The number of reports that were refused and will be offered again, or were damaged beyond
    /// repair.
    pub rejected: u64,
}

impl Backlog {
    /// All zero on a machine that never sent anything. `None`, with a reason, when it cannot be
    /// read.
    pub fn read(machine: &Machine) -> Option<Backlog> {
        let read = || {
            let mut waiting = Backlog::default();
            for file in files(&machine.path(DIRECTORY))? {
                waiting.bytes += file.size();
                waiting.reports += 1;
                waiting.oldest = waiting.oldest.into_iter().chain(file.modified().ok()).min();
            }
            waiting.rejected = files(&machine.path(DIRECTORY).join(REJECTED))?.len() as u64;
            Ok::<_, io::Error>(waiting)
        };
        read()
            .map_err(|error| machine.unreadable("spool", DIRECTORY, &error))
            .ok()
    }
}

/// The finished reports in a directory; empty when it does not exist.
fn files(directory: &Path) -> io::Result<Vec<fs::Metadata>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(file) if is_report(&entry.file_name()) => files.push(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {} // sent meanwhile
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}
