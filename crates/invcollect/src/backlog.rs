//! What waits in the spool to be sent, counted by its files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use jsonpipe::Common;

use crate::push::spool::{DIRECTORY, REJECTED, is_report};

/// The files that wait.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Their sizes together.
    pub bytes: u64,
    /// How many they are.
    pub reports: u64,
    /// When the oldest of them was written.
    pub oldest: Option<SystemTime>,
    /// How many were refused for good.
    pub rejected: u64,
}

impl Backlog {
    /// Of a machine that never sent anything, all of it is 0.
    pub fn read(common: &Common) -> Backlog {
        let mut waiting = Backlog::default();
        for file in files(&common.path(DIRECTORY)) {
            waiting.bytes += file.size();
            waiting.reports += 1;
            waiting.oldest = waiting.oldest.into_iter().chain(file.modified().ok()).min();
        }
        waiting.rejected = files(&common.path(DIRECTORY).join(REJECTED)).count() as u64;
        waiting
    }
}

/// The reports of a directory, without those that are not finished.
fn files(directory: &Path) -> impl Iterator<Item = fs::Metadata> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| is_report(&entry.file_name())).filter_map(|entry| entry.metadata().ok())
}
