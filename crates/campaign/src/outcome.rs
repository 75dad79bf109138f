//! The results of every room and building, and of the whole campus.

use std::collections::{BTreeMap, BTreeSet};

use campus::{Role, hosts};
use jsonpipe::Missing;
use manifest::Base;

use crate::diagnosis;
use crate::known::{Known, machines};
use crate::machines::Said;
use crate::report::{Building, Campaign, Curve, Curves, Room, Sum};
use crate::samples::{Samples, time};

/// The number of points of a curve, as many as a page can show.
const POINTS: usize = 240;

/// Rates over less time depend on the moments of the announces.
const PEAK_SECONDS: f64 = 5.0;

/// Combines the manifest with the data of the tracker, the machines and hosts.ini.
pub fn campaign(
    base: Base,
    samples: &Samples,
    said: BTreeMap<String, Said>,
    listed: Vec<(String, hosts::Machine)>,
    mut missing: Vec<Missing>,
) -> Campaign {
    let start = samples.span.map(|(first, _)| first);
    let machines = machines(samples, said, listed);
    let silent = machines
        .iter()
        .filter(|machine| machine.state.is_done() && machine.outside_bytes.is_none())
        .count();
    if silent > 0 {
        let reason =
            format!("machines with the image that did not report where it came from: {silent}");
        missing.push(Missing {
            key: "machines[].outside_bytes".into(),
            reason,
        });
    }
    let all = Sum::of(&machines);
    let buildings = buildings(&machines, base.size_bytes);
    let curves = curves(samples, &machines);
    let peak = peak(&curves);
    Campaign {
        changed: false,
        name: base.name,
        title: base.title,
        generation: base.generation,
        infohash: base.infohash,
        size_bytes: base.size_bytes,
        programs: base.programs,
        started_at: start.map(time),
        ended_at: samples.span.map(|(_, last)| time(last)),
        hosts: all.hosts,
        done: all.done,
        seconds: all.seconds,
        peak_bytes_per_second: peak.map(|(rate, _)| rate),
        peak_at: peak
            .zip(start)
            .map(|((_, at), start)| time(start.saturating_add(at as u64))),
        server_bytes: samples.server_bytes,
        findings: diagnosis::findings(&buildings, &machines),
        rooms: rooms(&machines),
        buildings,
        machines: machines.into_iter().map(|known| known.machine).collect(),
        curves,
        missing,
    }
}

fn buildings(machines: &[Known], size_bytes: u64) -> Vec<Building> {
    let building = |group: &[Known]| {
        // Every machine on a wireless network fetches its own copy from the servers, so their
        // number would decide, not the swarm.
        let wired = || {
            group
                .iter()
                .filter(|machine| machine.role != Role::Wireless)
        };
        let told = wired().any(|machine| machine.outside_bytes.is_some());
        let outside = Sum::of(wired()).outside_bytes as f64;
        Building {
            building: group[0].building.clone(),
            sum: Sum::of(group),
            crossings: told.then_some((outside / size_bytes as f64 * 1e4).round() / 1e4),
        }
    };
    machines
        .chunk_by(|a, b| a.building == b.building)
        .map(building)
        .collect()
}

fn rooms(machines: &[Known]) -> Vec<Room> {
    let room = |group: &[Known]| Room {
        building: group[0].building.clone(),
        room: group[0].room.clone(),
        sum: Sum::of(group),
    };
    machines
        .chunk_by(|a, b| (&a.building, &a.room) == (&b.building, &b.room))
        .map(room)
        .collect()
}

/// The tracker gives the times of the bytes, the machines their final number.
fn curves(samples: &Samples, machines: &[Known]) -> Curves {
    let Some((start, end)) = samples.span.filter(|(start, end)| start < end) else {
        return Curves::default();
    };
    let span = (end - start) as f64;
    let points = POINTS.min((end - start) as usize);
    let at_seconds: Vec<f64> = (0..=points)
        .map(|point| span * point as f64 / points as f64)
        .collect();
    let names: BTreeSet<&String> = samples.hosts.values().map(|host| &host.building).collect();
    let curve = |building: &String| {
        let there = machines
            .iter()
            .filter(|machine| machine.building == *building);
        let hosts: Vec<_> = there
            .filter_map(|machine| Some((samples.hosts.get(&machine.address?)?, machine.received)))
            .collect();
        let received = |at: &f64| {
            hosts
                .iter()
                .map(|(host, received)| host.share_at(start as f64 + at) * *received as f64)
                .sum::<f64>() as u64
        };
        Curve {
            building: building.clone(),
            received_bytes: at_seconds.iter().map(received).collect(),
            seeders: at_seconds
                .iter()
                .map(|at| samples.seeders_at(building, start + *at as u64))
                .collect(),
        }
    };
    Curves {
        buildings: names.into_iter().map(curve).collect(),
        at_seconds,
    }
}

/// The highest rate of all machines together, and the middle of its interval, in seconds since the
/// start.
fn peak(curves: &Curves) -> Option<(u64, f64)> {
    let at = &curves.at_seconds;
    let total = |point: usize| {
        curves
            .buildings
            .iter()
            .map(|curve| curve.received_bytes[point] as f64)
            .sum::<f64>()
    };
    let totals: Vec<f64> = (0..at.len()).map(total).collect();
    let window = PEAK_SECONDS.min(*at.last()?);
    let mut from = 0;
    let mut peak: Option<(u64, f64)> = None;
    for to in 1..at.len() {
        while from + 1 < to && at[to] - at[from + 1] >= window {
            from += 1;
        }
        if at[to] - at[from] >= window {
            let rate = ((totals[to] - totals[from]) / (at[to] - at[from])) as u64;
            if peak.is_none_or(|(highest, _)| rate > highest) {
                peak = Some((rate, (at[from] + at[to]) / 2.0));
            }
        }
    }
    peak
}
