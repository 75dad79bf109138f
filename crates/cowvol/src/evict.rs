//! Makes room for a volume: plans what goes, then does it.
//!
//! Only under the pool's lock, so that one login at a time plans and acts. A kill between two
//! victims leaves each complete or absent, and the next run plans anew.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use images::bases::Entry;
use jsonpipe::{Common, Exit, ExitContext, Pipe};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use room::{Candidate, Kind, Plan, Short, What};

use crate::backend::{Backend, Item, Stored, VolumeId};
use crate::report::{Evicted, Gone};
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
    /// The volume. None of its user's goes but those in `own_bytes`.
    pub for_whom: &'a VolumeId,
    /// The room that it needs.
    pub need_bytes: u64,
    /// The part of it that volumes of the user have, which are held and go for it.
    pub own_bytes: u64,
}

impl Eviction<'_> {
    /// Makes room, if there is none. Status 73, with nothing removed, if that is impossible.
    pub fn make_room<B: Backend>(&self, backend: &B, pipe: &Pipe) -> anyhow::Result<Vec<Evicted>> {
        if room::is_enough(self.need_bytes, self.free_bytes(backend)?) {
            return Ok(Vec::new());
        }
        let stored = self.stored(backend)?;
        let mut opened = BTreeSet::new();
        let (plan, held) = loop {
            let plan = self.plan(backend, &stored, &opened)?;
            match hold_all(backend, &plan, &stored)? {
                Ok(held) => break (plan, held),
                // A program opened it since the plan looked; nothing has gone yet.
                Err(item) => opened.insert(item),
            };
        };
        let evicted: Vec<Evicted> = plan
            .steps
            .iter()
            .map(|step| {
                let found = found_in(&stored, &step.id)?;
                Ok(evicted(step.what, found, step.freed_bytes))
            })
            .collect::<anyhow::Result<_>>()?;
        event::log(self.common, pipe, "evict", Some(self.for_whom), &evicted);
        for (nth, (step, held)) in plan.steps.iter().zip(held).enumerate() {
            let done = &evicted[nth];
            pipe.note(format_args!(
                "{} {}: {} bytes",
                done.what, step.id.id, done.freed_bytes
            ));
            match step.what {
                What::Release => backend.release(&held).map(drop),
                What::Discard => backend.remove(held).map(drop),
            }
            .map_err(|error| after(nth, error))?;
        }
        Ok(evicted)
    }

    /// What [`make_room`](Eviction::make_room) would do.
    pub fn would_go<B: Backend>(&self, backend: &B) -> anyhow::Result<Vec<Evicted>> {
        if room::is_enough(self.need_bytes, self.free_bytes(backend)?) {
            return Ok(Vec::new());
        }
        let stored = self.stored(backend)?;
        let plan = self.plan(backend, &stored, &BTreeSet::new())?;
        let steps = plan.steps.iter();
        steps
            .map(|step| {
                let found = found_in(&stored, &step.id)?;
                Ok(evicted(step.what, found, step.freed_bytes))
            })
            .collect()
    }

    fn free_bytes<B: Backend>(&self, backend: &B) -> anyhow::Result<u64> {
        Ok(backend.free_bytes()?.saturating_add(self.own_bytes))
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
        opened: &BTreeSet<Item>,
    ) -> anyhow::Result<Plan<Item>> {
        let candidates = stored
            .iter()
            .filter(|stored| !opened.contains(&stored.item))
            .map(|stored| self.candidate(stored))
            .collect();
        let now = seconds(SystemTime::now()).unwrap_or(0);
        let free_bytes = self.free_bytes(backend)?;
        room::plan(self.need_bytes, free_bytes, candidates, now, |item| {
            let found = found_in(stored, item)?;
            backend.is_found_in_use(found).map(|is_in_use| !is_in_use)
        })?
        .map_err(|short| self.refusal(short))
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

    fn refusal(&self, short: Short) -> anyhow::Error {
        let VolumeId {
            base, generation, ..
        } = self.for_whom;
        let Short {
            need_bytes,
            free_bytes,
            freeable_bytes,
        } = short;
        Exit::CantCreate.error(format_args!(
            "making room for {base}@{generation}: {need_bytes} bytes are missing, {free_bytes} are free, and unused volumes have \
             {freeable_bytes}; nothing was removed; give back the room of ended sessions (cowvol release), enlarge the disk for volumes, \
             or take a smaller base"
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

/// Keeps programs from opening what goes; or the first that one has opened.
fn hold_all<B: Backend>(
    backend: &B,
    plan: &Plan<Item>,
    stored: &[Stored],
) -> anyhow::Result<Result<Vec<B::Held>, Item>> {
    // Each is an open file, and there may be thousands.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).exit(Exit::Software, || "getrlimit")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).exit(Exit::Software, || "setrlimit")?;
    }
    let mut all = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let found = found_in(stored, &step.id)?;
        match backend.hold_found(found).context("nothing was removed")? {
            Some(held) => all.push(held),
            None => return Ok(Err(step.id.clone())),
        }
    }
    Ok(Ok(all))
}

/// One of those that are sorted by item.
fn found_in<'a>(stored: &'a [Stored], item: &Item) -> anyhow::Result<&'a Stored> {
    let found = stored.binary_search_by(|stored| stored.item.cmp(item));
    let at = found
        .ok()
        .exit(Exit::Software, || format!("{}: not stored", item.id))?;
    Ok(&stored[at])
}

/// What goes when something is removed.
pub fn gone_with(item: &Item) -> Gone {
    match (item.is_remains, item.id.is_ephemeral) {
        (true, _) => Gone::Remains,
        (false, true) => Gone::Ephemeral,
        (false, false) => Gone::Volume,
    }
}

fn evicted(what: What, Stored { item, state, .. }: &Stored, freed_bytes: u64) -> Evicted {
    let what = match what {
        What::Release => Gone::Reservation,
        What::Discard => gone_with(item),
    };
    Evicted::of(what, &item.id, freed_bytes, state.last_login)
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
