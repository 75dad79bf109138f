//! Seconds since 1970, in which all times here are counted. Before 1970 is possible: a machine can
//! say anything.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use jsonpipe::timestamp;

/// Seconds since 1970.
pub type Seconds = i64;

/// Of the clock of this machine.
pub fn of(time: SystemTime) -> Seconds {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Seconds::try_from(since.as_secs()).unwrap_or(Seconds::MAX),
        Err(before) => -Seconds::try_from(before.duration().as_secs()).unwrap_or(Seconds::MAX),
    }
}

/// From RFC 3339, UTC.
pub fn parse(text: &str) -> Option<Seconds> {
    humantime::parse_rfc3339(text).ok().map(of)
}

/// As RFC 3339, in the years that it has: from 1970, to the end of 9999.
pub fn text(seconds: Seconds) -> String {
    const END: u64 = 253_402_300_799;
    timestamp::rfc3339(
        UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(END)),
    )
}

/// What a time zone is called: its name, otherwise how far it is from UTC at a time.
pub fn zone_name(zone: &TimeZone, at: Seconds) -> String {
    match zone.iana_name() {
        Some(name) => name.to_owned(),
        None => format!(
            "UTC{}",
            zone.to_offset(Timestamp::from_second(at).unwrap_or_default())
        ),
    }
}

/// What of an interval lies between two times.
pub fn clip(
    interval: (Seconds, Seconds),
    since: Seconds,
    until: Seconds,
) -> Option<(Seconds, Seconds)> {
    let (from, to) = (interval.0.max(since), interval.1.min(until));
    (from < to).then_some((from, to))
}

/// Intervals that overlap or touch as one, rising.
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

/// What two such lists have in common.
pub fn common(a: &[(Seconds, Seconds)], b: &[(Seconds, Seconds)]) -> Vec<(Seconds, Seconds)> {
    let mut b = b.iter().peekable();
    let mut common = Vec::new();
    for &(from, to) in a {
        while let Some(&&other) = b.peek() {
            common.extend(clip(other, from, to));
            if other.1 > to {
                break; // it may reach into the next one, too
            }
            b.next();
        }
    }
    common
}

/// How long they are together.
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
