//! Makes room for a volume: plans what goes, then does it.
//!
//! Only under the pool's lock, so that one login at a time plans and acts. A kill between two
//! victims leaves each complete or absent, and the next run plans anew.

use std::collections::BTreeSet;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use images::bases::Entry;
use jsonpipe::{Common, Exit, ExitContext, Pipe};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use room::{Candidate, Kind, Plan, Short, What};

use crate::backend::{Backend, Item, Stored, VolumeId};
use crate::report::{Evicted, Gone, NotEvicted};
use crate::settings::Room;
use crate::{event, promise};

/// The room that has to be free for a volume that holds `held_bytes`: what is missing to its whole room,
/// and if that is to be held, what holding it takes.
pub fn need_bytes<B: Backend>(
    backend: &B,
    base: &B::Base,
    room: Room,
    whole_bytes: u64,
    held_bytes: u64,
) -> u64 {
    match room::need_bytes(whole_bytes, held_bytes) {
        0 => 0,
        missing if room.reserve.is_none() => missing + backend.overhead_bytes(base),
        missing => missing,
    }
}

/// What is done for a volume that needs room.
#[derive(Debug)]
pub struct Eviction<'a> {
    /// The machine.
    pub common: &'a Common,
    /// Its bases, which tell the generations that are replaced.
    pub bases: &'a [Entry],
    /// The volume. None of its user's goes.
    pub for_whom: &'a VolumeId,
    /// The room that has to be free for it.
    pub need_bytes: u64,
}

/// What is not planned with: programs have opened it since, or its removal failed.
#[derive(Debug, Default)]
struct Staying {
    items: BTreeSet<Item>,
    failed: Vec<NotEvicted>,
}

impl Staying {
    /// Leaves out what failed. The error, when it is not of this volume alone.
    fn failed(&mut self, found: &Stored, error: anyhow::Error) -> anyhow::Result<()> {
        if !is_of_one_volume(&error) {
            return Err(error);
        }
        self.items.insert(found.item.clone());
        self.failed.push(NotEvicted {
            volume: staying(found),
            reason: format!("{error:#}"),
        });
        Ok(())
    }
}

impl Eviction<'_> {
    /// Makes room, if there is none. Status 73, with nothing removed, if that is impossible. A volume whose
    /// removal fails, such as one that is immutable, stays, with an event, and others go in its place.
    pub fn make_room<B: Backend>(&self, backend: &B, pipe: &Pipe) -> anyhow::Result<Vec<Evicted>> {
        let mut staying = Staying::default();
        let made = self.evict(backend, pipe, &mut staying);
        let for_whom = Some(self.for_whom);
        event::log(self.common, pipe, "evict_failed", for_whom, &staying.failed);
        made
    }

    fn evict<B: Backend>(
        &self,
        backend: &B,
        pipe: &Pipe,
        staying: &mut Staying,
    ) -> anyhow::Result<Vec<Evicted>> {
        let mut all_gone = Vec::new();
        while !self.has_room(backend)? {
            let stored = self.stored(backend)?;
            let plan = self.plan(backend, &stored, staying);
            let plan = plan.map_err(|error| after(all_gone.len(), error))?;
            let Some(held) = hold_all(backend, &plan, &stored, staying)? else {
                continue; // nothing of it has gone yet
            };
            let gone = self.go(backend, pipe, (&plan, held), &stored, staying);
            let gone = gone.map_err(|(nth, error)| after(all_gone.len() + nth, error))?;
            let is_done = gone.len() == plan.steps.len();
            all_gone.extend(gone);
            if is_done {
                break;
            }
        }
        Ok(all_gone)
    }

    /// Does the steps of a plan, and returns what went. An error comes with the number of those before it.
    fn go<B: Backend>(
        &self,
        backend: &B,
        pipe: &Pipe,
        (plan, held): (&Plan<Item>, Vec<B::Held>),
        stored: &[Stored],
        staying: &mut Staying,
    ) -> Result<Vec<Evicted>, (usize, anyhow::Error)> {
        let going = evicted(plan, stored).map_err(|error| (0, error))?;
        event::log(self.common, pipe, "evict", Some(self.for_whom), &going);
        let mut gone = Vec::new();
        for ((step, held), going) in plan.steps.iter().zip(held).zip(going) {
            let (what, bytes) = (going.what, going.freed_bytes);
            pipe.note(format_args!("{what} {}: {bytes} bytes", step.id.id));
            let went = match step.what {
                What::Release => backend.release(&held),
                What::Discard => backend.remove(held),
            };
            match went {
                Ok(_) => gone.push(going),
                Err(error) => found_in(stored, &step.id)
                    .and_then(|found| staying.failed(found, error))
                    .map_err(|error| (gone.len(), error))?,
            }
        }
        Ok(gone)
    }

    /// What [`make_room`](Eviction::make_room) would do.
    pub fn would_go<B: Backend>(&self, backend: &B) -> anyhow::Result<Vec<Evicted>> {
        if self.has_room(backend)? {
            return Ok(Vec::new());
        }
        let stored = self.stored(backend)?;
        let plan = self.plan(backend, &stored, &mut Staying::default())?;
        evicted(&plan, &stored)
    }

    fn has_room<B: Backend>(&self, backend: &B) -> anyhow::Result<bool> {
        Ok(room::is_enough(self.need_bytes, backend.free_bytes()?))
    }

    /// Everything of others whose session has ended, and all remains and ephemeral volumes, also of this
    /// user: they are none of a user's.
    fn stored<B: Backend>(&self, backend: &B) -> anyhow::Result<Vec<Stored>> {
        let promised = promise::all(self.common)?;
        let mut stored = backend.volumes(None)?;
        stored.retain(|Stored { item, .. }| {
            let is_of_another = match item.id.is_ephemeral {
                true => item.id != *self.for_whom,
                false => item.id.token != self.for_whom.token,
            };
            item.is_remains || (is_of_another && !promised.contains(&item.id))
        });
        stored.sort_by(|a, b| a.item.cmp(&b.item));
        Ok(stored)
    }

    fn plan<B: Backend>(
        &self,
        backend: &B,
        stored: &[Stored],
        staying: &mut Staying,
    ) -> anyhow::Result<Plan<Item>> {
        let candidates = stored
            .iter()
            .filter(|stored| !staying.items.contains(&stored.item))
            .map(|stored| self.candidate(stored))
            .collect();
        let now = seconds(SystemTime::now()).unwrap_or(0);
        let free_bytes = backend.free_bytes()?;
        let is_idle = |item: &Item| {
            let found = found_in(stored, item)?;
            match backend.is_found_in_use(found) {
                Ok(is_in_use) => Ok(!is_in_use),
                Err(error) => staying.failed(found, error).map(|()| false),
            }
        };
        let plan = room::plan(self.need_bytes, free_bytes, candidates, now, is_idle)?;
        plan.map_err(|short| self.refusal(short, staying))
    }

    fn candidate(&self, Stored { item, state, .. }: &Stored) -> Candidate<Item> {
        let is_retired = self
            .bases
            .iter()
            .any(|base| base.name == item.id.base && base.generation > item.id.generation);
        Candidate {
            id: item.clone(),
            kind: match (item.is_remains || item.id.is_ephemeral, is_retired) {
                (true, _) => Kind::Remains,
                (false, true) => Kind::Retired,
                (false, false) => Kind::Current,
            },
            held_bytes: state.freeable_bytes,
            // An ephemeral volume goes as a whole.
            stale_bytes: match item.id.is_ephemeral {
                true => 0,
                false => state.reserved_bytes,
            },
            last_login: state.last_login.and_then(seconds),
        }
    }

    fn refusal(&self, short: Short, staying: &Staying) -> anyhow::Error {
        let VolumeId {
            base, generation, ..
        } = self.for_whom;
        let Short {
            need_bytes,
            free_bytes,
            freeable_bytes,
        } = short;
        let failed = staying.failed.iter();
        let failed: String = failed.map(|of| format!("; {}", of.reason)).collect();
        Exit::CantCreate.error(format_args!(
            "making room for {base}@{generation}: {need_bytes} bytes are missing, {free_bytes} are free, and unused volumes have \
             {freeable_bytes}{failed}; nothing was removed; give back the room of ended sessions (cowvol release), enlarge the disk for \
             volumes, or take a smaller base"
        ))
    }
}

/// The error of a step after so many volumes have gone, or given their room back.
pub fn after(evicted: usize, error: anyhow::Error) -> anyhow::Error {
    match evicted {
        0 => error,
        gone => error.context(format!("after {gone} volumes were evicted for it")),
    }
}

/// Keeps programs from opening what goes; `None` when something has to stay.
fn hold_all<B: Backend>(
    backend: &B,
    plan: &Plan<Item>,
    stored: &[Stored],
    staying: &mut Staying,
) -> anyhow::Result<Option<Vec<B::Held>>> {
    // Each is an open file, and there may be thousands.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).exit(Exit::Software, || "getrlimit")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).exit(Exit::Software, || "setrlimit")?;
    }
    let mut all = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let found = found_in(stored, &step.id)?;
        match backend.hold_found(found).context("nothing was removed") {
            Ok(Some(held)) => all.push(held),
            // A program opened it since the plan looked.
            Ok(None) => drop(staying.items.insert(step.id.clone())),
            Err(error) => staying.failed(found, error)?,
        }
    }
    Ok((all.len() == plan.steps.len()).then_some(all))
}

/// One of those that are sorted by item.
fn found_in<'a>(stored: &'a [Stored], item: &Item) -> anyhow::Result<&'a Stored> {
    let found = stored.binary_search_by(|stored| stored.item.cmp(item));
    let at = found
        .ok()
        .exit(Exit::Software, || format!("{}: not stored", item.id))?;
    Ok(&stored[at])
}

/// Whether what failed was one volume, such as an immutable one, and not all of its file system.
pub fn is_of_one_volume(error: &anyhow::Error) -> bool {
    let is_read_only = error.chain().any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::ReadOnlyFilesystem)
    });
    Exit::of(error) == Exit::Io && !is_read_only
}

/// What stays, since its removal failed.
pub fn staying(found: &Stored) -> Evicted {
    Evicted {
        freed_bytes: 0,
        ..gone(found)
    }
}

/// What goes when something is removed.
pub fn gone(Stored { item, state, .. }: &Stored) -> Evicted {
    Evicted::of(
        gone_with(item),
        &item.id,
        state.freeable_bytes,
        state.last_login,
    )
}

fn gone_with(item: &Item) -> Gone {
    match (item.is_remains, item.id.is_ephemeral) {
        (true, _) => Gone::Remains,
        (false, true) => Gone::Ephemeral,
        (false, false) => Gone::Volume,
    }
}

/// What goes by a plan, for the document.
fn evicted(plan: &Plan<Item>, stored: &[Stored]) -> anyhow::Result<Vec<Evicted>> {
    let steps = plan.steps.iter();
    steps
        .map(|step| {
            let gone = gone(found_in(stored, &step.id)?);
            Ok(Evicted {
                what: match step.what {
                    What::Release => Gone::Reservation,
                    What::Discard => gone.what,
                },
                freed_bytes: step.freed_bytes,
                ..gone
            })
        })
        .collect()
}

/// Seconds since 1970, also before.
fn seconds(time: SystemTime) -> Option<i64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).ok(),
        Err(before) => i64::try_from(before.duration().as_secs())
            .ok()
            .map(|before| -before),
    }
}
