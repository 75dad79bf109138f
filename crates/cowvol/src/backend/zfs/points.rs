//! Restore points of volumes: a snapshot each, whose time is a property. What it contains is not part
//! of the volume's reservation, so the room of the whole disk stays reserved besides it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Zfs;
use super::program::{zfs, zpool};
use super::properties::{self, Datasets};
use crate::backend::{Change, Content};

/// The name of the snapshot.
const NAME: &str = "yesterday";

/// The property with the time at which it was taken, after the prefix.
pub const TAKEN: &str = "taken";

/// When the restore points of a dataset and those below it were taken, by the dataset of each.
pub fn taken(of: &Zfs, dataset: &str) -> anyhow::Result<BTreeMap<String, SystemTime>> {
    let found = properties::get(dataset, &["-r", "-t", "snapshot"], &[&of.label(TAKEN)])?;
    Ok(taken_among(of, &found.unwrap_or_default()))
}

/// The same, among datasets that were read with that property.
pub fn taken_among(of: &Zfs, found: &Datasets) -> BTreeMap<String, SystemTime> {
    let label = of.label(TAKEN);
    let points = found.iter().filter_map(|(snapshot, of)| {
        let (volume, name) = snapshot.split_once('@')?;
        // One without a time is not ours, and is replaced as an old one is.
        let taken = of.local_time(&label).unwrap_or(UNIX_EPOCH);
        (name == NAME).then(|| (volume.to_owned(), taken))
    });
    points.collect()
}

/// The room of a volume's restore point, as it is or after a change.
pub fn more_bytes(of: &Zfs, dataset: &str, change: Option<&Change>) -> anyhow::Result<u64> {
    let (name, property) = match change {
        Some(Change { point: None, .. }) => return Ok(0),
        // It will contain all that the volume has and its origin has not. ZFS counts what was written
        // some seconds later.
        Some(Change {
            content: Content::Present,
            ..
        }) => {
            let pool = of.names.whole_pool();
            zpool(&["sync", pool])?
                .map_err(|refusal| refusal.error(format_args!("counting what {dataset} has")))?;
            (dataset.to_owned(), "usedbydataset")
        }
        _ => (snapshot_of(dataset), "written"),
    };
    let found = properties::get(&name, &[], &[property])?.unwrap_or_default();
    Ok(found.get(&name).map_or(0, |of| of.bytes(property)))
}

/// Makes a change, each step of which leaves a whole volume: going back is one call, and a new restore
/// point replaces the one before.
pub fn change(of: &Zfs, dataset: &str, change: &Change) -> anyhow::Result<()> {
    let snapshot = snapshot_of(dataset);
    let run = |doing: &str, arguments: &[&str]| {
        of.with_room(format_args!("{doing} {snapshot}"), || zfs(arguments))
    };
    let goes_back = change.content == Content::Point;
    if goes_back {
        run("going back to", &["rollback", &snapshot])?;
    }
    let time = change.point.map(|taken| {
        let time = properties::time(taken);
        format!("{}={time}", of.label(TAKEN))
    });
    if let (true, Some(time)) = (goes_back, &time) {
        return run("setting the time of", &["set", time, &snapshot]);
    }
    if taken(of, dataset)?.contains_key(dataset) {
        run("removing", &["destroy", &snapshot])?;
    }
    match time {
        Some(time) => run("taking", &["snapshot", "-o", &time, &snapshot]),
        None => Ok(()),
    }
}

fn snapshot_of(dataset: &str) -> String {
    format!("{dataset}@{NAME}")
}
