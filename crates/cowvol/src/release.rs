//! `cowvol release`: after a session, gives back the room that was reserved for its volume, and removes
//! an ephemeral one.

use std::collections::BTreeSet;

use images::POOL_LOCK;
use jsonpipe::{Answer, Common, Document, Pipe, lock, signals};

use crate::backend::{Backend, Item, VolumeId};
use crate::report::{NotReleased, Released, ReleasedVolume};
use crate::{ephemeral, event, promise};

/// Gives back the room of all volumes that nothing uses; a dry run reports which. Status 1 when one
/// failed: the others give theirs back all the same.
pub fn release<B: Backend>(
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
    let mut released = Released::default();
    for id in reserved(common, backend)? {
        let done = match dry_run {
            true => would_give_back(backend, &id, &mut released),
            false => give_back(common, backend, pipe, &id, &mut released),
        };
        if let Err(error) = done {
            let reason = format!("{error:#}");
            pipe.warn(&reason); // login-session has no use for the document
            released.failed.push(NotReleased::of(&id, reason));
        }
    }
    drop(lock);
    let (changed, failed) = (!released.volumes.is_empty(), !released.failed.is_empty());
    released.changed = changed;
    let mut document = Document::default();
    document.set("released", &released)?;
    let answer = match failed {
        true => Answer::no(document),
        false => Answer::yes(document),
    };
    Ok(answer.staying(changed && !dry_run).holding(ending_signals))
}

fn give_back<B: Backend>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    id: &VolumeId,
    released: &mut Released,
) -> anyhow::Result<()> {
    let Some(found) = backend.stored(&Item::whole(id.clone()))? else {
        promise::withdraw(common, id)?; // it was removed
        return Ok(());
    };
    match backend.hold_found(&found)? {
        None => released.in_use.push(ReleasedVolume::of(id, 0)),
        Some(held) => {
            let freed_bytes = match id.is_ephemeral {
                true => {
                    let gone = ephemeral::gone(id, Some(found.state));
                    event::log(common, pipe, "release", None, &[gone]);
                    backend.remove(held)?
                }
                false => backend.release(&held)?,
            };
            if promise::withdraw(common, id)? || freed_bytes > 0 {
                released.volumes.push(ReleasedVolume::of(id, freed_bytes));
            }
        }
    }
    Ok(())
}

fn would_give_back<B: Backend>(
    backend: &B,
    id: &VolumeId,
    released: &mut Released,
) -> anyhow::Result<()> {
    let Some(found) = backend.stored(&Item::whole(id.clone()))? else {
        return Ok(());
    };
    let freed_bytes = match id.is_ephemeral {
        true => found.state.freeable_bytes,
        false => found.state.reserved_bytes,
    };
    if backend.is_found_in_use(&found)? {
        released.in_use.push(ReleasedVolume::of(id, 0));
    } else {
        released.volumes.push(ReleasedVolume::of(id, freed_bytes));
    }
    Ok(())
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
