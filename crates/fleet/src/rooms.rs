//! The rooms: when their machines are on and in use, by hour of the week, and when they are quiet.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::known::{Known, Period};
use crate::report::{Quiet, Room};
use crate::time::{Seconds, length};

const HOUR: Seconds = 3600;
const WEEK_HOURS: usize = 7 * 24;
/// The minimum length of a quiet window that maintenance can use.
const QUIET_HOURS_MIN: usize = 2;
/// A single forgotten guest does not make a room busy: an hour is quiet while less than this share
/// of its machines is in use.
const QUIET_SHARE: f64 = 0.02;
/// The spelling in [`Quiet`].
pub const DAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// Maps the hours of a period to hours of the week.
#[derive(Debug)]
pub struct Week {
    period: Period,
    /// The hour of the week of each hour of the period.
    hours: Vec<usize>,
    /// The seconds of each hour of the week that the period contains.
    seconds: [f64; WEEK_HOURS],
    first: Seconds,
}

impl Week {
    /// In a time zone. Where its hours begin at half past, the hour of the week is the one with the
    /// greater part.
    pub fn new(period: Period, zone: &TimeZone) -> Week {
        let first = period.since.div_euclid(HOUR) * HOUR;
        let hour = |start: Seconds| {
            let wall = zone.to_datetime(Timestamp::from_second(start).unwrap_or_default());
            let day = usize::try_from(wall.weekday().to_monday_zero_offset()).unwrap_or(0);
            day * 24 + usize::try_from(wall.hour()).unwrap_or(0)
        };
        let starts = (0..)
            .map(|index| first + index * HOUR)
            .take_while(|start| *start < period.until);
        let mut seconds = [0.0; WEEK_HOURS];
        let hours: Vec<usize> = starts
            .map(|start| {
                let hour = hour(start);
                let part = (start + HOUR).min(period.until) - start.max(period.since);
                if let Some(sum) = seconds.get_mut(hour) {
                    *sum += part as f64;
                }
                hour
            })
            .collect();
        Week {
            period,
            hours,
            seconds,
            first,
        }
    }

    /// Adds the parts of an interval to the hours of the week.
    fn add(&self, sums: &mut [f64; WEEK_HOURS], (from, to): (Seconds, Seconds)) {
        let mut start = from.max(self.period.since);
        let end = to.min(self.period.until);
        while start < end {
            let next = (start.div_euclid(HOUR) + 1) * HOUR;
            let index = usize::try_from((start - self.first) / HOUR).unwrap_or(usize::MAX);
            if let Some(sum) = self.hours.get(index).and_then(|hour| sums.get_mut(*hour)) {
                *sum += (next.min(end) - start) as f64;
            }
            start = next;
        }
    }
}

/// The rooms, by building and name, without machines whose room is unknown.
pub fn rooms(machines: &[Known], week: &Week) -> Vec<Room> {
    let mut rooms: BTreeMap<(&str, &str), (Room, [f64; WEEK_HOURS])> = BTreeMap::new();
    for Known {
        machine,
        summary,
        disk_grown_bytes,
        ..
    } in machines
        .iter()
        .filter(|known| !known.machine.room.is_empty())
    {
        let entry = rooms.entry((&machine.building, &machine.room));
        let (room, used) = entry.or_insert_with(|| {
            let room = Room {
                building: machine.building.clone(),
                room: machine.room.clone(),
                ..Room::default()
            };
            (room, [0.0; WEEK_HOURS])
        });
        room.campus = room.campus.take().or_else(|| machine.campus.clone());
        room.machines += 1;
        room.heard += u64::from(machine.reports > 0);
        room.on_seconds += length(&summary.on);
        room.use_seconds += length(&summary.used);
        room.disk_bytes = room
            .disk_bytes
            .saturating_add(machine.disk_bytes.unwrap_or(0));
        room.disk_used_bytes = room
            .disk_used_bytes
            .saturating_add(machine.disk_used_bytes.unwrap_or(0));
        room.disk_grown_bytes = room.disk_grown_bytes.saturating_add(*disk_grown_bytes);
        summary
            .used
            .iter()
            .for_each(|interval| week.add(used, *interval));
    }
    let finish = |(mut room, used): (Room, [f64; WEEK_HOURS])| {
        let share = |(used, seconds): (f64, f64)| {
            if seconds > 0.0 {
                (used / seconds * 100.0).round() / 100.0
            } else {
                0.0
            }
        };
        let hours: Vec<f64> = used.into_iter().zip(week.seconds).map(share).collect();
        room.in_use_by_hour = hours.as_chunks::<24>().0.to_vec();
        // Hours that were not observed, because the period is shorter than a week, are not quiet. A
        // full week lacks only the hour that clocks skip in spring.
        let is_week = week.period.until - week.period.since >= WEEK_HOURS as Seconds * HOUR;
        let quiet = |(in_use, seconds): (&f64, &f64)| {
            (*seconds > 0.0 || is_week) && *in_use < QUIET_SHARE * room.machines as f64
        };
        let quiet: Vec<bool> = hours.iter().zip(&week.seconds).map(quiet).collect();
        // Without reports nothing is known of a room.
        room.quiet = if room.heard > 0 {
            windows(&quiet)
        } else {
            Vec::new()
        };
        room
    };
    rooms.into_values().map(finish).collect()
}

/// The windows of a cyclic week; windows with equal hours on several days are merged.
fn windows(quiet: &[bool]) -> Vec<Quiet> {
    let at = |hour: usize| quiet.get(hour % WEEK_HOURS).copied().unwrap_or(false);
    if quiet.iter().all(|quiet| *quiet) {
        return vec![Quiet {
            days: vec![DAYS[0]],
            from_hour: 0,
            to_hour: 0,
            hours: WEEK_HOURS as u64,
        }];
    }
    let mut found: BTreeMap<(usize, usize), Vec<&'static str>> = BTreeMap::new();
    for start in (0..WEEK_HOURS).filter(|hour| at(*hour) && !at(hour + WEEK_HOURS - 1)) {
        let hours = (start..).take_while(|hour| at(*hour)).count();
        if hours >= QUIET_HOURS_MIN {
            found
                .entry((WEEK_HOURS - hours, start % 24))
                .or_default()
                .push(DAYS[start / 24]);
        }
    }
    // Sorted by the rest of the week: the longest first.
    let window = |((rest, from), days): ((usize, usize), Vec<&'static str>)| {
        let hours = WEEK_HOURS - rest;
        Quiet {
            days,
            from_hour: from as u8,
            to_hour: ((from + hours) % 24) as u8,
            hours: hours as u64,
        }
    };
    found.into_iter().map(window).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Summary;
    use crate::report::Machine;
    use crate::time;

    fn known(used: Vec<(Seconds, Seconds)>) -> Known {
        let machine = Machine {
            name: "m".into(),
            building: "b".into(),
            room: "1".into(),
            reports: 1,
            disk_bytes: Some(10),
            ..Machine::default()
        };
        Known {
            machine,
            summary: Summary {
                used,
                ..Summary::default()
            },
            ..Known::default()
        }
    }

    #[test]
    fn the_hours_of_the_week_are_those_on_the_wall() {
        // A Monday. In São Paulo, without a change of clocks, it is three hours earlier.
        let monday = time::parse("2026-11-16T00:00:00Z").unwrap();
        let period = Period {
            since: monday,
            until: monday + 14 * 86400,
        };
        let zone = TimeZone::fixed(jiff::tz::offset(-3));
        let used: Vec<_> = (0..10)
            .map(|day| monday + (day + day / 5 * 2) * 86400)
            .map(|day| (day + 11 * 3600, day + 21 * 3600 + 1800))
            .collect();
        let machines = [known(used), known(Vec::new())];
        let rooms = rooms(&machines, &Week::new(period, &zone));
        let [room] = &rooms[..] else {
            panic!("{rooms:?}")
        };
        assert_eq!(
            (room.machines, room.use_seconds, room.disk_bytes),
            (2, 10 * 37_800, 20)
        );
        assert_eq!(room.in_use_by_hour[0][7..10], [0.0, 1.0, 1.0]);
        assert_eq!(room.in_use_by_hour[4][17..20], [1.0, 0.5, 0.0]);
        assert_eq!(room.in_use_by_hour[5], [0.0; 24]);
        assert_eq!(
            room.quiet,
            [
                Quiet {
                    days: vec!["friday"],
                    from_hour: 19,
                    to_hour: 8,
                    hours: 61
                },
                Quiet {
                    days: vec!["monday", "tuesday", "wednesday", "thursday"],
                    from_hour: 19,
                    to_hour: 8,
                    hours: 13
                },
            ]
        );
    }

    #[test]
    fn nights_stay_one_window_when_clocks_change() {
        let zone = TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap();
        // The Mondays of the weeks in which clocks skip 2:00, and have 1:00 twice; the machine is
        // used from 9:00 to 17:00 local time.
        for (monday, shift) in [("2026-03-02T05:00:00Z", -1), ("2026-10-26T04:00:00Z", 1)] {
            let monday = time::parse(monday).unwrap();
            let period = Period {
                since: monday,
                until: monday + 7 * 86400 + shift * HOUR + 24 * HOUR,
            };
            let day = |day: Seconds| monday + day * 86400 + if day == 7 { shift * HOUR } else { 0 };
            let used = [0, 1, 2, 3, 4, 7]
                .map(|index| (day(index) + 9 * HOUR, day(index) + 17 * HOUR))
                .to_vec();
            let rooms = rooms(&[known(used)], &Week::new(period, &zone));
            assert_eq!(
                rooms[0].in_use_by_hour[0][8..18],
                [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
                "{monday}"
            );
            assert_eq!(
                rooms[0].quiet[0],
                Quiet {
                    days: vec!["friday"],
                    from_hour: 17,
                    to_hour: 9,
                    hours: 64
                },
                "{monday}: {:?}",
                rooms[0].quiet
            );
        }
    }

    #[test]
    fn unobserved_hours_are_not_quiet() {
        let monday = time::parse("2026-11-16T00:00:00Z").unwrap();
        let period = Period {
            since: monday + 6 * 3600,
            until: monday + 10 * 3600,
        };
        let rooms = rooms(&[known(Vec::new())], &Week::new(period, &TimeZone::UTC));
        assert_eq!(
            rooms[0].quiet,
            [Quiet {
                days: vec!["monday"],
                from_hour: 6,
                to_hour: 10,
                hours: 4
            }]
        );
    }
}
