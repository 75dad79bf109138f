//! Evaluates the reports of all lab machines for technicians: `invcollect fleet`.
//!
//! Hosts are read one by one, two or more in parallel, and only the newest report and the hours of
//! each stay in memory. A report only affects its own machine: it counts only if the key that this
//! host is enrolled with signed it.

mod duplicates;
mod findings;
mod history;
mod known;
mod page;
mod report;
mod reported;
mod request;
mod rooms;
mod roster;
mod store;
mod text;
mod time;
mod traffic;
mod unfit;
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

use known::{Known, Period, known};
use report::{Event, Finding, Fleet, Rejected, What};
use request::Since;
use roster::Roster;
use store::{Heard, Source};

pub use request::Options;

/// Long enough to show a weekly pattern.
const PERIOD: Duration = Duration::from_secs(30 * 86400);

/// The keys of wake-lab's section `wake` that are needed here.
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

/// Reads the reports, and answers with the section `fleet`.
///
/// Status 66 when the store or a named file does not exist, 65 when a named file is invalid, 78
/// when a configuration file is invalid. A Prometheus that does not answer is listed in `missing`:
/// the rest does not need it.
pub fn fleet(common: &Common, pipe: &Pipe, options: &Options) -> anyhow::Result<Answer> {
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
    // One id may appear in two rooms, so duplicates are found before rooms are selected.
    fleet.duplicates = duplicates::duplicates(&machines);
    let wanted =
        |asked: &Option<String>, is: &str| asked.as_deref().is_none_or(|asked| asked == is);
    machines.retain(|known| {
        wanted(&options.building, &known.machine.building)
            && wanted(&options.room, &known.machine.room)
    });
    let building = options
        .building
        .iter()
        .map(|building| format!("building {building}"));
    let place: Vec<String> = building
        .chain(options.room.iter().map(|room| format!("room {room}")))
        .collect();
    if machines.is_empty() && !place.is_empty() {
        let place = place.join(", ");
        return Err(Exit::NoInput.error(format_args!(
            "choosing machines: none is in {place}; without --room and --building, rooms lists all"
        )));
    }
    let ids: Vec<&str> = machines
        .iter()
        .filter_map(|known| known.machine.id.as_deref())
        .collect();
    fleet
        .duplicates
        .retain(|duplicate| duplicate.ids.iter().any(|id| ids.contains(&&**id)));

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
                missing.push(Missing {
                    key: "traffic".into(),
                    reason: format!("{error:#}"),
                });
            }
        }
    }
    let found = found(&machines, &fleet, &roster, period, wake, slow);
    (fleet.visit, fleet.remote) = found
        .into_iter()
        .partition(|finding: &Finding| finding.what.is_visit());
    sum(&mut fleet, &machines);
    fleet.read.expelled_hosts = store.expelled_hosts;
    fleet.machines = machines.into_iter().map(|known| known.machine).collect();
    fleet.missing = missing;

    if let Some(path) = &options.html {
        atomic::write(path, 0o644, |file| {
            file.write_all(page::page(&fleet, &zone).as_bytes())
        })?;
    }
    let mut document = Document::default();
    document.set("fleet", &fleet)?;
    Ok(Answer::yes(document))
}

fn period(options: &Options, now: SystemTime) -> anyhow::Result<Period> {
    let ago = |ago: Duration| now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    let since = match (options.since, options.period) {
        (Some(Since::At(time)), _) => time,
        (Some(Since::Ago(length)), _) | (None, Some(length)) => ago(length),
        (None, None) => ago(PERIOD),
    };
    let until = options
        .period
        .map_or(now, |length| since.checked_add(length).unwrap_or(now))
        .min(now);
    let period = Period {
        since: time::of(since),
        until: time::of(until),
    };
    if period.since < period.until {
        Ok(period)
    } else {
        Err(Exit::Usage.error("--since: the period is empty, or all in the future"))
    }
}

fn wake(path: &std::path::Path) -> anyhow::Result<Wake> {
    let text = jsonpipe::read_text(path)?;
    let read = Document::parse(&text, "wake").and_then(|document| document.require("wake"));
    read.map_err(|error| error.context(path.display().to_string()))
}

/// Reads all hosts, as many in parallel as there are processors.
fn read(sources: &[Source], period: Period) -> anyhow::Result<Vec<Heard>> {
    let next = AtomicUsize::new(0);
    let all: Mutex<Vec<(usize, Heard)>> = Mutex::new(Vec::with_capacity(sources.len()));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(source) = sources.get(index) else {
                break;
            };
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
    let mut all = all
        .into_inner()
        .map_err(|_| Exit::Software.error("reading the reports: a reader failed"))?;
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, heard)| heard).collect())
}

/// All findings, by room.
fn found(
    machines: &[Known],
    fleet: &Fleet,
    roster: &Roster,
    period: Period,
    wake: Option<Wake>,
    slow: Vec<traffic::Slow>,
) -> Vec<Finding> {
    let speeds = usual_speeds(machines);
    let slow: BTreeMap<&str, &traffic::Slow> =
        slow.iter().map(|slow| (&*slow.host, slow)).collect();
    let woken = wake
        .iter()
        .flat_map(|wake| &wake.hosts)
        .filter(|woken| woken.state != "awake");
    let asleep: BTreeMap<&str, &Woken> = woken.map(|woken| (&*woken.name, woken)).collect();
    let mut found = Vec::new();
    for known in machines {
        let machine = &known.machine;
        let usual = speeds.get(&(&*machine.building, &*machine.room)).copied();
        let mut of_it = findings::of_machine(known, roster, period, usual);
        // A better finding replaces this one, if it is about the same machine: others may have its
        // name.
        if let Some(woken) = asleep.get(&*machine.name) {
            of_it.retain(|finding| finding.what != What::Silent);
            of_it.push(findings::not_woken(
                machine,
                &woken.state,
                woken.likely.clone(),
            ));
        }
        if let Some(slow) = slow.get(&*machine.name)
            && !of_it.iter().any(|finding| finding.what == What::SlowLink)
        {
            of_it.push(findings::slow_receive(machine, slow));
        }
        found.extend(of_it);
    }
    let by_id = machines
        .iter()
        .filter_map(|known| Some((known.machine.id.as_deref()?, &known.machine)))
        .collect();
    found.extend(findings::of_duplicates(&fleet.duplicates, &by_id));
    found.extend(findings::of_versions(&fleet.versions));
    found.sort();
    found.dedup();
    found
}

/// The most frequent speed of the wired links of a room, if it has a few.
fn usual_speeds(machines: &[Known]) -> BTreeMap<(&str, &str), u64> {
    let mut speeds: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
    for Known { machine, .. } in machines {
        speeds
            .entry((&machine.building, &machine.room))
            .or_default()
            .extend(machine.link_bits_per_second);
    }
    let median = |mut speeds: Vec<u64>| {
        speeds.sort_unstable();
        speeds
            .get(speeds.len() / 2)
            .copied()
            .filter(|_| speeds.len() >= 3)
    };
    speeds
        .into_iter()
        .filter_map(|(room, speeds)| Some((room, median(speeds)?)))
        .collect()
}

/// Sums up the reports read and rejected, and the events.
fn sum(fleet: &mut Fleet, machines: &[Known]) {
    for Known {
        machine,
        heard,
        rejected,
        ..
    } in machines
    {
        let read = &mut fleet.read;
        read.reports += heard.sum.reports;
        read.unbelieved_reports += heard.sum.unbelieved_reports;
        read.dropped_reports = read
            .dropped_reports
            .saturating_add(heard.sum.dropped_reports);
        read.bytes += heard.sum.bytes;
        fleet.events_left_out += heard.events_left_out;
        fleet
            .events
            .extend(heard.events.iter().map(|(received, event)| Event {
                // Otherwise a clock that is ahead by a year would put an event above all others.
                at: time::text(
                    time::parse(&event.timestamp).map_or(*received, |at| at.min(*received)),
                ),
                building: machine.building.clone(),
                room: machine.room.clone(),
                host: machine.name.clone(),
                action: event.event.action.clone(),
                message: event.message.clone(),
                id: event.event.id.clone(),
            }));
        fleet
            .rejected
            .extend(rejected.iter().map(|(reason, (reports, last))| Rejected {
                id: heard.id.clone(),
                reason: *reason,
                reports: *reports,
                last_at: time::text(*last),
            }));
    }
    fleet.events.sort_by(|a, b| b.cmp(a));
}
