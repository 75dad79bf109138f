//! The snapshots of bases, which are the origins of volumes.

use images::bases::{self, Entry};
use jsonpipe::{Exit, ExitContext};

use super::program::zfs;
use super::{Zfs, node, properties};
use crate::backend::GenerationId;

/// The property of a base with the snapshot that install-base took, after the prefix: its generation,
/// a colon, and its guid, by which ZFS tells it from another one of the same name.
const SNAPSHOT: &str = "snapshot";

/// The snapshot of a base.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The generation.
    pub id: GenerationId,
    /// The volume.
    pub dataset: String,
    /// Its snapshot.
    pub snapshot: String,
    /// The room that the volume takes.
    pub held_bytes: u64,
    /// The size of its disk.
    pub virtual_bytes: u64,
    /// The size of its blocks.
    block_bytes: u64,
    /// Whether another snapshot than this one was recorded for the generation.
    is_another: bool,
}

/// An origin, and the whole room that a volume on it can come to need.
#[derive(Clone, Debug)]
pub struct Base {
    /// What bases.ini says of it.
    pub entry: Entry,
    /// The origin.
    pub origin: Origin,
    /// The room.
    pub whole_bytes: u64,
}

impl Base {
    /// The base that bases.ini offers. Status 66 when it has no snapshot, 65 when that is not the one
    /// that install-base took.
    pub fn open(of: &Zfs, entry: &Entry) -> anyhow::Result<Base> {
        let id = GenerationId {
            base: entry.name.clone(),
            generation: entry.generation,
        };
        let origins = all(of)?;
        let found = origins.into_iter().find(|origin| origin.id == id);
        let origin = found.exit(Exit::NoInput, || {
            format!(
                "{}/{}@{}: no such snapshot; cowvol install-base makes it, or mend generation in {}",
                of.names.bases(),
                id.base,
                id.generation,
                bases::PATH
            )
        })?;
        if origin.is_another {
            return Err(Exit::Data.error(format_args!(
                "{}: it was taken anew, and may not read as the image; remove its volumes, zfs destroy -r {}, and cowvol install-base",
                origin.snapshot, origin.dataset
            )));
        }
        Ok(Base {
            entry: entry.clone(),
            whole_bytes: whole_bytes(of, &origin)?,
            origin,
        })
    }
}

/// All of them, by name. Status 78 when there is no place for them.
pub fn all(of: &Zfs) -> anyhow::Result<Vec<Origin>> {
    let bases = of.names.bases();
    let recorded = of.label(SNAPSHOT);
    let wanted = ["used", "volsize", "volblocksize", "guid", &recorded];
    let found = properties::get(&bases, &["-r", "-t", "volume,snapshot"], &wanted)?;
    let found = found.exit(Exit::Config, || {
        format!("{bases}: no such dataset; cowvol layout makes it")
    })?;
    let origins = found.keys().filter_map(|snapshot| {
        let id = of.names.base_of(snapshot)?;
        let (dataset, _) = snapshot.split_once('@')?;
        let volume = found.get(dataset)?;
        let guid = found.get(snapshot)?.text("guid")?;
        let of_it = volume
            .local(&recorded)
            .and_then(|text| text.split_once(':'));
        Some(Origin {
            is_another: of_it.is_some_and(|(generation, of_it)| {
                generation == id.generation.to_string() && of_it != guid
            }),
            id,
            dataset: dataset.to_owned(),
            snapshot: snapshot.clone(),
            held_bytes: volume.bytes("used"),
            virtual_bytes: found.get(snapshot)?.bytes("volsize"),
            block_bytes: volume.bytes("volblocksize"),
        })
    });
    Ok(origins.collect())
}

/// Takes the snapshot of a generation in a volume that is complete, and records which one it is.
pub fn take(of: &Zfs, dataset: &str, id: &GenerationId) -> anyhow::Result<()> {
    let snapshot = format!("{dataset}@{}", id.generation);
    zfs(&["snapshot", &snapshot])?
        .map_err(|refusal| refusal.error(format_args!("making {snapshot}")))?;
    let found = properties::get(&snapshot, &[], &["guid"])?.unwrap_or_default();
    let guid = found.get(&snapshot).and_then(|of| of.text("guid"));
    let guid = guid.exit(Exit::Software, || format!("{snapshot}: no guid"))?;
    let recorded = format!("{}={}:{guid}", of.label(SNAPSHOT), id.generation);
    of.set(dataset, &recorded)
}

/// A volume that an interrupted run left, or that is being made.
#[derive(Clone, Debug)]
pub struct HalfMade {
    /// The generation.
    pub id: GenerationId,
    /// The volume.
    pub dataset: String,
    /// The room that it takes.
    pub held_bytes: u64,
}

/// All of them, by name.
pub fn half_made(of: &Zfs) -> anyhow::Result<Vec<HalfMade>> {
    let found = properties::get(&of.names.bases(), &["-r", "-t", "volume"], &["used"])?;
    let found = found.unwrap_or_default().into_iter();
    let half_made = found.filter_map(|(dataset, properties)| {
        Some(HalfMade {
            id: of.names.half_made_of(&dataset)?,
            held_bytes: properties.bytes("used"),
            dataset,
        })
    });
    Ok(half_made.collect())
}

/// The device of a generation's volume, if a program has it open.
pub fn used(of: &Zfs, id: &GenerationId) -> anyhow::Result<Option<String>> {
    let whole = all(of)?.into_iter().map(|of| (of.id, of.dataset));
    let half_made = half_made(of)?.into_iter().map(|of| (of.id, of.dataset));
    for (_, dataset) in whole.chain(half_made).filter(|(found, _)| found == id) {
        if node::is_locked(&of.common, &dataset)? {
            return Ok(Some(node::path_of(&dataset)));
        }
    }
    Ok(None)
}

/// The room that ZFS reserves for a volume with `refreservation=auto`; it depends on the pool's disks,
/// so ZFS itself computes it.
fn whole_bytes(of: &Zfs, origin: &Origin) -> anyhow::Result<u64> {
    let dataset = format!("{}/room", of.names.users());
    let size = origin.virtual_bytes.to_string();
    let block = origin.block_bytes.to_string();
    let arguments = ["create", "-nP", "-V", &size, "-b", &block, &dataset];
    let doing = || format!("computing the room of a volume of {size} bytes");
    let said = zfs(&arguments)?.map_err(|refusal| refusal.error(doing()))?;
    let number = said
        .lines()
        .find_map(|line| line.strip_prefix("property\trefreservation\t"));
    number
        .and_then(|number| number.parse().ok())
        .exit(Exit::Software, doing)
}
