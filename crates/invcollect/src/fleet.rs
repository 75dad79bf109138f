//! `invcollect fleet`: what the reports of all machines say together, for technicians.
//!
//! Hosts are read one by one, two or more at a time, and of each only its newest report and its hours stay in memory. Whatever a
//! report says, it says of its own machine alone: it is signed by the key that this host is enrolled with, or it is not believed.

mod chart;
mod duplicates;
mod findings;
mod history;
mod page;
mod reported;
mod rooms;
mod roster;
mod store;
mod text;
mod time;
mod traffic;
mod versions;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use jsonpipe::{Answer, Common, Document, Exit, Missing, Pipe, atomic};
use serde::Deserialize;

use crate::report::fleet::{Event, Finding, Fleet, Machine, Reason, Rejected, What};
use crate::request::{self, Since};
use history::Told;
use reported::{Interface, Snapshot};
use roster::Roster;
use store::{Heard, Source};
use time::Seconds;

/// Long enough for hours of the week to repeat.
const PERIOD: Duration = Duration::from_secs(30 * 86400);

/// The period that is looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Period {
    since: Seconds,
    until: Seconds,
}

/// A machine, as far as it is known.
#[derive(Debug, Default)]
struct Known {
    machine: Machine,
    told: Told,
    snapshot: Snapshot,
    disk_grown_bytes: i64,
    expected_memory_bytes: Option<u64>,
    rejected: BTreeMap<Reason, (u64, Seconds)>,
    heard: Heard,
}

/// The section `wake` of wake-lab, as far as it is needed here.
#[derive(Deserialize)]
struct Wake {
    hosts: Vec<Woken>,
}

#[derive(Deserialize)]
struct Woken {
    name: String,
    state: String,
    #[serde(default)]
    likely: Vec<String>,
}

/// `invcollect fleet`: status 66 when the store or a named file is not there, 65 when a named file is not what it should be, 78 when a
/// configuration file is not right. A Prometheus that does not answer is in `missing`: the rest is as good without it.
pub fn fleet(common: &Common, pipe: &Pipe, options: &request::Fleet) -> anyhow::Result<Answer> {
    let period = period(options, SystemTime::now())?;
    let mut missing = Vec::new();
    let roster = Roster::read(common, options, &mut missing)?;
    let wake = options.wake.as_deref().map(wake).transpose()?;
    let store = store::list(&options.store, &common.config("collector/keys"))?;
    let heard = read(&store.sources, period)?;

    let zone = TimeZone::system();
    let mut fleet = Fleet {
        since: time::text(period.since),
        until: time::text(period.until),
        time_zone: time::zone_name(&zone, period.until),
        ..Fleet::default()
    };
    let mut machines = known(heard, &roster, period);
    // Two ids can be in two rooms: who is whom is looked at before rooms are chosen.
    fleet.duplicates = duplicates::duplicates(&machines);
    let wanted = |asked: &Option<String>, is: &str| asked.as_deref().is_none_or(|asked| asked == is);
    machines.retain(|known| wanted(&options.building, &known.machine.building) && wanted(&options.room, &known.machine.room));
    let building = options.building.iter().map(|building| format!("building {building}"));
    let place: Vec<String> = building.chain(options.room.iter().map(|room| format!("room {room}"))).collect();
    if machines.is_empty() && !place.is_empty() {
        let place = place.join(", ");
        return Err(Exit::NoInput
            .error(format_args!("choosing machines: none is in {place}; without --room and --building, rooms lists all")));
    }
    let ids: Vec<&str> = machines.iter().filter_map(|known| known.machine.id.as_deref()).collect();
    fleet.duplicates.retain(|duplicate| duplicate.ids.iter().any(|id| ids.contains(&&**id)));

    fleet.versions = versions::versions(&machines, &roster);
    fleet.software = versions::software(&machines);
    fleet.rooms = rooms::rooms(&machines, &rooms::Week::new(period, &zone));
    let mut slow = Vec::new();
    if let Some(url) = &options.prometheus {
        match traffic::ask(url, options, period) {
            Ok((traffic, found)) => {
                fleet.traffic = Some(traffic);
                slow = found;
            }
            Err(error) if Exit::of(&error) == Exit::Usage => return Err(error),
            Err(error) => {
                pipe.warn(format_args!("{error:#}"));
                missing.push(Missing { key: "traffic".into(), reason: format!("{error:#}") });
            }
        }
    }
    let found = found(&machines, &fleet, &roster, period, wake, slow);
    (fleet.visit, fleet.remote) = found.into_iter().partition(|finding: &Finding| finding.what.is_visit());
    sum(&mut fleet, &machines);
    fleet.read.expelled_hosts = store.expelled_hosts;
    fleet.machines = machines.into_iter().map(|known| known.machine).collect();
    fleet.missing = missing;

    if let Some(path) = &options.html {
        atomic::write(path, 0o644, |file| file.write_all(page::page(&fleet, &zone).as_bytes()))?;
    }
    let mut document = Document::default();
    document.set("fleet", &fleet)?;
    Ok(Answer::yes(document))
}

fn period(options: &request::Fleet, now: SystemTime) -> anyhow::Result<Period> {
    let ago = |ago: Duration| now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    let since = match (options.since, options.period) {
        (Some(Since::At(time)), _) => time,
        (Some(Since::Ago(length)), _) | (None, Some(length)) => ago(length),
        (None, None) => ago(PERIOD),
    };
    let until = options.period.map_or(now, |length| since.checked_add(length).unwrap_or(now)).min(now);
    let period = Period { since: time::of(since), until: time::of(until) };
    if period.since < period.until {
        Ok(period)
    } else {
        Err(Exit::Usage.error("--since: the period is empty, or all in the future"))
    }
}

fn wake(path: &std::path::Path) -> anyhow::Result<Wake> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| jsonpipe::io_error(error, Exit::of_read, format_args!("reading {}", path.display())))?;
    let read = Document::parse(&text, "wake").and_then(|document| document.require("wake"));
    read.map_err(|error| error.context(path.display().to_string()))
}

/// Reads all hosts, as many at a time as there are processors.
fn read(sources: &[Source], period: Period) -> anyhow::Result<Vec<Heard>> {
    let next = AtomicUsize::new(0);
    let all: Mutex<Vec<(usize, Heard)>> = Mutex::new(Vec::with_capacity(sources.len()));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(source) = sources.get(index) else { break };
            let heard = source.read(period.since, period.until);
            if let Ok(mut all) = all.lock() {
                all.push((index, heard));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut all = all.into_inner().map_err(|_| Exit::Software.error("reading the reports: a reader failed"))?;
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, heard)| heard).collect())
}

/// The machines of hosts.ini and those that reported, by building, room and name.
fn known(heard: Vec<Heard>, roster: &Roster, period: Period) -> Vec<Known> {
    let mut absent: Vec<bool> = vec![true; roster.machines.len()];
    let mut machines = Vec::with_capacity(heard.len());
    for heard in heard {
        // Who is enrolled and never came is missed as the machine of hosts.ini that it will be.
        if heard.last.is_none() && heard.rejected.is_empty() && !roster.machines.is_empty() {
            continue;
        }
        // A clone has the name and the room of its original; both stand in the table.
        let listed = roster.find(&heard.newest);
        if let Some(absent) = listed.filter(|_| heard.last.is_some()).and_then(|index| absent.get_mut(index)) {
            *absent = false;
        }
        machines.push(one(heard, listed.and_then(|index| roster.machines.get(index)), roster, period));
    }
    for (entry, _) in roster.machines.iter().zip(absent).filter(|(_, absent)| *absent) {
        machines.push(one(Heard::default(), Some(entry), roster, period));
    }
    let key = |known: &Known| {
        let machine = &known.machine;
        (machine.building.clone(), machine.room.clone(), machine.name.clone(), machine.id.clone())
    };
    machines.sort_by_cached_key(key);
    machines
}

fn one(mut heard: Heard, listed: Option<&(String, campus::hosts::Machine)>, roster: &Roster, period: Period) -> Known {
    let snapshot = std::mem::take(&mut heard.newest);
    let told = std::mem::take(&mut heard.history).told(period.since, period.until);
    let mut machine = machine(&snapshot, listed);
    if !heard.id.is_empty() {
        machine.name = if machine.name.is_empty() { heard.id.clone() } else { machine.name };
        machine.id = Some(heard.id.clone());
    }
    let disks = || snapshot.disks.iter().filter(|disk| !disk.removable).count() as u64;
    machine.disks = heard.last.and_then(|_| if heard.signed { Some(disks()) } else { text::disks(&snapshot) });
    machine.signed = heard.signed;
    machine.heard_at = heard.last.map(time::text);
    machine.silent_seconds = heard.last.map(|last| u64::try_from(period.until - last).unwrap_or(0));
    machine.reports = heard.sum.reports;
    machine.on_seconds = time::length(&told.on);
    machine.use_seconds = time::length(&told.used);
    machine.clock_ahead_seconds = told.clock_ahead;
    let grown = heard.disk_used_at_first.zip(machine.disk_used_bytes).map(|(first, last)| i128::from(last) - i128::from(first));
    Known {
        disk_grown_bytes: grown.and_then(|grown| i64::try_from(grown).ok()).unwrap_or(0),
        expected_memory_bytes: roster.memory_bytes(machine.model.as_deref(), &snapshot),
        rejected: std::mem::take(&mut heard.rejected),
        machine,
        told,
        snapshot,
        heard,
    }
}

/// What a machine is by its newest report and by hosts.ini, which knows better where it stands.
fn machine(snapshot: &Snapshot, listed: Option<&(String, campus::hosts::Machine)>) -> Machine {
    let place = snapshot.place.as_ref();
    let (name, listed) = listed.map(|(name, machine)| (name, machine)).unzip();
    let disk_use = snapshot.disk_use();
    let sum = |of: fn(&Interface) -> Option<u64>| snapshot.hardware().filter_map(of).reduce(u64::saturating_add);
    Machine {
        name: name.or(snapshot.hostname.as_ref()).cloned().unwrap_or_default(),
        campus: place.map(|place| place.campus.clone()),
        building: listed.map(|machine| &machine.building).or(place.map(|place| &place.building)).cloned().unwrap_or_default(),
        room: listed.map(|machine| &machine.room).or(place.map(|place| &place.room)).cloned().unwrap_or_default(),
        listed: listed.is_some(),
        model: snapshot.system.model.clone().or_else(|| listed?.model.clone()),
        serial: snapshot.system.serial.clone(),
        image: snapshot.image.as_ref().and_then(|image| image.version),
        bases: snapshot.bases.iter().map(|base| (base.name.clone(), base.generation)).collect(),
        memory_bytes: snapshot.memory.installed_bytes.or(snapshot.memory.usable_bytes),
        memory_used_bytes: snapshot.memory_used_bytes(),
        disk_bytes: disk_use.map(|(total, _)| total),
        disk_used_bytes: disk_use.map(|(_, used)| used),
        addresses: snapshot.hardware().flat_map(|interface| interface.addresses.iter().cloned()).collect(),
        gateways: snapshot.gateways(),
        received_bytes: sum(|interface| interface.received_bytes),
        sent_bytes: sum(|interface| interface.sent_bytes),
        link_bits_per_second: snapshot.link_bits_per_second(),
        ssid: snapshot.interfaces.iter().find_map(|interface| interface.station.as_ref()?.ssid.clone()),
        opened: snapshot.chassis.opened,
        ..Machine::default()
    }
}

/// Everything that is to be done, by room.
fn found(
    machines: &[Known],
    fleet: &Fleet,
    roster: &Roster,
    period: Period,
    wake: Option<Wake>,
    slow: Vec<traffic::Slow>,
) -> Vec<Finding> {
    let speeds = usual_speeds(machines);
    let slow: BTreeMap<&str, &traffic::Slow> = slow.iter().map(|slow| (&*slow.host, slow)).collect();
    let woken = wake.iter().flat_map(|wake| &wake.hosts).filter(|woken| woken.state != "awake");
    let asleep: BTreeMap<&str, &Woken> = woken.map(|woken| (&*woken.name, woken)).collect();
    let mut found = Vec::new();
    for known in machines {
        let machine = &known.machine;
        let usual = speeds.get(&(&*machine.building, &*machine.room)).copied();
        let mut of_it = findings::of_machine(known, roster, period, usual);
        // What is said already in better words is not said again: of this machine, for others may have its name.
        if let Some(woken) = asleep.get(&*machine.name) {
            of_it.retain(|finding| finding.what != What::Silent);
            of_it.push(findings::not_woken(machine, &woken.state, woken.likely.clone()));
        }
        if let Some(slow) = slow.get(&*machine.name)
            && !of_it.iter().any(|finding| finding.what == What::SlowLink)
        {
            of_it.push(findings::slow_receive(machine, slow));
        }
        found.extend(of_it);
    }
    let by_id = machines.iter().filter_map(|known| Some((known.machine.id.as_deref()?, &known.machine))).collect();
    found.extend(findings::of_duplicates(&fleet.duplicates, &by_id));
    found.extend(findings::of_versions(&fleet.versions));
    found.sort();
    found.dedup();
    found
}

/// The speed that most wired links of a room have, where there are a few.
fn usual_speeds(machines: &[Known]) -> BTreeMap<(&str, &str), u64> {
    let mut speeds: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
    for Known { machine, .. } in machines {
        speeds.entry((&machine.building, &machine.room)).or_default().extend(machine.link_bits_per_second);
    }
    let median = |mut speeds: Vec<u64>| {
        speeds.sort_unstable();
        speeds.get(speeds.len() / 2).copied().filter(|_| speeds.len() >= 3)
    };
    speeds.into_iter().filter_map(|(room, speeds)| Some((room, median(speeds)?))).collect()
}

/// What was read, told and rejected.
fn sum(fleet: &mut Fleet, machines: &[Known]) {
    for Known { machine, heard, rejected, .. } in machines {
        let read = &mut fleet.read;
        read.reports += heard.sum.reports;
        read.unbelieved_reports += heard.sum.unbelieved_reports;
        read.dropped_reports = read.dropped_reports.saturating_add(heard.sum.dropped_reports);
        read.bytes += heard.sum.bytes;
        fleet.events_left_out += heard.events_left_out;
        fleet.events.extend(heard.events.iter().map(|(received, event)| Event {
            // Who says that it is of next year would stand above all others.
            at: time::text(time::parse(&event.timestamp).map_or(*received, |at| at.min(*received))),
            building: machine.building.clone(),
            room: machine.room.clone(),
            host: machine.name.clone(),
            action: event.event.action.clone(),
            message: event.message.clone(),
            id: event.event.id.clone(),
        }));
        fleet.rejected.extend(rejected.iter().map(|(reason, (reports, last))| Rejected {
            id: heard.id.clone(),
            reason: *reason,
            reports: *reports,
            last_at: time::text(*last),
        }));
    }
    fleet.events.sort_by(|a, b| b.cmp(a));
}
