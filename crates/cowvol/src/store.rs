//! What lies in the store, by its names alone: the generations of bases, and the users' volumes on them.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use jsonpipe::{Common, Exit, io_error};
use manifest::is_name;

use crate::overlay::{USERS, parse_generation, parse_name};
use crate::token::Token;

/// Each base's directory is in here, and bases.ini beside them.
pub const BACKING: &str = "/qcow2/backing";

/// The files of a generation, in the order in which they go: what describes the image before the image.
const ENDINGS: [&str; 6] = ["sig", "manifest", "qcow2", "blocks.torrent", "torrent", "blocks"];

/// The files of one generation of a base. The image need not be among them.
#[derive(Clone, Debug, Default)]
pub struct Generation {
    /// In the base's directory, in the order in which they go.
    pub files: Vec<PathBuf>,
    /// The users' volumes made on it, and what power cuts left of some.
    pub volumes: Vec<PathBuf>,
}

impl Generation {
    /// All that goes, in the order in which it goes: no volume is ever there without its base.
    pub fn in_order(&self) -> impl Iterator<Item = &PathBuf> {
        self.volumes.iter().chain(&self.files)
    }
}

/// Everything that is there, by base and number. Hidden names, which are of files that are still being fetched, are passed over.
pub fn generations(common: &Common) -> anyhow::Result<BTreeMap<(String, u64), Generation>> {
    let mut found: BTreeMap<(String, u64), Generation> = BTreeMap::new();
    for base in entries(&common.path(BACKING))? {
        let Some(name) = base.file_name().to_str().filter(|name| is_name(name)).map(str::to_owned) else { continue };
        for file in entries(&base.path())? {
            let Some(number) = file.file_name().to_str().and_then(generation_of) else { continue };
            found.entry((name.clone(), number)).or_default().files.push(file.path());
        }
    }
    for generation in found.values_mut() {
        generation.files.sort_by_key(|path| place(path));
    }
    for user in users(common)? {
        for file in entries(&user.path())? {
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            let half_made = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
            let Some(of) = parse_name(half_made.unwrap_or(name)) else { continue };
            found.entry(of).or_default().volumes.push(file.path());
        }
    }
    Ok(found)
}

/// The directories of users.
pub fn users(common: &Common) -> anyhow::Result<Vec<DirEntry>> {
    let mut users = entries(&common.path(USERS))?;
    users.retain(|user| user.file_name().to_str().is_some_and(|name| Token::parse(name).is_some()));
    Ok(users)
}

/// What is in a directory; nothing when it is not there, or is none.
pub fn entries(directory: &Path) -> anyhow::Result<Vec<DirEntry>> {
    let gone = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    match fs::read_dir(directory).and_then(Iterator::collect) {
        Ok(entries) => Ok(entries),
        Err(error) if gone(&error) => Ok(Vec::new()),
        Err(error) => Err(io_error(error, Exit::of_read, format_args!("reading {}", directory.display()))),
    }
}

/// The generation that a file in a base's directory belongs to.
fn generation_of(name: &str) -> Option<u64> {
    let (number, ending) = name.split_once('.')?;
    parse_generation(number).filter(|_| ENDINGS.contains(&ending))
}

fn place(path: &Path) -> Option<usize> {
    let (_, ending) = path.file_name()?.to_str()?.split_once('.')?;
    ENDINGS.iter().position(|known| *known == ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_suite_puts_there_is_seen() {
        for name in ["7.qcow2", "7.manifest", "7.sig", "7.blocks", "7.torrent", "7.blocks.torrent"] {
            assert_eq!(generation_of(name), Some(7), "{name}");
        }
        for name in [".7.qcow2", ".7.qcow2.aria2", "07.qcow2", "7.raw", "7.qcow2.bak", "7", "x.qcow2", "+7.sig", "7."] {
            assert_eq!(generation_of(name), None, "{name}");
        }
        assert!(place(Path::new("/x/7.sig")) < place(Path::new("/x/7.qcow2")));
    }
}
