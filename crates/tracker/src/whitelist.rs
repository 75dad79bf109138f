//! The torrents that the tracker serves: those of the signed manifests in this server's store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use images::{BACKING, Ending};
use jsonpipe::{Common, Exit, ExitContext, io_error};
use manifest::{InfoHash, Keys, Kind, Signature, Signed};
use swarm::Content;

/// A generous maximum for a manifest.
const MANIFEST_MAX_BYTES: u64 = 1 << 20;

/// A torrent of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torrent {
    /// The name of the base.
    pub name: String,
    /// Its generation.
    pub generation: u64,
    /// The image or its block map.
    pub what: Content,
    /// The length of the file.
    pub size_bytes: u64,
}

/// All torrents.
#[derive(Debug)]
pub struct Whitelist {
    store: PathBuf,
    keys: PathBuf,
    torrents: BTreeMap<InfoHash, Torrent>,
    /// The known faults of the store, so that each is reported once.
    wrong: BTreeSet<String>,
}

impl Whitelist {
    /// Reads the store, and returns the faults of single images. Status 78 without keys, 66 without
    /// a store.
    pub fn read(common: &Common) -> anyhow::Result<(Whitelist, Vec<String>)> {
        let (store, keys) = (common.path(BACKING), common.config("keys"));
        let mut whitelist = Whitelist {
            store,
            keys,
            torrents: BTreeMap::new(),
            wrong: BTreeSet::new(),
        };
        let wrong = whitelist.reread()?;
        Ok((whitelist, wrong))
    }

    /// Reads the store again, and returns new faults of single images. An error leaves the torrents
    /// unchanged.
    pub fn reread(&mut self) -> anyhow::Result<Vec<String>> {
        let keys = Keys::read(&self.keys, Kind::Base)?;
        let mut torrents = BTreeMap::new();
        let mut wrong = BTreeSet::new();
        for path in manifests(&self.store)? {
            match read_base(&path, &keys) {
                Ok(base) => {
                    let torrent = |what, size_bytes| Torrent {
                        name: base.name.clone(),
                        generation: base.generation,
                        what,
                        size_bytes,
                    };
                    torrents.insert(base.infohash, torrent(Content::Image, base.size_bytes));
                    let blocks_bytes = block_map::map_bytes(base.size_bytes);
                    torrents.insert(base.blocks_infohash, torrent(Content::Blocks, blocks_bytes));
                }
                Err(error) => {
                    wrong.insert(format!("leaving out {}: {error:#}", path.display()));
                }
            }
        }
        let news = wrong.difference(&self.wrong).cloned().collect();
        (self.torrents, self.wrong) = (torrents, wrong);
        Ok(news)
    }

    /// The torrents.
    pub fn torrents(&self) -> &BTreeMap<InfoHash, Torrent> {
        &self.torrents
    }
}

/// `NAME/GENERATION.manifest`, sorted.
fn manifests(store: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let failed = |directory: &Path, error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("reading {}", directory.display()),
        )
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(store).map_err(|error| failed(store, error))? {
        let directory = entry.map_err(|error| failed(store, error))?.path();
        if !directory.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&directory).map_err(|error| failed(&directory, error))? {
            let path = entry.map_err(|error| failed(&directory, error))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == Ending::Manifest.as_str())
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read_base(path: &Path, keys: &Keys) -> anyhow::Result<manifest::Base> {
    let read = |path: &Path| {
        let mut bytes = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(MANIFEST_MAX_BYTES).read_to_end(&mut bytes));
        read.exit(Exit::Data, || format!("reading {}", path.display()))
            .map(|_| bytes)
    };
    let signature = path.with_extension(Ending::Signature.as_str());
    let signature = Signature::from_bytes(&read(&signature)?).exit(Exit::Data, || {
        format!(
            "reading {}: not a signature of 64 bytes",
            signature.display()
        )
    })?;
    Signed {
        bytes: read(path)?,
        signature,
    }
    .verify(keys)
}
