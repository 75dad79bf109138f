//! A user's overlay on a base: its path, its creation, and what is held for it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context;
use images::bases::Entry;
use images::{BACKING, image_path, parse_generation};
use jsonpipe::{Common, Exit, ExitContext, atomic, io_error};
use manifest::is_name;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use qcow2::{Follow, Image, Layout, blank_overlay};

use super::identity::{Identity, check_is_overlay};
use super::room;
use crate::backend::{State, VolumeId};

/// The parent of the users' directories.
pub const USERS: &str = "/qcow2/user";

/// The directory of ephemeral volumes, as deep as that of a user, whose names include the user's.
pub const EPHEMERAL: &str = "/qcow2/user/ephemeral";

/// The parent of the images and the users' directories.
pub const STORE: &str = "/qcow2";

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

/// The path of a user's overlay, below the root.
pub fn path_of(id: &VolumeId) -> String {
    let VolumeId {
        token,
        base,
        generation,
        is_ephemeral,
    } = id;
    match is_ephemeral {
        true => format!("{EPHEMERAL}/{id}.qcow2"),
        false => format!("{USERS}/{token}/{base}@{generation}.qcow2"),
    }
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
    pub fn of(common: &Common, id: &VolumeId) -> Overlay {
        let directory = match id.is_ephemeral {
            true => EPHEMERAL.to_owned(),
            false => format!("{USERS}/{}", id.token),
        };
        let path = path_of(id);
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
        let way_out = match fs::symlink_metadata(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if !found.is_file() => "move it away",
            _ => "cowvol discard removes it, with the user's files",
        };
        let check = || -> anyhow::Result<Image> {
            self.check_directory()?;
            let image = Image::open(&self.file, Follow::Nothing)?;
            check_is_on(&image, base, base_image)?;
            Ok(image)
        };
        let found = check().with_context(|| {
            format!(
                "reusing the volume of {}@{} ({way_out})",
                base.name, base.generation
            )
        })?;
        self.check_leads_to(base, base_image)?;
        Ok(Some(found))
    }

    /// Makes the overlay, and holds `reserve` bytes for it in all. On failure nothing is left of it.
    pub fn create(
        &self,
        base: &Entry,
        base_image: &Image,
        reserve: Option<u64>,
    ) -> anyhow::Result<State> {
        self.create_filled(base, base_image, reserve, |_, _| Ok(()))
    }

    /// The same, and lets `fill` fill it while it has no name yet. It replaces the overlay that had
    /// the name; until then, and on failure, that one stays.
    pub fn create_filled(
        &self,
        base: &Entry,
        base_image: &Image,
        reserve: Option<u64>,
        fill: impl FnOnce(&File, &Layout) -> anyhow::Result<()>,
    ) -> anyhow::Result<State> {
        let identity = serde_json::to_vec(&Identity::of(base, base_image)?)?;
        let layout = blank_overlay(
            base_image.header.virtual_bytes,
            &backing_name(&base.name, base.generation),
            &identity,
        );
        atomic::create_directory(&self.users, 0o700)?;
        self.check_leads_to(base, base_image)?;
        let made_directory = self.make_directory()?;
        let replaces = fs::symlink_metadata(&self.file).is_ok();
        let write = || -> anyhow::Result<State> {
            let mut unfilled = None;
            atomic::write(&self.file, 0o600, |file| {
                layout.write_to(file)?;
                reserve.map_or(Ok(()), |bytes| room::hold(file, bytes))?;
                fill(file, &layout).map_err(|error| {
                    unfilled = Some(error);
                    io::Error::other("it was not filled")
                })
            })
            .map_err(|error| unfilled.unwrap_or_else(|| self.explain(error)))?;
            // Also if the directory existed: a run that was killed may have made it.
            atomic::sync_directory(&self.users)?;
            let metadata = fs::metadata(&self.file)
                .exit(Exit::Io, || format!("looking at {}", self.file.display()))?;
            Ok(state_of(&metadata))
        };
        write().inspect_err(|_| {
            // Failures are ignored: the caller reports the original error.
            if !replaces {
                let _ = fs::remove_file(&self.file);
            }
            if made_directory {
                let _ = fs::remove_dir(&self.directory);
            }
        })
    }

    /// Holds that many bytes in all for it, or what it held before on failure.
    pub fn reserve(&self, bytes: u64, give_back: impl FnOnce()) -> anyhow::Result<()> {
        let failed = |error| {
            self.explain(io_error(
                error,
                Exit::of_change,
                format_args!("holding room for {}", self.file.display()),
            ))
        };
        let file = self.open().map_err(failed)?;
        room::hold(&file, bytes).map_err(|error| {
            drop(file);
            give_back(); // ext4 keeps what it got until then
            failed(error)
        })
    }

    /// Sets its modification time, which is that of its last use.
    pub fn touch(&self, login: SystemTime) -> anyhow::Result<State> {
        let touch = || {
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(O_NOFOLLOW | O_NONBLOCK)
                .open(&self.file)?;
            file.set_modified(login)?;
            Ok(state_of(&file.metadata()?))
        };
        touch().map_err(|error| {
            io_error(
                error,
                Exit::of_change,
                format_args!("setting the time of {}", self.file.display()),
            )
        })
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(O_NOFOLLOW | O_NONBLOCK)
            .open(&self.file)
    }

    /// A file system that has no fallocate(2) cannot hold room.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let is_unsupported = error.chain().any(|cause| {
            let cause = cause.downcast_ref::<io::Error>();
            cause.is_some_and(|cause| cause.kind() == io::ErrorKind::Unsupported)
        });
        if is_unsupported {
            room::cannot_hold(&self.users, "its file system")
        } else {
            error
        }
    }

    /// Makes the user's directory, if it does not exist; returns whether it did not. One sync at the
    /// end makes it durable together with its file.
    fn make_directory(&self) -> anyhow::Result<bool> {
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.check_directory().map(|()| false)
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

/// Checks that an image is an overlay of this base. Status 65 when it is not.
pub fn check_is_on(image: &Image, base: &Entry, base_image: &Image) -> anyhow::Result<()> {
    let expected = Identity::of(base, base_image)?;
    check_is_overlay(image, base, &expected).map_err(|message| {
        Exit::Data.error(format_args!(
            "reading {}: {message}",
            image.path().display()
        ))
    })
}

/// The state of an overlay's file.
pub fn state_of(file: &fs::Metadata) -> State {
    let held_bytes = file.blocks() * 512;
    // All that is reserved lies beyond the end: what is before it is written, or a hole. The file
    // system also counts the blocks in which it lists the pieces of the file.
    let within = file.len().next_multiple_of(file.blksize().max(512));
    let list_max_bytes = (64 << 10) + within / 1024;
    let beyond = held_bytes.saturating_sub(within);
    State {
        held_bytes,
        reserved_bytes: if beyond > list_max_bytes { beyond } else { 0 },
        freeable_bytes: if file.is_file() && file.nlink() == 1 {
            held_bytes
        } else {
            0
        },
        last_login: file.modified().ok(),
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
