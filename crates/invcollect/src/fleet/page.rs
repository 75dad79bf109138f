//! The page: one file that needs nothing else, for a screen, light or dark, and for paper. What is to be done today stands on top.
//!
//! Names of machines, networks and programs come from machines, and a machine can say anything: every text passes through [`text`].

mod tables;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::chart;
use super::findings::span;
use super::time;
use crate::report::fleet::{Finding, Fleet};

const STYLE: &str = include_str!("page.css");

/// A text as HTML.
pub fn text(text: &str) -> Escaped<'_> {
    Escaped(text)
}

/// See [`text`].
#[derive(Debug)]
pub struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // Controls, and what turns the direction of writing round: a name is not to look like another.
            c if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                f.write_char('\u{fffd}')
            }
            c => f.write_char(c),
        })
    }
}

/// The whole page.
pub fn page(fleet: &Fleet, zone: &TimeZone) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>The labs</title><style>{STYLE}</style></head>\n<body><main>\n"
    );
    page += &head(fleet, zone);
    page += &to_do("To visit", "Somebody has to go there.", &fleet.visit);
    page += &to_do("From a desk", "This can be done without going there.", &fleet.remote);
    page.extend([
        tables::rooms(fleet),
        tables::hours_of_the_week(fleet),
        traffic(fleet, zone),
        tables::events(fleet, zone),
        tables::versions(fleet),
        tables::machines(fleet),
        tables::software(fleet),
        tables::doubts(fleet),
    ]);
    page + "</main></body></html>\n"
}

fn head(fleet: &Fleet, zone: &TimeZone) -> String {
    let mut head = format!(
        "<header><p class=\"kind\">Computer labs</p><h1>What there is to do</h1><p>Reports from {} to {}, times of {}</p></header>\n\
         <ul class=\"tiles\">",
        clock(&fleet.since, zone),
        clock(&fleet.until, zone),
        text(&fleet.time_zone)
    );
    let mut tile = |value: String, what: &str, class: &str| {
        let _ = write!(head, "<li class=\"{class}\"><b>{}</b>{}</li>", text(&value), text(what));
    };
    let to_do = |findings: &[Finding]| {
        findings.iter().map(|finding| (&finding.room, &finding.host)).collect::<std::collections::BTreeSet<_>>().len()
    };
    let visit = to_do(&fleet.visit);
    tile(visit.to_string(), "machines to visit", if visit == 0 { "good" } else { "bad" });
    tile(to_do(&fleet.remote).to_string(), "machines to look after from a desk", "");
    let heard = fleet.machines.iter().filter(|machine| machine.reports > 0).count();
    tile(
        format!("{heard} of {}", fleet.machines.len()),
        "machines were heard of",
        if heard == fleet.machines.len() { "good" } else { "" },
    );
    let sum = |of: fn(&crate::report::fleet::Room) -> u64| fleet.rooms.iter().map(of).fold(0, u64::saturating_add);
    let (on, used) = (sum(|room| room.on_seconds), sum(|room| room.use_seconds));
    tile(hours(on), "they were on, together", "");
    if let Some(share) = (used.saturating_mul(100)).checked_div(on) {
        tile(format!("{share} %"), "of that with somebody at work", "");
    }
    let (disk, disk_used) = (sum(|room| room.disk_bytes), sum(|room| room.disk_used_bytes));
    if let Some(share) = disk_used.saturating_mul(100).checked_div(disk) {
        tile(format!("{share} %"), &format!("of {} of disks is in use", bytes(disk)), "");
    }
    head + "</ul>\n"
}

/// The findings by room; machines of a room that have the same are one line.
fn to_do(title: &str, lead: &str, findings: &[Finding]) -> String {
    if findings.is_empty() {
        return format!("<section><h2>{title}</h2><p>Nothing.</p></section>\n");
    }
    type Row<'a> = (Vec<&'a str>, &'a Finding);
    let mut rooms: BTreeMap<(&str, &str), Vec<Row>> = BTreeMap::new();
    for finding in findings {
        let rows = rooms.entry((&finding.building, &finding.room)).or_default();
        match rows
            .iter_mut()
            .find(|(_, row)| (row.what, &row.seen, &row.likely) == (finding.what, &finding.seen, &finding.likely))
        {
            Some((hosts, _)) => hosts.push(&finding.host),
            None => rows.push((vec![&finding.host], finding)),
        }
    }
    let mut html = format!(
        "<section><h2>{title}</h2><p>{lead}</p><table class=\"todo\"><thead><tr><th>machine</th><th>seen</th><th>may come from</th>\
         <th>what to do</th></tr></thead>\n"
    );
    for ((building, room), rows) in rooms {
        let machines = rows.iter().flat_map(|(hosts, _)| hosts).collect::<std::collections::BTreeSet<_>>().len();
        let plural = if machines == 1 { "" } else { "s" };
        let _ = writeln!(
            html,
            "<tbody><tr class=\"place\"><th colspan=\"4\">{} <small>{machines} machine{plural}</small></th></tr>",
            place(building, room)
        );
        for (hosts, finding) in rows {
            let hosts: Vec<String> = hosts.iter().map(|host| text(host).to_string()).collect();
            let _ = writeln!(
                html,
                "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
                hosts.join(", "),
                text(&finding.seen),
                text(&finding.likely.join("; ")),
                text(finding.advice)
            );
        }
        html += "</tbody>\n";
    }
    html + "</table></section>\n"
}

fn traffic(fleet: &Fleet, zone: &TimeZone) -> String {
    let Some(traffic) = &fleet.traffic else { return String::new() };
    if traffic.lines.is_empty() {
        return "<section><h2>Received bytes</h2><p>Prometheus has none of this period.</p></section>\n".into();
    }
    let mut rows = String::new();
    let mut lines: Vec<_> = traffic.lines.iter().collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.mean_bytes_per_second));
    for line in lines {
        let (last, places) = line.labels.split_last().map_or(("", &[][..]), |(last, places)| (last.as_str(), places));
        let _ = writeln!(
            rows,
            "<tr><th>{}</th><td>{}</td><td class=\"number\">{}/s</td><td class=\"number\">{}/s</td></tr>",
            text(last),
            text(&places.join(", ")),
            bytes(line.mean_bytes_per_second),
            bytes(line.peak_bytes_per_second)
        );
    }
    format!(
        "<section><h2>Received bytes a second, by {by}</h2><p>The mean of five minutes each; a value every {} is drawn.</p>{}\
         <details><summary>The lines in figures</summary><table><thead><tr><th>{by}</th><th>where</th><th class=\"number\">mean</th>\
         <th class=\"number\">most</th></tr></thead><tbody>\n{rows}</tbody></table></details></section>\n",
        span(traffic.step_seconds),
        chart::traffic(traffic, zone),
        by = text(&traffic.by)
    )
}

/// A room, with its building.
fn place(building: &str, room: &str) -> String {
    if room.is_empty() { "somewhere".into() } else { format!("{}, room {}", text(building), text(room)) }
}

/// A time for people.
fn clock(rfc3339: &str, zone: &TimeZone) -> String {
    let wall = time::parse(rfc3339).and_then(|at| Timestamp::from_second(at).ok()).map(|at| zone.to_datetime(at));
    wall.map_or_else(|| "some time".into(), |wall| wall.strftime("%Y-%m-%d %H:%M").to_string())
}

/// Hours for people.
fn hours(seconds: u64) -> String {
    format!("{} h", seconds.saturating_add(1800) / 3600)
}

/// Bytes for people, in powers of a thousand, three digits.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    let number = format!("{value:.digits$}");
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(
            [0, 999, 1000, 12_345, 42_949_672_960, u64::MAX].map(bytes),
            ["0 B", "999 B", "1 kB", "12.3 kB", "42.9 GB", "18.4 EB"]
        );
        assert_eq!([0, 1799, 1800, 5400].map(hours), ["0 h", "0 h", "1 h", "2 h"]);
    }

    #[test]
    fn a_text_is_no_markup() {
        assert_eq!(text("<script>\"&'\0\u{202e}").to_string(), "&lt;script&gt;&quot;&amp;&#39;\u{fffd}\u{fffd}");
    }
}
