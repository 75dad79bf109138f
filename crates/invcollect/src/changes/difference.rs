//! The differences between a machine and its baseline.

use std::collections::BTreeMap;

use crate::baseline::facts::{Facts, Link, Thing, Wish, linked, pairs};
use envelope::{Action, Change, EventAbout, Part};

const SERIAL: &str = "the machine's serial number";
const UUID: &str = "the machine's UUID";
const NO_LINK: &str = "no link";
const HALF: &str = ", half duplex";

/// The differences, in the order of the parts. Improvements are added to the baseline: an interface
/// that got a link, a faster link, a switch that was reset; from then on they are the basis of
/// comparison.
///
/// A baseline that lacks a part takes its current state, but not its faults: an opened case, the
/// faults of a disk and a link that could be faster are differences at the first run as well.
pub fn differences(baseline: &mut Facts, now: &Facts, told: &[Change]) -> Vec<EventAbout> {
    let mut found = Vec::new();
    opened(baseline, now, &mut found);
    of_one(
        Part::System,
        SERIAL,
        &mut baseline.serial,
        &now.serial,
        &mut found,
    );
    of_one(
        Part::System,
        UUID,
        &mut baseline.uuid,
        &now.uuid,
        &mut found,
    );
    of_one(
        Part::Firmware,
        "the firmware's version",
        &mut baseline.firmware,
        &now.firmware,
        &mut found,
    );
    of_settings(&mut baseline.settings, &now.settings, &mut found);
    of_one(
        Part::Processor,
        "the processor",
        &mut baseline.processor,
        &now.processor,
        &mut found,
    );
    of_things(
        Part::Memory,
        &mut baseline.memory,
        &now.memory,
        told,
        &mut found,
    );
    of_things(
        Part::Disk,
        &mut baseline.disks,
        &now.disks,
        told,
        &mut found,
    );
    of_things(
        Part::Device,
        &mut baseline.devices,
        &now.devices,
        told,
        &mut found,
    );
    of_links(&mut baseline.links, &now.links, &mut found);
    found
}

/// Whether the subject could be read now; otherwise a reported difference is neither confirmed nor
/// gone.
pub fn is_known(about: &EventAbout, baseline: &Facts, now: &Facts) -> bool {
    match about.part {
        Part::Chassis => now.opened.is_some(),
        Part::System if about.subject == UUID => now.uuid.is_some(),
        Part::System => now.serial.is_some(),
        // A setting that is no longer wanted is no difference.
        Part::Firmware if about.fault.is_some() => now.settings.as_ref().is_some_and(|settings| {
            let wish = settings.get(&about.subject);
            wish.is_none_or(|wish| wish.is.is_some())
        }),
        Part::Firmware => now.firmware.is_some(),
        Part::Processor => now.processor.is_some(),
        Part::Memory => now.memory.is_some(),
        // A fault that cannot be checked is not gone.
        Part::Disk if about.fault.is_some() => {
            let (old, new) = (
                baseline.disks.as_deref().unwrap_or_default(),
                now.disks.as_deref().unwrap_or_default(),
            );
            let pairs = pairs(old, new);
            // The first identity is the reported one.
            let subject = |at| {
                pairs
                    .iter()
                    .position(|pair| *pair == Some(at))
                    .map_or(&new[at].subject, |at| &old[at].subject)
            };
            let mut disks = (0..new.len())
                .filter(|at| *subject(*at) == about.subject)
                .peekable();
            let is_read = |at: usize| {
                about
                    .fault
                    .as_ref()
                    .is_some_and(|fault| new[at].checks.contains_key(fault))
            };
            disks.peek().is_some() && disks.all(is_read)
        }
        Part::Disk => now.disks.is_some(),
        Part::Device => now.devices.is_some(),
        Part::Link if about.action == Action::Degraded => {
            let is_said = |link: &Link| link.subject != about.subject || is_said(link, about);
            now.links
                .as_ref()
                .is_some_and(|links| links.iter().all(is_said))
        }
        Part::Link => now.links.is_some(),
    }
}

/// Whether a link can show the reported difference. The link state of an interface that is down is
/// unknown, and some with a link do not report their speed.
fn is_said(link: &Link, about: &EventAbout) -> bool {
    let is_half = about
        .after
        .as_ref()
        .is_some_and(|after| after.ends_with(HALF));
    match link.carrier {
        None => false,
        Some(false) => true,
        Some(true) => {
            is_unplugged(about) || link.speed.is_some() && (link.half.is_some() || !is_half)
        }
    }
}

/// Whether both are the same difference. The degree does not count, but the replacement does, and,
/// for things that share a serial number, which of them is missing or faulty.
pub fn is_same(a: &EventAbout, b: &EventAbout) -> bool {
    (a.part, a.action, &a.subject, &a.fault) == (b.part, b.action, &b.subject, &b.fault)
        && match a.action {
            Action::Replaced => a.after == b.after,
            Action::Removed => a.before == b.before,
            Action::Degraded => a.part != Part::Disk || a.before == b.before,
            Action::Added | Action::Opened => true,
        }
}

/// Whether it is a link that is lost now.
pub fn is_unplugged(about: &EventAbout) -> bool {
    about.part == Part::Link && about.after.as_deref() == Some(NO_LINK)
}

fn opened(baseline: &mut Facts, now: &Facts, found: &mut Vec<EventAbout>) {
    match (baseline.opened, now.opened) {
        (before @ (Some(false) | None), Some(true)) => found.push(EventAbout {
            part: Part::Chassis,
            action: Action::Opened,
            subject: "the case".into(),
            fault: None,
            before: before.map(|_| "closed".into()),
            after: Some("opened".into()),
        }),
        (_, Some(opened)) => baseline.opened = Some(opened),
        (_, None) => {}
    }
}

fn of_one(
    part: Part,
    subject: &str,
    baseline: &mut Option<String>,
    now: &Option<String>,
    found: &mut Vec<EventAbout>,
) {
    let Some(now) = now else { return };
    let before = baseline.get_or_insert_with(|| now.clone());
    if before != now {
        found.push(EventAbout {
            part,
            action: Action::Replaced,
            subject: subject.to_owned(),
            fault: None,
            before: Some(before.clone()),
            after: Some(now.clone()),
        });
    }
}

/// A baseline holds only accepted values: at the first run a setting that differs is reported.
fn of_settings(
    baseline: &mut Option<BTreeMap<String, Wish>>,
    now: &Option<BTreeMap<String, Wish>>,
    found: &mut Vec<EventAbout>,
) {
    let Some(now) = now else { return };
    let accepted = baseline.get_or_insert_default();
    for (attribute, wish) in now {
        match &wish.is {
            None => {}
            Some(is) if *is == wish.wanted => {
                accepted.remove(attribute);
            }
            Some(_) if accepted.get(attribute) == Some(wish) => {}
            Some(is) => found.push(EventAbout {
                part: Part::Firmware,
                action: Action::Degraded,
                subject: attribute.clone(),
                fault: Some(wish.setting.clone()),
                before: Some(wish.wanted.clone()),
                after: Some(is.clone()),
            }),
        }
    }
}

fn of_things(
    part: Part,
    baseline: &mut Option<Vec<Thing>>,
    now: &Option<Vec<Thing>>,
    told: &[Change],
    found: &mut Vec<EventAbout>,
) {
    let Some(now) = now else { return };
    let baseline = baseline.get_or_insert_with(|| now.iter().map(Thing::without_faults).collect());
    let about = |action, thing: &Thing, before, after| EventAbout {
        part,
        action,
        subject: thing.subject.clone(),
        fault: None,
        before,
        after,
    };
    let degraded = |thing: &Thing, word: &String, fault: &String| EventAbout {
        fault: Some(word.clone()),
        ..about(
            Action::Degraded,
            thing,
            Some(thing.text.clone()),
            Some(fault.clone()),
        )
    };
    // Each thing of the baseline is matched with the same current one, wherever that is plugged in;
    // the rest is new. Among equal things, a missing one is the last to be matched with one
    // elsewhere: the kernel renumbers the others.
    let is_gone = |thing: &Thing| {
        let is_it = |about: &EventAbout| {
            (about.part, about.action, &about.before)
                == (part, Action::Removed, &Some(thing.text.clone()))
        };
        told.iter().any(|change| is_it(&change.about))
    };
    let (there, gone): (Vec<usize>, Vec<usize>) =
        (0..baseline.len()).partition(|at| !is_gone(&baseline[*at]));
    let order = [there, gone].concat();
    let ordered: Vec<Thing> = order.iter().map(|at| baseline[*at].clone()).collect();
    let mut pairs: Vec<_> = order.into_iter().zip(pairs(&ordered, now)).collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.into_iter().map(|(_, pair)| pair).collect();
    for (old, at) in baseline.iter_mut().zip(&pairs) {
        let Some(thing) = at.map(|at| &now[at]) else {
            found.push(about(Action::Removed, old, Some(old.text.clone()), None));
            continue;
        };
        // The subject stays the reported one; newly read properties are added.
        old.moved(thing);
        old.serial = old.serial.take().or_else(|| thing.serial.clone());
        old.wwn = old.wwn.take().or_else(|| thing.wwn.clone());
        for (word, fault) in &thing.checks {
            match fault {
                Some(_) if old.checks.get(word).is_some_and(Option::is_some) => {} // accepted
                Some(text) => found.push(degraded(old, word, text)),
                None => {
                    old.checks.insert(word.clone(), None);
                }
            }
        }
    }
    for (_, thing) in now
        .iter()
        .enumerate()
        .filter(|(at, _)| !pairs.contains(&Some(*at)))
    {
        found.push(about(Action::Added, thing, None, Some(thing.text.clone())));
        let faults = thing
            .checks
            .iter()
            .filter_map(|(word, fault)| Some((word, fault.as_ref()?)));
        found.extend(faults.map(|(word, fault)| degraded(thing, word, fault)));
    }
}

/// A speed as text.
fn shown(bits_per_second: u64) -> String {
    format!("{} Mb/s", bits_per_second / 1_000_000)
}

/// A half-duplex link is slower than its speed.
fn halved(link: &Link) -> &'static str {
    if link.half == Some(true) { HALF } else { "" }
}

fn of_links(
    baseline: &mut Option<Vec<Link>>,
    now: &Option<Vec<Link>>,
    found: &mut Vec<EventAbout>,
) {
    let Some(now) = now else { return };
    let baseline = baseline.get_or_insert_with(|| {
        now.iter()
            .map(|link| Link {
                best: None,
                half: None,
                ..link.clone()
            })
            .collect()
    });
    let about = |action, link: &Link, before, after| EventAbout {
        part: Part::Link,
        action,
        subject: link.subject.clone(),
        fault: None,
        before,
        after,
    };
    let pairs = linked(baseline, now);
    for (old, at) in baseline.iter_mut().zip(&pairs) {
        let Some(link) = at.map(|at| &now[at]) else {
            found.push(about(Action::Removed, old, Some(old.name.clone()), None));
            continue;
        };
        let speed = |link: &Link| link.speed.map_or_else(|| "a link".to_owned(), shown);
        old.name.clone_from(&link.name);
        old.speed = old.expected(link.best);
        old.best = old.best.max(link.best);
        match (old.carrier, link.carrier) {
            (_, None) => {}
            (Some(true), Some(false)) => found.push(about(
                Action::Degraded,
                old,
                Some(speed(old)),
                Some(NO_LINK.into()),
            )),
            (_, Some(true)) if old.is_better_than(link) => {
                found.push(about(
                    Action::Degraded,
                    old,
                    Some(speed(old)),
                    Some(speed(link) + halved(link)),
                ));
                old.carrier = Some(true);
            }
            // Without a known earlier link, a missing link is not a difference: its absence was
            // never accepted.
            (None, Some(false)) => {}
            (_, carrier) => {
                old.carrier = carrier;
                old.speed = old.speed.max(link.speed);
                old.half = link.half.or(old.half);
            }
        }
    }
    for (_, link) in now
        .iter()
        .enumerate()
        .filter(|(at, _)| !pairs.contains(&Some(*at)))
    {
        found.push(about(Action::Added, link, None, Some(link.name.clone())));
        let best = Link {
            speed: link.best,
            half: None,
            ..link.clone()
        };
        if link.carrier == Some(true) && best.is_better_than(link) {
            found.push(about(
                Action::Degraded,
                link,
                link.best.map(shown),
                link.speed.map(|speed| shown(speed) + halved(link)),
            ));
        }
    }
}

/// The message of an event.
pub fn message(about: &EventAbout) -> String {
    let EventAbout {
        part,
        action,
        subject,
        before,
        after,
        ..
    } = about;
    let (before, after) = (
        before.as_deref().unwrap_or_default(),
        after.as_deref().unwrap_or_default(),
    );
    let thing = match part {
        Part::Memory => "the memory module",
        Part::Disk => "the disk",
        Part::Device => "the device",
        Part::Link => "the interface",
        Part::Chassis | Part::System | Part::Firmware | Part::Processor => "",
    };
    match action {
        Action::Opened => "the case was opened".to_owned(),
        Action::Degraded if *part == Part::Firmware => {
            format!("the firmware's setting {subject} is {after}, and firmware.ini wants {before}")
        }
        Action::Removed => format!("{thing} {subject} is gone ({before})"),
        Action::Added => format!("{thing} {subject} is new ({after})"),
        Action::Degraded => format!("{thing} {subject} is worse: {after} (before: {before})"),
        Action::Replaced => format!("{subject} changed: {after} (before: {before})"),
    }
}
