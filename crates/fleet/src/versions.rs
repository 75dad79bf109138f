//! The places of images, bases and programs.

use std::collections::BTreeMap;

use crate::known::Known;
use crate::report::{Behind, Place, Software, Version};
use crate::roster::Roster;

/// Without a manifest, a version counts as current once one machine in ten has it, and at least two
/// where there are two. A single machine may be on trial, or lie.
const SHARE: usize = 10;

/// Images by model, then bases by name. A manifest gives the current version, otherwise it is the
/// newest that a tenth of the machines have; for images, of those of the model, because models may
/// have different ones.
pub fn versions(machines: &[Known], roster: &Roster) -> Vec<Version> {
    type Key = (&'static str, Option<String>);
    let mut found: BTreeMap<(bool, Key), Vec<(&Known, u64)>> = BTreeMap::new();
    for known in machines {
        let model = known.machine.model.clone();
        if let Some(version) = known.machine.image {
            found
                .entry((true, ("image", model)))
                .or_default()
                .push((known, version));
        }
        for (name, generation) in &known.machine.bases {
            found
                .entry((false, ("base", Some(name.clone()))))
                .or_default()
                .push((known, *generation));
        }
    }
    let version = |((_, (kind, name)), have): ((bool, Key), Vec<(&Known, u64)>)| {
        let given = roster.images.iter().filter(|expected| match kind {
            "base" => expected.base == name,
            _ => {
                expected.base.is_none()
                    && (expected.models.is_empty()
                        || name
                            .as_ref()
                            .is_some_and(|name| expected.models.contains(name)))
            }
        });
        let given = given.map(|expected| expected.version).max();
        let newest = given
            .or_else(|| usual(have.iter().map(|(_, version)| *version).collect()))
            .unwrap_or(0);
        let behind = have
            .iter()
            .filter(|(_, has)| *has < newest)
            .map(|(known, has)| Behind {
                building: known.machine.building.clone(),
                room: known.machine.room.clone(),
                host: known.machine.name.clone(),
                has: *has,
            });
        Version {
            kind,
            name,
            newest,
            given: given.is_some(),
            current: have.iter().filter(|(_, has)| *has >= newest).count() as u64,
            behind: behind.collect(),
        }
    };
    found.into_iter().rev().map(version).collect()
}

/// The newest version that enough machines have, or a newer one.
fn usual(mut versions: Vec<u64>) -> Option<u64> {
    let enough = (versions.len() / SHARE).max(2).min(versions.len());
    versions.sort_unstable_by_key(|version| std::cmp::Reverse(*version));
    versions.get(enough.checked_sub(1)?).copied()
}

/// By name and version, from the newest reports.
pub fn software(machines: &[Known]) -> Vec<Software> {
    type Program<'a> = (&'a str, &'a str, &'a str);
    type Rooms<'a> = BTreeMap<(&'a str, &'a str), u64>;
    let mut found: BTreeMap<Program, Rooms> = BTreeMap::new();
    for known in machines {
        for base in &known.snapshot.bases {
            for program in &base.programs {
                let rooms = found
                    .entry((&program.name, &program.version, &base.name))
                    .or_default();
                *rooms
                    .entry((&known.machine.building, &known.machine.room))
                    .or_default() += 1;
            }
        }
    }
    let place = |((building, room), machines): ((&str, &str), u64)| Place {
        building: building.into(),
        room: room.into(),
        machines,
    };
    let software = |((name, version, base), rooms): (Program, Rooms)| Software {
        name: name.into(),
        version: version.into(),
        base: base.into(),
        machines: rooms.values().sum(),
        rooms: rooms.into_iter().map(place).collect(),
    };
    found.into_iter().map(software).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_version_needs_several_machines() {
        assert_eq!(usual(Vec::new()), None);
        assert_eq!(usual(vec![7]), Some(7));
        assert_eq!(usual(vec![7, u64::MAX]), Some(7));
        assert_eq!(usual(vec![6, 7, 7]), Some(7));
        let mut campus = vec![12; 252];
        campus[..24].fill(13);
        assert_eq!(usual(campus.clone()), Some(12), "a trial");
        campus[24] = 13;
        assert_eq!(usual(campus), Some(13));
    }
}
