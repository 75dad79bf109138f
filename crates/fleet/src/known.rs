//! A machine, as known from its reports and hosts.ini.

use std::collections::BTreeMap;

use campus::hosts;

use crate::history::Summary;
use crate::report::{Machine, Reason};
use crate::reported::{Interface, Snapshot};
use crate::roster::Roster;
use crate::store::Heard;
use crate::text;
use crate::time::{self, Seconds};

/// The period of the query.
#[derive(Clone, Copy, Debug, Default)]
pub struct Period {
    pub since: Seconds,
    pub until: Seconds,
}

/// A known machine.
#[derive(Debug, Default)]
pub struct Known {
    pub machine: Machine,
    pub summary: Summary,
    pub snapshot: Snapshot,
    pub disk_grown_bytes: i64,
    pub expected_memory_bytes: Option<u64>,
    pub rejected: BTreeMap<Reason, (u64, Seconds)>,
    pub heard: Heard,
}

/// The machines of hosts.ini and those that reported, by building, room and name.
pub fn known(heard: Vec<Heard>, roster: &Roster, period: Period) -> Vec<Known> {
    let mut absent: Vec<bool> = vec![true; roster.machines.len()];
    let mut machines = Vec::with_capacity(heard.len());
    for heard in heard {
        // An enrolled host that never reported appears only as its entry in hosts.ini.
        if heard.last.is_none() && heard.rejected.is_empty() && !roster.machines.is_empty() {
            continue;
        }
        // A clone has the name and the room of its original; both stay in the table.
        let listed = roster.find(&heard.newest);
        if let Some(absent) = listed
            .filter(|_| heard.last.is_some())
            .and_then(|index| absent.get_mut(index))
        {
            *absent = false;
        }
        machines.push(one(
            heard,
            listed.and_then(|index| roster.machines.get(index)),
            roster,
            period,
        ));
    }
    for (entry, _) in roster
        .machines
        .iter()
        .zip(absent)
        .filter(|(_, absent)| *absent)
    {
        machines.push(one(Heard::default(), Some(entry), roster, period));
    }
    let key = |known: &Known| {
        let machine = &known.machine;
        (
            machine.building.clone(),
            machine.room.clone(),
            machine.name.clone(),
            machine.id.clone(),
        )
    };
    machines.sort_by_cached_key(key);
    machines
}

fn one(
    mut heard: Heard,
    listed: Option<&(String, hosts::Machine)>,
    roster: &Roster,
    period: Period,
) -> Known {
    let snapshot = std::mem::take(&mut heard.newest);
    let summary = std::mem::take(&mut heard.history).summary(period.since, period.until);
    let mut machine = machine(&snapshot, listed);
    if !heard.id.is_empty() {
        machine.name = if machine.name.is_empty() {
            heard.id.clone()
        } else {
            machine.name
        };
        machine.id = Some(heard.id.clone());
    }
    let disks = || snapshot.disks.iter().filter(|disk| !disk.removable).count() as u64;
    machine.disks = heard.last.and_then(|_| {
        if heard.signed {
            Some(disks())
        } else {
            text::disks(&snapshot)
        }
    });
    machine.signed = heard.signed;
    machine.heard_at = heard.last.map(time::text);
    machine.silent_seconds = heard
        .last
        .map(|last| u64::try_from(period.until - last).unwrap_or(0));
    machine.reports = heard.sum.reports;
    machine.on_seconds = time::length(&summary.on);
    machine.use_seconds = time::length(&summary.used);
    machine.clock_ahead_seconds = summary.clock_ahead;
    let grown = heard
        .disk_used_at_first
        .zip(machine.disk_used_bytes)
        .map(|(first, last)| i128::from(last) - i128::from(first));
    Known {
        disk_grown_bytes: grown
            .and_then(|grown| i64::try_from(grown).ok())
            .unwrap_or(0),
        expected_memory_bytes: roster.memory_bytes(machine.model.as_deref(), &snapshot),
        rejected: std::mem::take(&mut heard.rejected),
        machine,
        summary,
        snapshot,
        heard,
    }
}

/// Describes a machine by its newest report and by hosts.ini, which takes precedence for its place.
fn machine(snapshot: &Snapshot, listed: Option<&(String, hosts::Machine)>) -> Machine {
    let place = snapshot.place.as_ref();
    let (name, listed) = listed.map(|(name, machine)| (name, machine)).unzip();
    let disk_use = snapshot.disk_use();
    let sum = |of: fn(&Interface) -> Option<u64>| {
        snapshot
            .hardware()
            .filter_map(of)
            .reduce(u64::saturating_add)
    };
    Machine {
        name: name
            .or(snapshot.hostname.as_ref())
            .cloned()
            .unwrap_or_default(),
        campus: place.map(|place| place.campus.clone()),
        building: listed
            .map(|machine| &machine.building)
            .or(place.map(|place| &place.building))
            .cloned()
            .unwrap_or_default(),
        room: listed
            .map(|machine| &machine.room)
            .or(place.map(|place| &place.room))
            .cloned()
            .unwrap_or_default(),
        listed: listed.is_some(),
        model: snapshot
            .system
            .model
            .clone()
            .or_else(|| listed?.model.clone()),
        serial: snapshot.system.serial.clone(),
        image: snapshot.image.as_ref().and_then(|image| image.version),
        bases: snapshot
            .bases
            .iter()
            .map(|base| (base.name.clone(), base.generation))
            .collect(),
        memory_bytes: snapshot
            .memory
            .installed_bytes
            .or(snapshot.memory.usable_bytes),
        memory_used_bytes: snapshot.memory_used_bytes(),
        disk_bytes: disk_use.map(|(total, _)| total),
        disk_used_bytes: disk_use.map(|(_, used)| used),
        addresses: snapshot
            .hardware()
            .flat_map(|interface| interface.addresses.iter().cloned())
            .collect(),
        gateways: snapshot.gateways(),
        received_bytes: sum(|interface| interface.received_bytes),
        sent_bytes: sum(|interface| interface.sent_bytes),
        link_bits_per_second: snapshot.link_bits_per_second(),
        ssid: snapshot
            .interfaces
            .iter()
            .find_map(|interface| interface.station.as_ref()?.ssid.clone()),
        opened: snapshot.chassis.opened,
        ..Machine::default()
    }
}
