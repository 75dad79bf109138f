//! Ephemeral volumes, which end with their session. `release` removes them; after a power cut, so does
//! the next login.

use jsonpipe::{Common, Pipe};

use crate::backend::{Backend, State, Stored, VolumeId};
use crate::report::{Evicted, Gone};
use crate::{event, evict, promise};

/// Those whose session has ended, except one.
pub fn ended<B: Backend>(
    common: &Common,
    backend: &B,
    except: &VolumeId,
) -> anyhow::Result<Vec<Stored>> {
    let mut stored = backend.ephemerals()?;
    if !stored.is_empty() {
        let promised = promise::all(common)?;
        stored.retain(|Stored { item, .. }| {
            item.is_remains || (item.id != *except && !promised.contains(&item.id))
        });
    }
    Ok(stored)
}

/// Removes those that no program has open, and returns what went. Under the pool's lock. What cannot be
/// removed is a warning: the login does not need it.
pub fn remove<B: Backend>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    for_whom: &VolumeId,
) -> Vec<Evicted> {
    let mut gone = Vec::new();
    let mut remove = || -> anyhow::Result<()> {
        for stored in ended(common, backend, for_whom)? {
            if let Some(held) = backend.hold_found(&stored)? {
                let evicted = evict::gone(&stored);
                event::log(
                    common,
                    pipe,
                    "evict",
                    Some(for_whom),
                    std::slice::from_ref(&evicted),
                );
                backend.remove(held)?;
                gone.push(evicted);
            }
        }
        Ok(())
    };
    if let Err(error) = remove() {
        pipe.warn(format_args!("{error:#}; the next release removes it"));
    }
    gone
}

/// What [`remove`] would remove.
pub fn would_go<B: Backend>(
    common: &Common,
    backend: &B,
    for_whom: &VolumeId,
) -> anyhow::Result<Vec<Evicted>> {
    let mut gone = Vec::new();
    for stored in ended(common, backend, for_whom)? {
        if !backend.is_found_in_use(&stored)? {
            gone.push(evict::gone(&stored));
        }
    }
    Ok(gone)
}

/// An ephemeral volume that goes, for the event log.
pub fn gone(id: &VolumeId, state: Option<State>) -> Evicted {
    let freed_bytes = state.map_or(0, |state| state.freeable_bytes);
    let last_login = state.and_then(|state| state.last_login);
    Evicted::of(Gone::Ephemeral, id, freed_bytes, last_login)
}
