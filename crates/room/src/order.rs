//! The order in which volumes go.

/// How far a last login may be ahead of the clock, in seconds, and still count as recent: a clock
/// is corrected by seconds every day. Further ahead, either of the two was wrong.
const AHEAD_SECONDS: i64 = 24 * 60 * 60;

/// What a candidate is. The first goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The remains of a volume that a power cut left half made.
    Remains,
    /// A volume on a generation that another one has replaced.
    Retired,
    /// A volume that its user would find again.
    Current,
}

/// Something on the disk that can go. No volume of the user who logs in is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<Id> {
    /// What the caller knows it by; the last criterion of the order.
    pub id: Id,
    /// What it is.
    pub kind: Kind,
    /// The room that its removal frees, its reservation included.
    pub held_bytes: u64,
    /// The part of it that is reserved for a session that has ended, and can be given back.
    pub stale_bytes: u64,
    /// The time of the last login, in seconds since 1970; `None` when it is not known.
    pub last_login: Option<i64>,
}

impl<Id> Candidate<Id> {
    /// A last login that is not known, or further ahead of the clock than a day, says nothing about
    /// the age, and counts as older than all others. Among those ahead, the order remains: after
    /// the clock of the machine was set back, that is all volumes from before.
    fn age(&self, now: i64) -> (bool, Option<i64>) {
        let is_known = self
            .last_login
            .is_some_and(|login| login <= now.saturating_add(AHEAD_SECONDS));
        (is_known, self.last_login)
    }
}

/// Sorts candidates: remains, volumes on retired generations, then the others; each from the least
/// recently used one on.
pub fn sort<Id: Ord>(candidates: &mut [Candidate<Id>], now: i64) {
    candidates.sort_by(|a, b| (a.kind, a.age(now), &a.id).cmp(&(b.kind, b.age(now), &b.id)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn order(of: &[(&'static str, Kind, Option<i64>)], now: i64) -> String {
        let mut candidates: Vec<Candidate<&str>> = of
            .iter()
            .map(|&(id, kind, last_login)| Candidate {
                id,
                kind,
                held_bytes: 1,
                stale_bytes: 0,
                last_login,
            })
            .collect();
        sort(&mut candidates, now);
        candidates.iter().map(|candidate| candidate.id).collect()
    }

    #[test]
    fn the_least_recently_used_goes_first_and_retired_ones_before_it() {
        let of = [
            ("a", Kind::Current, Some(NOW)),
            ("b", Kind::Current, Some(NOW - 2)),
            ("c", Kind::Retired, Some(NOW)),
            ("d", Kind::Remains, Some(NOW)),
            ("e", Kind::Retired, Some(NOW - 1)),
            ("g", Kind::Current, Some(NOW - 2)),
        ];
        assert_eq!(order(&of, NOW), "decbga");
    }

    #[test]
    fn a_login_that_is_not_known_or_in_the_future_is_the_oldest() {
        let day = AHEAD_SECONDS;
        let of = [
            ("a", Kind::Current, Some(NOW + day + 2)),
            ("b", Kind::Current, Some(NOW + day)), // within a day: the newest
            ("c", Kind::Current, Some(0)),
            ("d", Kind::Current, None),
            ("e", Kind::Current, Some(NOW + day + 1)),
            ("f", Kind::Current, Some(NOW)),
        ];
        assert_eq!(order(&of, NOW), "deacfb");
    }

    #[test]
    fn after_the_clock_was_set_back_what_is_used_since_is_newer() {
        let of = [
            ("a", Kind::Current, Some(NOW)),
            ("b", Kind::Current, Some(NOW - 100 * AHEAD_SECONDS)),
            ("c", Kind::Current, Some(1_000)), // since
        ];
        assert_eq!(order(&of, 2_000), "bac");
        assert_eq!(order(&of, i64::MAX), "cba");
    }
}
