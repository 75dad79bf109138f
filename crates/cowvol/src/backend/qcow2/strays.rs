//! What is among the users' volumes and is not a volume.

use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jsonpipe::{Common, Exit, io_error};

use super::names::{parse_ephemeral, parse_item};
use super::overlay::{EPHEMERAL, USERS};
use crate::backend::{Stray, StrayKind};
use crate::directory::entries;
use crate::token::Token;

/// What a file system makes in its root, by itself.
const OF_FILE_SYSTEM: &str = "lost+found";

const FOREIGN: &str = "nothing of cowvol has this name";

/// Finds all of it.
pub fn find(common: &Common) -> anyhow::Result<Vec<Stray>> {
    let mut strays = Vec::new();
    for user in entries(&common.path(USERS))? {
        let name = user.file_name().to_string_lossy().into_owned();
        let path = format!("{USERS}/{name}");
        let is_directory = user.file_type().is_ok_and(|kind| kind.is_dir());
        if name == OF_FILE_SYSTEM {
            continue;
        }
        if path == EPHEMERAL && is_directory {
            let files = entries(&user.path())?;
            let is_remains = |name: &str| Some(parse_ephemeral(name)?.is_remains);
            strays.extend(
                files
                    .iter()
                    .filter_map(|file| of_file(file, &path, is_remains)),
            );
            continue;
        }
        if Token::parse(&name).is_none() || !is_directory {
            strays.push(stray(StrayKind::Foreign, path, FOREIGN));
            continue;
        }
        let files = entries(&user.path())?;
        if files.is_empty() {
            let reason = "the directory of a user without a volume";
            strays.push(stray(StrayKind::EmptyDirectory, path, reason));
            continue;
        }
        let is_remains = |name: &str| Some(parse_item(name)?.2);
        strays.extend(
            files
                .iter()
                .filter_map(|file| of_file(file, &path, is_remains)),
        );
    }
    Ok(strays)
}

/// A damaged volume is none: whoever opens it says so. `is_remains` is `None` for a name that is not of
/// a volume or of its remains.
fn of_file(
    file: &DirEntry,
    directory: &str,
    is_remains: impl Fn(&str) -> Option<bool>,
) -> Option<Stray> {
    let name = file.file_name().to_string_lossy().into_owned();
    let path = format!("{directory}/{name}");
    let found = file.metadata().ok()?; // it has disappeared
    match is_remains(&name) {
        None => Some(stray(StrayKind::Foreign, path, FOREIGN)),
        Some(true) if !found.is_file() => Some(stray(StrayKind::Foreign, path, FOREIGN)),
        Some(_) if found.is_file() && found.nlink() > 1 => Some(stray(
            StrayKind::HardLink,
            path,
            "its file has another name",
        )),
        Some(_) => None,
    }
}

fn stray(kind: StrayKind, path: String, reason: &str) -> Stray {
    let reason = reason.to_owned();
    Stray { kind, path, reason }
}

/// Removes a directory, unless something is in it or it has gone.
pub fn remove_if_empty(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir(directory) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(io_error(
                error,
                Exit::of_change,
                format_args!("removing {}", directory.display()),
            ))
        }
        _ => Ok(()),
    }
}
