//! Volumes as qcow2 overlays, each a file, on ext4, xfs or another file system that can hold room for
//! a file.

mod carry;
mod identity;
pub mod in_use;
mod listing;
mod names;
pub mod overlay;
mod points;
mod room;
mod strays;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use images::bases::Entry;
use jsonpipe::{Common, Exit, atomic, io_error};
use qcow2::{Image, need_bytes};

use self::in_use::Locked;
use self::overlay::{Overlay, STORE, USERS, path_of, state_of};
use crate::backend::{
    Backend, Backing, Change, Disk, Item, Listed, State, Stored, Stray, VolumeId,
};
use crate::report::Layout;
use crate::token::Token;
use crate::unlinked::Unlinked;
use crate::{base, settings};

/// The images and overlays of a machine.
#[derive(Clone, Debug)]
pub struct Qcow2 {
    /// The machine.
    pub common: Common,
}

/// A base with its open image.
#[derive(Debug)]
pub struct Base {
    entry: Entry,
    image: Image,
}

impl Qcow2 {
    fn overlay(&self, id: &VolumeId) -> Overlay {
        Overlay::of(&self.common, id)
    }

    fn path(&self, item: &Item) -> PathBuf {
        self.common.path(place_of(item))
    }

    /// The directory of all users, or before the first volume the one that it will be made in.
    fn disk(&self) -> PathBuf {
        let users = self.common.path(USERS);
        if users.is_dir() {
            users
        } else {
            self.common.path(STORE)
        }
    }
}

impl Backend for Qcow2 {
    type Base = Base;
    type Held = Locked;

    fn lay_out(&self, _: &[Entry], _: bool) -> anyhow::Result<Layout> {
        Err(Exit::Config.error(format_args!(
            "{}: no section [zfs]; the directories for qcow2 volumes are made when they are needed",
            self.common.config(settings::FILE).display()
        )))
    }

    fn open_base(&self, entry: &Entry) -> anyhow::Result<Base> {
        let image = base::open(&self.common, entry)?;
        Ok(Base {
            entry: entry.clone(),
            image,
        })
    }

    fn virtual_bytes(&self, base: &Base) -> u64 {
        base.image.header.virtual_bytes
    }

    fn whole_bytes(&self, base: &Base) -> u64 {
        need_bytes(self.virtual_bytes(base))
    }

    /// The blocks in which a file system lists the pieces of a file. When each piece is one block of
    /// 4 KiB, which is the worst, they were measured as a 395th of the volume on ext4 and a 297th on XFS.
    fn overhead_bytes(&self, base: &Base) -> u64 {
        self.whole_bytes(base) / 256
    }

    /// Three blocks of a new file have content, the rest is holes; the user's directory takes another.
    fn making_bytes(&self) -> u64 {
        1 << 20
    }

    fn changing_bytes(&self, id: &VolumeId, change: &Change) -> anyhow::Result<u64> {
        points::changing_bytes(&self.common.path(self.overlay(id).path), change)
    }

    fn disk_of(&self, id: &VolumeId) -> Disk {
        Disk {
            backend: "qcow2",
            format: "qcow2",
            path: path_of(id),
            backing: Some(Backing {
                path: images::image_path(&id.base, id.generation),
                format: "qcow2",
            }),
        }
    }

    fn free_bytes(&self) -> anyhow::Result<u64> {
        room::free_bytes(&self.disk())
    }

    fn check_can_reserve(&self) -> anyhow::Result<()> {
        room::check_can_hold(&self.disk())
    }

    fn find(&self, id: &VolumeId, base: &Base) -> anyhow::Result<Option<State>> {
        match self.overlay(id).find(&base.entry, &base.image)? {
            Some(image) => Ok(Some(state_of(&image.metadata()?))),
            None => Ok(None),
        }
    }

    fn stored(&self, item: &Item) -> anyhow::Result<Option<Stored>> {
        let path = self.path(item);
        let found = look_at(&path)?;
        Ok(found.map(|found| stored_as(item.clone(), &found)))
    }

    fn create(&self, id: &VolumeId, base: &Base, reserve: Option<u64>) -> anyhow::Result<State> {
        self.overlay(id).create(&base.entry, &base.image, reserve)
    }

    fn reserve(&self, id: &VolumeId, bytes: u64) -> anyhow::Result<()> {
        self.overlay(id).reserve(bytes, || {
            // A failure is ignored: the caller reports the original error.
            if let Ok(Some(held)) = self.hold(&Item::whole(id.clone())) {
                let _ = self.release(&held);
            }
        })
    }

    fn touch(&self, id: &VolumeId, login: SystemTime) -> anyhow::Result<State> {
        self.overlay(id).touch(login)
    }

    fn point(&self, id: &VolumeId) -> anyhow::Result<Option<SystemTime>> {
        points::taken(&self.common.path(self.overlay(id).path))
    }

    fn more_bytes(&self, id: &VolumeId, change: Option<&Change>) -> anyhow::Result<u64> {
        points::more_bytes(&self.common.path(self.overlay(id).path), change)
    }

    fn change(&self, held: &Locked, change: &Change) -> anyhow::Result<()> {
        points::change(held, change)
    }

    fn renew(&self, held: Locked, id: &VolumeId, base: &Base) -> anyhow::Result<State> {
        let state = self.create(id, base, None)?;
        held.free();
        Ok(state)
    }

    fn volumes(&self, of: Option<&Token>) -> anyhow::Result<Vec<Stored>> {
        stored(names::items(&self.common, of)?)
    }

    fn ephemerals(&self) -> anyhow::Result<Vec<Stored>> {
        stored(names::ephemerals(&self.common)?)
    }

    fn is_found_in_use(&self, found: &Stored) -> anyhow::Result<bool> {
        in_use::is_volume_locked(&self.path(&found.item))
    }

    fn hold_found(&self, found: &Stored) -> anyhow::Result<Option<Locked>> {
        in_use::lock_out(&self.path(&found.item))
    }

    fn release(&self, held: &Locked) -> anyhow::Result<u64> {
        let give_back = || -> io::Result<u64> {
            let before = held.file().metadata()?;
            room::give_back(held.file())?;
            held.file().set_modified(before.modified()?)?; // the last login stays
            let after = held.file().metadata()?;
            Ok(state_of(&before)
                .held_bytes
                .saturating_sub(state_of(&after).held_bytes))
        };
        give_back().map_err(|error| {
            io_error(
                error,
                Exit::of_change,
                format_args!("giving back the room of {}", held.path().display()),
            )
        })
    }

    fn remove(&self, held: Locked) -> anyhow::Result<u64> {
        let metadata = held.file().metadata();
        let freed_bytes = metadata.map_or(0, |found| state_of(&found).freeable_bytes);
        let directory = held.path().parent().map(Path::to_owned);
        held.remove()?;
        // A user's directory that has become empty also goes; another one stays.
        let _ = directory.map(fs::remove_dir);
        Ok(freed_bytes)
    }

    /// The user's directory goes with the last volume: then the one above has changed.
    fn settle(&self, of: &Token) -> anyhow::Result<()> {
        let users = self.common.path(USERS);
        let own = users.join(of.as_str());
        let directories = [own, users];
        let mut there = directories.iter().filter(|directory| directory.is_dir());
        there.try_for_each(|directory| atomic::sync_directory(directory))
    }

    fn list(&self, of: Option<&Token>) -> anyhow::Result<Vec<Listed>> {
        listing::list(&self.common, of)
    }

    fn names(&self) -> anyhow::Result<Vec<Stored>> {
        check_users_directory(&self.common)?;
        states(names::items(&self.common, None)?, |_| true)
    }

    fn strays(&self, _: &[Entry]) -> anyhow::Result<Vec<Stray>> {
        strays::find(&self.common)
    }

    fn clear(&self, stray: &Stray) -> anyhow::Result<()> {
        strays::remove_if_empty(&self.common.path(&stray.path))
    }

    /// Their files are kept open until the lock is released.
    const NAMES_AT_ONCE: usize = 256;

    fn unlink(&self, found: &Stored, unlinked: &mut Unlinked) -> anyhow::Result<u64> {
        let path = self.path(&found.item);
        let freed_bytes = unlinked.unlink(&path)?;
        if let Some(directory) = path.parent() {
            unlinked.remove_if_empty(directory);
        }
        Ok(freed_bytes)
    }
}

/// Those of the names that are files, with their state.
fn stored(names: Vec<(Item, PathBuf)>) -> anyhow::Result<Vec<Stored>> {
    states(names, fs::Metadata::is_file)
}

/// Those of the names that are wanted, with their state.
fn states(
    names: Vec<(Item, PathBuf)>,
    is_wanted: impl Fn(&fs::Metadata) -> bool,
) -> anyhow::Result<Vec<Stored>> {
    let mut stored = Vec::new();
    for (item, path) in names {
        if let Some(found) = look_at(&path)?.filter(&is_wanted) {
            stored.push(stored_as(item, &found));
        }
    }
    Ok(stored)
}

fn stored_as(item: Item, found: &fs::Metadata) -> Stored {
    Stored {
        path: place_of(&item),
        item,
        state: state_of(found),
    }
}

/// Where something is, relative to the root.
fn place_of(item: &Item) -> String {
    let path = path_of(&item.id);
    match path.rsplit_once('/') {
        Some((directory, name)) if item.is_remains => format!("{directory}/.{name}.tmp"),
        _ => path,
    }
}

fn look_at(path: &Path) -> anyhow::Result<Option<fs::Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(
            error,
            Exit::of_read,
            format_args!("looking at {}", path.display()),
        )),
    }
}

/// If the directory is a link, its volumes do not belong to these bases.
fn check_users_directory(common: &Common) -> anyhow::Result<()> {
    let users = common.path(USERS);
    if fs::symlink_metadata(&users).is_ok_and(|found| found.is_symlink()) {
        let users = users.display();
        return Err(Exit::Config.error(format_args!(
            "{users}: mount the disk for volumes there instead of linking to it"
        )));
    }
    Ok(())
}
