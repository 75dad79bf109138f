//! Computes from the sequence of a machine's reports when it was on and in use, whether its clock
//! is right, and whether it is a single machine. Only these results are kept of each report, so a
//! machine takes some kilobytes, however long the period.
//!
//! The start of a boot is taken by the machine's clock at its last report, because many a clock is
//! set soon after boot, or by the collector's clock if the machine's is still wrong then. The
//! length of a boot is the kernel's uptime, which no clock affects. Uptime also counts while a
//! machine sleeps, so a machine counts as on only while its reports came.

use std::collections::{BTreeMap, HashMap, VecDeque};

use envelope::identity;

use crate::reported::{Moment, System};
use crate::time::{self, Seconds};

/// Reports come every quarter of an hour; a longer gap means that the machine was off.
const GAP: Seconds = 20 * 60;
/// A clock with a larger error is not used.
const CLOCK_WRONG: Seconds = 5 * 60;
/// The number of reports that show the error of a clock: some of them were not late.
const CLOCK_REPORTS: usize = 8;
/// With fewer reports, all may have been late.
const CLOCK_REPORTS_MIN: usize = 3;
/// An older report was not in the spool all the time: its clock was wrong.
const SPOOLED_MAX: Seconds = 7 * 86400;

/// The maximum length of a name of a board, a boot or a guest; a longer one is ignored.
const NAME_MAX: usize = 128;
/// The maximum number of boards; a longer list belongs to more than one machine.
const BOARDS_MAX: usize = 16;
/// The maximum number of boots, or of guest runs, beyond any real number in a year; the rest is
/// ignored.
const SPELLS_MAX: usize = 10_000;

/// The history from a machine's reports so far.
#[derive(Debug, Default)]
pub struct History {
    boots: HashMap<String, Boot>,
    guests: HashMap<String, Spell>,
    points: Vec<(Seconds, Seconds)>,
    late: VecDeque<Seconds>,
    last_boot: Option<String>,
    /// The number of times that an earlier boot reappeared after another: a second machine.
    boots_returned: u64,
    boards: Vec<Board>,
    last_board: Option<usize>,
    boards_returned: u64,
}

/// A boot, or a guest's run.
#[derive(Debug)]
struct Spell {
    /// Its start by the machine's clock at the last report.
    by_machine: Seconds,
    /// Its start by the collector's clock: never before the true start, and the earlier the less
    /// its reports were late.
    by_collector: Seconds,
    length: Seconds,
}

/// A boot, with the times at which the machine was awake, in seconds of its uptime.
#[derive(Debug)]
struct Boot {
    spell: Spell,
    awake: Vec<(Seconds, Seconds)>,
}

/// A board that reported.
#[derive(Clone, Debug)]
pub struct Board {
    /// Its identity in the firmware.
    pub system: System,
    /// The time of the first report from it.
    pub first: Seconds,
    /// The time of the last report from it.
    pub last: Seconds,
}

/// The history of a period.
#[derive(Debug, Default)]
pub struct Summary {
    /// The times when it was on, ascending, within the period.
    pub on: Vec<(Seconds, Seconds)>,
    /// The times when guests ran.
    pub used: Vec<(Seconds, Seconds)>,
    /// The seconds by which its clock is ahead of the collector's.
    pub clock_ahead: Option<Seconds>,
    /// The boards, in the order of their first reports.
    pub boards: Vec<Board>,
    /// Whether two machines reported by turns.
    pub is_two: bool,
}

impl History {
    /// Adds a snapshot that the collector received at `received`, and whether the machine had
    /// dropped others before it. Called in the order of arrival.
    pub fn add(&mut self, received: Seconds, moment: Moment, after_dropped: bool) {
        self.board(received, moment.system);
        let Some(at) = time::parse(&moment.collected_at) else {
            self.point(received);
            return;
        };
        if self.late.len() == CLOCK_REPORTS {
            self.late.pop_front();
        }
        self.late.push_back(received - at);
        let spell = |length: Seconds| Spell {
            by_machine: at.saturating_sub(length),
            by_collector: received.saturating_sub(length),
            length,
        };
        let uptime = moment
            .boot
            .uptime_seconds
            .and_then(|uptime| Seconds::try_from(uptime).ok());
        let has_room = |id: &String| {
            id.len() <= NAME_MAX && (self.boots.len() < SPELLS_MAX || self.boots.contains_key(id))
        };
        match (moment.boot.id.filter(has_room), uptime) {
            (Some(id), Some(uptime)) => {
                if self.last_boot.as_ref().is_some_and(|last| *last != id)
                    && self.boots.contains_key(&id)
                {
                    self.boots_returned += 1;
                }
                match self.boots.get_mut(&id) {
                    Some(boot) => boot.add(spell(uptime), after_dropped),
                    None => {
                        let awake = vec![(uptime.saturating_sub(GAP).max(0), uptime)];
                        self.boots.insert(
                            id.clone(),
                            Boot {
                                spell: spell(uptime),
                                awake,
                            },
                        );
                    }
                }
                self.last_boot = Some(id);
            }
            _ => self.point(received),
        }
        if let Some((started_at, started)) = moment
            .guest
            .and_then(|guest| guest.started_at)
            .and_then(|at| {
                let seconds = time::parse(&at)?;
                Some((at, seconds))
            })
        {
            // A clock that was set meanwhile must not make a guest older than its host's boot, or
            // its run negative.
            let length = at
                .saturating_sub(started)
                .clamp(0, uptime.unwrap_or(Seconds::MAX));
            let has_room = self.guests.len() < SPELLS_MAX;
            match self.guests.get_mut(&started_at) {
                Some(guest) => guest.add(spell(length)),
                None if has_room => drop(self.guests.insert(started_at, spell(length))),
                None => {}
            }
        }
    }

    /// Adds a report without a clock, in the thesis's text format: only the time of arrival is
    /// known.
    pub fn add_text(&mut self, received: Seconds, serial: Option<String>) {
        self.board(
            received,
            System {
                serial,
                ..System::default()
            },
        );
        self.point(received);
    }

    fn point(&mut self, received: Seconds) {
        match self.points.last_mut() {
            Some(last) if received <= last.1.saturating_add(GAP) => last.1 = last.1.max(received),
            _ => self.points.push((received, received)),
        }
    }

    fn board(&mut self, received: Seconds, system: System) {
        // An older invcollect does not know every serial number that many boards share.
        let own = |name: Option<String>, is_own: fn(&str) -> bool| {
            name.filter(|name| name.len() <= NAME_MAX && is_own(name))
        };
        let system = System {
            serial: own(system.serial, identity::is_serial),
            uuid: own(system.uuid, identity::is_uuid_of_one),
            ..system
        };
        if system.serial.is_none() && system.uuid.is_none() {
            return;
        }
        let same = |board: &Board| {
            (&board.system.serial, &board.system.uuid) == (&system.serial, &system.uuid)
        };
        let index = match self.boards.iter().position(same) {
            Some(index) => {
                if self.last_board.is_some_and(|last| last != index) {
                    self.boards_returned += 1;
                }
                index
            }
            None if self.boards.len() == BOARDS_MAX => {
                self.boards_returned += 1;
                return;
            }
            None => {
                self.boards.push(Board {
                    system,
                    first: received,
                    last: received,
                });
                self.boards.len() - 1
            }
        };
        if let Some(board) = self.boards.get_mut(index) {
            board.last = board.last.max(received);
        }
        self.last_board = Some(index);
    }

    /// The history of a period.
    pub fn summary(self, since: Seconds, until: Seconds) -> Summary {
        // The least delayed report had no delay, so its difference is the clock's.
        let late = self.late.iter().min().copied();
        let clock_ahead = late
            .map(|late| -late)
            .filter(|ahead| *ahead > 60 || self.late.len() >= CLOCK_REPORTS_MIN);
        let is_right = clock_ahead.is_none_or(|ahead| ahead.abs() <= CLOCK_WRONG);
        let start = |spell: &Spell| {
            let late = spell.by_collector - spell.by_machine;
            if is_right && (0..=SPOOLED_MAX).contains(&late) {
                spell.by_machine
            } else {
                spell.by_collector
            }
        };
        let later = |(from, to): (Seconds, Seconds), by: Seconds| {
            (from.saturating_add(by), to.saturating_add(by))
        };
        let on = self.boots.values().flat_map(|boot| {
            boot.awake
                .iter()
                .map(|part| later(*part, start(&boot.spell)))
        });
        let on = on
            .chain(self.points)
            .filter_map(|part| time::clip(part, since, until));
        let on = time::join(on.collect());
        let used = self
            .guests
            .values()
            .filter_map(|guest| time::clip(later((0, guest.length), start(guest)), since, until));
        Summary {
            used: time::common(&time::join(used.collect()), &on),
            on,
            clock_ahead: clock_ahead.filter(|ahead| ahead.abs() > 60),
            boards: self.boards,
            // Exchanging a board and changing it back is not two machines.
            is_two: self.boots_returned > 0 || self.boards_returned > 1,
        }
    }
}

impl Spell {
    fn add(&mut self, last: Spell) {
        self.by_machine = last.by_machine;
        self.by_collector = self.by_collector.min(last.by_collector);
        self.length = self.length.max(last.length);
    }
}

impl Boot {
    fn add(&mut self, last: Spell, after_dropped: bool) {
        let uptime = last.length;
        let has_room = self.awake.len() < SPELLS_MAX;
        match self.awake.last_mut() {
            Some((_, until)) if uptime <= until.saturating_add(GAP) || after_dropped => {
                *until = uptime.max(*until)
            }
            _ if has_room => self.awake.push((uptime, uptime)),
            _ => {}
        }
        self.spell.add(last);
    }
}

/// Boards that more than one id has: by board, the ids and their times.
pub fn shared<'a>(
    hosts: impl Iterator<Item = (&'a str, &'a [Board])>,
) -> BTreeMap<String, Vec<(&'a str, &'a Board)>> {
    let mut owners: BTreeMap<String, Vec<(&str, &Board)>> = BTreeMap::new();
    for (id, boards) in hosts {
        for board in boards {
            // One of the two suffices: some firmware has no serial number, and some the same UUID
            // everywhere.
            let key = board
                .system
                .uuid
                .as_ref()
                .map(|uuid| format!("UUID {}", uuid.to_ascii_lowercase()));
            let Some(key) = key.or_else(|| {
                board
                    .system
                    .serial
                    .as_ref()
                    .map(|serial| format!("serial number {serial}"))
            }) else {
                continue;
            };
            owners.entry(key).or_default().push((id, board));
        }
    }
    owners.retain(|_, owners| owners.iter().any(|(id, _)| *id != owners[0].0));
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reported::{Boot, Guest};

    const DAY: Seconds = 86400;

    /// Reports of one boot, by a clock that is ahead by `ahead`.
    fn uuid(board: &str) -> String {
        format!("4c4c4544-0042-4310-8031-{board:0>12}")
    }

    fn boot(
        history: &mut History,
        id: &str,
        board: &str,
        from: Seconds,
        to: Seconds,
        ahead: Seconds,
        late: Seconds,
    ) {
        for at in (from..=to).step_by(900) {
            let moment = Moment {
                schema: 1,
                collected_at: time::text(at + ahead),
                boot: Boot {
                    id: Some(id.into()),
                    uptime_seconds: Some((at - from) as u64),
                    clock_before_image: None,
                },
                guest: Some(Guest {
                    started_at: Some(time::text(from + 1800 + ahead)),
                })
                .filter(|_| at >= from + 1800),
                system: System {
                    uuid: Some(uuid(board)),
                    ..System::default()
                },
            };
            history.add(at + late, moment, false);
        }
    }

    #[test]
    fn hours_are_right_whatever_the_clock_says() {
        for (ahead, late, expected) in [
            (0, 0, None),
            (0, 40_000, None),
            (30 * DAY, 2, Some(30 * DAY - 2)),
            (-20 * DAY, 2, Some(-20 * DAY - 2)),
        ] {
            let mut history = History::default();
            boot(
                &mut history,
                "b1",
                "u",
                100 * DAY,
                100 * DAY + 7200,
                ahead,
                late,
            );
            // A report without delay shows that the clock is right.
            boot(
                &mut history,
                "b2",
                "u",
                102 * DAY,
                102 * DAY + 3600,
                ahead,
                late.min(2),
            );
            let summary = history.summary(90 * DAY, 110 * DAY);
            let late = if ahead == 0 { 0 } else { 2 };
            assert_eq!(
                summary.on,
                [
                    (100 * DAY + late, 100 * DAY + 7200 + late),
                    (102 * DAY + late, 102 * DAY + 3600 + late)
                ],
                "{ahead}"
            );
            assert_eq!(time::length(&summary.used), 7200 - 1800 + 1800, "{ahead}");
            assert_eq!(summary.clock_ahead, expected, "{ahead}");
            assert!(!summary.is_two);
        }
    }

    /// A report of a boot and of a guest of it, by the machine's clock.
    fn report(
        history: &mut History,
        booted: Seconds,
        received: Seconds,
        at: Seconds,
        guest: Seconds,
        dropped: bool,
    ) {
        let moment = Moment {
            schema: 1,
            collected_at: time::text(at),
            boot: Boot {
                id: Some("b".into()),
                uptime_seconds: Some((received - booted) as u64),
                clock_before_image: None,
            },
            guest: Some(Guest {
                started_at: Some(time::text(guest)),
            }),
            system: System::default(),
        };
        history.add(received, moment, dropped);
    }

    #[test]
    fn a_clock_that_is_set_after_the_start_moves_no_boot() {
        let mut history = History::default();
        // Local time in the hardware clock, three hours behind until the network is up.
        report(
            &mut history,
            DAY,
            DAY + 10,
            DAY + 10 - 3 * 3600,
            DAY + 300,
            false,
        );
        for at in [900, 1800, 2700] {
            report(&mut history, DAY, DAY + at, DAY + at, DAY + 300, false);
        }
        assert_eq!(history.summary(0, 3 * DAY).on, [(DAY, DAY + 2700)]);
    }

    #[test]
    fn a_machine_that_sleeps_is_not_on_nor_in_use() {
        let summary = |dropped| {
            let mut history = History::default();
            for (index, at) in [900, 1800, 40_000, 40_900].into_iter().enumerate() {
                report(
                    &mut history,
                    DAY,
                    DAY + at,
                    DAY + at,
                    DAY,
                    dropped && index == 2,
                );
            }
            let summary = history.summary(0, 3 * DAY);
            (summary.on, summary.used)
        };
        let asleep = vec![(DAY, DAY + 1800), (DAY + 40_000, DAY + 40_900)];
        assert_eq!(summary(false), (asleep.clone(), asleep));
        // The dropped reports were made while it was on.
        let awake = vec![(DAY, DAY + 40_900)];
        assert_eq!(summary(true), (awake.clone(), awake));
    }

    #[test]
    fn a_period_cuts() {
        let mut history = History::default();
        boot(&mut history, "b", "u", 0, 10 * DAY, 0, 0);
        assert_eq!(history.summary(2 * DAY, 3 * DAY).on, [(2 * DAY, 3 * DAY)]);
    }

    /// An older invcollect reports a serial number that a newer one knows to be shared: it
    /// identifies no board and no duplicate.
    #[test]
    fn history_ignores_serials_of_many_boards() {
        let mut history = History::default();
        for (serial, uuid) in [
            ("SN-12345", "6ab5b300-538d-1014-9fb5-b0684d007b53"),
            ("EVAL", "00000000-0000-0000-0000-000000000000"),
        ] {
            history.board(
                0,
                System {
                    serial: Some(serial.into()),
                    uuid: Some(uuid.into()),
                    model: None,
                },
            );
        }
        assert!(history.boards.is_empty(), "{:?}", history.boards);
    }

    #[test]
    fn two_machines_are_told_from_one_with_a_new_board() {
        let one = |boots: &[(&str, &str)]| {
            let mut history = History::default();
            for (index, (id, board)) in boots.iter().enumerate() {
                let from = 900 * index as Seconds;
                boot(&mut history, id, board, from, from, 0, 1);
            }
            let summary = history.summary(0, DAY);
            (summary.is_two, summary.boards.len())
        };
        assert_eq!(
            one(&[("b1", "u1"), ("b1", "u1"), ("b2", "u2"), ("b3", "u2")]),
            (false, 2)
        );
        assert_eq!(
            one(&[("b1", "u1"), ("b2", "u2"), ("b3", "u1")]),
            (false, 2),
            "they changed their mind"
        );
        assert_eq!(one(&[("b1", "u1"), ("b2", "u2"), ("b1", "u1")]), (true, 2));
        assert_eq!(
            one(&[("b1", "u1"), ("b2", "u1"), ("b1", "u1")]),
            (true, 1),
            "both say the same of their boards"
        );
    }

    #[test]
    fn without_a_clock_reports_that_follow_each_other_are_one_spell() {
        let mut history = History::default();
        for at in [0, 900, 1800, 6000, 6900] {
            history.add_text(at, Some("7XK2L42".into()));
        }
        assert_eq!(history.summary(0, DAY).on, [(0, 1800), (6000, 6900)]);
    }

    #[test]
    fn many_names_and_long_ones_take_no_room() {
        let mut history = History::default();
        for number in 0..1000u32 {
            let boot = Boot {
                id: Some("b".repeat(NAME_MAX + 1)),
                uptime_seconds: Some(60),
                clock_before_image: None,
            };
            let system = System {
                uuid: Some(uuid(&number.to_string())),
                serial: Some("s".repeat(NAME_MAX + 1)),
                model: None,
            };
            let at = 900 * Seconds::from(number);
            history.add(
                at,
                Moment {
                    schema: 1,
                    collected_at: time::text(at),
                    boot,
                    guest: None,
                    system,
                },
                false,
            );
        }
        assert_eq!((history.boots.len(), history.boards.len()), (0, BOARDS_MAX));
        assert!(
            history
                .boards
                .iter()
                .all(|board| board.system.serial.is_none())
        );
        assert!(history.summary(0, DAY).is_two);
    }

    #[test]
    fn nonsense_is_survived() {
        let mut history = History::default();
        for (at, uptime, started) in [
            ("", 0, ""),
            ("9999-12-31T23:59:59Z", u64::MAX, "1970-01-01T00:00:00Z"),
            (
                "1970-01-01T00:00:00Z",
                i64::MAX as u64,
                "9999-12-31T23:59:59Z",
            ),
        ] {
            let boot = Boot {
                id: Some("b".into()),
                uptime_seconds: Some(uptime),
                clock_before_image: None,
            };
            let guest = Some(Guest {
                started_at: Some(started.into()),
            });
            history.add(
                1000,
                Moment {
                    schema: 1,
                    collected_at: at.into(),
                    boot,
                    guest,
                    system: System::default(),
                },
                false,
            );
        }
        history.summary(0, DAY);
    }
}
