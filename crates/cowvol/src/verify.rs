//! Verifies that the file of a future base is the one that the manifest describes, byte for byte.

use std::fs::{self, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use images::Ending;
use images::bases::Entry;
use jsonpipe::{Common, Exit, ExitContext, atomic, io_error};
use progress::Progress;
use qcow2::{Follow, Image};
use sha2::{Digest, Sha256};

use crate::TOOL;
use crate::backend::Published;
use crate::standing::Standing;

const BUFFER_BYTES: usize = 1 << 20;

/// The open file of a generation.
#[derive(Debug)]
pub struct Candidate {
    /// Where it lies.
    path: PathBuf,
    image: Image,
    /// Its identity.
    stands: Standing,
}

impl Candidate {
    /// Opens the file of the manifest's generation, and locks it against `cowvol prune`, which
    /// would remove a generation below the current one, and against another run. Status 66 when it does not exist, 65 when
    /// it is not a complete base, or its size is not the manifest's.
    pub fn open(common: &Common, manifest: &manifest::Base) -> anyhow::Result<Candidate> {
        let path = common.path(images::image_path(&manifest.name, manifest.generation));
        let image = Image::open(&path, Follow::Links)?;
        image.file().try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Exit::TemporaryFailure.error(format_args!(
                "locking {}: another process holds it; try again when that has ended",
                path.display()
            )),
            TryLockError::Error(error) => io_error(
                error,
                Exit::of_read,
                format_args!("locking {}", path.display()),
            ),
        })?;
        image.check_is_base()?;
        for (what, found, expected) in [
            ("it", image.file_bytes, manifest.size_bytes),
            (
                "its disk",
                image.header.virtual_bytes,
                manifest.virtual_bytes,
            ),
        ] {
            if found != expected {
                let path = path.display();
                return Err(Exit::Data.error(format_args!(
                    "reading {path}: {what} has {found} bytes, the manifest says {expected}"
                )));
            }
        }
        let stands = Standing::of(&image.metadata()?);
        Ok(Candidate {
            path,
            image,
            stands,
        })
    }

    /// Reads all of it. Status 65 when its digest is not the manifest's.
    ///
    /// `seedctl` has done the same earlier, but the file may have changed since, and after this
    /// there is no way back.
    pub fn check_digest(&self, manifest: &manifest::Base) -> anyhow::Result<()> {
        let digest = self.digest().map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Exit::Data.error(format_args!(
                "reading {}: it became shorter while it was read",
                self.path.display()
            )),
            _ => io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", self.path.display()),
            ),
        })?;
        if digest == manifest.sha256.0 {
            Ok(())
        } else {
            let way_out = "get it again, with seedctl get";
            Err(Exit::Data.error(format_args!(
                "reading {}: its SHA-256 is not that of the manifest; {way_out}",
                self.path.display()
            )))
        }
    }

    fn digest(&self) -> io::Result<[u8; 32]> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let doing = format!("comparing {} with the manifest", self.path.display());
        let mut progress = Progress::new(TOOL);
        let mut offset = 0;
        while offset < self.image.file_bytes {
            let piece = (self.image.file_bytes - offset).min(BUFFER_BYTES as u64);
            let piece = &mut buffer[..piece as usize];
            self.image.file().read_exact_at(piece, offset)?;
            hash.update(&piece);
            offset += piece.len() as u64;
            progress.show(&doing, offset, self.image.file_bytes);
        }
        Ok(hash.finalize().into())
    }

    /// What a back end needs of it, once its digest is checked.
    pub fn published<'a>(&'a self, base: &'a Entry, manifest: &manifest::Base) -> Published<'a> {
        Published {
            base,
            path: &self.path,
            virtual_bytes: manifest.virtual_bytes,
            sha256: manifest.sha256.to_string(),
            stands: &self.stands,
        }
    }

    /// Makes it durable, with the files beside it and the names of all of them.
    pub fn sync(&self) -> anyhow::Result<()> {
        let failed = |path: &std::path::Path| format!("syncing {}", path.display());
        self.image
            .file()
            .sync_all()
            .exit(Exit::Io, || failed(&self.path))?;
        let real = fs::canonicalize(&self.path).exit(Exit::Io, || failed(&self.path))?; // it may be a link to another disk
        for ending in Ending::BESIDE {
            let beside = self.path.with_extension(ending.as_str());
            match fs::File::open(&beside).and_then(|file| file.sync_all()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // only needed to share the image
                synced => synced.exit(Exit::Io, || failed(&beside))?,
            }
        }
        for directory in [
            real.parent(),
            self.path.parent(),
            self.path.parent().and_then(|base| base.parent()),
        ] {
            atomic::sync_directory(directory.exit(Exit::Software, || "a file in no directory")?)?;
        }
        Ok(())
    }
}
