//! Provides a volume: finds what is there, makes room, then makes, renews, changes or reserves it.

use std::time::SystemTime;

use images::bases::Entry;
use jsonpipe::{Common, Exit, ExitContext, Pipe, sabotaged};

use crate::backend::{Backend, Change, Content, Item, State, VolumeId};
use crate::evict::{self, Eviction, need_bytes};
use crate::points::{self, Decision};
use crate::replace::{Replaced, Replacing};
use crate::report::{Evicted, Gone};
use crate::request::RestoreTo;
use crate::settings::Room;
use crate::{busy, ephemeral, event, promise, restore};

/// A volume that a user is to have.
pub struct Cloning<'a, B: Backend> {
    pub common: &'a Common,
    pub backend: &'a B,
    pub pipe: &'a Pipe,
    pub room: Room,
    pub id: VolumeId,
    pub restore: Option<RestoreTo>,
    pub base: B::Base,
    pub entry: Entry,
    pub bases: Vec<Entry>,
}

/// The result.
pub struct Done {
    pub id: VolumeId,
    pub entry: Entry,
    pub virtual_bytes: u64,
    pub room_bytes: u64,
    pub reserved: bool,
    pub evicted: Vec<Evicted>,
    pub replaced: Vec<Evicted>,
    pub restored: Option<RestoreTo>,
    /// Whether its content or its restore point was changed.
    is_changed: bool,
    /// When its restore point was taken, or why it has none.
    pub point: Result<SystemTime, String>,
    /// `None` when it was made.
    pub before: Option<State>,
    /// `None` when it does not exist, in a dry run.
    pub now: Option<State>,
    /// Whether it was not promised before.
    pub promised: bool,
}

impl Done {
    /// Whether something was done that is not undone.
    pub fn stays(&self) -> bool {
        !self.evicted.is_empty()
            || !self.replaced.is_empty()
            || self.restored.is_some()
            || self.is_changed
    }
}

/// The volume that is there before.
struct Found<H> {
    /// `None` when it does not exist.
    state: Option<State>,
    /// Keeps programs from opening it; `None` in a dry run.
    held: Option<H>,
    /// What becomes of it.
    becomes: Becomes,
}

enum Becomes {
    /// It does not exist, or another one takes its place.
    New,
    /// It is handed out again.
    Kept(Decision),
}

impl<H> Found<H> {
    fn change(&self) -> Option<&Change> {
        match &self.becomes {
            Becomes::New => None,
            Becomes::Kept(decision) => decision.change.as_ref(),
        }
    }

    fn more_bytes(&self) -> u64 {
        match &self.becomes {
            Becomes::New => 0,
            Becomes::Kept(decision) => decision.more_bytes,
        }
    }

    /// What it has and keeps.
    fn kept(&self) -> Option<State> {
        match self.becomes {
            Becomes::New => None,
            Becomes::Kept(_) => self.state,
        }
    }

    /// The room that becomes free because another one takes its place.
    fn freed_bytes(&self) -> u64 {
        match (&self.becomes, self.state) {
            (Becomes::New, Some(state)) => state.freeable_bytes,
            _ => 0,
        }
    }
}

/// Gives a volume the room and the last login that it had before a login.
pub fn set_back<B: Backend>(
    backend: &B,
    held: &B::Held,
    id: &VolumeId,
    before: State,
) -> anyhow::Result<()> {
    if before.reserved_bytes == 0 {
        backend.release(held)?;
    }
    if let Some(login) = before.last_login {
        backend.touch(id, login)?;
    }
    Ok(())
}

impl<B: Backend> Cloning<'_, B> {
    /// What [`run`](Cloning::run) would do.
    pub fn would_do(self) -> anyhow::Result<Done> {
        let found = self.find(true)?;
        let replaced = self.replaced()?;
        let mut evicted = self.eviction(&found, &replaced).would_go(self.backend)?;
        for ended in ephemeral::would_go(self.common, self.backend, &self.id)? {
            if !evicted.contains(&ended) {
                evicted.push(ended);
            }
        }
        let now = found.kept();
        Ok(self.done(found, evicted, replaced.report(), now, false))
    }

    /// Provides it. Under the pool's lock.
    pub fn run(self) -> anyhow::Result<Done> {
        self.backend.finish(&self.id)?;
        let mut found = self.find(false)?;
        let replacing = self.replaced()?.hold(self.backend)?;
        let eviction = self.eviction(&found, replacing.replaced());
        let mut evicted = eviction.make_room(self.backend, self.pipe)?;
        // Before it is there: a volume that has no promise can be taken away.
        let promised = promise::make(self.common, &self.id)?;
        match self.provide(&mut found, replacing) {
            Ok((now, replaced)) => {
                let ended = ephemeral::remove(self.common, self.backend, self.pipe, &self.id);
                evicted.extend(ended);
                Ok(self.done(found, evicted, replaced, Some(now), promised))
            }
            Err(error) => {
                if promised {
                    // The first error is the one to report.
                    let _ = self.take_back(found);
                    let _ = promise::withdraw(self.common, &self.id);
                }
                Err(evict::after(evicted.len(), error))
            }
        }
    }

    /// After a failure, a volume that was there has its room and its last login as before, unless a
    /// program has it open.
    fn take_back(&self, mut found: Found<B::Held>) -> anyhow::Result<()> {
        drop(found.held.take()); // it may not be held twice
        let Some(before) = found.kept() else {
            return Ok(());
        };
        match self.backend.hold(&Item::whole(self.id.clone()))? {
            Some(held) => set_back(self.backend, &held, &self.id, before),
            None => Ok(()),
        }
    }

    /// The whole room of a new volume, or what has to be free in its place.
    fn new_bytes(&self) -> u64 {
        let whole = || self.backend.whole_bytes(&self.base);
        self.room.reserve.unwrap_or_else(whole)
    }

    fn room_bytes(&self, found: &Found<B::Held>) -> u64 {
        self.new_bytes().saturating_add(found.more_bytes())
    }

    /// Whether the room is held.
    fn reserves(&self) -> bool {
        self.room.reserve.is_none()
    }

    fn find(&self, dry_run: bool) -> anyhow::Result<Found<B::Held>> {
        let is_renewed = self.id.is_ephemeral || self.restore == Some(RestoreTo::Clean);
        let state = match is_renewed {
            true => self.backend.state(&self.id)?,
            false => self.backend.find(&self.id, &self.base)?,
        };
        if self.reserves() {
            self.backend.check_can_reserve()?;
        }
        let Some(found) = state else {
            if self.restore == Some(RestoreTo::Yesterday) {
                return Err(restore::no_volume(self.backend, &self.id));
            }
            self.check_is_not_imported()?;
            return Ok(Found {
                state: None,
                held: None,
                becomes: Becomes::New,
            });
        };
        let held = self.hold(dry_run)?;
        if is_renewed {
            self.check_is_not_imported()?;
        }
        let becomes = match is_renewed {
            true => Becomes::New,
            false => {
                let login = points::Login {
                    id: &self.id,
                    found,
                    goes_back: self.restore.is_some(),
                    base: &self.base,
                    room: self.room,
                    room_bytes: self.new_bytes(),
                    now: SystemTime::now(),
                };
                Becomes::Kept(login.decide(self.backend)?)
            }
        };
        Ok(Found {
            state,
            held,
            becomes,
        })
    }

    /// Keeps programs from opening the volume that is there; a dry run only looks. Status 75 when one
    /// has it open: QEMU would not open it a second time.
    fn hold(&self, dry_run: bool) -> anyhow::Result<Option<B::Held>> {
        let item = Item::whole(self.id.clone());
        let held = match dry_run {
            true => None,
            false => self.backend.hold(&item)?,
        };
        if held.is_some() {
            return Ok(held);
        }
        match self.backend.is_in_use(&item)? {
            true => Err(self.busy(busy::PROGRAM_HAS_IT)),
            false if dry_run => Ok(None),
            // On ZFS, soon after the start of the machine.
            false => Err(self.busy("its device is not there yet; try again")),
        }
    }

    /// An import makes its volume under a hidden name, and lets other logins go on meanwhile.
    fn check_is_not_imported(&self) -> anyhow::Result<()> {
        let half_made = Item {
            id: self.id.clone(),
            is_remains: true,
        };
        match self.backend.is_in_use(&half_made)? {
            true => Err(self.busy("it is being imported; try again when that has ended")),
            false => Ok(()),
        }
    }

    fn busy(&self, why: &str) -> anyhow::Error {
        let path = self.backend.disk_of(&self.id).path;
        Exit::TemporaryFailure.error(format_args!(
            "handing out {path}: {why}; nothing was changed"
        ))
    }

    /// The user's volumes that this one replaces.
    fn replaced(&self) -> anyhow::Result<Replaced> {
        match self.id.is_ephemeral {
            true => Ok(Replaced::none()),
            false => Replaced::find(self.common, self.backend, &self.id),
        }
    }

    /// What its user's volumes give up for it counts as free. But they are there until it is made or
    /// changed, which takes some room before.
    fn eviction(&self, found: &Found<B::Held>, replaced: &Replaced) -> Eviction<'_> {
        let held_bytes = found.kept().map_or(0, |state| state.held_bytes);
        let whole_bytes = self.room_bytes(found);
        let need_bytes = need_bytes(self.backend, &self.base, self.room, whole_bytes, held_bytes);
        let own_bytes = replaced.freed_bytes().saturating_add(found.freed_bytes());
        let first_bytes = match &found.becomes {
            Becomes::New if own_bytes == 0 => 0,
            Becomes::New => self.backend.making_bytes(),
            Becomes::Kept(decision) => decision.changing_bytes,
        };
        Eviction {
            common: self.common,
            bases: &self.bases,
            for_whom: &self.id,
            need_bytes: need_bytes.saturating_sub(own_bytes).max(first_bytes),
        }
    }

    /// Makes or changes the volume, removes those that it replaces, and reserves its room. In this
    /// order: cut anywhere, the user has a complete volume, and the next login continues.
    fn provide(
        &self,
        found: &mut Found<B::Held>,
        replacing: Replacing<B::Held>,
    ) -> anyhow::Result<(State, Vec<Evicted>)> {
        let reserve = self.reserves().then(|| self.room_bytes(found));
        if found.state.is_none() && replacing.is_empty() {
            return Ok((self.create(reserve)?, Vec::new()));
        }
        // The room may be that of the volumes to replace, so it is reserved after them.
        let mut make = || self.make(found);
        let remove = || replacing.remove(self.common, self.backend, self.pipe, &self.id);
        let (state, replaced) = if sabotaged("replace-first") {
            let replaced = remove()?;
            (make()?, replaced)
        } else {
            (make()?, remove()?)
        };
        if let Some(bytes) = reserve.filter(|bytes| *bytes > state.held_bytes) {
            self.backend.reserve(&self.id, bytes)?;
        }
        let now = self.backend.touch(&self.id, SystemTime::now())?;
        Ok((now, replaced))
    }

    /// Makes, renews or changes it.
    fn make(&self, found: &mut Found<B::Held>) -> anyhow::Result<State> {
        let Some(state) = found.state else {
            return self.create(None);
        };
        let held = found.held.take();
        if let Some((event, gone)) = self.lost(found, state) {
            event::log(self.common, self.pipe, event, Some(&self.id), &[gone]);
        }
        match (&found.becomes, held) {
            (Becomes::New, Some(held)) => self.backend.renew(held, &self.id, &self.base),
            (
                Becomes::Kept(Decision {
                    change: Some(change),
                    ..
                }),
                Some(held),
            ) => {
                self.backend.change(&held, change)?;
                let changed = self.backend.state(&self.id)?;
                changed.exit(Exit::Software, || format!("{}: it has gone", self.id))
            }
            _ => Ok(state),
        }
    }

    /// What the volume loses, and the event that says so.
    fn lost(&self, found: &Found<B::Held>, state: State) -> Option<(&'static str, Evicted)> {
        if let Some(to) = self.restore {
            return Some(("restore", restore::lost(to, &self.id, state)));
        }
        let what = match (&found.becomes, found.change()) {
            (Becomes::New, _) => Gone::Ephemeral,
            (
                _,
                Some(Change {
                    content: Content::Present,
                    point: None,
                }),
            ) => Gone::RestorePoint,
            _ => return None,
        };
        let freed_bytes = found.freed_bytes();
        Some((
            "evict",
            Evicted::of(what, &self.id, freed_bytes, state.last_login),
        ))
    }

    fn create(&self, reserve: Option<u64>) -> anyhow::Result<State> {
        let disk = self.backend.disk_of(&self.id);
        self.pipe.note(format_args!("making {}", disk.path));
        self.backend.create(&self.id, &self.base, reserve)
    }

    fn done(
        self,
        found: Found<B::Held>,
        evicted: Vec<Evicted>,
        replaced: Vec<Evicted>,
        now: Option<State>,
        promised: bool,
    ) -> Done {
        let is_changed = found.change().is_some();
        Done {
            virtual_bytes: self.backend.virtual_bytes(&self.base),
            room_bytes: self.room_bytes(&found),
            reserved: self.reserves(),
            id: self.id,
            entry: self.entry,
            evicted,
            replaced,
            restored: self.restore.filter(|_| found.state.is_some()),
            is_changed,
            before: found.kept(),
            now,
            promised,
            point: match found.becomes {
                Becomes::New => Err("the volume is new".into()),
                Becomes::Kept(decision) => decision.point,
            },
        }
    }
}
