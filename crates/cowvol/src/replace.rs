//! A user's volumes on retired generations of the chosen base. None is ever booted again: they go
//! when the user gets a volume on the current generation.

use jsonpipe::{Common, Exit, Pipe};

use crate::backend::{Backend, Stored, VolumeId};
use crate::report::{Evicted, Gone};
use crate::{busy, event, evict};

/// The volumes that the user's volume on the current generation replaces.
#[derive(Debug)]
pub struct Replaced {
    stored: Vec<Stored>,
}

/// The same, each kept from programs, so that their room is certain.
#[derive(Debug)]
pub struct Replacing<H> {
    replaced: Replaced,
    held: Vec<H>,
}

impl Replaced {
    /// None: an ephemeral volume replaces nothing.
    pub fn none() -> Replaced {
        Replaced { stored: Vec::new() }
    }

    /// Finds them. Status 75 when one is in use.
    pub fn find<B: Backend>(
        common: &Common,
        backend: &B,
        current: &VolumeId,
    ) -> anyhow::Result<Replaced> {
        let mut stored = backend.volumes(Some(&current.token))?;
        stored.retain(|Stored { item, .. }| {
            let is_retired = item.id.generation < current.generation;
            !item.is_remains && item.id.base == current.base && is_retired
        });
        stored.sort_by(|a, b| a.item.cmp(&b.item));
        for volume in &stored {
            if let Some(why) = busy::why(common, backend, volume)? {
                return Err(in_use(volume, why));
            }
        }
        Ok(Replaced { stored })
    }

    /// Keeps programs from opening them. Under the pool's lock. Status 75 when one is in use.
    pub fn hold<B: Backend>(self, backend: &B) -> anyhow::Result<Replacing<B::Held>> {
        let held = self.stored.iter().map(|volume| {
            let held = backend.hold_found(volume)?;
            held.ok_or_else(|| in_use(volume, busy::PROGRAM_HAS_IT))
        });
        Ok(Replacing {
            held: held.collect::<anyhow::Result<_>>()?,
            replaced: self,
        })
    }

    /// The room that becomes free with them.
    pub fn freed_bytes(&self) -> u64 {
        let of = |stored: &Stored| stored.state.freeable_bytes;
        self.stored.iter().map(of).sum()
    }

    /// What goes, for the document.
    pub fn report(&self) -> Vec<Evicted> {
        self.stored.iter().map(evict::gone).collect()
    }
}

impl<H> Replacing<H> {
    /// The volumes.
    pub fn replaced(&self) -> &Replaced {
        &self.replaced
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Removes them, once the user has a volume on the current generation.
    pub fn remove<B>(
        self,
        common: &Common,
        backend: &B,
        pipe: &Pipe,
        current: &VolumeId,
    ) -> anyhow::Result<Vec<Evicted>>
    where
        B: Backend<Held = H>,
    {
        let gone = self.replaced.report();
        event::log(common, pipe, "replace", Some(current), &gone);
        for (held, Stored { item, .. }) in self.held.into_iter().zip(&self.replaced.stored) {
            pipe.note(format_args!("{} {}", Gone::Volume, item.id));
            backend.remove(held)?;
        }
        Ok(gone)
    }
}

/// The refusal (75) to put another volume in the place of one that is in use.
fn in_use(Stored { path, .. }: &Stored, why: &str) -> anyhow::Error {
    Exit::TemporaryFailure.error(format_args!("replacing {path}: {why}; nothing was changed"))
}
