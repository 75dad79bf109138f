//! `invcollect changes` and `accept`: reports each difference from the baseline once.
//!
//! An event is first stored in the baseline's file, as not yet logged, and then appended to the
//! event log. If a run ends in between, the next one finds by the event's id whether it is in the
//! log. So no event is lost or logged twice, wherever a run ends.

mod difference;

use std::io::IsTerminal;
use std::path::Path;
use std::time::SystemTime;

use envelope::{Action, Change, Event, EventAbout, EventDetails, EventHost, Part};
use jsonpipe::{Answer, Common, Document, Exit, Pipe, lock, sabotaged, signals, timestamp};

use crate::baseline::facts::Facts;
use crate::baseline::{Baseline, Waiting};
use crate::report::{self, Host};
use crate::{collect, event_log};

const LOCK: &str = "/run/labtools/inventory.lock";
/// A new link may still be negotiating, and a lost one may come back.
const CONFIRMED_AFTER_SECONDS: u64 = 60;

/// `invcollect changes`: status 1 when the machine differs from its baseline.
pub fn changes(common: &Common, pipe: &Pipe, dry_run: bool) -> anyhow::Result<Answer> {
    let ending = signals::defer()?;
    let lock = lock(common, &ending, dry_run)?;
    let host = collect::host(common, pipe);
    let before = Baseline::read(common)?;
    let first = before.is_none();
    let mut baseline =
        before.unwrap_or_else(|| Baseline::new(host.collected_at.clone(), false, Facts::default()));
    let told = if host.boot.settles_in_seconds() > 0 {
        pipe.note(
            "the machine has just booted; it is compared once its devices have had time to appear",
        );
        if first {
            return Ok(Answer::events(String::new()).holding(ending));
        }
        false
    } else {
        pipe.note(format_args!(
            "comparing it with the baseline of {}",
            baseline.accepted_at
        ));
        compare(&mut baseline, &host, Links::Confirmed)?
    };
    let new = if dry_run {
        baseline
            .unlogged
            .iter()
            .map(line)
            .collect::<Result<Vec<_>, _>>()?
    } else {
        if told || first {
            baseline.write(common)?;
        }
        log(common, &mut baseline)?
    };
    if first {
        pipe.note(
            "this machine had no baseline; its current state without faults is now the baseline",
        );
    }
    if new.is_empty() && !baseline.told.is_empty() {
        let told = format!(
            "reported before and still so: {}; see host.changes of invcollect collect, or invcollect accept",
            baseline.told.len()
        );
        // cron, which calls this every quarter of an hour, needs no message.
        if std::io::stderr().is_terminal() {
            pipe.warn(told)
        } else {
            pipe.note(told)
        }
    }
    let answer = Answer::events(new.concat());
    let answer = if baseline.told.is_empty() {
        answer
    } else {
        answer.but_no()
    };
    drop(lock); // the reader of the output may be slow
    Ok(answer.holding(ending))
}

/// `invcollect accept`.
pub fn accept(common: &Common, pipe: &Pipe, dry_run: bool) -> anyhow::Result<Answer> {
    let ending = signals::defer()?;
    let lock = lock(common, &ending, dry_run)?;
    let host = collect::host(common, pipe);
    let left = host.boot.settles_in_seconds();
    if left > 0 {
        return Err(Exit::TemporaryFailure.error(format_args!(
            "accepting this machine: it has just booted; try again in {left} seconds"
        )));
    }
    let nothing = || Baseline::new(host.collected_at.clone(), false, Facts::default());
    let mut before = Baseline::read(common)?.unwrap_or_else(nothing);
    let known = before.facts.clone();
    // Unreported differences are reported first, otherwise they would disappear unreported. A
    // technician is at the machine, so no confirmation is waited for.
    compare(&mut before, &host, Links::AtOnce)?;
    if !dry_run {
        before.write(common)?;
        log(common, &mut before)?;
    }
    let told = before.told;
    let mut facts = Facts::of(&host).or(known.clone());
    facts.accept_faults(&told);
    let changed = facts != known || !told.is_empty() || !before.accepted;
    let accepted = Baseline::new(host.collected_at, true, facts);
    if !dry_run && changed {
        accepted.write(common)?;
    }
    let mut document = Document::default();
    document.set(
        "baseline",
        &report::Baseline {
            changed,
            accepted_at: accepted.accepted_at,
            accepted: told,
        },
    )?;
    drop(lock);
    Ok(Answer::yes(document).holding(ending))
}

/// One run at a time. A dry run changes nothing and needs no lock.
fn lock(
    common: &Common,
    ending: &signals::Deferred,
    dry_run: bool,
) -> anyhow::Result<Option<std::fs::File>> {
    if dry_run {
        Ok(None)
    } else {
        lock::wait(common, LOCK, ending).map(Some)
    }
}

/// When a worse link is reported.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    /// When the difference has lasted for a minute.
    Confirmed,
    /// At once.
    AtOnce,
}

/// Updates the baseline to the machine's current state, and adds the resulting events to those to
/// be logged. Returns whether the baseline changed.
fn compare(baseline: &mut Baseline, host: &Host, links: Links) -> anyhow::Result<bool> {
    let now = Facts::of(host);
    let (facts, told, waiting) = (
        baseline.facts.clone(),
        baseline.told.clone(),
        baseline.waiting.clone(),
    );
    let found = difference::differences(&mut baseline.facts, &now, &baseline.told);
    // A difference that has disappeared may be reported again when it returns; one that cannot be
    // checked now stays.
    let mut left = found;
    let mut worse = Vec::new();
    baseline.told.retain_mut(|change| {
        let Some(at) = left
            .iter()
            .position(|about| difference::is_same(about, &change.about))
        else {
            // A case of a model without a switch was never opened.
            let is_nothing =
                change.about.part == Part::Chassis && host.chassis.intrusion_switch == Some(false);
            return !is_nothing && !difference::is_known(&change.about, &baseline.facts, &now);
        };
        let about = left.remove(at);
        // A slow link that is lost now is reported like any other, after confirmation.
        let waits = baseline
            .waiting
            .iter()
            .any(|waiting| difference::is_same(&waiting.about, &about));
        if difference::is_unplugged(&about) && (waits || !difference::is_unplugged(&change.about)) {
            worse.push(about.clone());
        }
        change.about = about;
        true
    });
    let is_left = |about: &EventAbout| {
        left.iter()
            .chain(&worse)
            .any(|other| difference::is_same(about, other))
    };
    baseline.waiting.retain(|waiting| is_left(&waiting.about));
    for (about, is_worse) in left
        .into_iter()
        .map(|about| (about, false))
        .chain(worse.into_iter().map(|about| (about, true)))
    {
        if links == Links::AtOnce || is_confirmed(&mut baseline.waiting, host, &about) {
            baseline
                .told
                .retain(|change| !is_worse || !difference::is_same(&change.about, &about));
            tell(baseline, host, about)?;
        }
    }
    let changed = facts != baseline.facts || told != baseline.told || waiting != baseline.waiting;
    Ok(changed)
}

/// Whether the difference may be reported. A worse link must first last for a minute.
fn is_confirmed(waiting: &mut Vec<Waiting>, host: &Host, about: &EventAbout) -> bool {
    if about.part != Part::Link || about.action != Action::Degraded {
        return true;
    }
    // Clocks are set while machines run; the uptime only increases.
    let Some(uptime) = host.boot.uptime_seconds else {
        return true;
    };
    let known = waiting
        .iter()
        .position(|waiting| difference::is_same(&waiting.about, about));
    if let Some(known) = known {
        let since = &waiting[known];
        if since.boot == host.boot.id && uptime >= since.uptime_seconds {
            let confirmed = uptime - since.uptime_seconds >= CONFIRMED_AFTER_SECONDS;
            if confirmed {
                waiting.remove(known);
            }
            return confirmed;
        }
        waiting.remove(known);
    }
    waiting.push(Waiting {
        about: about.clone(),
        boot: host.boot.id.clone(),
        uptime_seconds: uptime,
    });
    false
}

/// Adds an event to those to be logged.
fn tell(baseline: &mut Baseline, host: &Host, about: EventAbout) -> anyhow::Result<()> {
    let id = random_id()?;
    baseline.unlogged.push(Event {
        timestamp: timestamp::rfc3339(SystemTime::now()),
        event: EventDetails {
            action: format!("{}_{}", about.part.word(), about.action.word()),
            category: vec!["host".into()],
            id: id.clone(),
            kind: "alert".into(),
            kinds: vec!["change".into()],
            provider: "invcollect".into(),
        },
        host: EventHost {
            id: host.id.clone(),
            name: host.hostname.clone(),
        },
        message: difference::message(&about),
        labtools: about.clone(),
    });
    baseline.told.push(Change {
        id,
        told_at: timestamp::rfc3339(SystemTime::now()),
        about,
    });
    Ok(())
}

/// A unique id even on a cloned machine, after the clock was set back or the baseline removed: a
/// random UUID (version 4) from the running kernel.
fn random_id() -> anyhow::Result<String> {
    const RANDOM: &str = "/proc/sys/kernel/random/uuid";
    Ok(jsonpipe::read_text(Path::new(RANDOM))?.trim().to_owned())
}

/// Appends the events that are missing in the event log, and returns their lines.
fn log(common: &Common, baseline: &mut Baseline) -> anyhow::Result<Vec<String>> {
    if baseline.unlogged.is_empty() {
        return Ok(Vec::new());
    }
    let lines = baseline
        .unlogged
        .iter()
        .map(|event| Ok((event.event.id.clone(), serde_json::to_string(event)?)));
    let lines = lines.collect::<Result<Vec<_>, serde_json::Error>>()?;
    if sabotaged("forget-first") {
        baseline.unlogged.clear();
        baseline.write(common)?;
    }
    let new = event_log::append(common, &lines)?
        .into_iter()
        .map(|line| format!("{line}\n"))
        .collect();
    baseline.unlogged.clear();
    baseline.write(common)?;
    Ok(new)
}

fn line(event: &Event) -> serde_json::Result<String> {
    serde_json::to_string(event).map(|line| line + "\n")
}
