//! The plan: what goes so that a volume has its room.

use crate::is_enough;
use crate::order::{Candidate, sort};

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<Id> {
    /// The volume.
    pub id: Id,
    /// What happens to it.
    pub what: What,
    /// The room that becomes free.
    pub freed_bytes: u64,
}

/// What happens to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It gives back its reservation; all that is in it stays.
    Release,
    /// It is removed.
    Discard,
}

/// What goes, in this order. Empty when the room is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<Id> {
    /// The steps.
    pub steps: Vec<Step<Id>>,
}

/// Even if everything goes that can go, the room is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// The room that is needed.
    pub need_bytes: u64,
    /// The room that is free.
    pub free_bytes: u64,
    /// The room that would become free.
    pub freeable_bytes: u64,
}

/// Plans what goes: first reservations that are no longer used, then volumes in the order of
/// [`Kind`](crate::Kind) and last login, until there is enough. Then those are spared, from the last
/// one chosen back, without which there is enough as well.
///
/// `now` is the clock, in seconds since 1970. `is_idle` tells whether nothing uses a volume; it is
/// asked once at most, and only for those whose turn it is. Its error ends the planning.
pub fn plan<Id: Clone + Ord, E>(
    need_bytes: u64,
    free_bytes: u64,
    mut candidates: Vec<Candidate<Id>>,
    now: i64,
    mut is_idle: impl FnMut(&Id) -> Result<bool, E>,
) -> Result<Result<Plan<Id>, Short>, E> {
    sort(&mut candidates, now);
    let mut idle: Vec<Option<bool>> = vec![None; candidates.len()];
    let mut chosen: Vec<(usize, What, u64)> = Vec::new();
    let mut freed_bytes = 0u64;
    for what in [What::Release, What::Discard] {
        for (index, candidate) in candidates.iter().enumerate() {
            if is_enough(need_bytes, free_bytes.saturating_add(freed_bytes)) {
                break;
            }
            let stale_bytes = candidate.stale_bytes.min(candidate.held_bytes);
            let bytes = match what {
                What::Release => stale_bytes,
                What::Discard => candidate.held_bytes - stale_bytes, // given back already
            };
            if bytes == 0 {
                continue;
            }
            let is_idle = match idle[index] {
                Some(known) => known,
                None => *idle[index].insert(is_idle(&candidate.id)?),
            };
            if is_idle {
                chosen.push((index, what, bytes));
                freed_bytes = freed_bytes.saturating_add(bytes);
            }
        }
    }
    if !is_enough(need_bytes, free_bytes.saturating_add(freed_bytes)) {
        return Ok(Err(Short {
            need_bytes,
            free_bytes,
            freeable_bytes: freed_bytes,
        }));
    }
    // Discards come last, so what is discarded is known when its release is looked at.
    let mut is_discarded = vec![false; candidates.len()];
    let mut steps = Vec::new();
    for (index, what, bytes) in chosen.into_iter().rev() {
        let part_of_discard = what == What::Release && is_discarded[index];
        if part_of_discard {
            continue;
        }
        if is_enough(need_bytes, free_bytes.saturating_add(freed_bytes - bytes)) {
            freed_bytes -= bytes;
            continue;
        }
        let candidate = &candidates[index];
        is_discarded[index] |= what == What::Discard;
        steps.push(Step {
            id: candidate.id.clone(),
            what,
            freed_bytes: match what {
                What::Release => bytes,
                What::Discard => candidate.held_bytes,
            },
        });
    }
    steps.reverse();
    Ok(Ok(Plan { steps }))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::Kind;

    const NOW: i64 = 1_800_000_000;

    /// A current volume: its name, what it holds, what of that is stale, and its last login.
    fn volume(id: &str, held_bytes: u64, stale_bytes: u64, last_login: i64) -> Candidate<&str> {
        Candidate {
            id,
            kind: Kind::Current,
            held_bytes,
            stale_bytes,
            last_login: Some(last_login),
        }
    }

    fn planned<'a>(
        need: u64,
        free: u64,
        candidates: &[Candidate<&'a str>],
        in_use: &[&str],
    ) -> Result<Vec<(&'a str, What, u64)>, Short> {
        let is_idle = |id: &&str| Ok::<_, Infallible>(!in_use.contains(id));
        let Ok(planned) = plan(need, free, candidates.to_vec(), NOW, is_idle);
        planned.map(|plan| {
            let steps = plan.steps.into_iter();
            steps
                .map(|step| (step.id, step.what, step.freed_bytes))
                .collect()
        })
    }

    #[test]
    fn nothing_goes_while_there_is_room() {
        let volumes = [volume("a", 10, 5, 1)];
        assert_eq!(planned(50, 51, &volumes, &[]), Ok(vec![]));
        assert_eq!(
            planned(50, 50, &volumes, &[]),
            Ok(vec![("a", What::Release, 5)]),
            "equality evicts"
        );
    }

    #[test]
    fn reservations_go_before_any_volume() {
        let volumes = [
            volume("a", 10, 0, 1),
            volume("b", 20, 15, 2),
            volume("c", 9, 4, 3),
        ];
        assert_eq!(
            planned(50, 33, &volumes, &[]),
            Ok(vec![("b", What::Release, 15), ("c", What::Release, 4)])
        );
        assert_eq!(
            planned(50, 22, &volumes, &[]),
            Ok(vec![
                ("b", What::Release, 15),
                ("c", What::Release, 4),
                ("a", What::Discard, 10),
            ])
        );
        // All of b goes, not its reservation and then the rest.
        assert_eq!(
            planned(50, 17, &volumes, &[]),
            Ok(vec![
                ("c", What::Release, 4),
                ("a", What::Discard, 10),
                ("b", What::Discard, 20),
            ])
        );
    }

    #[test]
    fn a_volume_in_use_stays() {
        let volumes = [
            volume("a", 10, 0, 1),
            volume("b", 20, 15, 2),
            volume("c", 9, 0, 3),
        ];
        assert_eq!(
            planned(50, 45, &volumes, &["a", "b"]),
            Ok(vec![("c", What::Discard, 9)])
        );
        assert_eq!(
            planned(50, 41, &volumes, &["a", "b"]),
            Err(Short {
                need_bytes: 50,
                free_bytes: 41,
                freeable_bytes: 9
            }),
            "equality is not enough"
        );
    }

    #[test]
    fn what_turned_out_unnecessary_is_spared_newest_first() {
        let volumes = [
            volume("a", 1, 0, 1),
            volume("b", 2, 0, 2),
            volume("c", 100, 0, 3),
        ];
        assert_eq!(
            planned(50, 0, &volumes, &[]),
            Ok(vec![("c", What::Discard, 100)])
        );
        let volumes = [
            volume("a", 30, 0, 1),
            volume("b", 1, 0, 2),
            volume("c", 25, 0, 3),
        ];
        assert_eq!(
            planned(50, 0, &volumes, &[]),
            Ok(vec![("a", What::Discard, 30), ("c", What::Discard, 25)])
        );
    }

    #[test]
    fn remains_and_retired_generations_go_before_current_ones() {
        let kind = |kind, volume| Candidate { kind, ..volume };
        let volumes = [
            volume("old", 10, 0, 1),
            kind(Kind::Retired, volume("retired", 10, 0, 9)),
            kind(Kind::Remains, volume("remains", 10, 0, 9)),
        ];
        let names = |free| -> Vec<&str> {
            let steps = planned(50, free, &volumes, &[]).unwrap();
            steps.iter().map(|step| step.0).collect()
        };
        assert_eq!(names(41), ["remains"]);
        assert_eq!(names(31), ["remains", "retired"]);
        assert_eq!(names(21), ["remains", "retired", "old"]);
    }

    #[test]
    fn an_empty_file_is_no_victim() {
        assert_eq!(
            planned(50, 50, &[volume("a", 0, 0, 1), volume("b", 1, 0, 2)], &[]),
            Ok(vec![("b", What::Discard, 1)])
        );
    }

    proptest! {
        #[test]
        fn a_plan_makes_room_with_idle_volumes_alone_and_none_too_many(
            need in 0u64..1000,
            free in 0u64..1000,
            volumes in proptest::collection::vec((0u64..200, 0u64..200, any::<bool>(), any::<i64>()), 0..12),
        ) {
            let candidates: Vec<_> = volumes
                .iter()
                .enumerate()
                .map(|(id, &(held_bytes, stale, _, login))| Candidate {
                    id, kind: Kind::Current, held_bytes, stale_bytes: stale.min(held_bytes), last_login: Some(login),
                })
                .collect();
            let Ok(planned) = plan(need, free, candidates, NOW, |id| Ok::<_, Infallible>(volumes[*id].2));
            let all: u64 = volumes.iter().filter(|volume| volume.2).map(|volume| volume.0).sum();
            match planned {
                Ok(Plan { steps }) => {
                    let freed: u64 = steps.iter().map(|step| step.freed_bytes).sum();
                    prop_assert!(is_enough(need, free + freed));
                    for step in &steps {
                        prop_assert!(volumes[step.id].2, "in use");
                        prop_assert!(!is_enough(need, free + freed - step.freed_bytes), "it could be spared");
                    }
                    prop_assert!(!is_enough(need, free) || steps.is_empty());
                }
                Err(short) => {
                    prop_assert_eq!(short, Short { need_bytes: need, free_bytes: free, freeable_bytes: all });
                    prop_assert!(!is_enough(need, free + all));
                }
            }
        }
    }
}
