//! A volume that takes the place of another one: it is made beside it, the other one goes aside, and
//! the new one gets the name. Until then the other one is the user's volume, and after that it is
//! remains.

use jsonpipe::{Exit, ExitContext};

use super::origin::Base;
use super::{Held, Zfs, node, points, properties};
use crate::backend::{Backend, Item, State, VolumeId};

impl Zfs {
    /// Puts a new volume in the place of one that is held.
    pub fn renew_volume(&self, held: Held, id: &VolumeId, base: &Base) -> anyhow::Result<State> {
        let half_made = self.names.half_made_volume(id);
        self.remove_remains(id)?;
        self.clone_to(&half_made, base, None)?;
        self.take_place(id, &half_made).inspect_err(|_| {
            let _ = self.destroy(&half_made); // the caller reports the original error
        })?;
        drop(held); // ZFS removes no open volume
        // The new one is there; where this fails, the next login removes the other one.
        let _ = self.remove_remains(id);
        node::wait(&self.common, &self.names.volume(id))?;
        self.require(id).map(|made| made.state)
    }

    /// Finishes what a killed run has left of a replacement, and of that of the restore point.
    pub fn finish_volume(&self, id: &VolumeId) -> anyhow::Result<()> {
        let (volumes, mut points) = self.volumes_and_points_below(&self.names.parent(id))?;
        let of_id = volumes.into_iter().filter(|volume| volume.id == *id);
        let (remains, whole): (Vec<_>, Vec<_>) = of_id.partition(|volume| volume.is_remains);
        for left in remains {
            // An import that is making it keeps it. The login does not need the removal.
            if let Some(held) = self.hold_found(&left.stored())? {
                let _ = self.remove(held);
            }
        }
        for volume in whole {
            if node::is_locked(&self.common, &volume.dataset)? {
                continue;
            }
            let points = points.remove(&volume.dataset).unwrap_or_default();
            points::finish(self, &volume.dataset, points)?;
            let name = self.names.volume(id);
            if volume.dataset != name {
                self.take_back_name(&volume.dataset, &name)?;
            }
        }
        Ok(())
    }

    /// Unless a volume on another generation has it, and this one waits to be replaced.
    fn take_back_name(&self, aside: &str, name: &str) -> anyhow::Result<()> {
        if properties::get(name, &[], &["type"])?.is_some() {
            return Ok(());
        }
        self.rename(aside, name)?;
        node::wait(&self.common, name)
    }

    /// Moves a volume out of the way; its former and its new name.
    pub fn push_aside(&self, id: &VolumeId) -> anyhow::Result<Option<(String, String)>> {
        let name = self.names.volume(id);
        let Some(found) = properties::get(&name, &["-t", "volume"], &["origin"])? else {
            return Ok(None);
        };
        let origin = found.get(&name).and_then(|of| of.text("origin"));
        let other = origin.and_then(|origin| self.names.id_of(&name, origin));
        let other = other.exit(Exit::Data, || {
            format!(
                "{name}: not a clone of a base in {}; rename it with zfs rename, or remove it",
                self.names.bases()
            )
        })?;
        let aside = self.names.aside(&other);
        self.rename(&name, &aside)?;
        Ok(Some((name, aside)))
    }

    /// Removes what a killed run has left of a volume. Status 75 when an import is making it.
    pub fn remove_remains(&self, id: &VolumeId) -> anyhow::Result<()> {
        let item = Item {
            id: id.clone(),
            is_remains: true,
        };
        while let Some(volume) = self.look_up_item(&item)? {
            let held = self.hold(&item)?.ok_or_else(|| {
                Exit::TemporaryFailure.error(format_args!(
                    "removing {}: a program uses it; try again when that has ended",
                    volume.dataset
                ))
            })?;
            drop(held); // ZFS removes no open volume
            self.destroy(&volume.dataset)?;
        }
        Ok(())
    }

    /// Gives a complete volume its name. The one that has it goes aside: until the new one has the
    /// name, it is still the user's volume, and after that it is remains.
    pub fn take_place(&self, id: &VolumeId, half_made: &str) -> anyhow::Result<()> {
        let aside = self.push_aside(id)?;
        self.rename(half_made, &self.names.volume(id))
            .inspect_err(|_| {
                if let Some((name, aside)) = aside {
                    let _ = self.rename(&aside, &name); // the caller reports the original error
                }
            })
    }
}
