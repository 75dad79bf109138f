//! Drawings of a page, in SVG: lines over time, bars, and the hours of a week.

use std::fmt::Write;

use crate::html::{Content, Element, Html, element};

/// The number of distinguishable colours.
const COLOURS: usize = 9;

const LEFT: f64 = 78.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;

/// The width of a drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// The width of the page.
    Page,
    /// Half the width of the page, for two side by side.
    Half,
}

/// Lines over the same times, with a legend.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    /// The title of the drawing for screen readers.
    pub title: &'a str,
    /// The width.
    pub width: Width,
    /// The times, ascending.
    pub at: &'a [f64],
    /// The ticks of the axis, with their labels.
    pub ticks: &'a [(f64, String)],
    /// Formats a value of the vertical axis.
    pub unit: fn(u64) -> String,
    /// Whether a value holds until the next one, instead of a straight line between them.
    pub steps: bool,
    /// The lines, the most important first.
    pub lines: Vec<Line>,
}

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// The name in the legend; a line without a name is grey, and below all others.
    pub name: Option<String>,
    /// A value for each time, if there is one.
    pub values: Vec<Option<u64>>,
}

impl Content for Lines<'_> {
    fn write(self, page: &mut String) {
        self.figure().write(page);
    }
}

impl Lines<'_> {
    fn figure(&self) -> Element {
        let (class, width, height) = match self.width {
            Width::Page => ("lines", 1100.0, 320.0),
            Width::Half => ("", 640.0, 300.0),
        };
        let (first, last) = (
            self.at.first().copied().unwrap_or(0.0),
            self.at.last().copied().unwrap_or(0.0),
        );
        let span = (last - first).max(1.0);
        let highest = self
            .lines
            .iter()
            .flat_map(|line| line.values.iter().flatten())
            .copied()
            .max()
            .unwrap_or(0)
            .max(1);
        let ticks = round_ticks(highest);
        let top = ticks.last().copied().unwrap_or(highest).max(1) as f64;
        let x = |at: f64| LEFT + (at - first) / span * (width - LEFT - RIGHT);
        let y = |value: f64| height - BOTTOM - value / top * (height - TOP - BOTTOM);

        let mut drawing = Html::default();
        for tick in ticks {
            let at = y(tick as f64);
            drawing.add(path(
                "grid",
                format_args!("M{LEFT} {at:.1}H{:.1}", width - RIGHT),
            ));
            drawing.add(label(LEFT - 8.0, at + 4.0, "end", (self.unit)(tick)));
        }
        for (tick, text) in self.ticks {
            let at = x(*tick);
            drawing.add(path(
                "grid",
                format_args!("M{at:.1} {:.1}v5", height - BOTTOM),
            ));
            drawing.add(label(at, height - BOTTOM + 20.0, "middle", text));
        }
        let (named, others): (Vec<&Line>, Vec<&Line>) =
            self.lines.iter().partition(|line| line.name.is_some());
        for line in others.iter().rev() {
            drawing.add(path("line other", self.trace(line, x, y)));
        }
        for (index, line) in named.iter().enumerate().rev() {
            drawing.add(path(&colour(index), self.trace(line, x, y)));
        }

        let key = |index| picture("key", 22.0, 8.0, path(&colour(index), "M0 4H22"));
        let entry = |(index, line): (usize, &&Line)| {
            (element("span", (key(index), line.name.as_ref())), " ")
        };
        let legend: Vec<_> = named.iter().enumerate().map(entry).collect();
        let more = (!others.is_empty())
            .then(|| element("span", format!("and {} others, grey", others.len())));
        element(
            "figure",
            (
                described(class, width, height, self.title, drawing),
                element("figcaption", (legend, more)),
            ),
        )
    }

    /// In whole units, each point relative to the one before: lines are most of a page's size.
    fn trace(&self, line: &Line, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
        let mut trace = String::new();
        let mut before: Option<(i64, i64)> = None;
        for (at, value) in self.at.iter().zip(&line.values) {
            let Some(value) = value else {
                before = None;
                continue;
            };
            let (x, y) = (x(*at).round() as i64, y(*value as f64).round() as i64);
            let _ = match before {
                Some((last_x, last_y)) if self.steps => {
                    write!(trace, "h{}v{}", x - last_x, y - last_y)
                }
                Some((last_x, last_y)) => write!(trace, "l{} {}", x - last_x, y - last_y),
                None => write!(trace, "M{x} {y}h0"), // a single value is a dot
            };
            before = Some((x, y));
        }
        trace
    }
}

/// Named bars. Lines are at `mark` and at `limit`; a bar above the limit is marked.
pub fn bars(title: &str, bars: &[(&str, f64)], mark: f64, limit: f64) -> Element {
    const ROW: f64 = 30.0;
    const WIDTH: f64 = 640.0;
    let height = ROW * bars.len() as f64 + 26.0;
    let most = bars
        .iter()
        .map(|(_, value)| *value)
        .fold(limit * 1.1, f64::max);
    let x = |value: f64| 120.0 + value / most * (WIDTH - 120.0 - 60.0);
    let mut drawing = Html::default();
    for (value, class) in [(mark, "mark"), (limit, "limit")] {
        let at = x(value);
        drawing.add(path(class, format_args!("M{at:.1} 0V{:.1}", height - 20.0)));
        drawing.add(label(at, height - 5.0, "middle", value.to_string()));
    }
    for (index, (name, value)) in bars.iter().enumerate() {
        let top = ROW * index as f64 + 5.0;
        let bar = rect(120.0, top, (x(*value) - 120.0).max(1.0), 20.0).class(if *value > limit {
            "bar over"
        } else {
            "bar"
        });
        drawing.add((label(112.0, top + 14.5, "end", *name), bar));
        drawing
            .add(label(x(*value) + 8.0, top + 14.5, "start", format!("{value:.2}")).class("value"));
    }
    element("figure", described("", WIDTH, height, title, drawing)).class("bars")
}

/// A bar of at most 1 with another in it, in a table's cell.
pub fn share(title: &str, whole: f64, part: f64) -> Element {
    const WIDTH: f64 = 160.0;
    let whole = rect(0.0, 0.0, WIDTH * whole, 16.0).class("on");
    let part = rect(0.0, 4.0, WIDTH * part, 8.0).class("used");
    described("share", WIDTH, 16.0, title, (whole, part))
}

/// The use in each hour of a week, from Monday on, of `of` machines.
pub fn week(title: &str, in_use_by_hour: &[[f64; 24]], of: u64) -> Element {
    const CELL: (f64, f64) = (12.0, 14.0);
    const DAYS: [&str; 7] = ["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"];
    let (width, height) = (30.0 + 24.0 * CELL.0, 7.0 * CELL.1 + 18.0);
    let (mut drawing, mut cells, mut used) = (Html::default(), String::new(), Html::default());
    for (day, (name, hours)) in DAYS.iter().zip(in_use_by_hour).enumerate() {
        let top = day as f64 * CELL.1;
        drawing.add(label(0.0, top + 11.0, "start", *name));
        for (hour, in_use) in hours.iter().enumerate() {
            let left = 30.0 + hour as f64 * CELL.0;
            let _ = write!(cells, "M{left} {top}h11v13h-11z");
            if *in_use > 0.0 {
                // Little use must be distinguishable from none.
                let opacity = 0.12 + 0.88 * (in_use / of.max(1) as f64).clamp(0.0, 1.0);
                let said = element("title", format!("{name} {hour}:00: {in_use:.1} of {of}"));
                let cell = element("rect", said)
                    .with("x", left)
                    .with("y", top)
                    .with("width", 11)
                    .with("height", 13);
                used.add(cell.with("opacity", format_args!("{opacity:.2}")));
            }
        }
    }
    drawing.add((path("cell", cells), element("g", used).class("used")));
    for hour in [0u8, 6, 12, 18] {
        drawing.add(label(
            30.0 + f64::from(hour) * CELL.0,
            height - 4.0,
            "start",
            format!("{hour}:00"),
        ));
    }
    described("", width, height, title, drawing)
}

/// Ticks on round durations since a start, at most eight.
pub fn duration_ticks(span: f64) -> Vec<(f64, String)> {
    round_times(span)
        .into_iter()
        .map(|tick| (tick as f64, crate::numbers::duration(tick)))
        .collect()
}

fn round_times(span: f64) -> Vec<u64> {
    const STEPS: [u64; 14] = [
        1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400,
    ];
    let days = (span / 6.0 / 86400.0).ceil() as u64 * 86400;
    let step = STEPS
        .into_iter()
        .find(|step| *step as f64 * 7.0 >= span)
        .unwrap_or(days.max(1));
    (0..)
        .map(|tick| tick * step)
        .take_while(|tick| *tick as f64 <= span)
        .collect()
}

/// From 0 to at least the highest value, in steps of 1, 2 or 5 times a power of ten.
fn round_ticks(highest: u64) -> Vec<u64> {
    let rough = (highest / 5).max(1);
    let power = 10u64.pow(rough.ilog10());
    let step = [1, 2, 5, 10]
        .into_iter()
        .map(|times| power.saturating_mul(times))
        .find(|step| *step >= rough)
        .unwrap_or(power);
    let last = highest.div_ceil(step);
    (0..=last).map(|tick| tick.saturating_mul(step)).collect()
}

/// The class of the line with this number. Beyond the last colour lines are dashed.
fn colour(index: usize) -> String {
    let dashed = if index >= COLOURS { " dashed" } else { "" };
    format!("line c{}{dashed}", index % COLOURS)
}

fn path(class: &str, way: impl std::fmt::Display) -> Element {
    element("path", ()).class(class).with("d", way)
}

fn rect(x: f64, y: f64, width: f64, height: f64) -> Element {
    let place = element("rect", ())
        .with("x", x)
        .with("y", format_args!("{y:.1}"));
    place
        .with("width", format_args!("{width:.1}"))
        .with("height", height)
        .with("rx", 3)
}

fn label(x: f64, y: f64, anchor: &str, text: impl Content) -> Element {
    element("text", text)
        .with("x", format_args!("{x:.1}"))
        .with("y", format_args!("{y:.1}"))
        .with("text-anchor", anchor)
}

fn picture(class: &str, width: f64, height: f64, drawing: impl Content) -> Element {
    element("svg", drawing)
        .class(class)
        .with("viewBox", format_args!("0 0 {width} {height}"))
}

/// With a title for screen readers.
fn described(class: &str, width: f64, height: f64, title: &str, drawing: impl Content) -> Element {
    picture(class, width, height, drawing)
        .with("role", "img")
        .with("aria-label", title)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::html;
    use proptest::prelude::*;

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(round_ticks(24), [0, 5, 10, 15, 20, 25]);
        assert_eq!(round_ticks(1), [0, 1]);
        assert_eq!(round_ticks(930), [0, 200, 400, 600, 800, 1000]);
        assert_eq!(round_times(74.0), [0, 20, 40, 60]);
        assert_eq!(
            round_times(400_000.0),
            [0, 86400, 172_800, 259_200, 345_600]
        );
        assert_eq!(duration_ticks(74.0)[3], (60.0, "1 min".to_owned()));
    }

    #[test]
    fn a_line_ends_where_values_do() {
        let values = [Some(0), Some(10), None, Some(5)];
        let draw = |steps| {
            let line = |name: &str| Line {
                name: Some(name.into()),
                values: values.to_vec(),
            };
            let grey = Line {
                name: None,
                values: vec![Some(1)],
            };
            let lines = vec![line("<a>"), grey, line("b")];
            let (at, ticks) = ([0.0, 1.0, 2.0, 3.0], [(1.0, "one".to_owned())]);
            html(Lines {
                title: "test",
                width: Width::Half,
                at: &at,
                ticks: &ticks,
                unit: |value| value.to_string(),
                steps,
                lines,
            })
            .into_string()
        };
        let straight = draw(false);
        assert!(
            straight.contains("d=\"M78 266h0l179 -252M616 140h0\""),
            "{straight}"
        );
        assert!(
            draw(true).contains("d=\"M78 266h0h179v-252M616 140h0\""),
            "{}",
            draw(true)
        );
        let place = |text: &str| {
            straight
                .find(text)
                .unwrap_or_else(|| panic!("{text}: {straight}"))
        };
        assert!(
            place("line other") < place("line c1") && place("line c1") < place("line c0"),
            "the first is on top"
        );
        assert!(
            straight.contains("</svg>&lt;a&gt;</span>")
                && straight.contains("<span>and 1 others, grey</span>"),
            "{straight}"
        );
    }

    #[test]
    fn a_week_shows_little_use() {
        let mut hours = [[0.0; 24]; 7];
        hours[0][8] = 0.5;
        let week = html(week("use", &hours, 10)).into_string();
        assert_eq!(week.matches("opacity").count(), 1);
        assert!(
            week.contains("opacity=\"0.16\"><title>Mo 8:00: 0.5 of 10</title></rect>"),
            "{week}"
        );
    }

    proptest! {
        #[test]
        fn any_range_has_a_few_ticks(highest in 1u64.., span in 1.0..1e12) {
            let ticks = round_ticks(highest);
            prop_assert!((2..=11).contains(&ticks.len()) && *ticks.last().unwrap() >= highest, "{:?}", ticks);
            prop_assert!(round_times(span).len() <= 8, "{:?}", round_times(span));
        }
    }
}
