//! The tables of the page.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use page::numbers::{bytes, counted, hours, span};
use page::{Column, Html, Section, Table, cell, chart, element, html, small};

use super::words::{clock, place};
use crate::report::{DuplicateKind, Fleet, Machine, Quiet, Room};
use crate::rooms::DAYS;
use crate::time::{self, Seconds};

/// The hours of the week are known after a week.
const WEEK: Seconds = 7 * 86400;
/// The maximum number of events on the page, and of one machine; the document has more.
const EVENTS: usize = 60;
const EVENTS_OF_ONE: usize = 10;

/// The use of the rooms.
pub fn rooms(fleet: &Fleet) -> Option<Section> {
    let most = fleet.rooms.iter().map(|room| room.on_seconds).max()?.max(1);
    let mut rooms: Vec<&Room> = fleet.rooms.iter().collect();
    rooms.sort_by_key(|room| std::cmp::Reverse(room.use_seconds));
    let mut table = Table::new([
        Column::Name("room"),
        Column::Number("machines heard of"),
        Column::Number("on"),
        Column::Number("in use"),
        Column::Text("on, and in use of it"),
        Column::Number("in use, each"),
        Column::Number("disks in use"),
    ]);
    for room in rooms {
        let share = |seconds: u64| seconds as f64 / most as f64;
        let each = room.use_seconds.checked_div(room.machines).unwrap_or(0);
        let sign = if room.disk_grown_bytes < 0 {
            '−'
        } else {
            '+'
        };
        let grown = format!("{sign}{}", bytes(room.disk_grown_bytes.unsigned_abs()));
        table.row([
            cell(place(&room.building, &room.room)),
            cell(format!("{} of {}", room.heard, room.machines)).short(room.heard != room.machines),
            cell(hours(room.on_seconds)),
            cell(hours(room.use_seconds)),
            cell(chart::share(
                "hours on, and in use",
                share(room.on_seconds),
                share(room.use_seconds),
            )),
            cell(hours(each)),
            cell((
                format!(
                    "{} of {}",
                    bytes(room.disk_used_bytes),
                    bytes(room.disk_bytes)
                ),
                small(grown),
            )),
        ]);
    }
    Some(Section::new("rooms", "Rooms, the most used first", table))
}

/// The busy and quiet hours of the rooms.
pub fn hours_of_the_week(fleet: &Fleet) -> Option<Section> {
    let length = time::parse(&fleet.until)? - time::parse(&fleet.since)?;
    let mut figures = Html::default();
    for room in fleet
        .rooms
        .iter()
        .filter(|room| length >= WEEK && room.heard > 0)
    {
        let quiet: Vec<String> = room.quiet.iter().take(3).map(window).collect();
        let quiet = if quiet.is_empty() {
            "never quiet for two hours".to_owned()
        } else {
            format!("quiet: {}", quiet.join("; "))
        };
        let week = chart::week(
            "machines in use, by hour of the week",
            &room.in_use_by_hour,
            room.machines,
        );
        figures.add(element(
            "figure",
            (
                element("h3", place(&room.building, &room.room)),
                week,
                element("p", quiet),
            ),
        ));
    }
    let lead = "The darker, the more of a room's machines were in use in that hour of the week. In a quiet window almost no \
        session is disturbed.";
    let is_empty = figures.is_empty();
    let content = (element("p", lead), element("div", figures).class("weeks"));
    (!is_empty).then(|| Section::new("hours", "Hours of use", content))
}

/// `Mo Tu We Th 19:00 to 8:00 (13 h)`, `Fr 19:00 to Mo 8:00 (61 h)`
fn window(quiet: &Quiet) -> String {
    let short = |day: &&str| {
        day.get(..2)
            .map(|day| day[..1].to_uppercase() + &day[1..])
            .unwrap_or_default()
    };
    if quiet.hours >= 168 {
        return "all the time".into();
    }
    let days: Vec<String> = quiet.days.iter().map(short).collect();
    // The end is on another day than the next.
    let end = match &quiet.days[..] {
        [day] if quiet.hours >= 24 => {
            let start = DAYS.iter().position(|name| name == day).unwrap_or(0) as u64 * 24
                + u64::from(quiet.from_hour);
            let end = (start + quiet.hours) / 24 % 7;
            DAYS.get(end as usize)
                .map(|day| short(day) + " ")
                .unwrap_or_default()
        }
        _ => String::new(),
    };
    format!(
        "{} {}:00 to {end}{}:00 ({} h)",
        days.join(" "),
        quiet.from_hour,
        quiet.to_hour,
        quiet.hours
    )
}

/// The changes.
pub fn events(fleet: &Fleet, zone: &TimeZone) -> Section {
    let section = |content: Html| Section::new("changes", "Changes", content);
    let mut counts: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    let shown = fleet.events.iter().filter(|event| {
        let count = counts
            .entry((&event.building, &event.room, &event.host))
            .or_default();
        *count += 1;
        *count <= EVENTS_OF_ONE
    });
    let shown: Vec<_> = shown.take(EVENTS).collect();
    if shown.is_empty() {
        return section(html(element("p", "No events.")));
    }
    let columns = [
        Column::Time("when"),
        Column::Name("machine"),
        Column::Text("where"),
        Column::Text("what"),
    ];
    let mut table = Table::new(columns).class("events");
    for event in &shown {
        let place = place(&event.building, &event.room);
        table.row([
            cell(clock(&event.at, zone)),
            cell(&event.host),
            cell(place),
            cell(&event.message),
        ]);
    }
    let left_out =
        ((fleet.events.len() - shown.len()) as u64).saturating_add(fleet.events_left_out);
    let more = (left_out > 0).then(|| element("p", format!("And {left_out} more.")));
    section(html((table, more)))
}

/// The machines that are behind.
pub fn versions(fleet: &Fleet) -> Option<Section> {
    let mut table = Table::new([
        Column::Name("what"),
        Column::Number("version"),
        Column::Number("machines that have it"),
        Column::Text("machines that are behind"),
    ]);
    for version in &fleet.versions {
        let mut behind: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
        for one in &version.behind {
            behind
                .entry((&one.building, &one.room))
                .or_default()
                .push(format!("{} ({})", one.host, one.has));
        }
        let behind = behind.into_iter().map(|((building, room), hosts)| {
            element(
                "div",
                format!("{}: {}", place(building, room), hosts.join(", ")),
            )
        });
        let what = match (version.kind, &version.name) {
            ("base", Some(name)) => format!("base {name}"),
            (_, Some(model)) => format!("image of the host, {model}"),
            (_, None) => "image of the host".into(),
        };
        let all = version.current + version.behind.len() as u64;
        table.row([
            cell(what),
            cell((
                version.newest,
                (!version.given).then(|| small("as others have")),
            )),
            cell(format!("{} of {all}", version.current)),
            cell(behind.collect::<Vec<_>>()),
        ]);
    }
    (!table.is_empty()).then(|| Section::new("versions", "Images and bases", table))
}

/// All machines, by room.
pub fn machines(fleet: &Fleet) -> Section {
    let mut rooms: BTreeMap<(&str, &str), Vec<&Machine>> = BTreeMap::new();
    for machine in &fleet.machines {
        rooms
            .entry((&machine.building, &machine.room))
            .or_default()
            .push(machine);
    }
    let one_room = rooms.len() == 1;
    let mut all = Html::default();
    for ((building, room), machines) in rooms {
        let summary = element(
            "summary",
            (
                place(building, room),
                small(counted(machines.len() as u64, "machine")),
            ),
        );
        let details = element("details", (summary, of_room(&machines)));
        all.add(if one_room {
            details.with("open", "")
        } else {
            details
        });
    }
    Section::new("machines", "Machines", all)
}

fn of_room(machines: &[&Machine]) -> Table {
    let mut table = Table::new([
        Column::Name("machine"),
        Column::Text("heard of"),
        Column::Number("on"),
        Column::Number("in use"),
        Column::Text("model"),
        Column::Number("memory"),
        Column::Number("disks in use"),
        Column::Number("link"),
        Column::Text("image, bases"),
    ])
    .class("machines");
    for machine in machines {
        let is_signed = machine.signed || machine.reports == 0;
        let memory = machine
            .memory_bytes
            .map(|memory| format!("{} GiB", memory.saturating_add(1 << 29) >> 30));
        let disks = machine.disk_used_bytes.zip(machine.disk_bytes);
        let link = match (machine.link_bits_per_second, &machine.ssid) {
            (Some(speed), _) => html(format!("{} Mb/s", speed / 1_000_000)),
            (None, Some(ssid)) => html(("wireless", small(ssid))),
            (None, None) => Html::default(),
        };
        let mut has: Vec<String> = machine
            .image
            .iter()
            .map(|image| format!("image {image}"))
            .collect();
        has.extend(
            machine
                .bases
                .iter()
                .map(|(name, generation)| format!("{name} {generation}")),
        );
        let cells = [
            cell((
                &machine.name,
                (!is_signed).then(|| small("text, not signed")),
            )),
            cell(machine.silent_seconds.map_or_else(
                || "never".to_owned(),
                |silent| format!("{} ago", span(silent)),
            )),
            cell(hours(machine.on_seconds)),
            cell(hours(machine.use_seconds)),
            cell((machine.model.as_ref(), machine.serial.as_ref().map(small))),
            cell(memory),
            cell(disks.map(|(used, total)| format!("{} of {}", bytes(used), bytes(total)))),
            cell(link),
            cell(has.join(", ")),
        ];
        table.row_short(machine.reports == 0, cells);
    }
    table
}

/// The labs that have each program.
pub fn software(fleet: &Fleet) -> Option<Section> {
    let mut table = Table::new([
        Column::Name("program"),
        Column::Text("version"),
        Column::Text("base"),
        Column::Number("machines"),
        Column::Text("rooms"),
    ])
    .class("software");
    for software in &fleet.software {
        let room = |(index, room): (usize, &crate::report::Place)| {
            let machines = element("small", format!("({})", room.machines)).class("inline");
            (
                (index > 0).then_some(" · "),
                place(&room.building, &room.room),
                " ",
                machines,
            )
        };
        table.row([
            cell(&software.name),
            cell(&software.version),
            cell(&software.base),
            cell(software.machines),
            cell(
                software
                    .rooms
                    .iter()
                    .enumerate()
                    .map(room)
                    .collect::<Vec<_>>(),
            ),
        ]);
    }
    (!table.is_empty()).then(|| Section::new("software", "Software", table))
}

/// The rejected reports, and the missing data.
pub fn doubts(fleet: &Fleet) -> Section {
    let mut items: Vec<Html> = Vec::new();
    for duplicate in &fleet.duplicates {
        let what = match duplicate.kind {
            DuplicateKind::OneIdTwoMachines => "two machines under one id, a clone",
            DuplicateKind::OneBoardTwoIds => "one board under two ids at the same time, a clone",
            DuplicateKind::OneNameTwoIds => "two ids that claim the same machine of hosts.ini",
            DuplicateKind::Reinstalled => {
                "one board under two ids, one after the other: installed anew"
            }
            DuplicateKind::BoardExchanged => "another board than before",
        };
        let known_by = format!(
            "{} · {}",
            duplicate.ids.join(", "),
            duplicate.boards.join("; ")
        );
        items.push(html((
            format!("{what}: {}", duplicate.hosts.join(", ")),
            small(known_by),
        )));
    }
    for rejected in &fleet.rejected {
        items.push(html(format!(
            "{} of {} {} not believed: {}",
            counted(rejected.reports, "report"),
            rejected.id,
            if rejected.reports == 1 { "is" } else { "are" },
            rejected.reason.words()
        )));
    }
    if fleet.read.dropped_reports > 0 {
        items.push(html(format!(
            "the machines threw {} of this time away themselves, to make room in their spools",
            counted(fleet.read.dropped_reports, "report")
        )));
    }
    match fleet.read.expelled_hosts {
        0 => {}
        1 => items.push(html(
            "1 host was expelled: its earlier reports are kept, and are not read here",
        )),
        many => items.push(html(format!(
            "{many} hosts were expelled: their earlier reports are kept, and are not read here"
        ))),
    }
    items.extend(fleet.missing.iter().map(|missing| html(&missing.reason)));
    let were = |count: u64| if count == 1 { "was" } else { "were" };
    let read = format!(
        "{} {} read and believed, {} {} not.",
        counted(fleet.read.reports, "report"),
        were(fleet.read.reports),
        fleet.read.unbelieved_reports,
        were(fleet.read.unbelieved_reports)
    );
    let items: Vec<_> = items.into_iter().map(|item| element("li", item)).collect();
    Section::new(
        "doubts",
        "Limits of these figures",
        (element("p", read), element("ul", items)),
    )
}
