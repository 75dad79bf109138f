//! The files beside an image in the store, and the order in which they are written.
//!
//! The signature comes last: without it a manifest is invalid, and the next run overwrites what a
//! kill or a power cut left. So at no time is there a signed manifest without its block map and
//! torrents.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use images::{Ending, POOL_LOCK};
use jsonpipe::{Common, Exit, ExitContext, atomic, io_error, lock, signals};
use manifest::{Base, Signed};

/// The path of an image, relative to the root.
pub fn image_path(base: &Base) -> String {
    images::path(&base.name, base.generation, Ending::Image(base.format))
}

/// The files of a generation that are written here.
#[derive(Debug)]
pub struct Generation<'a> {
    /// The description of the image.
    pub base: &'a Base,
    /// The block map.
    pub blocks: &'a [u8],
    /// The torrent of the image.
    pub torrent: &'a [u8],
    /// The torrent of the block map.
    pub blocks_torrent: &'a [u8],
    /// The manifest and its signature.
    pub signed: &'a Signed,
}

/// A file to write.
#[derive(Debug)]
struct Change<'a> {
    path: PathBuf,
    mode: u32,
    before: Option<Vec<u8>>,
    after: &'a [u8],
}

/// The planned changes. Nothing is written before [`Plan::carry_out`].
#[derive(Debug)]
pub struct Plan<'a> {
    directory: PathBuf,
    changes: Vec<Change<'a>>,
}

impl<'a> Plan<'a> {
    /// Compares with the existing files. Status 73 when this generation was published with another
    /// manifest: machines may have it already.
    pub fn new(
        common: &Common,
        of: &Generation<'a>,
        signature: &'a [u8],
    ) -> anyhow::Result<Plan<'a>> {
        let Base {
            name, generation, ..
        } = of.base;
        let directory = common.path(images::directory(name));
        let file = |ending| directory.join(images::file_name(*generation, ending));
        let mut plan = Plan {
            directory: directory.clone(),
            changes: Vec::new(),
        };
        for (ending, after) in [
            (Ending::Blocks, of.blocks),
            (Ending::Torrent, of.torrent),
            (Ending::BlocksTorrent, of.blocks_torrent),
            (Ending::Manifest, &of.signed.bytes),
            (Ending::Signature, signature),
        ] {
            plan.add(file(ending), 0o444, after)?;
        }
        let signed = file(Ending::Signature).try_exists().unwrap_or(true);
        let manifest = file(Ending::Manifest);
        let other = |change: &Change<'_>| change.path == manifest && change.before.is_some();
        if signed && plan.changes.iter().any(other) {
            return Err(Exit::CantCreate.error(format_args!(
                "writing {}: generation {generation} of {name} is published already, with other contents; count generation up",
                manifest.display()
            )));
        }
        Ok(plan)
    }

    /// Adds a file, which is written before all others.
    pub fn add_first(&mut self, path: &Path, mode: u32, after: &'a [u8]) -> anyhow::Result<()> {
        let later = std::mem::take(&mut self.changes);
        self.add(path.to_owned(), mode, after)?;
        self.changes.extend(later);
        Ok(())
    }

    fn add(&mut self, path: PathBuf, mode: u32, after: &'a [u8]) -> anyhow::Result<()> {
        let before = match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(io_error(
                    error,
                    Exit::of_read,
                    format_args!("reading {}", path.display()),
                ));
            }
        };
        if before.as_deref() != Some(after) {
            self.changes.push(Change {
                path,
                mode,
                before,
                after,
            });
        }
        Ok(())
    }

    /// Whether there is anything to write.
    pub fn changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Writes all files, each durable before the next one. On failure all are restored.
    pub fn carry_out(self) -> anyhow::Result<Undo> {
        let mut undo = Undo(Vec::new());
        if self.changes.is_empty() {
            return Ok(undo);
        }
        atomic::create_directory(&self.directory, 0o755)?;
        for Change {
            path,
            mode,
            before,
            after,
        } in self.changes
        {
            let written = atomic::write(&path, mode, |file| file.write_all(after)).and_then(|()| {
                fs::symlink_metadata(&path)
                    .exit(Exit::Io, || format!("looking at {}", path.display()))
            });
            match written {
                Ok(found) => undo.0.push(Done {
                    path,
                    mode,
                    before,
                    inode: found.ino(),
                }),
                Err(error) => {
                    undo.carry_out();
                    return Err(error);
                }
            }
        }
        Ok(undo)
    }
}

/// The earlier state of the store.
#[derive(Debug)]
pub struct Undo(Vec<Done>);

/// A file that was written.
#[derive(Debug)]
struct Done {
    path: PathBuf,
    mode: u32,
    before: Option<Vec<u8>>,
    inode: u64,
}

impl Undo {
    /// Restores everything, because it was not reported, under the lock of the store, which others
    /// may have held meanwhile. Failures are ignored: the caller reports the original error.
    pub fn take_back(self, common: &Common) {
        let Ok(signals) = signals::defer() else {
            return;
        };
        let Ok(_lock) = lock::wait(common, POOL_LOCK, &signals) else {
            return;
        };
        self.carry_out();
    }

    /// Restores the files that are still as written, the last one first. After a failure, the next
    /// run overwrites the rest.
    fn carry_out(self) {
        for Done {
            path,
            mode,
            before,
            inode,
        } in self.0.into_iter().rev()
        {
            if !fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == inode) {
                continue;
            }
            let _ = match before {
                Some(bytes) => atomic::write(&path, mode, |file| file.write_all(&bytes)),
                None => fs::remove_file(&path).map_err(Into::into),
            };
        }
    }
}
