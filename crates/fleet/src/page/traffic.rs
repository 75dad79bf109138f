//! Received bytes over time, as a drawing and as figures.

use std::cmp::Reverse;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use page::chart::{Line, Lines, Width};
use page::numbers::{bytes, span};
use page::{Column, Section, Table, cell, element};

use crate::report::Traffic;
use crate::time::{self, Seconds};

/// The number of named lines: more colours cannot be distinguished.
const NAMED: usize = 9;

/// The section of the page.
pub fn received(traffic: &Traffic, zone: &TimeZone) -> Section {
    let section = |content| {
        Section::new(
            "received",
            format!("Received bytes a second, by {}", traffic.by),
            page::html(content),
        )
    };
    if traffic.lines.is_empty() {
        return section((element("p", "Prometheus has none of this period."), None));
    }
    let step = span(traffic.step_seconds);
    let lead = element(
        "p",
        format!("The mean of five minutes each; a value every {step} is drawn."),
    );
    let figures = element(
        "details",
        (
            element("summary", "The lines in figures"),
            in_figures(traffic),
        ),
    );
    section((lead, Some((drawing(traffic, zone), figures))))
}

fn in_figures(traffic: &Traffic) -> Table {
    let by = match traffic.by.as_str() {
        "campus" => "campus",
        "building" => "building",
        "room" => "room",
        "interface" => "interface",
        _ => "host",
    };
    let mut table = Table::new([
        Column::Name(by),
        Column::Text("where"),
        Column::Number("mean"),
        Column::Number("most"),
    ]);
    let mut lines: Vec<_> = traffic.lines.iter().collect();
    lines.sort_by_key(|line| Reverse(line.mean_bytes_per_second));
    for line in lines {
        let (last, places) = line
            .labels
            .split_last()
            .map_or(("", &[][..]), |(last, places)| (last.as_str(), places));
        let [mean, peak] = [line.mean_bytes_per_second, line.peak_bytes_per_second].map(per_second);
        table.row([cell(last), cell(places.join(", ")), cell(mean), cell(peak)]);
    }
    table
}

/// Slow computers come first, then the lines that received most.
fn drawing(traffic: &Traffic, zone: &TimeZone) -> Option<page::Html> {
    let at: Vec<Seconds> = traffic.at.iter().filter_map(|at| time::parse(at)).collect();
    let (first, last) = (*at.first()?, *at.last()?);
    let ticks: Vec<_> = time_ticks(first, last, zone)
        .into_iter()
        .map(|(tick, label)| (tick as f64, label))
        .collect();
    let is_slow = |labels: &[String]| {
        traffic.by == "host"
            && labels
                .last()
                .is_some_and(|host| traffic.slow.contains(host))
    };
    let mut order: Vec<_> = traffic.lines.iter().collect();
    order.sort_by_key(|line| (!is_slow(&line.labels), Reverse(line.mean_bytes_per_second)));
    let named = |labels: &[String]| name(labels) + if is_slow(labels) { " (slow)" } else { "" };
    let lines = order.iter().enumerate().map(|(index, line)| Line {
        name: (index < NAMED).then(|| named(&line.labels)),
        values: line.bytes_per_second.clone(),
    });
    Some(page::html(Lines {
        title: &format!("received bytes a second, by {}", traffic.by),
        width: Width::Page,
        at: &at.into_iter().map(|at| at as f64).collect::<Vec<_>>(),
        ticks: &ticks,
        unit: per_second,
        steps: false,
        lines: lines.collect(),
    }))
}

fn per_second(rate: u64) -> String {
    format!("{}/s", bytes(rate))
}

/// The last label suffices, except for rooms and interfaces, whose names repeat in other buildings
/// and machines.
fn name(labels: &[String]) -> String {
    match labels {
        [.., host, interface] if labels.len() == 5 => format!("{host} {interface}"),
        [_, building, room] if !room.is_empty() => format!("{building}, room {room}"),
        [.., last] if !last.is_empty() => last.clone(),
        _ => "not known".into(),
    }
}

/// Ticks on round local times: full minutes, hours or days.
fn time_ticks(first: Seconds, last: Seconds, zone: &TimeZone) -> Vec<(Seconds, String)> {
    const STEPS: [Seconds; 12] = [
        60,
        300,
        600,
        1800,
        3600,
        7200,
        14400,
        21600,
        43200,
        86400,
        2 * 86400,
        7 * 86400,
    ];
    let span = last - first;
    let months = (span / 8).div_euclid(86400).max(1) * 86400;
    let step = STEPS
        .into_iter()
        .find(|step| step * 10 >= span)
        .unwrap_or(months);
    let wall = |at: Seconds| zone.to_datetime(Timestamp::from_second(at).unwrap_or_default());
    // Noon is on its day whatever the clocks do at night; from there back to that day's midnight.
    let midnight_of = |at: Seconds| {
        zone.to_timestamp(wall(at).start_of_day())
            .map_or(at, Timestamp::as_second)
    };
    let midnight = midnight_of(first);
    let format = if step >= 86400 {
        "%-d %b"
    } else if span > 86400 {
        "%-d %b %H:%M"
    } else {
        "%H:%M"
    };
    let from = midnight + (first - midnight + step - 1).div_euclid(step) * step;
    let on_the_wall = |at: Seconds| {
        if step >= 86400 {
            midnight_of(at + 12 * 3600)
        } else {
            at
        }
    };
    (0..)
        .map(|tick| on_the_wall(from + tick * step))
        .take_while(|at| *at <= last)
        .map(|at| (at, wall(at).strftime(format).to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_called_what_no_other_is() {
        let name = |labels: &[&str]| {
            name(
                &labels
                    .iter()
                    .map(|label| (*label).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            [
                &["north"][..],
                &["north", "AT9"],
                &["north", "AT9", "101"],
                &["north", "AT9", "101", "pc1"],
                &["", "", ""]
            ]
            .map(name),
            ["north", "AT9", "AT9, room 101", "pc1", "not known"]
        );
        assert_eq!(name(&["north", "AT9", "101", "pc1", "eth0"]), "pc1 eth0");
    }

    #[test]
    fn time_is_that_on_the_wall() {
        let first = time::parse("2026-11-23T10:07:00Z").unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(-3));
        let labels = |span: Seconds| -> Vec<String> {
            time_ticks(first, first + span, &zone)
                .into_iter()
                .map(|(_, label)| label)
                .collect()
        };
        assert_eq!(
            labels(3600),
            ["07:10", "07:20", "07:30", "07:40", "07:50", "08:00"]
        );
        assert_eq!(
            labels(4 * 86400),
            [
                "23 Nov 12:00",
                "24 Nov 00:00",
                "24 Nov 12:00",
                "25 Nov 00:00",
                "25 Nov 12:00",
                "26 Nov 00:00",
                "26 Nov 12:00",
                "27 Nov 00:00"
            ]
        );
        assert_eq!(labels(8 * 86400)[..2], ["24 Nov", "25 Nov"]);
        // In a zone where the clocks have 1:00 twice on 1 November, and skip 2:00 on 8 March.
        let zone = TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap();
        for (first, expected) in [
            (
                "2026-10-30T12:00:00Z",
                ["31 Oct", "1 Nov", "2 Nov", "3 Nov"],
            ),
            (
                "2026-03-06T12:00:00Z",
                ["7 Mar", "8 Mar", "9 Mar", "10 Mar"],
            ),
        ] {
            let first = time::parse(first).unwrap();
            let ticks = time_ticks(first, first + 8 * 86400, &zone);
            assert_eq!(
                ticks
                    .iter()
                    .take(4)
                    .map(|(_, label)| &**label)
                    .collect::<Vec<_>>(),
                expected
            );
            let at_midnight =
                |at: Seconds| zone.to_datetime(Timestamp::from_second(at).unwrap()).hour() == 0;
            assert!(ticks.iter().all(|(at, _)| at_midnight(*at)), "{ticks:?}");
        }
    }

    proptest! {
        #[test]
        fn any_period_has_a_few_ticks(first in 0i64..4_000_000_000, span in 1i64..400_000_000) {
            let ticks = time_ticks(first, first + span, &TimeZone::UTC);
            prop_assert!(ticks.len() <= 12, "{:?}", ticks);
        }
    }
}
