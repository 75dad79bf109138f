//! The users' volumes, as ZFS lists them.

use std::collections::{BTreeMap, BTreeSet};

use jsonpipe::{Exit, ExitContext};

use super::points::Points;
use super::properties::{self, Datasets, Properties};
use super::{LAST_LOGIN, Zfs, node, points};
use crate::backend::{Item, State, Stored, VolumeId};
use crate::token::Token;

/// The properties of a volume, besides its last login.
const PROPERTIES: [&str; 4] = ["used", "usedbyrefreservation", "volsize", "origin"];

/// A user's volume.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its identity.
    pub id: VolumeId,
    /// Half made, or pushed aside by another volume with the same id.
    pub is_remains: bool,
    /// Its name in ZFS.
    pub dataset: String,
    /// The snapshot that it was made on.
    pub origin: String,
    /// The size of its disk.
    pub virtual_bytes: u64,
    /// Its state.
    pub state: State,
}

impl Volume {
    /// The same, as all back ends have it.
    pub fn stored(self) -> Stored {
        Stored {
            path: node::path_of(&self.dataset),
            item: Item {
                id: self.id,
                is_remains: self.is_remains,
            },
            state: self.state,
        }
    }
}

impl Zfs {
    /// The volumes of one user or of all.
    pub fn volumes_of(&self, token: Option<&Token>) -> anyhow::Result<Vec<Volume>> {
        let dataset = token.map_or_else(|| self.names.users(), |token| self.names.user(token));
        self.volumes_below(&dataset)
    }

    /// The volumes below a dataset; none when it does not exist.
    pub fn volumes_below(&self, dataset: &str) -> anyhow::Result<Vec<Volume>> {
        let login = self.label(LAST_LOGIN);
        let wanted = [&PROPERTIES[..], &[&login]].concat();
        let found = properties::get(dataset, &["-r", "-t", "volume"], &wanted)?;
        Ok(self.volumes_among(found.unwrap_or_default()))
    }

    /// The volumes of one user or of all, and the restore points by the dataset of each. ZFS looks at
    /// each dataset once for both.
    pub fn volumes_and_points(
        &self,
        token: Option<&Token>,
    ) -> anyhow::Result<(Vec<Volume>, BTreeMap<String, Points>)> {
        let dataset = token.map_or_else(|| self.names.users(), |token| self.names.user(token));
        self.volumes_and_points_below(&dataset)
    }

    /// The same below a dataset.
    pub fn volumes_and_points_below(
        &self,
        dataset: &str,
    ) -> anyhow::Result<(Vec<Volume>, BTreeMap<String, Points>)> {
        let labels = [LAST_LOGIN, points::TAKEN].map(|name| self.label(name));
        let wanted = [&PROPERTIES[..], &labels.each_ref().map(String::as_str)].concat();
        let found = properties::get(dataset, &["-r", "-t", "volume,snapshot"], &wanted)?;
        let found = found.unwrap_or_default();
        let points = points::among(self, &found);
        Ok((self.volumes_among(found), points))
    }

    fn volumes_among(&self, found: Datasets) -> Vec<Volume> {
        let mut volumes: Vec<Volume> = found
            .into_iter()
            .filter_map(|(dataset, of)| self.volume(dataset, &of))
            .collect();
        let is_named = |volume: &&Volume| volume.dataset == self.names.volume(&volume.id);
        let named = volumes.iter().filter(is_named);
        let named: BTreeSet<VolumeId> = named.map(|volume| volume.id.clone()).collect();
        for volume in &mut volumes {
            volume.is_remains |= named.contains(&volume.id) && !is_named(&&*volume);
        }
        volumes
    }

    fn volume(&self, dataset: String, properties: &Properties) -> Option<Volume> {
        let origin = properties.text("origin")?;
        let held_bytes = properties.bytes("used");
        let Item { id, is_remains } = self.names.item_of(&dataset, origin)?;
        Some(Volume {
            id,
            is_remains,
            origin: origin.to_owned(),
            virtual_bytes: properties.bytes("volsize"),
            state: State {
                held_bytes,
                reserved_bytes: properties.bytes("usedbyrefreservation"),
                freeable_bytes: held_bytes,
                last_login: properties.local_time(&self.label(LAST_LOGIN)),
            },
            dataset,
        })
    }

    /// The volume; `None` when it does not exist.
    pub fn look_up(&self, id: &VolumeId) -> anyhow::Result<Option<Volume>> {
        self.look_up_item(&Item::whole(id.clone()))
    }

    /// The same of anything that is stored.
    pub fn look_up_item(&self, item: &Item) -> anyhow::Result<Option<Volume>> {
        let volumes = self.volumes_below(&self.names.parent(&item.id))?;
        Ok(volumes
            .into_iter()
            .find(|volume| (&volume.id, volume.is_remains) == (&item.id, item.is_remains)))
    }

    /// The volume. Status 66 when it does not exist.
    pub fn require(&self, id: &VolumeId) -> anyhow::Result<Volume> {
        self.require_item(&Item::whole(id.clone()))
    }

    /// The same of anything that is stored.
    pub fn require_item(&self, item: &Item) -> anyhow::Result<Volume> {
        self.look_up_item(item)?.exit(Exit::NoInput, || {
            format!("{}: the volume has gone", self.names.volume(&item.id))
        })
    }
}
