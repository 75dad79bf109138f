//! Drawings of the page, in SVG: lines over time, and the hours of a week.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::html::text;
use crate::report::{Room, Traffic};
use crate::time::{self, Seconds};
use crate::words::bytes;

const WIDTH: f64 = 1100.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;

/// As many colours as can be told apart; the lines that received least are grey.
const COLOURS: usize = 9;

/// Received bytes a second. Computers that are slow have a colour and stand in the legend, then the lines that received most.
pub fn traffic(traffic: &Traffic, zone: &TimeZone) -> String {
    let at: Vec<Seconds> = traffic.at.iter().filter_map(|at| time::parse(at)).collect();
    let (Some(first), Some(last)) = (at.first(), at.last()) else { return String::new() };
    let span = (last - first).max(1);
    let highest = traffic.lines.iter().flat_map(|line| line.bytes_per_second.iter().flatten()).copied().max().unwrap_or(0).max(1);
    let ticks = ticks(highest);
    let top = ticks.last().copied().unwrap_or(highest).max(1) as f64;
    let x = |at: Seconds| LEFT + (at - first) as f64 / span as f64 * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<figure><svg class=\"lines\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"received bytes a second, by {}\">",
        text(&traffic.by)
    );
    for tick in ticks {
        let at = y(tick as f64);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}/s</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            bytes(tick)
        );
    }
    for (tick, label) in time_ticks(*first, *last, zone) {
        let at = x(tick);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} {:.1}v5\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 20.0,
            text(&label)
        );
    }
    let mut order: Vec<_> = traffic.lines.iter().collect();
    let is_slow = |labels: &[String]| traffic.by == "host" && labels.last().is_some_and(|host| traffic.slow.contains(host));
    order.sort_by_key(|line| (!is_slow(&line.labels), std::cmp::Reverse(line.mean_bytes_per_second)));
    let mut legend = String::new();
    for (index, line) in order.iter().enumerate().rev() {
        let colour = if index < COLOURS { format!("c{index}") } else { "other".to_owned() };
        // Whole units, each from the one before: some hundred lines of some hundred values are most of the page.
        let mut path = String::new();
        let mut before: Option<(i64, i64)> = None;
        for (at, value) in at.iter().zip(&line.bytes_per_second) {
            let Some(value) = value else {
                before = None;
                continue;
            };
            let (x, y) = (x(*at).round() as i64, y(*value as f64).round() as i64);
            let _ = match before {
                Some((last_x, last_y)) => write!(path, "l{} {}", x - last_x, y - last_y),
                None => write!(path, "M{x} {y}h0"), // one value alone is a dot
            };
            before = Some((x, y));
        }
        let _ = write!(svg, "<path class=\"line {colour}\" d=\"{path}\"/>");
    }
    for (index, line) in order.iter().enumerate().take(COLOURS) {
        let _ = write!(
            legend,
            "<span><svg viewBox=\"0 0 22 8\" class=\"key\"><path class=\"line c{index}\" d=\"M0 4H22\"/></svg>{}</span> ",
            text(&(name(&line.labels) + if is_slow(&line.labels) { " (slow)" } else { "" }))
        );
    }
    if order.len() > COLOURS {
        let _ = write!(legend, "<span>and {} others, grey</span>", order.len() - COLOURS);
    }
    svg + "</svg><figcaption>" + &legend + "</figcaption></figure>"
}

/// The last label is enough, but of a room and an interface, which are the same in other buildings and machines.
fn name(labels: &[String]) -> String {
    match labels {
        [.., host, interface] if labels.len() == 5 => format!("{host} {interface}"),
        [_, building, room] if !room.is_empty() => format!("{building}, room {room}"),
        [.., last] if !last.is_empty() => last.clone(),
        _ => "not known".into(),
    }
}

/// How many of a room's machines were in use in each hour of the week.
pub fn week(room: &Room) -> String {
    const CELL: (f64, f64) = (12.0, 14.0);
    const DAYS: [&str; 7] = ["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"];
    let (width, height) = (30.0 + 24.0 * CELL.0, 7.0 * CELL.1 + 18.0);
    let mut svg =
        format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"machines in use, by hour of the week\">");
    let (mut cells, mut used) = (String::new(), String::new());
    for (day, (name, hours)) in DAYS.iter().zip(&room.in_use_by_hour).enumerate() {
        let top = day as f64 * CELL.1;
        let _ = write!(svg, "<text x=\"0\" y=\"{:.1}\">{name}</text>", top + 11.0);
        for (hour, in_use) in hours.iter().enumerate() {
            let share = (in_use / room.machines.max(1) as f64).clamp(0.0, 1.0);
            // What is used at all can be told from what is not.
            let opacity = if *in_use > 0.0 { 0.12 + 0.88 * share } else { 0.0 };
            let left = 30.0 + hour as f64 * CELL.0;
            let _ = write!(cells, "M{left} {top}h11v13h-11z");
            if opacity > 0.0 {
                let _ = write!(
                    used,
                    "<rect x=\"{left}\" y=\"{top}\" width=\"11\" height=\"13\" opacity=\"{opacity:.2}\"><title>{name} {hour}:00: {in_use:.1} of \
                     {}</title></rect>",
                    room.machines
                );
            }
        }
    }
    let _ = write!(svg, "<path class=\"cell\" d=\"{cells}\"/><g class=\"used\">{used}</g>");
    for hour in [0, 6, 12, 18] {
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{hour}:00</text>", 30.0 + f64::from(hour) * CELL.0, height - 4.0);
    }
    svg + "</svg>"
}

/// From 0 to at least the highest value, in steps of 1, 2 or 5 times a power of ten.
fn ticks(highest: u64) -> Vec<u64> {
    let rough = (highest / 5).max(1);
    let power = 10u64.pow(rough.ilog10());
    let step = [1, 2, 5, 10].into_iter().map(|times| power.saturating_mul(times)).find(|step| *step >= rough).unwrap_or(power);
    let last = highest.div_ceil(step);
    (0..=last).map(|tick| tick.saturating_mul(step)).collect()
}

/// Times on the wall, as people count them: full minutes, hours or days.
fn time_ticks(first: Seconds, last: Seconds, zone: &TimeZone) -> Vec<(Seconds, String)> {
    const STEPS: [Seconds; 12] = [60, 300, 600, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 2 * 86400, 7 * 86400];
    let span = last - first;
    let months = (span / 8).div_euclid(86400).max(1) * 86400;
    let step = STEPS.into_iter().find(|step| step * 10 >= span).unwrap_or(months);
    let wall = |at: Seconds| zone.to_datetime(Timestamp::from_second(at).unwrap_or_default());
    // Noon is on its day whatever clocks do at night; from there back to the midnight of that day.
    let midnight_of = |at: Seconds| zone.to_timestamp(wall(at).start_of_day()).map_or(at, Timestamp::as_second);
    let midnight = midnight_of(first);
    let format = if step >= 86400 {
        "%-d %b"
    } else if span > 86400 {
        "%-d %b %H:%M"
    } else {
        "%H:%M"
    };
    let from = midnight + (first - midnight + step - 1).div_euclid(step) * step;
    let on_the_wall = |at: Seconds| if step >= 86400 { midnight_of(at + 12 * 3600) } else { at };
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
        let name = |labels: &[&str]| name(&labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            [&["north"][..], &["north", "AT9"], &["north", "AT9", "101"], &["north", "AT9", "101", "pc1"], &["", "", ""]]
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
            time_ticks(first, first + span, &zone).into_iter().map(|(_, label)| label).collect()
        };
        assert_eq!(labels(3600), ["07:10", "07:20", "07:30", "07:40", "07:50", "08:00"]);
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
        // Where clocks have 1:00 twice on 1 November, and skip 2:00 on 8 March.
        let zone = TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap();
        for (first, expected) in [
            ("2026-10-30T12:00:00Z", ["31 Oct", "1 Nov", "2 Nov", "3 Nov"]),
            ("2026-03-06T12:00:00Z", ["7 Mar", "8 Mar", "9 Mar", "10 Mar"]),
        ] {
            let first = time::parse(first).unwrap();
            let ticks = time_ticks(first, first + 8 * 86400, &zone);
            assert_eq!(ticks.iter().take(4).map(|(_, label)| &**label).collect::<Vec<_>>(), expected);
            let at_midnight = |at: Seconds| zone.to_datetime(Timestamp::from_second(at).unwrap()).hour() == 0;
            assert!(ticks.iter().all(|(at, _)| at_midnight(*at)), "{ticks:?}");
        }
    }

    proptest! {
        #[test]
        fn any_range_has_a_few_ticks(highest in 1u64.., first in 0i64..4_000_000_000, span in 1i64..400_000_000) {
            let ticks = ticks(highest);
            prop_assert!((2..=11).contains(&ticks.len()) && *ticks.last().unwrap() >= highest, "{:?}", ticks);
            let ticks = time_ticks(first, first + span, &TimeZone::UTC);
            prop_assert!(ticks.len() <= 12, "{:?}", ticks);
        }
    }
}
