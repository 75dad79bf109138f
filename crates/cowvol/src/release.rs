//! `cowvol release`: after a session, gives back the room that was reserved for its volume, and removes
//! an ephemeral one.

use std::collections::BTreeSet;

use images::POOL_LOCK;
use jsonpipe::signals::Deferred;
use jsonpipe::{Answer, Common, Document, Pipe, lock, signals};

use crate::backend::{Backend, Item, VolumeId};
use crate::report::{Released, ReleasedVolume};
use crate::{ephemeral, event, promise};

/// Gives back the room of all volumes that nothing uses; a dry run reports which.
pub fn release<B: Backend>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    dry_run: bool,
) -> anyhow::Result<Answer> {
    let ending_signals = signals::defer()?;
    let released = if dry_run {
        would_give_back(common, backend)?
    } else {
        give_back(common, backend, pipe, &ending_signals)?
    };
    let changed = released.changed;
    let mut document = Document::default();
    document.set("released", &released)?;
    Ok(Answer::yes(document)
        .staying(changed && !dry_run)
        .holding(ending_signals))
}

fn give_back<B: Backend>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    ending_signals: &Deferred,
) -> anyhow::Result<Released> {
    let _lock = lock::wait(common, POOL_LOCK, ending_signals)?;
    let mut released = Released::default();
    for id in reserved(common, backend)? {
        let state = backend.state(&id)?;
        match backend.hold(&Item::whole(id.clone()))? {
            None if state.is_some() => released.in_use.push(ReleasedVolume::of(&id, 0)),
            None => drop(promise::withdraw(common, &id)?), // it was removed
            Some(held) => {
                let freed_bytes = match id.is_ephemeral {
                    true => {
                        let gone = ephemeral::gone(&id, state);
                        event::log(common, pipe, "release", None, &[gone]);
                        backend.remove(held)?
                    }
                    false => backend.release(&held)?,
                };
                if promise::withdraw(common, &id)? || freed_bytes > 0 {
                    released.volumes.push(ReleasedVolume::of(&id, freed_bytes));
                }
            }
        }
    }
    released.changed = !released.volumes.is_empty();
    Ok(released)
}

fn would_give_back<B: Backend>(common: &Common, backend: &B) -> anyhow::Result<Released> {
    let mut released = Released::default();
    for id in reserved(common, backend)? {
        let Some(state) = backend.state(&id)? else {
            continue;
        };
        let freed_bytes = match id.is_ephemeral {
            true => state.freeable_bytes,
            false => state.reserved_bytes,
        };
        let volume = ReleasedVolume::of(&id, freed_bytes);
        if backend.is_in_use(&Item::whole(id))? {
            released.in_use.push(ReleasedVolume {
                freed_bytes: 0,
                ..volume
            });
        } else {
            released.volumes.push(volume);
        }
    }
    released.changed = !released.volumes.is_empty();
    Ok(released)
}

/// The volumes that are promised, or for which room is held, and the ephemeral ones.
fn reserved<B: Backend>(common: &Common, backend: &B) -> anyhow::Result<BTreeSet<VolumeId>> {
    let mut reserved = promise::all(common)?;
    for stored in backend.volumes(None)? {
        let gives = stored.state.reserved_bytes > 0 || stored.item.id.is_ephemeral;
        if gives && !stored.item.is_remains {
            reserved.insert(stored.item.id);
        }
    }
    Ok(reserved)
}
