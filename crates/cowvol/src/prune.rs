//! `cowvol prune`: removes generations that are no longer current, with the volumes made on them,
//! once they are unused; and volumes that have been idle for too long.
//!
//! Only generations below the current one of a base in bases.ini are pruned. A higher one waits to
//! be installed; and if bases.ini lacks the base or cannot be read, it is not known which
//! generations are wanted. Volumes are removed first, then the descriptions of the image, then the
//! image: however the run ends, no volume is left without its base and no description without its
//! image, and the next call continues.

mod examine;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use images::POOL_LOCK;
use images::bases::{self, Entry};
use jsonpipe::signals::Deferred;
use jsonpipe::{Answer, Common, Document, Pipe, lock, signals};

use self::examine::{Found, retained};
use self::stored::Generation;
use crate::backend::{Backend, GenerationId};
use crate::idle::Sweep;
use crate::report::{Evicted, Idle, Pruned, PrunedSection, Removed};
use crate::unlinked::Unlinked;
use crate::{event, evict, settings};

/// Prunes; a dry run reports what would be removed. Status 1 when a removal failed.
pub fn prune<B: Backend>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    dry_run: bool,
) -> anyhow::Result<Answer> {
    if has_nothing(common, backend)? {
        let mut document = Document::default();
        document.set(
            "pruned",
            &PrunedSection::of(Pruned::default(), Idle::default()),
        )?;
        return Ok(Answer::yes(document));
    }
    let ending_signals = signals::defer()?;
    let idle_days = settings::read(common)?.room.idle_days;
    let pruning = Pruning {
        common,
        backend,
        pipe,
        also: None,
    };
    // At the end of a session there is nearly always nothing to do.
    let plan = bases::steadily(common, |bases| pruning.plan(bases))?;
    let pruned = if dry_run || plan.removed.is_empty() {
        plan
    } else {
        pruning.run(&ending_signals)?
    };
    let sweep = idle_days.map(|days| Sweep {
        common,
        backend,
        days,
        now: SystemTime::now(),
    });
    let idle = match sweep {
        None => Idle::default(),
        Some(sweep) if dry_run => sweep.plan()?,
        Some(sweep) => sweep.run(pipe, &ending_signals),
    };
    let failed = idle.failed
        || pruned
            .retained
            .iter()
            .any(|retained| retained.reason.starts_with(FAILED));
    let mut document = Document::default();
    let section = PrunedSection::of(pruned, idle);
    let changed = section.changed;
    document.set("pruned", &section)?;
    let answer = if failed {
        Answer::no(document)
    } else {
        Answer::yes(document)
    };
    Ok(answer.staying(changed && !dry_run).holding(ending_signals))
}

/// Whether the machine waits for its first base: cron also calls it then. Where bases.ini is missing and
/// anything is stored, it was lost.
fn has_nothing<B: Backend>(common: &Common, backend: &B) -> anyhow::Result<bool> {
    let list = common.path(bases::PATH);
    let is_there = list.is_symlink() || list.try_exists().unwrap_or(true); // reading it reports an error
    Ok(!is_there && stored::all(common, backend)?.is_empty())
}

/// The beginning of the reason after a failed removal.
const FAILED: &str = "removing it failed: ";

/// One pruning.
#[derive(Clone, Copy, Debug)]
pub struct Pruning<'a, B> {
    /// The machine.
    pub common: &'a Common,
    /// Its volumes.
    pub backend: &'a B,
    /// Where it warns.
    pub pipe: &'a Pipe,
    /// A generation to prune even if it is above the current one: the one that a downgrade
    /// replaced.
    pub also: Option<(&'a str, u64)>,
}

/// What the steps so far have done.
#[derive(Default)]
struct Done {
    removed: BTreeMap<GenerationId, Removed>,
    /// The reasons of failures.
    failed: BTreeMap<GenerationId, String>,
}

impl<B: Backend> Pruning<'_, B> {
    /// The generations that would be removed.
    pub fn plan(&self, bases: &[Entry]) -> anyhow::Result<Pruned> {
        let found = self.examine(bases, true)?;
        let mut pruned = Pruned {
            retained: found.retained,
            ..Pruned::default()
        };
        for (id, there) in found.to_remove {
            let volumes = there.volumes.iter();
            let freed_bytes = volumes.map(|of| of.state.freeable_bytes).sum::<u64>()
                + there.origin_bytes.unwrap_or(0)
                + there.files.freeable_bytes();
            pruned.freed_bytes += freed_bytes;
            pruned.removed.push(Removed {
                volumes: there.volumes.len() as u64,
                freed_bytes,
                ..self.nothing_of(&id, &there)
            });
        }
        Ok(pruned)
    }

    /// Removes them. A generation of which a part cannot be removed is retained, with the reason.
    ///
    /// Each step holds the lock only while names are removed; between steps the names are made
    /// durable and the space is freed, which takes longer and delays no login. An error means that
    /// nothing was removed: a failure before a later step is recorded as a reason.
    pub fn run(&self, ending_signals: &Deferred) -> anyhow::Result<Pruned> {
        let mut done = Done::default();
        let mut before: Option<Found> = None;
        loop {
            let (found, unlinked) = match (self.step(&mut done, ending_signals), before) {
                (Ok(step), _) => step,
                (Err(error), None) => return Err(error),
                (Err(error), Some(before)) => {
                    let reason = format!("{FAILED}{error:#}");
                    return Ok(self.summary(before, done, &reason));
                }
            };
            let is_last = unlinked.is_none();
            let settled = unlinked.map_or(Ok(()), Unlinked::settle);
            if let Err(error) = &settled {
                let ids = found.to_remove.iter().map(|(id, _)| id.clone());
                done.failed
                    .extend(ids.map(|id| (id, format!("{FAILED}{error:#}"))));
            }
            if is_last || settled.is_err() || ending_signals.pending() {
                return Ok(self.summary(found, done, "interrupted by a signal"));
            }
            before = Some(found);
        }
    }

    /// Takes one step with each generation that is being removed and has not failed. Returns the
    /// earlier findings and the removed names, if there are any.
    fn step(
        &self,
        done: &mut Done,
        ending_signals: &Deferred,
    ) -> anyhow::Result<(Found, Option<Unlinked>)> {
        let _lock = lock::wait(self.common, POOL_LOCK, ending_signals)?;
        let bases = bases::read(self.common)?;
        let mut found = self.examine(&bases, false)?;
        let mut unlinked = Unlinked::default();
        let mut names = B::NAMES_AT_ONCE;
        for (id, there) in &found.to_remove {
            if done.failed.contains_key(id) {
                continue;
            }
            let going: Vec<Evicted> = there.next_volumes(names).iter().map(evict::gone).collect();
            event::log(self.common, self.pipe, "prune", None, &going);
            let removed = done.removed.entry(id.clone());
            let removed = removed.or_insert_with(|| self.nothing_of(id, there));
            if let Err(error) = there.take(self.backend, id, &mut unlinked, &mut names, removed) {
                done.failed.insert(id.clone(), format!("{FAILED}{error:#}"));
            }
        }
        drop(found.quiet.take());
        let is_last = names == B::NAMES_AT_ONCE;
        if is_last {
            // A power cut may have come between a switch-over and this. These names are for people,
            // and cowvol layout shows one that is not right.
            let _ = self.backend.name_origins(&bases);
        }
        Ok((found, (!is_last).then_some(unlinked)))
    }

    /// A generation of which nothing is removed yet.
    fn nothing_of(&self, id: &GenerationId, there: &Generation) -> Removed {
        Removed {
            base: id.base.clone(),
            generation: id.generation,
            volumes: 0,
            freed_bytes: 0,
            linked_path: there.files.linked_path(self.common),
        }
    }

    /// The result. A generation is removed when nothing is left of it; `otherwise` is the reason why
    /// one that has not failed is not.
    fn summary(&self, found: Found, done: Done, otherwise: &str) -> Pruned {
        let Done {
            mut removed,
            failed,
        } = done;
        let freed_bytes = removed.values().map(|removed| removed.freed_bytes).sum();
        let left: BTreeSet<GenerationId> = match stored::all(self.common, self.backend) {
            Ok(left) => left.into_keys().collect(),
            Err(_) => found.to_remove.iter().map(|(id, _)| id.clone()).collect(),
        };
        let mut all_retained = found.retained;
        for (id, there) in found.to_remove {
            let otherwise = || left.contains(&id).then(|| otherwise.to_owned());
            if let Some(reason) = failed.get(&id).cloned().or_else(otherwise) {
                all_retained.push(retained(id, &there, reason));
            }
        }
        for kept in &all_retained {
            removed.remove(&GenerationId {
                base: kept.base.clone(),
                generation: kept.generation,
            });
        }
        all_retained.sort_by(|a, b| (&a.base, a.generation).cmp(&(&b.base, b.generation)));
        Pruned {
            removed: removed.into_values().collect(),
            retained: all_retained,
            freed_bytes,
        }
    }
}
