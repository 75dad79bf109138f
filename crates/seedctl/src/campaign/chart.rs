//! Drawings of the page, in SVG: curves over time, and bars.

use std::fmt::Write;

use super::page::{duration, text};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;

/// As many colours as can be told apart; after those, the lines are dashed.
const COLOURS: usize = 9;

/// One line of a chart.
pub struct Line<'a> {
    /// What it is of.
    pub name: &'a str,
    /// Its values, one for each time.
    pub values: &'a [u64],
}

/// Curves over the same times, with a legend. `unit` spells a value of the vertical axis. Steps are drawn as steps.
pub fn curves(title: &str, at_seconds: &[f64], lines: &[Line], steps: bool, unit: impl Fn(u64) -> String) -> String {
    let span = at_seconds.last().copied().unwrap_or(0.0).max(1.0);
    let highest = lines.iter().flat_map(|line| line.values).copied().max().unwrap_or(0).max(1);
    let ticks = ticks(highest);
    let top = ticks.last().copied().unwrap_or(highest).max(1) as f64;
    let x = |at: f64| LEFT + at / span * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!("<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", text(title));
    for tick in ticks {
        let at = y(tick as f64);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            text(&unit(tick))
        );
    }
    for tick in time_ticks(span) {
        let at = x(tick as f64);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} {:.1}v5\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 20.0,
            duration(tick)
        );
    }
    for (index, line) in lines.iter().enumerate() {
        let mut path = String::new();
        for (point, (at, value)) in at_seconds.iter().zip(line.values).enumerate() {
            let (x, y) = (x(*at), y(*value as f64));
            let _ = match (point, steps) {
                (0, _) => write!(path, "M{x:.1} {y:.1}"),
                (_, true) => write!(path, "H{x:.1}V{y:.1}"),
                (_, false) => write!(path, "L{x:.1} {y:.1}"),
            };
        }
        let _ = write!(svg, "<path class=\"line {}\" d=\"{path}\"/>", colour(index));
    }
    svg += "</svg><figcaption>";
    for (index, line) in lines.iter().enumerate() {
        let _ = write!(
            svg,
            "<span><svg viewBox=\"0 0 22 8\" class=\"key\"><path class=\"line {}\" d=\"M0 4H22\"/></svg>{}</span> ",
            colour(index),
            text(line.name)
        );
    }
    svg + "</figcaption></figure>"
}

fn colour(index: usize) -> String {
    let dashed = if index >= COLOURS { " dashed" } else { "" };
    format!("c{}{dashed}", index % COLOURS)
}

/// A bar for each building: how often the image came in. Lines at once, and at `limit`.
pub fn crossings(bars: &[(&str, f64)], limit: f64) -> String {
    let row = 30.0;
    let height = row * bars.len() as f64 + 26.0;
    let most = bars.iter().map(|(_, crossings)| *crossings).fold(limit * 1.1, f64::max);
    let x = |crossings: f64| 120.0 + crossings / most * (WIDTH - 120.0 - 60.0);
    let mut svg = format!(
        "<figure class=\"bars\"><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"crossings of each uplink\">"
    );
    for (mark, class) in [(1.0, "mark"), (limit, "limit")] {
        let at = x(mark);
        let _ = write!(
            svg,
            "<path class=\"{class}\" d=\"M{at:.1} 0V{:.1}\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{mark}</text>",
            height - 20.0,
            height - 5.0
        );
    }
    for (index, (name, crossings)) in bars.iter().enumerate() {
        let top = row * index as f64 + 5.0;
        let class = if *crossings > limit { "bar over" } else { "bar" };
        let _ = write!(
            svg,
            "<text x=\"112\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect class=\"{class}\" x=\"120\" y=\"{top:.1}\" width=\"{:.1}\" \
             height=\"20\" rx=\"3\"/><text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{crossings:.2}</text>",
            top + 14.5,
            text(name),
            (x(*crossings) - 120.0).max(1.0),
            x(*crossings) + 8.0,
            top + 14.5
        );
    }
    svg + "</svg></figure>"
}

/// From 0 to at least the highest value, in steps of 1, 2 or 5 times a power of ten.
fn ticks(highest: u64) -> Vec<u64> {
    let rough = (highest / 5).max(1);
    let power = 10u64.pow(rough.ilog10());
    let step = [1, 2, 5, 10].into_iter().map(|times| power.saturating_mul(times)).find(|step| *step >= rough).unwrap_or(power);
    let last = highest.div_ceil(step);
    (0..=last).map(|tick| tick.saturating_mul(step)).collect()
}

/// Times as people count them.
fn time_ticks(span: f64) -> Vec<u64> {
    const STEPS: [u64; 14] = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400];
    let days = (span / 6.0 / 86400.0).ceil() as u64 * 86400;
    let step = STEPS.into_iter().find(|step| *step as f64 * 7.0 >= span).unwrap_or(days.max(1));
    (0..).map(|tick| tick * step).take_while(|tick| *tick as f64 <= span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(ticks(24), [0, 5, 10, 15, 20, 25]);
        assert_eq!(ticks(1), [0, 1]);
        assert_eq!(ticks(930), [0, 200, 400, 600, 800, 1000]);
        assert_eq!(time_ticks(74.0), [0, 20, 40, 60]);
        assert_eq!(time_ticks(400_000.0), [0, 86400, 172_800, 259_200, 345_600]);
    }

    proptest! {
        #[test]
        fn any_range_has_a_few_ticks(highest in 1u64.., span in 1.0..1e12) {
            let ticks = ticks(highest);
            prop_assert!((2..=11).contains(&ticks.len()) && *ticks.last().unwrap() >= highest, "{:?}", ticks);
            prop_assert!(time_ticks(span).len() <= 8, "{:?}", time_ticks(span));
        }
    }
}
