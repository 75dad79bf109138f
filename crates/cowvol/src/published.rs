//! The published files of generations: the images in /qcow2/backing and their descriptions, by names
//! alone. Both back ends have them: a machine shares the file that volumes read, or were converted
//! from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use images::{BACKING, Ending};
use jsonpipe::Common;
use manifest::{Format, is_name};

use crate::backend::GenerationId;
use crate::backend::qcow2::in_use;
use crate::directory::entries;
use crate::unlinked;

/// The existing files of one generation. The image may be missing.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The descriptions of its image.
    descriptions: Vec<PathBuf>,
    /// Its image and the other files.
    others: Vec<PathBuf>,
}

impl Files {
    /// In the order of removal: no description is ever without its image, because `seedctl` and the
    /// tracker take an image for present if its descriptions are.
    pub fn parts(&self) -> [&[PathBuf]; 2] {
        [&self.descriptions, &self.others]
    }

    /// Whether the image is there, or a link in its place.
    pub fn has_image(&self) -> bool {
        self.image().is_some()
    }

    /// The room that they take. A file that has disappeared meanwhile takes none.
    pub fn held_bytes(&self) -> u64 {
        self.paths()
            .filter_map(|path| fs::symlink_metadata(path).ok())
            .map(|found| unlinked::held_bytes(&found))
            .sum()
    }

    /// The room that their removal frees.
    pub fn freeable_bytes(&self) -> u64 {
        self.paths()
            .filter_map(|path| fs::symlink_metadata(path).ok())
            .map(|found| unlinked::room_of(&found))
            .sum()
    }

    /// The first that a program has locked, relative to the root.
    pub fn in_use(&self, common: &Common) -> anyhow::Result<Option<String>> {
        for path in self.paths() {
            if in_use::is_locked(path)? {
                let path = path.strip_prefix(&common.root).unwrap_or(path);
                return Ok(Some(format!("/{}", path.display())));
            }
        }
        Ok(None)
    }

    /// The target of a linked image, relative to the root if it is there. It may belong to
    /// something else, so it stays.
    pub fn linked_path(&self, common: &Common) -> Option<String> {
        let image = self.image().filter(|image| image.is_symlink())?;
        let leads_to = fs::canonicalize(image).ok()?;
        let root = fs::canonicalize(&common.root).ok()?;
        let below = leads_to
            .strip_prefix(root)
            .map_or_else(|_| leads_to.clone(), |path| Path::new("/").join(path));
        Some(below.to_string_lossy().into_owned())
    }

    fn image(&self) -> Option<&PathBuf> {
        let is_image = |path: &&PathBuf| path.extension().is_some_and(|ending| ending == "qcow2");
        self.others.iter().find(is_image)
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.parts().into_iter().flatten()
    }
}

/// The files of all generations. Hidden names, which belong to files that are still being fetched,
/// are skipped.
pub fn all(common: &Common) -> anyhow::Result<BTreeMap<GenerationId, Files>> {
    let mut found: BTreeMap<GenerationId, Files> = BTreeMap::new();
    for base in entries(&common.path(BACKING))? {
        let name = base.file_name();
        let Some(name) = name.to_str().filter(|name| is_name(name)) else {
            continue;
        };
        for file in entries(&base.path())? {
            let file_name = file.file_name();
            let Some((generation, ending)) = file_name.to_str().and_then(parse_file_name) else {
                continue;
            };
            let files = found.entry(GenerationId {
                base: name.to_owned(),
                generation,
            });
            let files = files.or_default();
            match ending {
                Ending::Manifest | Ending::Signature => files.descriptions.push(file.path()),
                _ => files.others.push(file.path()),
            }
        }
    }
    Ok(found)
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
