//! The content of the store, by names alone: the generations of bases, and the users' volumes on
//! them.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use images::{BACKING, Ending};
use jsonpipe::{Common, Exit, io_error};
use manifest::{Format, is_name};

use super::overlay::{USERS, parse_name};
use crate::token::Token;

/// The existing files of one generation of a base. The image may be missing.
#[derive(Clone, Debug, Default)]
pub struct Generation {
    /// The users' volumes on it, including remains of power cuts.
    pub volumes: Vec<PathBuf>,
    /// The descriptions of its image.
    pub descriptions: Vec<PathBuf>,
    /// Its image and the other files.
    pub files: Vec<PathBuf>,
}

impl Generation {
    /// The order of removal: no volume is ever without its base, no description without its image.
    pub fn steps(&self) -> [&[PathBuf]; 3] {
        [&self.volumes, &self.descriptions, &self.files]
    }

    /// All of it.
    pub fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.steps().into_iter().flatten()
    }

    /// Whether any of it still exists.
    pub fn is_there(&self) -> bool {
        self.all().any(|path| fs::symlink_metadata(path).is_ok())
    }
}

/// All generations, by base and number. Hidden names, which belong to files that are still being
/// fetched, are skipped.
pub fn generations(common: &Common) -> anyhow::Result<BTreeMap<(String, u64), Generation>> {
    let mut found: BTreeMap<(String, u64), Generation> = BTreeMap::new();
    for base in entries(&common.path(BACKING))? {
        let Some(name) = base
            .file_name()
            .to_str()
            .filter(|name| is_name(name))
            .map(str::to_owned)
        else {
            continue;
        };
        for file in entries(&base.path())? {
            let file_name = file.file_name();
            let Some((number, ending)) = file_name.to_str().and_then(parse_file_name) else {
                continue;
            };
            let there = found.entry((name.clone(), number)).or_default();
            // `seedctl` and the tracker take an image for present if its descriptions are.
            let describes = matches!(ending, Ending::Manifest | Ending::Signature);
            let kind = if describes {
                &mut there.descriptions
            } else {
                &mut there.files
            };
            kind.push(file.path());
        }
    }
    for user in users(common)? {
        for file in entries(&user.path())? {
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            let Some(of) = parse_name(half_made(name).unwrap_or(name)) else {
                continue;
            };
            found.entry(of).or_default().volumes.push(file.path());
        }
    }
    Ok(found)
}

/// The name that a file would have had, if this is the name of one that a power cut left half made.
pub fn half_made(name: &str) -> Option<&str> {
    name.strip_prefix('.')?.strip_suffix(".tmp")
}

/// The directories of users.
pub fn users(common: &Common) -> anyhow::Result<Vec<DirEntry>> {
    let mut users = entries(&common.path(USERS))?;
    users.retain(|user| {
        user.file_name()
            .to_str()
            .is_some_and(|name| Token::parse(name).is_some())
    });
    Ok(users)
}

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

/// The generation of a file in a base's directory, and the kind of file. No volume is made on a raw
/// image.
fn parse_file_name(name: &str) -> Option<(u64, Ending)> {
    images::parse_file_name(name).filter(|(_, ending)| *ending != Ending::Image(Format::Raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_suite_puts_there_is_seen() {
        for name in [
            "7.qcow2",
            "7.manifest",
            "7.sig",
            "7.blocks",
            "7.torrent",
            "7.blocks.torrent",
        ] {
            assert_eq!(
                parse_file_name(name).map(|(generation, ending)| (generation, ending.as_str())),
                Some((7, &name[2..]))
            );
        }
        for name in [
            ".7.qcow2",
            ".7.qcow2.aria2",
            "07.qcow2",
            "7.raw",
            "7.qcow2.bak",
            "7",
            "x.qcow2",
            "+7.sig",
            "7.",
        ] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
