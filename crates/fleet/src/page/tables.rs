//! The tables of the page.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::tz::TimeZone;

use crate::chart;
use crate::html::{Section, place, text};
use crate::report::{DuplicateKind, Fleet, Machine, Quiet, Room};
use crate::rooms::DAYS;
use crate::time;
use crate::words::{bytes, clock, counted, hours, span};

/// The hours of the week are known after one.
const WEEK: time::Seconds = 7 * 86400;
/// So many events stand on the page, and of one machine; the document has more.
const EVENTS: usize = 60;
const EVENTS_OF_ONE: usize = 10;

/// How the rooms are used.
pub fn rooms(fleet: &Fleet) -> Option<Section> {
    if fleet.rooms.is_empty() {
        return None;
    }
    let most = fleet.rooms.iter().map(|room| room.on_seconds).max().unwrap_or(0).max(1);
    let mut rooms: Vec<&Room> = fleet.rooms.iter().collect();
    rooms.sort_by_key(|room| std::cmp::Reverse(room.use_seconds));
    let mut rows = String::new();
    for room in rooms {
        let short = if room.heard == room.machines { "" } else { " short" };
        let width = |seconds: u64| 160.0 * seconds as f64 / most as f64;
        let each = room.use_seconds.checked_div(room.machines).unwrap_or(0);
        let grown = if room.disk_grown_bytes < 0 { '−' } else { '+' };
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\">{}</th><td class=\"number{short}\">{} of {}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
             <td><svg class=\"bar\" viewBox=\"0 0 160 16\" role=\"img\" aria-label=\"hours on, and in use\">\
             <rect class=\"on\" width=\"{:.1}\" height=\"16\" rx=\"3\"/><rect class=\"used\" y=\"4\" width=\"{:.1}\" height=\"8\" rx=\"2\"/></svg></td>\
             <td class=\"number\">{}</td><td class=\"number\">{} of {} <small>{grown}{}</small></td></tr>",
            place(&room.building, &room.room),
            room.heard,
            room.machines,
            hours(room.on_seconds),
            hours(room.use_seconds),
            width(room.on_seconds),
            width(room.use_seconds),
            hours(each),
            bytes(room.disk_used_bytes),
            bytes(room.disk_bytes),
            bytes(room.disk_grown_bytes.unsigned_abs()),
        );
    }
    let html = format!(
        "<table><thead><tr><th>room</th><th class=\"number\">machines heard of</th>\
         <th class=\"number\">on</th><th class=\"number\">in use</th><th>on, and in use of it</th><th class=\"number\">in use, each</th>\
         <th class=\"number\">disks in use</th></tr></thead><tbody>\n{rows}</tbody></table>"
    );
    Some(Section { id: "rooms", title: "Rooms, the most used first".into(), html })
}

/// When the rooms are used, and when not.
pub fn hours_of_the_week(fleet: &Fleet) -> Option<Section> {
    let length = |since, until| Some(time::parse(until)? - time::parse(since)?);
    if length(&fleet.since, &fleet.until).is_none_or(|seconds| seconds < WEEK) {
        return None;
    }
    let mut figures = String::new();
    for room in fleet.rooms.iter().filter(|room| room.heard > 0) {
        let quiet: Vec<String> = room.quiet.iter().take(3).map(window).collect();
        let quiet =
            if quiet.is_empty() { "never quiet for two hours".to_owned() } else { format!("quiet: {}", quiet.join("; ")) };
        let _ = write!(
            figures,
            "<figure><h3>{}</h3>{}<p>{}</p></figure>",
            place(&room.building, &room.room),
            chart::week(room),
            text(&quiet)
        );
    }
    let html = format!(
        "<p>The darker, the more of a room's machines were in use in that hour of the week. In a quiet window next to nobody is \
         disturbed.</p><div class=\"weeks\">{figures}</div>"
    );
    (!figures.is_empty()).then(|| Section { id: "hours", title: "When they are used".into(), html })
}

/// `Mo Tu We Th 19:00 to 8:00 (13 h)`, `Fr 19:00 to Mo 8:00 (61 h)`
fn window(quiet: &Quiet) -> String {
    let short = |day: &&str| day.get(..2).map(|day| day[..1].to_uppercase() + &day[1..]).unwrap_or_default();
    if quiet.hours >= 168 {
        return "all the time".into();
    }
    let days: Vec<String> = quiet.days.iter().map(short).collect();
    // Where it ends on another day than the next.
    let end = match &quiet.days[..] {
        [day] if quiet.hours >= 24 => {
            let start = DAYS.iter().position(|name| name == day).unwrap_or(0) as u64 * 24 + u64::from(quiet.from_hour);
            let end = (start + quiet.hours) / 24 % 7;
            DAYS.get(end as usize).map(|day| short(day) + " ").unwrap_or_default()
        }
        _ => String::new(),
    };
    format!("{} {}:00 to {end}{}:00 ({} h)", days.join(" "), quiet.from_hour, quiet.to_hour, quiet.hours)
}

/// What changed.
pub fn events(fleet: &Fleet, zone: &TimeZone) -> Section {
    let section = |html| Section { id: "changes", title: "What changed".into(), html };
    let mut rows = String::new();
    let mut told: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    let shown = fleet.events.iter().filter(|event| {
        let count = told.entry((&event.building, &event.room, &event.host)).or_default();
        *count += 1;
        *count <= EVENTS_OF_ONE
    });
    let shown: Vec<_> = shown.take(EVENTS).collect();
    for event in &shown {
        let _ = writeln!(
            rows,
            "<tr><td class=\"time\">{}</td><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>",
            clock(&event.at, zone),
            text(&event.host),
            place(&event.building, &event.room),
            text(&event.message)
        );
    }
    if rows.is_empty() {
        return section("<p>Nothing that a machine told of.</p>".into());
    }
    let left_out = ((fleet.events.len() - shown.len()) as u64).saturating_add(fleet.events_left_out);
    let more = if left_out > 0 { format!("<p>And {left_out} more.</p>") } else { String::new() };
    section(format!(
        "<table class=\"events\"><thead><tr><th>when</th><th>machine</th><th>where</th><th>what</th></tr></thead><tbody>\n\
         {rows}</tbody></table>{more}"
    ))
}

/// Who is behind.
pub fn versions(fleet: &Fleet) -> Option<Section> {
    let mut rows = String::new();
    for version in &fleet.versions {
        let mut behind: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
        for one in &version.behind {
            behind.entry((&one.building, &one.room)).or_default().push(format!("{} ({})", text(&one.host), one.has));
        }
        let behind: Vec<String> = behind
            .into_iter()
            .map(|((building, room), hosts)| format!("<div>{}: {}</div>", place(building, room), hosts.join(", ")))
            .collect();
        let what = match (version.kind, &version.name) {
            ("base", Some(name)) => format!("base {}", text(name)),
            (_, Some(model)) => format!("image of the host, {}", text(model)),
            (_, None) => "image of the host".into(),
        };
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\">{what}</th><td class=\"number\">{}{}</td><td class=\"number\">{} of {}</td><td>{}</td></tr>",
            version.newest,
            if version.given { "" } else { " <small>as others have</small>" },
            version.current,
            version.current + version.behind.len() as u64,
            behind.concat()
        );
    }
    let html = format!(
        "<table><thead><tr><th>what</th><th class=\"number\">version</th><th class=\"number\">machines that have it</th>\
         <th>machines that are behind</th></tr></thead><tbody>\n{rows}</tbody></table>"
    );
    (!rows.is_empty()).then(|| Section { id: "versions", title: "Images and bases".into(), html })
}

/// Every machine, a room at a time.
pub fn machines(fleet: &Fleet) -> Section {
    let mut rooms: BTreeMap<(&str, &str), Vec<&Machine>> = BTreeMap::new();
    for machine in &fleet.machines {
        rooms.entry((&machine.building, &machine.room)).or_default().push(machine);
    }
    let one_room = rooms.len() == 1;
    let mut html = String::new();
    for ((building, room), machines) in rooms {
        let _ = writeln!(
            html,
            "<details{}><summary>{} <small>{}</small></summary><table class=\"machines\"><thead><tr><th>machine</th><th>heard of</th>\
             <th class=\"number\">on</th><th class=\"number\">in use</th><th>model</th><th class=\"number\">memory</th>\
             <th class=\"number\">disks in use</th><th class=\"number\">link</th><th>image, bases</th></tr></thead><tbody>",
            if one_room { " open" } else { "" },
            place(building, room),
            counted(machines.len() as u64, "machine")
        );
        machines.iter().for_each(|machine| html += &one(machine));
        html += "</tbody></table></details>\n";
    }
    Section { id: "machines", title: "Machines".into(), html }
}

fn one(machine: &Machine) -> String {
    let heard = machine.silent_seconds.map_or_else(|| "never".to_owned(), |silent| format!("{} ago", span(silent)));
    let memory = machine.memory_bytes.map_or_else(String::new, |memory| format!("{} GiB", memory.saturating_add(1 << 29) >> 30));
    let disks = machine
        .disk_used_bytes
        .zip(machine.disk_bytes)
        .map_or_else(String::new, |(used, total)| format!("{} of {}", bytes(used), bytes(total)));
    let link = match (machine.link_bits_per_second, &machine.ssid) {
        (Some(speed), _) => format!("{} Mb/s", speed / 1_000_000),
        (None, Some(ssid)) => format!("wireless <small>{}</small>", text(ssid)),
        (None, None) => String::new(),
    };
    let mut has: Vec<String> = machine.image.iter().map(|image| format!("image {image}")).collect();
    has.extend(machine.bases.iter().map(|(name, generation)| format!("{} {generation}", text(name))));
    let serial = machine.serial.as_ref().map_or_else(String::new, |serial| format!(" <small>{}</small>", text(serial)));
    format!(
        "<tr{}><th scope=\"row\">{}{}</th><td>{heard}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}{serial}</td>\
         <td class=\"number\">{memory}</td><td class=\"number\">{disks}</td><td class=\"number\">{link}</td><td>{}</td></tr>\n",
        if machine.reports == 0 { " class=\"short\"" } else { "" },
        text(&machine.name),
        if machine.signed || machine.reports == 0 { "" } else { " <small>text, not signed</small>" },
        hours(machine.on_seconds),
        hours(machine.use_seconds),
        text(machine.model.as_deref().unwrap_or_default()),
        has.join(", ")
    )
}

/// Which labs have which program.
pub fn software(fleet: &Fleet) -> Option<Section> {
    if fleet.software.is_empty() {
        return None;
    }
    let mut rows = String::new();
    for software in &fleet.software {
        let rooms: Vec<String> = software
            .rooms
            .iter()
            .map(|room| format!("{} <small class=\"inline\">({})</small>", place(&room.building, &room.room), room.machines))
            .collect();
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"number\">{}</td><td>{}</td></tr>",
            text(&software.name),
            text(&software.version),
            text(&software.base),
            software.machines,
            rooms.join(" · ")
        );
    }
    let html = format!(
        "<table class=\"software\"><thead><tr><th>program</th><th>version</th><th>base</th>\
         <th class=\"number\">machines</th><th>rooms</th></tr></thead><tbody>\n{rows}</tbody></table>"
    );
    Some(Section { id: "software", title: "Which software is where".into(), html })
}

/// What was not believed, and what is not known.
pub fn doubts(fleet: &Fleet) -> Section {
    let mut items: Vec<String> = Vec::new();
    for duplicate in &fleet.duplicates {
        let what = match duplicate.kind {
            DuplicateKind::OneIdTwoMachines => "two machines under one id, a clone",
            DuplicateKind::OneBoardTwoIds => "one board under two ids at the same time, a clone",
            DuplicateKind::OneNameTwoIds => "two ids that say to be the same machine of hosts.ini",
            DuplicateKind::Reinstalled => "one board under two ids, one after the other: installed anew",
            DuplicateKind::BoardExchanged => "another board than before",
        };
        items.push(format!(
            "{what}: {} <small>{} · {}</small>",
            text(&duplicate.hosts.join(", ")),
            text(&duplicate.ids.join(", ")),
            text(&duplicate.boards.join("; "))
        ));
    }
    for rejected in &fleet.rejected {
        items.push(format!(
            "{} of {} {} not believed: {}",
            counted(rejected.reports, "report"),
            text(&rejected.id),
            if rejected.reports == 1 { "is" } else { "are" },
            rejected.reason.words()
        ));
    }
    if fleet.read.dropped_reports > 0 {
        items.push(format!(
            "the machines threw {} of this time away themselves, to make room in their spools",
            counted(fleet.read.dropped_reports, "report")
        ));
    }
    match fleet.read.expelled_hosts {
        0 => {}
        1 => items.push("1 host was expelled: its earlier reports are kept, and are not read here".into()),
        many => items.push(format!("{many} hosts were expelled: their earlier reports are kept, and are not read here")),
    }
    items.extend(fleet.missing.iter().map(|missing| text(&missing.reason).to_string()));
    let were = |count: u64| if count == 1 { "was" } else { "were" };
    let items: String = items.into_iter().map(|item| format!("<li>{item}</li>")).collect();
    let html = format!(
        "<p>{} {} read and believed, {} {} not.</p><ul>{items}</ul>",
        counted(fleet.read.reports, "report"),
        were(fleet.read.reports),
        fleet.read.unbelieved_reports,
        were(fleet.read.unbelieved_reports)
    );
    Section { id: "doubts", title: "How sure this is".into(), html }
}
