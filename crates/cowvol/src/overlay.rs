//! A user's overlay on a base: its path, its creation, and the check that it belongs to the base.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::PathBuf;

use anyhow::Context;
use images::bases::Entry;
use images::{BACKING, POOL_LOCK, image_path, parse_generation};
use jsonpipe::{Common, Exit, ExitContext, atomic, io_error, lock, signals};
use manifest::is_name;
use qcow2::{Follow, Image, blank_overlay};
use serde::{Deserialize, Serialize};

use crate::in_use;
use crate::standing::Standing;
use crate::token::Token;

/// The parent of the users' directories.
pub const USERS: &str = "/qcow2/user";

/// The parent of the images and the users' directories.
const STORE: &str = "/qcow2";

/// The base of an overlay, as the overlay itself records it in a header extension.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Identity {
    /// The version of this record.
    schema: u64,
    /// The name of the base.
    name: String,
    /// The generation of the base.
    generation: u64,
    /// The size of the disk as the guest sees it.
    virtual_bytes: u64,
    /// The length of the base's file.
    file_bytes: u64,
    /// The SHA-256 of the header and the tables of the base, in hexadecimal.
    tables_sha256: String,
    /// The modification time of the base's file, in seconds and nanoseconds: a write to the base
    /// need not change its tables.
    modified: (i64, i64),
}

impl Identity {
    fn of(base: &Entry, image: &Image) -> anyhow::Result<Identity> {
        let metadata = image.metadata()?;
        Ok(Identity {
            schema: 2,
            name: base.name.clone(),
            generation: base.generation,
            virtual_bytes: image.header.virtual_bytes,
            file_bytes: image.file_bytes,
            tables_sha256: manifest::Hex(image.tables_digest()?).to_string(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }

    /// Compares the recorded base with the present one. The error describes the difference.
    fn check_is(&self, present: &Identity) -> Result<(), String> {
        let of = |identity: &Identity| {
            let (name, generation) = (&identity.name, identity.generation);
            format!("{name}@{generation}")
        };
        let unlike =
            |differs: String| Err(format!("it was made for another {}: {differs}", of(self)));
        if of(self) != of(present)
            || (self.virtual_bytes, self.file_bytes) != (present.virtual_bytes, present.file_bytes)
        {
            return unlike(format!(
                "for a disk of {} bytes in a file of {}, but the base has {} in {}; put the old base back",
                self.virtual_bytes, self.file_bytes, present.virtual_bytes, present.file_bytes
            ));
        }
        if self.tables_sha256 != present.tables_sha256 {
            return unlike("its header or tables have changed; put the old base back".into());
        }
        if self.modified != present.modified {
            let (seconds, nanoseconds) = self.modified;
            return unlike(format!(
                "its file was written or copied since; put the old base back, or if this is the old one, its time: \
                 touch -d @{seconds}.{nanoseconds:09}"
            ));
        }
        Ok(())
    }
}

/// What every version of the record has.
#[derive(Deserialize)]
struct Version {
    schema: u64,
}

/// The backing file's name in an overlay: relative to the overlay's directory, so that it is valid
/// below any root.
pub fn backing_name(base: &str, generation: u64) -> String {
    let image = image_path(base, generation);
    format!("../..{}", image.strip_prefix(STORE).unwrap_or(&image))
}

/// The base and generation in the file name of an overlay: `windows@7.qcow2`.
pub fn parse_name(name: &str) -> Option<(String, u64)> {
    let (base, generation) = name.strip_suffix(".qcow2")?.split_once('@')?;
    is_name(base).then_some((base.to_owned(), parse_generation(generation)?))
}

/// The place of one user's overlay on one base.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The path below the root.
    pub path: String,
    users: PathBuf,
    directory: PathBuf,
    file: PathBuf,
}

impl Overlay {
    /// The place of this user's overlay on this base, whether it exists or not.
    pub fn of(common: &Common, token: &Token, base: &Entry) -> Overlay {
        let directory = format!("{USERS}/{token}");
        let path = format!("{directory}/{}@{}.qcow2", base.name, base.generation);
        Overlay {
            users: common.path(USERS),
            directory: common.path(directory),
            file: common.path(&path),
            path,
        }
    }

    /// Opens the overlay; `None` when it does not exist. Status 65 when it is not an overlay of
    /// this base in the form of this suite.
    pub fn find(&self, base: &Entry, base_image: &Image) -> anyhow::Result<Option<Image>> {
        let is_no_directory = fs::metadata(&self.users)
            .map_or_else(|_| self.users.is_symlink(), |found| !found.is_dir());
        if is_no_directory {
            return Err(Exit::Config.error(format_args!(
                "{}: not a directory; move it away",
                self.users.display()
            )));
        }
        match fs::symlink_metadata(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            _ => {} // opening it will report anything else
        }
        let check = || -> anyhow::Result<Image> {
            self.check_directory()?;
            let image = Image::open(&self.file, Follow::Nothing)?;
            let expected = Identity::of(base, base_image)?;
            check_is_overlay(&image, base, &expected).map_err(|message| {
                Exit::Data.error(format_args!("reading {}: {message}", self.file.display()))
            })?;
            Ok(image)
        };
        let found = check().with_context(|| {
            format!(
                "reusing the volume of {}@{} (to start afresh, move it away; its files go with it)",
                base.name, base.generation
            )
        })?;
        self.check_leads_to(base, base_image)?;
        Ok(Some(found))
    }

    /// Makes the overlay. On failure nothing is left of it.
    pub fn create(&self, base: &Entry, base_image: &Image) -> anyhow::Result<Created> {
        let identity = serde_json::to_vec(&Identity::of(base, base_image)?)?;
        let layout = blank_overlay(
            base_image.header.virtual_bytes,
            &backing_name(&base.name, base.generation),
            &identity,
        );
        atomic::create_directory(&self.users, 0o700)?;
        self.check_leads_to(base, base_image)?;
        let mut created = Created {
            file: self.file.clone(),
            directory: self.make_directory()?,
            held_bytes: 0,
            standing: None,
        };
        let mut write = || -> anyhow::Result<()> {
            atomic::write(&self.file, 0o600, |file| {
                for (offset, bytes) in &layout.pieces {
                    file.write_all_at(bytes, *offset)?;
                }
                file.set_len(layout.length)
            })?;
            // Also if the directory existed: a run that was killed may have made it.
            atomic::sync_directory(&self.users)?;
            let metadata = fs::metadata(&self.file)
                .exit(Exit::Io, || format!("looking at {}", self.file.display()))?;
            created.held_bytes = metadata.blocks() * 512;
            created.standing = Some(Standing::of(&metadata));
            Ok(())
        };
        match write() {
            Ok(()) => Ok(created),
            Err(error) => {
                created.discard();
                Err(error)
            }
        }
    }

    /// Makes the user's directory, if it does not exist. One sync at the end makes it durable
    /// together with its file.
    fn make_directory(&self) -> anyhow::Result<Option<PathBuf>> {
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            Ok(()) => Ok(Some(self.directory.clone())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.check_directory().map(|()| None)
            }
            Err(error) => Err(io_error(
                error,
                Exit::of_write,
                format_args!("making directory {}", self.directory.display()),
            )),
        }
    }

    /// Checks that the user's directory is a directory, and not a link.
    fn check_directory(&self) -> anyhow::Result<()> {
        let directory = self.directory.display();
        let metadata = fs::symlink_metadata(&self.directory)
            .exit(Exit::Io, || format!("looking at {directory}"))?;
        if metadata.is_dir() {
            Ok(())
        } else {
            Err(Exit::Data.error(format_args!("{directory}: not a directory; move it away")))
        }
    }

    /// Checks that the relative name leads to the base: it does not if /qcow2/user is a symbolic
    /// link to elsewhere.
    fn check_leads_to(&self, base: &Entry, base_image: &Image) -> anyhow::Result<()> {
        // `..` of a user's directory is the directory of all users.
        let name = backing_name(&base.name, base.generation);
        let path = self.users.join(name.strip_prefix("../").unwrap_or(&name));
        let base = base_image.metadata()?;
        match fs::metadata(&path) {
            Ok(found) if (found.dev(), found.ino()) == (base.dev(), base.ino()) => Ok(()),
            _ => Err(Exit::Config.error(format_args!(
                "{}: its ../backing is not {BACKING}; mount the disk for volumes there instead of linking to it",
                self.users.display()
            ))),
        }
    }
}

fn check_is_overlay(image: &Image, base: &Entry, expected: &Identity) -> Result<(), String> {
    let header = &image.header;
    if header.backing_name.as_deref() != Some(&backing_name(&base.name, base.generation))
        || header.backing_format.as_deref() != Some("qcow2")
    {
        return Err("its backing file is not its base".into());
    }
    let recorded = header
        .identity
        .as_deref()
        .ok_or("it does not record which base it was made for")?;
    let Version { schema } =
        serde_json::from_slice(recorded).map_err(|_| "its record of the base cannot be read")?;
    if schema != expected.schema {
        return Err("its record of the base is not one that this release knows".into());
    }
    let recorded: Identity =
        serde_json::from_slice(recorded).map_err(|_| "its record of the base cannot be read")?;
    recorded.check_is(expected)?;
    if header.virtual_bytes != expected.virtual_bytes {
        return Err(format!(
            "its disk has {} bytes, that of the base {}",
            header.virtual_bytes, expected.virtual_bytes
        ));
    }
    if !header.is_laid_out_as_ours() {
        return Err("it is not laid out as cowvol does it".into());
    }
    Ok(())
}

/// The files that a call made, for undoing.
#[derive(Debug)]
pub struct Created {
    /// Its disk space.
    pub held_bytes: u64,
    file: PathBuf,
    directory: Option<PathBuf>,
    /// The identity of the complete file.
    standing: Option<Standing>,
}

impl Created {
    /// Removes the overlay, because it was not reported. It stays if another call has handed it out
    /// meanwhile, which changes the time of its last use, or if a program has it open.
    pub fn take_back(self, common: &Common) {
        // Failures are ignored: the caller reports the original error.
        let Ok(signals) = signals::defer() else {
            return;
        };
        let Ok(_lock) = lock::wait(common, POOL_LOCK, &signals) else {
            return;
        };
        let stands = fs::symlink_metadata(&self.file)
            .ok()
            .map(|found| Standing::of(&found));
        if stands == self.standing && in_use::is_locked(&self.file).is_ok_and(|locked| !locked) {
            self.discard();
        }
    }

    /// Removes what exists of it. Only while the lock is held and it was not reported.
    fn discard(self) {
        // Failures are ignored: the caller reports the original error.
        let _ = fs::remove_file(self.file);
        if let Some(directory) = self.directory {
            let _ = fs::remove_dir(directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_in_one_way_only() {
        assert_eq!(parse_name("windows@7.qcow2"), Some(("windows".into(), 7)));
        assert_eq!(
            parse_name("debian-12.2@0.qcow2"),
            Some(("debian-12.2".into(), 0))
        );
        for name in [
            "windows@9007199254740992.qcow2",
            "windows@07.qcow2",
            "windows@+7.qcow2",
            "windows@7",
            "windows@-1.qcow2",
            ".windows@7.qcow2.tmp",
            "@7.qcow2",
            "a@b@7.qcow2",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
