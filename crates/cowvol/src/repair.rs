//! `cowvol repair`: mends what is safe to mend, and names the rest. No user's files go.

use std::fs;

use images::POOL_LOCK;
use jsonpipe::{Answer, Common, Document, Exit, Pipe, io_error, lock, signals};

use crate::backend::{Backend, Item, Stored, StrayKind, VolumeId};
use crate::check::{Depth, bases_remains, look};
use crate::fault::What;
use crate::report::Repaired;
use crate::{ephemeral, event, evict, promise};

/// Repairs; a dry run reports what it would do. Status 1 when faults are left.
pub fn repair<B: Backend>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    dry_run: bool,
) -> anyhow::Result<Answer> {
    let ending_signals = signals::defer()?;
    // A dry run writes nothing, not even the lock's file.
    let lock = match dry_run {
        true => None,
        false => Some(lock::wait(common, POOL_LOCK, &ending_signals)?),
    };
    let mending = Mending {
        common,
        backend,
        pipe,
    };
    let (mut repaired, mut left) = (Vec::new(), Vec::new());
    for mut fault in look(common, backend, Depth::Content)? {
        let mended = match dry_run {
            true => mending.would_mend(&fault.what),
            false => mending.mend(&fault.what),
        };
        match mended {
            Ok(true) => repaired.push(fault.report()),
            Ok(false) => left.push(fault.report()),
            Err(error) => {
                fault.reason = format!("{}; {error:#}", fault.reason);
                left.push(fault.report());
            }
        }
    }
    drop(lock);
    let (changed, is_left) = (!repaired.is_empty(), !left.is_empty());
    let mut document = Document::default();
    let section = Repaired {
        changed,
        repaired,
        left,
    };
    document.set("repaired", &section)?;
    let answer = match is_left {
        true => Answer::no(document),
        false => Answer::yes(document),
    };
    Ok(answer.staying(changed && !dry_run).holding(ending_signals))
}

/// Under the pool's lock.
struct Mending<'a, B> {
    common: &'a Common,
    backend: &'a B,
    pipe: &'a Pipe,
}

impl<B: Backend> Mending<'_, B> {
    /// Whether it is mended.
    fn mend(&self, what: &What) -> anyhow::Result<bool> {
        match what {
            What::HalfMade(stored) => self.remove_remains(stored),
            What::HalfMadeList => self.remove_half_made_list(),
            What::Stray(stray) if stray.kind == StrayKind::EmptyDirectory => {
                self.backend.clear(stray).map(|()| true)
            }
            What::Promise(id) | What::Room(id) => self.give_back(id),
            What::Reservation(id, whole_bytes) => self.reserve(id, *whole_bytes),
            What::Stray(_) | What::Volume(_) | What::Base | What::Generation => Ok(false),
        }
    }

    fn would_mend(&self, what: &What) -> anyhow::Result<bool> {
        match what {
            What::HalfMade(_) | What::HalfMadeList | What::Promise(_) | What::Room(_) => Ok(true),
            What::Stray(stray) => Ok(stray.kind == StrayKind::EmptyDirectory),
            What::Reservation(id, whole_bytes) => self.is_room_for(id, *whole_bytes),
            What::Volume(_) | What::Base | What::Generation => Ok(false),
        }
    }

    fn remove_remains(&self, remains: &Stored) -> anyhow::Result<bool> {
        let Some(held) = self.backend.hold_found(remains)? else {
            return Ok(false); // a program has opened it
        };
        let gone = evict::gone(remains);
        event::log(self.common, self.pipe, "repair", None, &[gone]);
        self.backend.remove(held)?;
        Ok(true)
    }

    /// bases.ini is only written under the pool's lock.
    fn remove_half_made_list(&self) -> anyhow::Result<bool> {
        let path = self.common.path(bases_remains());
        fs::remove_file(&path).map_err(|error| {
            io_error(
                error,
                Exit::of_change,
                format_args!("removing {}", path.display()),
            )
        })?;
        Ok(true)
    }

    fn give_back(&self, id: &VolumeId) -> anyhow::Result<bool> {
        if let Some(found) = self.backend.stored(&Item::whole(id.clone()))? {
            let Some(held) = self.backend.hold_found(&found)? else {
                return Ok(false); // a program has opened it
            };
            match id.is_ephemeral {
                true => {
                    let gone = ephemeral::gone(id, Some(found.state));
                    event::log(self.common, self.pipe, "repair", None, &[gone]);
                    self.backend.remove(held)?
                }
                false => self.backend.release(&held)?,
            };
        }
        promise::withdraw(self.common, id)?;
        Ok(true)
    }

    fn reserve(&self, id: &VolumeId, whole_bytes: u64) -> anyhow::Result<bool> {
        if !self.is_room_for(id, whole_bytes)? {
            return Ok(false);
        }
        self.backend.reserve(id, whole_bytes)?;
        Ok(true)
    }

    fn is_room_for(&self, id: &VolumeId, whole_bytes: u64) -> anyhow::Result<bool> {
        let state = self.backend.state(id)?;
        let held_bytes = state.map_or(0, |state| state.held_bytes);
        let need_bytes = room::need_bytes(whole_bytes, held_bytes);
        Ok(room::is_enough(need_bytes, self.backend.free_bytes()?))
    }
}
