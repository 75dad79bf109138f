//! The result of every machine.

use std::collections::BTreeMap;

use campus::{Role, hosts};

use crate::machines::{Said, Transferred};
use crate::report::{Machine, State, Sum};
use crate::samples::{Announced, Samples, Seconds};

/// The building or room of a machine whose place is not known.
const NOWHERE: &str = "unknown";

/// A machine, with values that only the calculations need.
pub struct Known {
    /// The reported part.
    pub machine: Machine,
    /// The time from the start of the campaign until it had the image.
    pub done_after: Option<Seconds>,
    /// The bytes it received.
    pub received: u64,
}

impl std::ops::Deref for Known {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

/// All machines that announced themselves or were instructed, by building, room and name.
pub fn machines(
    samples: &Samples,
    mut said: BTreeMap<String, Said>,
    listed: Vec<(String, hosts::Machine)>,
) -> Vec<Known> {
    let names: BTreeMap<_, _> = listed
        .iter()
        .map(|(name, machine)| (machine.address, name.clone()))
        .collect();
    let listed: BTreeMap<String, hosts::Machine> = listed.into_iter().collect();
    let mut machines = Vec::new();
    let name_of = |address| {
        names
            .get(address)
            .cloned()
            .unwrap_or_else(|| address.to_string())
    };
    for (address, announced) in &samples.hosts {
        let name = name_of(address);
        let said = said.remove(&name).unwrap_or_default();
        let mut known = known(
            name.clone(),
            listed.get(&name),
            Some(announced),
            said,
            samples,
        );
        known.machine.address = Some(*address);
        machines.push(known);
    }
    for (name, said) in said {
        machines.push(known(name.clone(), listed.get(&name), None, said, samples));
    }
    machines.sort_by(|a, b| (&a.building, &a.room, &a.name).cmp(&(&b.building, &b.room, &b.name)));
    machines
}

fn known(
    name: String,
    listed: Option<&hosts::Machine>,
    announced: Option<&Announced>,
    said: Said,
    samples: &Samples,
) -> Known {
    let state = match said.state {
        Some(state) => state,
        None if announced.is_some_and(|announced| announced.complete.is_some()) => State::Complete,
        None if announced.is_some() => State::Getting,
        None => State::Unknown,
    };
    let start = samples.span.map_or(0, |(first, _)| first);
    let complete =
        announced.and_then(|announced| Some((announced.first_seen, announced.complete?)));
    // A machine that had the image before the campaign began took no time.
    let seconds = complete
        .filter(|(_, complete)| *complete > start)
        .map(|(first, complete)| complete - first);
    let seconds = seconds.or(said.transfer.as_ref().and_then(Transferred::seconds));
    let told = |bytes: fn(&Transferred) -> Option<u64>| said.transfer.as_ref().and_then(bytes);
    let received = match (
        told(|transfer| transfer.building_bytes),
        told(|transfer| transfer.outside_bytes),
    ) {
        (Some(building), Some(outside)) => building.saturating_add(outside),
        _ => announced.map_or(0, Announced::obtained_bytes),
    };
    let rate = seconds
        .filter(|_| received > 0)
        .map(|seconds| received / seconds.max(1));
    let machine = Machine {
        name,
        address: listed.map(|machine| machine.address),
        building: announced
            .map(|a| a.building.clone())
            .or(listed.map(|l| l.building.clone()))
            .unwrap_or(NOWHERE.into()),
        room: listed
            .map(|l| l.room.clone())
            .or(announced.map(|a| a.room.clone()))
            .unwrap_or(NOWHERE.into()),
        role: announced.map_or(Role::Lab, |announced| announced.role),
        state,
        status: said
            .status
            .filter(|status| state == State::Failed && *status != 0),
        said: said.last_words.filter(|_| !state.is_done()),
        seconds,
        bytes_per_second: rate,
        building_bytes: told(|transfer| transfer.building_bytes),
        outside_bytes: told(|transfer| transfer.outside_bytes),
        reused_bytes: told(|transfer| transfer.reused_bytes),
        server_only: said
            .transfer
            .as_ref()
            .and_then(|transfer| transfer.server_only),
        gateway: announced.is_some_and(|announced| announced.gateway)
            || said
                .transfer
                .as_ref()
                .is_some_and(|transfer| transfer.gateway == Some(true)),
    };
    let done_after = complete
        .filter(|_| state.is_done())
        .map(|(_, complete)| complete.saturating_sub(start));
    Known {
        machine,
        done_after,
        received,
    }
}

impl Sum {
    /// The sums over some machines.
    pub fn of<'a>(machines: impl IntoIterator<Item = &'a Known>) -> Sum {
        let mut sum = Sum::default();
        let mut rates = Vec::new();
        for machine in machines {
            sum.hosts += 1;
            sum.done += u64::from(machine.state.is_done());
            sum.seconds = sum.seconds.max(machine.done_after);
            rates.extend(machine.bytes_per_second);
            let add =
                |to: &mut u64, bytes: Option<u64>| *to = to.saturating_add(bytes.unwrap_or(0));
            add(&mut sum.building_bytes, machine.building_bytes);
            add(&mut sum.outside_bytes, machine.outside_bytes);
            add(&mut sum.reused_bytes, machine.reused_bytes);
        }
        sum.bytes_per_second = medians(rates).map(|(low, _)| low);
        sum
    }
}

/// The two middle values, equal when there is one.
pub fn medians(mut values: Vec<u64>) -> Option<(u64, u64)> {
    values.sort_unstable();
    let last = values.len().checked_sub(1)?;
    Some((values[last / 2], values[last.div_ceil(2)]))
}
