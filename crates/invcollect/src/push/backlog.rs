//! The reports that wait in the spool, counted by their files.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use crate::push::spool::{DIRECTORY, REJECTED, is_report};
use crate::read::machine::Machine;

/// The files that wait.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Their sizes together.
    pub bytes: u64,
    /// How many they are.
    pub reports: u64,
    /// When the oldest of them was written.
    pub oldest: Option<SystemTime>,
    /// How many were refused, and will be offered again, or could not be made good.
    pub rejected: u64,
}

impl Backlog {
    /// Of a machine that never sent anything, all of it is 0. `None`, with a reason, when it cannot
    /// be read.
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

/// The reports of a directory, without those that are not finished; none when it is not there.
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
