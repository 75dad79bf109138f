//! Times in seconds since 1970. Negative times are possible: a machine can report any time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use jsonpipe::timestamp;

/// Seconds since 1970.
pub type Seconds = i64;

/// Converts a time of this machine's clock.
pub fn of(time: SystemTime) -> Seconds {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Seconds::try_from(since.as_secs()).unwrap_or(Seconds::MAX),
        Err(before) => -Seconds::try_from(before.duration().as_secs()).unwrap_or(Seconds::MAX),
    }
}

/// Parses RFC 3339, UTC.
pub fn parse(text: &str) -> Option<Seconds> {
    humantime::parse_rfc3339(text).ok().map(of)
}

/// As RFC 3339, clamped to the years 1970 to 9999.
pub fn text(seconds: Seconds) -> String {
    const END: u64 = 253_402_300_799;
    timestamp::rfc3339(
        UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(END)),
    )
}

/// The label of a time zone: its name, otherwise its offset from UTC at a time.
pub fn zone_name(zone: &TimeZone, at: Seconds) -> String {
    match zone.iana_name() {
        Some(name) => name.to_owned(),
        None => format!(
            "UTC{}",
            zone.to_offset(Timestamp::from_second(at).unwrap_or_default())
        ),
    }
}

/// The part of an interval between two times.
pub fn clip(
    interval: (Seconds, Seconds),
    since: Seconds,
    until: Seconds,
) -> Option<(Seconds, Seconds)> {
    let (from, to) = (interval.0.max(since), interval.1.min(until));
    (from < to).then_some((from, to))
}

/// Merges intervals that overlap or touch, ascending.
pub fn join(mut intervals: Vec<(Seconds, Seconds)>) -> Vec<(Seconds, Seconds)> {
    intervals.sort_unstable();
    let mut joined: Vec<(Seconds, Seconds)> = Vec::with_capacity(intervals.len());
    for (from, to) in intervals {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// The intersection of two such lists.
pub fn common(a: &[(Seconds, Seconds)], b: &[(Seconds, Seconds)]) -> Vec<(Seconds, Seconds)> {
    let mut b = b.iter().peekable();
    let mut common = Vec::new();
    for &(from, to) in a {
        while let Some(&&other) = b.peek() {
            common.extend(clip(other, from, to));
            if other.1 > to {
                break; // it may also overlap the next one
            }
            b.next();
        }
    }
    common
}

/// Their total length.
pub fn length(intervals: &[(Seconds, Seconds)]) -> u64 {
    intervals
        .iter()
        .map(|(from, to)| u64::try_from(to - from).unwrap_or(0))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_intersects_intervals() {
        let a = [(0, 10), (20, 30), (40, 50)];
        assert_eq!(
            common(&a, &[(5, 22), (23, 24), (30, 45), (48, 60)]),
            [(5, 10), (20, 22), (23, 24), (40, 45), (48, 50)]
        );
        assert_eq!(common(&a, &[]), []);
        assert_eq!(common(&a, &a), a);
    }

    #[test]
    fn a_zone_without_a_name_is_not_called_utc() {
        assert_eq!(zone_name(&TimeZone::UTC, 0), "UTC");
        assert_eq!(zone_name(&TimeZone::posix("<-03>3").unwrap(), 0), "UTC-03");
        assert_eq!(
            zone_name(
                &TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap(),
                1_783_000_000
            ),
            "UTC-04"
        );
    }
}
