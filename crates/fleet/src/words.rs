//! Numbers, lengths and times for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::time;

/// `machine`, of one.
pub fn noun(count: u64, one: &str) -> String {
    if count == 1 { one.to_owned() } else { format!("{one}s") }
}

/// `2 machines`
pub fn counted(count: u64, one: &str) -> String {
    format!("{count} {}", noun(count, one))
}

/// A time for people.
pub fn clock(rfc3339: &str, zone: &TimeZone) -> String {
    let wall = time::parse(rfc3339).and_then(|at| Timestamp::from_second(at).ok()).map(|at| zone.to_datetime(at));
    wall.map_or_else(|| "some time".into(), |wall| wall.strftime("%Y-%m-%d %H:%M").to_string())
}

/// Hours for people.
pub fn hours(seconds: u64) -> String {
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

/// How long, in its largest unit.
pub fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
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
}
