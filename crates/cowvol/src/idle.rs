//! Volumes whose users have not come back for the configured time.

mod clock;

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use images::POOL_LOCK;
use jsonpipe::signals::Deferred;
use jsonpipe::{Common, Pipe, lock};

use self::clock::Look;
use crate::backend::{Backend, Item, Stored};
use crate::report::{Evicted, Idle, NotEvicted};
use crate::{event, evict, promise};

/// 2026-01-01, before the first release: a last login from before is one of a clock that was wrong.
const FIRST: Duration = Duration::from_secs(1_767_225_600);

/// What is looked for.
#[derive(Debug)]
pub struct Sweep<'a, B> {
    /// The machine.
    pub common: &'a Common,
    /// Its volumes.
    pub backend: &'a B,
    /// Volumes that are idle for longer go.
    pub days: NonZeroU32,
    /// The clock.
    pub now: SystemTime,
}

impl<B: Backend> Sweep<'_, B> {
    /// Removes them, each under the pool's lock and its own, so that no login waits for all of them.
    /// A failure is a reason in the result. That of one volume, such as of an immutable one, leaves the others to
    /// go; any other ends the sweep.
    pub fn run(&self, pipe: &Pipe, ending_signals: &Deferred) -> Idle {
        let mut idle = Idle::default();
        idle.stopped = match self.sweep(pipe, ending_signals, &mut idle.volumes) {
            Ok(reason) => reason,
            Err(error) => {
                idle.failed = true;
                Some(format!("{error:#}"))
            }
        };
        idle
    }

    /// What [`run`](Sweep::run) would do.
    pub fn plan(&self) -> anyhow::Result<Idle> {
        let mut idle = Idle::default();
        match clock::compare(self.common, self.now)? {
            Look::Later(reason) | Look::AfterJump(reason) => idle.stopped = Some(reason),
            Look::Now => {
                let promised = promise::all(self.common)?;
                for stored in self.candidates()? {
                    let is_promised = promised.contains(&stored.item.id);
                    if !is_promised && !self.backend.is_found_in_use(&stored)? {
                        idle.volumes.push(evict::gone(&stored));
                    }
                }
            }
        }
        Ok(idle)
    }

    fn sweep(
        &self,
        pipe: &Pipe,
        ending_signals: &Deferred,
        gone: &mut Vec<Evicted>,
    ) -> anyhow::Result<Option<String>> {
        match clock::compare(self.common, self.now)? {
            Look::Now => {}
            Look::Later(reason) => return Ok(Some(reason)),
            Look::AfterJump(reason) => {
                clock::leave(self.common)?;
                return Ok(Some(reason));
            }
        }
        let mut failed = None;
        for stored in self.candidates()? {
            if ending_signals.pending() {
                return Ok(Some("interrupted by a signal".into()));
            }
            let _lock = lock::wait(self.common, POOL_LOCK, ending_signals)?;
            match self.remove(&stored.item, pipe) {
                Ok(went) => gone.extend(went),
                Err(error) if evict::is_of_one_volume(&error) => {
                    let staying = NotEvicted {
                        volume: evict::staying(&stored),
                        reason: format!("{error:#}"),
                    };
                    event::log(self.common, pipe, "prune_failed", None, &[staying]);
                    failed.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => clock::leave(self.common).map(|()| None),
        }
    }

    /// Removes one, unless a user has come back to it meanwhile. Under the pool's lock.
    fn remove(&self, item: &Item, pipe: &Pipe) -> anyhow::Result<Option<Evicted>> {
        if promise::all(self.common)?.contains(&item.id) {
            return Ok(None);
        }
        let Some(held) = self.backend.hold(item)? else {
            return Ok(None);
        };
        let found = self.backend.stored(item)?;
        let Some(found) = found.filter(|found| self.is_idle(found.state.last_login)) else {
            return Ok(None);
        };
        let gone = evict::gone(&found);
        pipe.note(format_args!("{} {}", gone.what, item.id));
        event::log(
            self.common,
            pipe,
            "prune",
            None,
            std::slice::from_ref(&gone),
        );
        self.backend.remove(held)?;
        Ok(Some(gone))
    }

    /// The volumes that are idle, the least recently used first.
    fn candidates(&self) -> anyhow::Result<Vec<Stored>> {
        let mut stored = self.backend.volumes(None)?;
        stored.retain(|Stored { item, state, .. }| {
            !item.is_remains && self.is_idle(state.last_login)
        });
        stored.sort_by(|a, b| (a.state.last_login, &a.item).cmp(&(b.state.last_login, &b.item)));
        Ok(stored)
    }

    /// A last login that is not known, lies ahead of the clock, or before all releases, says nothing
    /// about the age.
    fn is_idle(&self, last_login: Option<SystemTime>) -> bool {
        let Some(login) = last_login.filter(|login| *login >= SystemTime::UNIX_EPOCH + FIRST)
        else {
            return false;
        };
        let limit = Duration::from_secs(u64::from(self.days.get()) * 24 * 60 * 60);
        self.now
            .duration_since(login)
            .is_ok_and(|idle| idle > limit)
    }
}
