//! `cowvol clone`: provides the user's volume with its room, and reports its path.

use std::time::SystemTime;

use images::POOL_LOCK;
use images::bases::{self, Entry};
use jsonpipe::{Answer, Common, Exit, ExitContext, Pipe, lock, sabotaged, signals};
use room::need_bytes;

use crate::backend::{Backend, Item, State, VolumeId};
use crate::evict::Eviction;
use crate::replace::{Replaced, Replacing};
use crate::report::Evicted;
use crate::request::{Choice, Login};
use crate::settings::{self, Room};
use crate::token::Token;
use crate::{TOOL, base, promise, report};

/// Makes the volume if it does not exist, otherwise reuses it; a dry run only reports what it would
/// do.
pub fn clone<B>(common: &Common, backend: &B, pipe: &Pipe, dry_run: bool) -> anyhow::Result<Answer>
where
    B: Backend + Clone + 'static,
{
    let mut document = pipe.document("a document with the section login")?;
    let login: Login = document.require("login")?;
    let choice: Choice = document.read("choice")?.unwrap_or_default();
    if !login.authenticated {
        return Ok(Answer::no(document));
    }
    let user = login.user.filter(|user| !user.is_empty());
    let user = user.exit(
        Exit::Data,
        || "login.user: missing or empty, though login.authenticated is true",
    )?;
    let token = Token::of(&user);
    let cloning = |bases: Vec<Entry>| -> anyhow::Result<Cloning<B>> {
        let entry = base::choose(bases.clone(), choice.base.as_deref(), "choice.base")?;
        base::check_model(common, &entry)?;
        Ok(Cloning {
            common,
            backend,
            pipe,
            room: settings::read(common)?.room,
            id: VolumeId::of(&token, &entry),
            base: backend.open_base(&entry)?,
            entry,
            bases,
        })
    };
    let done = if dry_run {
        // A dry run writes nothing, not even the lock's file.
        bases::steadily(common, |bases| cloning(bases.to_vec())?.would_do())?
    } else {
        // From here on, a signal ends the process when the volume is complete or absent.
        let ending_signals = signals::defer()?;
        // While the volume gets its room, no other login plans with the same, its base must not be
        // removed, nor another generation become current. The lock is released before the rest, in
        // particular before the document is read.
        let _lock = lock::wait(common, POOL_LOCK, &ending_signals)?;
        cloning(bases::read(common)?)?.run()?
    };

    let disk = backend.disk_of(&done.id);
    document.set(
        TOOL.section,
        &report::Volume {
            user: &user,
            token: token.as_str(),
            base: &done.entry.name,
            ostype: &done.entry.ostype,
            generation: done.entry.generation,
            backend: disk.backend,
            format: disk.format,
            path: &disk.path,
            backing_path: disk.backing.as_ref().map(|of| of.path.as_str()),
            backing_format: disk.backing.as_ref().map(|of| of.format),
            virtual_bytes: done.virtual_bytes,
            room_bytes: done.room_bytes,
            reserved: done.reserved,
            held_bytes: done.now.map_or(0, |state| state.held_bytes),
            evicted: &done.evicted,
            replaced: &done.replaced,
            created: done.before.is_none(),
            changed: done.before.is_none() || done.has_removed(),
        },
    )?;
    // What was removed is gone, whoever hears of it.
    let stays = !dry_run && done.has_removed();
    let answer = Answer::yes(document).staying(stays);
    let (common, backend) = (common.clone(), backend.clone());
    Ok(match dry_run {
        false => {
            answer.or_undo(move || take_back(&common, &backend, &done.id, done.before, done.now))
        }
        true => answer,
    })
}

/// A volume that a user is to have.
struct Cloning<'a, B: Backend> {
    common: &'a Common,
    backend: &'a B,
    pipe: &'a Pipe,
    room: Room,
    id: VolumeId,
    base: B::Base,
    entry: Entry,
    bases: Vec<Entry>,
}

/// The result.
struct Done {
    id: VolumeId,
    entry: Entry,
    virtual_bytes: u64,
    room_bytes: u64,
    reserved: bool,
    evicted: Vec<Evicted>,
    replaced: Vec<Evicted>,
    /// `None` when it did not exist.
    before: Option<State>,
    /// `None` when it does not exist, in a dry run.
    now: Option<State>,
}

impl Done {
    fn has_removed(&self) -> bool {
        !self.evicted.is_empty() || !self.replaced.is_empty()
    }
}

impl<B: Backend> Cloning<'_, B> {
    /// The whole room that the volume has, or that has to be free in its place.
    fn room_bytes(&self) -> u64 {
        let whole = || self.backend.whole_bytes(&self.base);
        self.room.reserve.unwrap_or_else(whole)
    }

    /// Whether the room is held.
    fn reserves(&self) -> bool {
        self.room.reserve.is_none()
    }

    fn find(&self) -> anyhow::Result<Option<State>> {
        let found = self.backend.find(&self.id, &self.base)?;
        if self.reserves() {
            self.backend.check_can_reserve()?;
        }
        Ok(found)
    }

    fn eviction(&self, found: Option<State>, replaced: &Replaced) -> Eviction<'_> {
        Eviction {
            common: self.common,
            bases: &self.bases,
            for_whom: &self.id,
            need_bytes: need_bytes(self.room_bytes(), found.map_or(0, |state| state.held_bytes)),
            own_bytes: replaced.freed_bytes(),
        }
    }

    fn would_do(self) -> anyhow::Result<Done> {
        let found = self.find()?;
        let replaced = Replaced::find(self.common, self.backend, &self.id)?;
        let evicted = self.eviction(found, &replaced).would_go(self.backend)?;
        Ok(self.done(evicted, replaced.report(), found, found))
    }

    fn run(self) -> anyhow::Result<Done> {
        let found = self.find()?;
        let replacing = Replaced::find(self.common, self.backend, &self.id)?.hold(self.backend)?;
        let eviction = self.eviction(found, replacing.replaced());
        let evicted = eviction.make_room(self.backend, self.pipe)?;
        // Before it is there: a volume that has no promise can be taken away.
        let promised = promise::make(self.common, &self.id)?;
        match self.provide(found, replacing) {
            Ok((now, replaced)) => Ok(self.done(evicted, replaced, found, Some(now))),
            Err(error) => {
                if promised {
                    let _ = promise::withdraw(self.common, &self.id); // the first error is the one to report
                }
                Err(match evicted.len() {
                    0 => error,
                    gone => error.context(format!("after {gone} volumes were evicted for it")),
                })
            }
        }
    }

    /// Makes the volume, removes those that it replaces, and reserves its room. In this order: cut
    /// anywhere, the user has a complete volume, and the next login continues.
    fn provide(
        &self,
        found: Option<State>,
        replacing: Replacing<B::Held>,
    ) -> anyhow::Result<(State, Vec<Evicted>)> {
        let reserve = self.reserves().then(|| self.room_bytes());
        if found.is_none() && replacing.is_empty() {
            return Ok((self.create(reserve)?, Vec::new()));
        }
        // The room may be that of the volumes to replace, so it is reserved after them.
        let make = || found.map_or_else(|| self.create(None), Ok);
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

    fn create(&self, reserve: Option<u64>) -> anyhow::Result<State> {
        let disk = self.backend.disk_of(&self.id);
        self.pipe.note(format_args!("making {}", disk.path));
        self.backend.create(&self.id, &self.base, reserve)
    }

    fn done(
        self,
        evicted: Vec<Evicted>,
        replaced: Vec<Evicted>,
        before: Option<State>,
        now: Option<State>,
    ) -> Done {
        Done {
            virtual_bytes: self.backend.virtual_bytes(&self.base),
            room_bytes: self.room_bytes(),
            reserved: self.reserves(),
            id: self.id,
            entry: self.entry,
            evicted,
            replaced,
            before,
            now,
        }
    }
}

/// Undoes what was not reported: a volume that was made goes, and another one gives its room back
/// and has its last login again. It stays as it is if another call has handed it out meanwhile, which
/// changes its last login, or if a program has it open.
fn take_back<B: Backend>(
    common: &Common,
    backend: &B,
    id: &VolumeId,
    before: Option<State>,
    made: Option<State>,
) {
    let undo = || -> anyhow::Result<()> {
        let signals = signals::defer()?;
        let _lock = lock::wait(common, POOL_LOCK, &signals)?;
        if backend.state(id)? != made {
            return Ok(());
        }
        let Some(held) = backend.hold(&Item::whole(id.clone()))? else {
            return Ok(());
        };
        match before {
            None => drop(backend.remove(held)?),
            Some(before) => {
                if before.reserved_bytes == 0 {
                    backend.release(&held)?;
                }
                if let Some(login) = before.last_login {
                    backend.touch(id, login)?;
                }
            }
        }
        promise::withdraw(common, id)?;
        Ok(())
    };
    let _ = undo(); // the caller reports the original error
}
