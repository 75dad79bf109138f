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

/// The name of one that has not taken the place of the one before yet.
const NEXT: &str = "yesterday:tmp";

/// The property with the time at which it was taken, after the prefix.
pub const TAKEN: &str = "taken";

/// The times at which the snapshots of a volume were taken. Both are complete.
#[derive(Clone, Copy, Debug, Default)]
pub struct Points {
    named: Option<SystemTime>,
    next: Option<SystemTime>,
}

impl Points {
    /// When the restore point was taken; `None` when there is none.
    pub fn taken(self) -> Option<SystemTime> {
        self.next.or(self.named)
    }
}

/// Those of all volumes among datasets that were read with that property.
pub fn among(of: &Zfs, found: &Datasets) -> BTreeMap<String, Points> {
    let label = of.label(TAKEN);
    let mut all: BTreeMap<String, Points> = BTreeMap::new();
    for (snapshot, properties) in found {
        let Some((volume, name)) = snapshot.split_once('@') else {
            continue;
        };
        // One without a time is not ours, and is replaced as an old one is.
        let taken = Some(properties.local_time(&label).unwrap_or(UNIX_EPOCH));
        match name {
            NAME => all.entry(volume.to_owned()).or_default().named = taken,
            NEXT => all.entry(volume.to_owned()).or_default().next = taken,
            _ => {}
        }
    }
    all
}

/// Lets a restore point that was taken have its name, and the one before go.
pub fn finish(of: &Zfs, dataset: &str, points: Points) -> anyhow::Result<()> {
    if points.next.is_none() {
        return Ok(());
    }
    let named = snapshot_of(dataset);
    if points.named.is_some() {
        run(of, "removing", &named, &["destroy", &named])?;
    }
    of.rename(&next_of(dataset), &named)
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
/// point is there before the one before goes.
pub fn change(of: &Zfs, dataset: &str, change: &Change) -> anyhow::Result<()> {
    let snapshot = snapshot_of(dataset);
    let goes_back = change.content == Content::Point;
    if goes_back {
        run(of, "going back to", &snapshot, &["rollback", &snapshot])?;
    }
    let time = change.point.map(|taken| {
        let time = properties::time(taken);
        format!("{}={time}", of.label(TAKEN))
    });
    match time {
        Some(time) if goes_back => {
            let set = ["set", &time, &snapshot];
            run(of, "setting the time of", &snapshot, &set)
        }
        Some(time) => {
            // With a reservation, ZFS wants room for this one while the one before has its own.
            of.set(dataset, "refreservation=none")?;
            let next = next_of(dataset);
            run(of, "taking", &snapshot, &["snapshot", "-o", &time, &next])?;
            finish(of, dataset, of_volume(of, dataset)?)
        }
        None if of_volume(of, dataset)?.named.is_some() => {
            run(of, "removing", &snapshot, &["destroy", &snapshot])
        }
        None => Ok(()),
    }
}

/// Those of one volume.
pub fn of_volume(of: &Zfs, dataset: &str) -> anyhow::Result<Points> {
    let found = properties::get(dataset, &["-r", "-t", "snapshot"], &[&of.label(TAKEN)])?;
    let mut all = among(of, &found.unwrap_or_default());
    Ok(all.remove(dataset).unwrap_or_default())
}

fn run(of: &Zfs, doing: &str, snapshot: &str, arguments: &[&str]) -> anyhow::Result<()> {
    of.with_room(format_args!("{doing} {snapshot}"), || zfs(arguments))
}

fn snapshot_of(dataset: &str) -> String {
    format!("{dataset}@{NAME}")
}

fn next_of(dataset: &str) -> String {
    format!("{dataset}@{NEXT}")
}
