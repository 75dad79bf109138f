//! Volumes as clones of ZFS volumes, each a block device.
//!
//! A reservation (`refreservation`) holds the room of a volume. A volume is made, reserved or removed
//! by one call of zfs(8), which is complete or does nothing. What replaces another is made beside it
//! first, and takes its name then. A program that has a volume open keeps
//! ZFS from removing it, also between our look at its locks and the removal.

mod carry;
mod convert;
mod layout;
mod names;
mod node;
mod origin;
mod points;
mod program;
mod properties;
mod qemu_img;
mod replace;
mod strays;
mod volume;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::time::{Duration, Instant, SystemTime};

use images::bases::Entry;
use jsonpipe::signals::Deferred;
use jsonpipe::{Common, Exit, ExitContext, sabotaged};

use self::names::Names;
use self::node::Changes;
use self::origin::Base;
use self::points::Points;
use self::program::{Cause, Refusal, zfs, zpool};
use self::volume::Volume;
use crate::backend::{
    Backend, Change, Disk, GenerationId, Item, Listed, Published, State, Stored, Stray, VolumeId,
};
use crate::token::Token;
use crate::{report, settings};

/// The property with the time of a volume's last login, after the prefix.
const LAST_LOGIN: &str = "lastlogin";

/// The room that stays free. ZFS writes records of its own outside of reservations, and counts a
/// write that is on its way as 24 times its size; with nothing left for these, it also refuses writes
/// into reserved room (OpenZFS 2.1.11: with 1 MiB left they failed, with 16 MiB they did not).
const HEADROOM_BYTES: u64 = 64 << 20;

/// How long a removal waits for programs that have a volume open without a lock, as udev does for
/// some milliseconds.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// The bases and volumes of a pool.
#[derive(Clone, Debug)]
pub struct Zfs {
    common: Common,
    names: Names,
    /// The beginning of the names of our properties.
    prefix: String,
}

/// A volume that QEMU cannot open.
#[derive(Debug)]
pub struct Held {
    /// What it is.
    item: Item,
    /// Its state when it was found.
    state: State,
    /// Its device, with a lock on it. It knows the name of its dataset, which changes when another
    /// volume pushes it aside.
    node: File,
}

impl Held {
    /// Its name in ZFS. Status 66 when it has gone.
    fn dataset(&self) -> anyhow::Result<String> {
        node::name_of(&self.node).exit(Exit::NoInput, || {
            format!("{}: the volume has gone", self.item.id)
        })
    }
}

impl Zfs {
    /// The volumes that the configuration names.
    pub fn new(common: &Common, settings: &settings::Zfs) -> Zfs {
        Zfs {
            common: common.clone(),
            names: Names {
                pool: settings.pool.clone(),
            },
            prefix: settings.prefix.clone(),
        }
    }

    /// The name of a property of ours.
    fn label(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    /// The properties of a base, which are as in bases.ini.
    fn labels(&self, entry: &Entry) -> [(String, String); 3] {
        [
            ("name", entry.title.clone()),
            ("ostype", entry.ostype.clone()),
            ("default", entry.default.to_string()),
        ]
        .map(|(name, value)| (self.label(name), value))
    }

    /// The last login, as it is set.
    fn login_at(&self, time: SystemTime) -> String {
        format!("{}={}", self.label(LAST_LOGIN), properties::time(time))
    }

    /// Does what needs room. The room of what was just removed may not be free yet: then it waits for
    /// it, and tries once more.
    fn with_room(
        &self,
        doing: impl fmt::Display,
        act: impl Fn() -> anyhow::Result<Result<String, Refusal>>,
    ) -> anyhow::Result<()> {
        let first = act()?;
        let refused = match first {
            Err(refusal) if refusal.cause() == Cause::Full => {
                let pool = self.names.whole_pool();
                zpool(&["wait", "-t", "free", pool])?.map_err(|wait| wait.error(&doing))?;
                act()?
            }
            other => other,
        };
        refused.map(drop).map_err(|refusal| refusal.error(doing))
    }

    fn rename(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let renamed = zfs(&["rename", from, to])?;
        renamed
            .map(drop)
            .map_err(|refusal| refusal.error(format_args!("renaming {from}")))
    }

    fn clone_base(
        &self,
        id: &VolumeId,
        base: &Base,
        reserve: Option<u64>,
    ) -> anyhow::Result<State> {
        let dataset = self.names.volume(id);
        self.clone_to(&dataset, base, reserve)?;
        self.require(id).map(|made| made.state).inspect_err(|_| {
            let _ = self.destroy(&dataset); // the caller reports the original error
        })
    }

    fn clone_to(&self, dataset: &str, base: &Base, reserve: Option<u64>) -> anyhow::Result<()> {
        let reserve = reserve.filter(|_| !sabotaged("skip-reservation"));
        let reservation = format!("refreservation={}", or_none(reserve));
        let login = self.login_at(SystemTime::now());
        let options = ["clone", "-p", "-o", &reservation, "-o", &login];
        let arguments = [&options[..], &[&base.origin.snapshot, dataset]].concat();
        self.with_room(format_args!("making {dataset}"), || zfs(&arguments))?;
        node::wait(&self.common, dataset).inspect_err(|_| {
            let _ = self.destroy(dataset); // the caller reports the original error
        })
    }

    /// Removes a volume with its snapshots. A program that has it open without a lock may be udev, so
    /// this waits for closes. Status 75 when it stays open.
    fn destroy(&self, dataset: &str) -> anyhow::Result<()> {
        let doing = || format!("removing {dataset}");
        let closings = Changes::closings(&self.common, dataset);
        let until = Instant::now() + BUSY_MAX;
        loop {
            match zfs(&["destroy", "-r", dataset])? {
                Ok(_) => break,
                Err(refusal) if refusal.cause() != Cause::Busy => {
                    return Err(refusal.error(doing()));
                }
                Err(refusal) => {
                    let changes = closings
                        .as_ref()
                        .is_ok_and(|closings| closings.wait(until).unwrap_or(false));
                    if !changes || node::is_locked(&self.common, dataset)? {
                        return Err(refusal.error(doing()));
                    }
                }
            }
        }
        Ok(())
    }

    fn set(&self, dataset: &str, property: &str) -> anyhow::Result<()> {
        self.with_room(format_args!("setting {property} of {dataset}"), || {
            zfs(&["set", property, dataset])
        })
    }
}

impl Backend for Zfs {
    type Base = Base;
    type Held = Held;

    fn open_base(&self, entry: &Entry) -> anyhow::Result<Base> {
        Base::open(self, entry)
    }

    fn lay_out(&self, bases: &[Entry], dry_run: bool) -> anyhow::Result<report::Layout> {
        layout::lay_out(self, bases, dry_run)
    }

    fn virtual_bytes(&self, base: &Base) -> u64 {
        base.origin.virtual_bytes
    }

    fn whole_bytes(&self, base: &Base) -> u64 {
        base.whole_bytes
    }

    fn disk_of(&self, id: &VolumeId) -> Disk {
        Disk {
            backend: "zfs",
            format: "raw",
            path: node::path_of(&self.names.volume(id)),
            backing: None,
        }
    }

    fn free_bytes(&self) -> anyhow::Result<u64> {
        let users = self.names.users();
        let found = properties::get(&users, &[], &["available"])?;
        let found = found.exit(Exit::Config, || {
            format!("{users}: no such dataset; cowvol layout makes it")
        })?;
        let available = found.get(&users).map_or(0, |of| of.bytes("available"));
        let pool = self.names.whole_pool();
        let doing = || format!("looking for room in {pool}");
        let freeing = zpool(&["get", "-Hpo", "value", "freeing", pool])?
            .map_err(|refusal| refusal.error(doing()))?;
        let freeing: u64 = freeing.trim().parse().exit(Exit::Software, doing)?;
        let free_bytes = available.saturating_add(freeing);
        Ok(free_bytes.saturating_sub(HEADROOM_BYTES))
    }

    fn check_can_reserve(&self) -> anyhow::Result<()> {
        Ok(())
    }

    fn find(&self, id: &VolumeId, base: &Base) -> anyhow::Result<Option<State>> {
        let Some(found) = self.look_up(id)? else {
            return Ok(None);
        };
        let wrong = if found.origin != base.origin.snapshot {
            format!(
                "it was made for {}, and not for {}",
                found.origin, base.origin.snapshot
            )
        } else if found.virtual_bytes != base.origin.virtual_bytes {
            format!(
                "its disk has {} bytes, that of the base {}",
                found.virtual_bytes, base.origin.virtual_bytes
            )
        } else {
            return Ok(Some(found.state));
        };
        Err(Exit::Data.error(format_args!(
            "reusing {} (cowvol discard removes it, with the user's files): {wrong}",
            found.dataset
        )))
    }

    fn stored(&self, item: &Item) -> anyhow::Result<Option<Stored>> {
        Ok(self.look_up_item(item)?.map(Volume::stored))
    }

    fn finish(&self, id: &VolumeId) -> anyhow::Result<()> {
        self.finish_volume(id)
    }

    fn create(&self, id: &VolumeId, base: &Base, reserve: Option<u64>) -> anyhow::Result<State> {
        let aside = self.push_aside(id)?;
        self.clone_base(id, base, reserve).inspect_err(|_| {
            if let Some((name, aside)) = aside {
                let _ = self.rename(&aside, &name); // the caller reports the original error
            }
            // Unless it has volumes.
            let _ = zfs(&["destroy", &self.names.parent(id)]);
        })
    }

    fn reserve(&self, id: &VolumeId, bytes: u64) -> anyhow::Result<()> {
        let dataset = self.require(id)?.dataset;
        // ZFS reserves for the disk alone; the restore point has its room already.
        let bytes = bytes.saturating_sub(points::more_bytes(self, &dataset, None)?);
        self.set(&dataset, &format!("refreservation={bytes}"))
    }

    fn touch(&self, id: &VolumeId, login: SystemTime) -> anyhow::Result<State> {
        let dataset = self.require(id)?.dataset;
        self.set(&dataset, &self.login_at(login))?;
        self.require(id).map(|volume| volume.state)
    }

    fn point(&self, id: &VolumeId) -> anyhow::Result<Option<SystemTime>> {
        let dataset = self.require(id)?.dataset;
        Ok(points::of_volume(self, &dataset)?.taken())
    }

    fn more_bytes(&self, id: &VolumeId, change: Option<&Change>) -> anyhow::Result<u64> {
        points::more_bytes(self, &self.require(id)?.dataset, change)
    }

    fn change(&self, held: &Held, change: &Change) -> anyhow::Result<()> {
        points::change(self, &held.dataset()?, change)
    }

    fn renew(&self, held: Held, id: &VolumeId, base: &Base) -> anyhow::Result<State> {
        self.renew_volume(held, id, base)
    }

    fn volumes(&self, of: Option<&Token>) -> anyhow::Result<Vec<Stored>> {
        let volumes = self.volumes_of(of)?.into_iter();
        Ok(volumes.map(Volume::stored).collect())
    }

    fn ephemerals(&self) -> anyhow::Result<Vec<Stored>> {
        let volumes = self.volumes_below(&self.names.ephemerals())?.into_iter();
        Ok(volumes.map(Volume::stored).collect())
    }

    fn is_found_in_use(&self, found: &Stored) -> anyhow::Result<bool> {
        node::is_locked(&self.common, node::dataset_of(&found.path))
    }

    fn hold_found(&self, found: &Stored) -> anyhow::Result<Option<Held>> {
        let locked = node::lock_out(&self.common, node::dataset_of(&found.path))?;
        Ok(locked.map(|node| Held {
            item: found.item.clone(),
            state: found.state,
            node,
        }))
    }

    fn release(&self, held: &Held) -> anyhow::Result<u64> {
        self.set(&held.dataset()?, "refreservation=none")?;
        Ok(held.state.reserved_bytes)
    }

    fn remove(&self, held: Held) -> anyhow::Result<u64> {
        let dataset = held.dataset()?;
        let Held { item, state, node } = held;
        drop(node); // ZFS removes no open volume; from here on its own refusal protects it
        self.destroy(&dataset)?;
        // A user's dataset that has become empty also goes; another one stays.
        let _ = zfs(&["destroy", &self.names.parent(&item.id)]);
        Ok(state.freeable_bytes)
    }

    fn list(&self, of: Option<&Token>) -> anyhow::Result<Vec<Listed>> {
        let (volumes, mut points) = self.volumes_and_points(of)?;
        let whole = volumes.into_iter().filter(|volume| !volume.is_remains);
        let listed = whole.map(|volume| {
            Ok(Listed {
                point: points.remove(&volume.dataset).and_then(Points::taken),
                is_open: node::is_locked(&self.common, &volume.dataset)?,
                path: node::path_of(&volume.dataset),
                id: volume.id,
                state: volume.state,
                virtual_bytes: Ok(volume.virtual_bytes),
            })
        });
        listed.collect()
    }

    fn strays(&self, bases: &[Entry]) -> anyhow::Result<Vec<Stray>> {
        strays::find(self, bases)
    }

    fn clear(&self, stray: &Stray) -> anyhow::Result<()> {
        strays::remove_if_empty(&stray.path)
    }

    /// Each is a call of ZFS, which waits for the disk.
    const NAMES_AT_ONCE: usize = 16;

    fn origins(&self) -> anyhow::Result<BTreeMap<GenerationId, u64>> {
        let mut origins: BTreeMap<GenerationId, u64> = BTreeMap::new();
        let whole = origin::all(self)?.into_iter();
        let half_made = origin::half_made(self)?.into_iter();
        for (id, bytes) in whole
            .map(|of| (of.id, of.held_bytes))
            .chain(half_made.map(|of| (of.id, of.held_bytes)))
        {
            *origins.entry(id).or_default() += bytes;
        }
        Ok(origins)
    }

    fn make_origin(
        &self,
        published: &Published<'_>,
        ending_signals: &Deferred,
    ) -> anyhow::Result<bool> {
        convert::make(self, published, ending_signals)
    }

    fn name_origins(&self, bases: &[Entry]) -> anyhow::Result<()> {
        convert::name(self, bases)
    }

    fn used_origin(&self, id: &GenerationId) -> anyhow::Result<Option<String>> {
        origin::used(self, id)
    }

    fn remove_origin(&self, id: &GenerationId) -> anyhow::Result<u64> {
        let mut freed_bytes = 0;
        for left in origin::half_made(self)?
            .iter()
            .filter(|left| left.id == *id)
        {
            self.destroy(&left.dataset)?;
            freed_bytes += left.held_bytes;
        }
        let origins = origin::all(self)?;
        for origin in origins.iter().filter(|origin| origin.id == *id) {
            // A base may have been received into the volume of the one before.
            let is_shared = origins
                .iter()
                .any(|other| other.dataset == origin.dataset && other.id != *id);
            if is_shared {
                self.destroy(&origin.snapshot)?;
            } else {
                self.destroy(&origin.dataset)?;
                freed_bytes += origin.held_bytes;
            }
        }
        Ok(freed_bytes)
    }
}

fn or_none(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "none".into(), |bytes| bytes.to_string())
}
