//! What became of every machine, room and building.

use std::collections::{BTreeMap, BTreeSet};

use jsonpipe::Missing;
use manifest::Base;

use super::diagnosis;
use super::machines::{Said, Transferred};
use super::samples::{Announced, Samples, Seconds, time};
use crate::report::campaign::{Building, Campaign, Curve, Curves, Machine, Room, State, Sum};
use campus::{Role, hosts};

/// The points of a curve, as many as a page can show.
const POINTS: usize = 240;

/// A rate over less than this is a matter of when somebody announced himself.
const PEAK_SECONDS: f64 = 5.0;

/// What is not known of a machine's place.
const NOWHERE: &str = "unknown";

/// Puts together what the manifest, the tracker, the machines and hosts.ini say.
pub fn campaign(
    base: Base,
    samples: &Samples,
    said: BTreeMap<String, Said>,
    listed: Vec<(String, hosts::Machine)>,
    mut missing: Vec<Missing>,
) -> Campaign {
    let start = samples.span.map(|(first, _)| first);
    let machines = machines(samples, said, listed);
    let silent = machines.iter().filter(|machine| machine.state.is_done() && machine.outside_bytes.is_none()).count();
    if silent > 0 {
        let reason = format!("machines with the image that did not tell where it came from: {silent}");
        missing.push(Missing { key: "machines[].outside_bytes".into(), reason });
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
        peak_at: peak.zip(start).map(|((_, at), start)| time(start.saturating_add(at as u64))),
        server_bytes: samples.server_bytes,
        findings: diagnosis::findings(&buildings, &machines),
        rooms: rooms(&machines),
        buildings,
        machines: machines.into_iter().map(|known| known.machine).collect(),
        curves,
        missing,
    }
}

/// A machine and what is reckoned with, but not told.
pub struct Known {
    /// What is told.
    pub machine: Machine,
    /// From the start of the campaign until it had the image.
    done_after: Option<Seconds>,
    /// What it received.
    received: u64,
}

impl std::ops::Deref for Known {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

/// All that announced themselves, and all that were told to. By building, room and name.
fn machines(samples: &Samples, mut said: BTreeMap<String, Said>, listed: Vec<(String, hosts::Machine)>) -> Vec<Known> {
    let names: BTreeMap<_, _> = listed.iter().map(|(name, machine)| (machine.address, name.clone())).collect();
    let listed: BTreeMap<String, hosts::Machine> = listed.into_iter().collect();
    let mut machines = Vec::new();
    let name_of = |address| names.get(address).cloned().unwrap_or_else(|| address.to_string());
    for (address, announced) in &samples.hosts {
        let name = name_of(address);
        let said = said.remove(&name).unwrap_or_default();
        let mut known = known(name.clone(), listed.get(&name), Some(announced), said, samples);
        known.machine.address = Some(*address);
        machines.push(known);
    }
    for (name, said) in said {
        machines.push(known(name.clone(), listed.get(&name), None, said, samples));
    }
    machines.sort_by(|a, b| (&a.building, &a.room, &a.name).cmp(&(&b.building, &b.room, &b.name)));
    machines
}

fn known(name: String, listed: Option<&hosts::Machine>, announced: Option<&Announced>, said: Said, samples: &Samples) -> Known {
    let state = match said.state {
        Some(state) => state,
        None if announced.is_some_and(|announced| announced.complete.is_some()) => State::Complete,
        None if announced.is_some() => State::Getting,
        None => State::Unknown,
    };
    let start = samples.span.map_or(0, |(first, _)| first);
    let complete = announced.and_then(|announced| Some((announced.first_seen, announced.complete?)));
    // Who had it before the campaign began took no time.
    let seconds = complete.filter(|(_, complete)| *complete > start).map(|(first, complete)| complete - first);
    let seconds = seconds.or(said.transfer.as_ref().and_then(Transferred::seconds));
    let told = |bytes: fn(&Transferred) -> Option<u64>| said.transfer.as_ref().and_then(bytes);
    let received = match (told(|transfer| transfer.building_bytes), told(|transfer| transfer.outside_bytes)) {
        (Some(building), Some(outside)) => building.saturating_add(outside),
        _ => announced.map_or(0, Announced::obtained_bytes),
    };
    let rate = seconds.filter(|_| received > 0).map(|seconds| received / seconds.max(1));
    let machine = Machine {
        name,
        address: listed.map(|machine| machine.address),
        building: announced.map(|a| a.building.clone()).or(listed.map(|l| l.building.clone())).unwrap_or(NOWHERE.into()),
        room: listed.map(|l| l.room.clone()).or(announced.map(|a| a.room.clone())).unwrap_or(NOWHERE.into()),
        role: announced.map_or(Role::Lab, |announced| announced.role),
        state,
        status: said.status.filter(|_| state == State::Failed),
        said: said.last_words.filter(|_| !state.is_done()),
        seconds,
        bytes_per_second: rate,
        building_bytes: told(|transfer| transfer.building_bytes),
        outside_bytes: told(|transfer| transfer.outside_bytes),
        reused_bytes: told(|transfer| transfer.reused_bytes),
        server_only: said.transfer.as_ref().and_then(|transfer| transfer.server_only),
        gateway: announced.is_some_and(|announced| announced.gateway)
            || said.transfer.as_ref().is_some_and(|transfer| transfer.gateway == Some(true)),
    };
    let done_after = complete.filter(|_| state.is_done()).map(|(_, complete)| complete.saturating_sub(start));
    Known { machine, done_after, received }
}

impl Sum {
    /// What machines have in common.
    pub(super) fn of<'a>(machines: impl IntoIterator<Item = &'a Known>) -> Sum {
        let mut sum = Sum::default();
        let mut rates = Vec::new();
        for machine in machines {
            sum.hosts += 1;
            sum.done += u64::from(machine.state.is_done());
            sum.seconds = sum.seconds.max(machine.done_after);
            rates.extend(machine.bytes_per_second);
            let add = |to: &mut u64, bytes: Option<u64>| *to = to.saturating_add(bytes.unwrap_or(0));
            add(&mut sum.building_bytes, machine.building_bytes);
            add(&mut sum.outside_bytes, machine.outside_bytes);
            add(&mut sum.reused_bytes, machine.reused_bytes);
        }
        sum.bytes_per_second = medians(rates).map(|(low, _)| low);
        sum
    }
}

/// The values in the middle, twice the same when there is one.
pub fn medians(mut values: Vec<u64>) -> Option<(u64, u64)> {
    values.sort_unstable();
    let last = values.len().checked_sub(1)?;
    Some((values[last / 2], values[last.div_ceil(2)]))
}

fn buildings(machines: &[Known], size_bytes: u64) -> Vec<Building> {
    let building = |group: &[Known]| {
        // Every machine on a wireless network has its own copy from the servers: that is a matter of its number, not of the swarm.
        let wired = || group.iter().filter(|machine| machine.role != Role::Wireless);
        let told = wired().any(|machine| machine.outside_bytes.is_some());
        let outside = Sum::of(wired()).outside_bytes as f64;
        Building {
            building: group[0].building.clone(),
            sum: Sum::of(group),
            crossings: told.then_some((outside / size_bytes as f64 * 1e4).round() / 1e4),
        }
    };
    machines.chunk_by(|a, b| a.building == b.building).map(building).collect()
}

fn rooms(machines: &[Known]) -> Vec<Room> {
    let room = |group: &[Known]| Room { building: group[0].building.clone(), room: group[0].room.clone(), sum: Sum::of(group) };
    machines.chunk_by(|a, b| (&a.building, &a.room) == (&b.building, &b.room)).map(room).collect()
}

/// The tracker tells when something arrived, the machines how much it was in the end.
fn curves(samples: &Samples, machines: &[Known]) -> Curves {
    let Some((start, end)) = samples.span.filter(|(start, end)| start < end) else { return Curves::default() };
    let span = (end - start) as f64;
    let points = POINTS.min((end - start) as usize);
    let at_seconds: Vec<f64> = (0..=points).map(|point| span * point as f64 / points as f64).collect();
    let names: BTreeSet<&String> = samples.hosts.values().map(|host| &host.building).collect();
    let curve = |building: &String| {
        let there = machines.iter().filter(|machine| machine.building == *building);
        let hosts: Vec<_> = there.filter_map(|machine| Some((samples.hosts.get(&machine.address?)?, machine.received))).collect();
        let received = |at: &f64| {
            hosts.iter().map(|(host, received)| host.share_at(start as f64 + at) * *received as f64).sum::<f64>() as u64
        };
        Curve {
            building: building.clone(),
            received_bytes: at_seconds.iter().map(received).collect(),
            seeders: at_seconds.iter().map(|at| samples.seeders_at(building, start + *at as u64)).collect(),
        }
    };
    Curves { buildings: names.into_iter().map(curve).collect(), at_seconds }
}

/// The highest rate of all together, and the middle of the time that it is taken over, in seconds since the start.
fn peak(curves: &Curves) -> Option<(u64, f64)> {
    let at = &curves.at_seconds;
    let total = |point: usize| curves.buildings.iter().map(|curve| curve.received_bytes[point] as f64).sum::<f64>();
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
