//! What is stored of each generation: the published files, the origin of its volumes, and the volumes.

use std::collections::BTreeMap;

use jsonpipe::Common;

use crate::backend::{Backend, GenerationId, Stored};
use crate::published::{self, Files};
use crate::report::Removed;
use crate::unlinked::Unlinked;

/// What is stored of a generation.
#[derive(Debug, Default)]
pub struct Generation {
    /// The users' volumes on it, including remains of power cuts.
    pub volumes: Vec<Stored>,
    /// The room of the origin that the back end keeps, if it does.
    pub origin_bytes: Option<u64>,
    /// The published files. The image may be missing.
    pub files: Files,
}

/// All generations of which anything is stored.
pub fn all<B: Backend>(
    common: &Common,
    backend: &B,
) -> anyhow::Result<BTreeMap<GenerationId, Generation>> {
    let mut all: BTreeMap<GenerationId, Generation> = BTreeMap::new();
    for (id, files) in published::all(common)? {
        all.entry(id).or_default().files = files;
    }
    for (id, bytes) in backend.origins()? {
        all.entry(id).or_default().origin_bytes = Some(bytes);
    }
    for stored in backend.names()? {
        let there = all.entry(stored.item.id.made_on()).or_default();
        there.volumes.push(stored);
    }
    Ok(all)
}

impl Generation {
    /// What of it a program uses, by its path.
    pub fn used_part<B: Backend>(
        &self,
        id: &GenerationId,
        common: &Common,
        backend: &B,
    ) -> anyhow::Result<Option<String>> {
        for volume in &self.volumes {
            if backend.is_found_in_use(volume)? {
                return Ok(Some(volume.path.clone()));
            }
        }
        match backend.used_origin(id)? {
            Some(path) => Ok(Some(path)),
            None => self.files.in_use(common),
        }
    }

    /// The volumes that [`take`](Generation::take) removes.
    pub fn next_volumes(&self, names: usize) -> &[Stored] {
        &self.volumes[..names.min(self.volumes.len())]
    }

    /// Removes the first remaining part of it, or as much of that as `names` allows: no volume is
    /// ever without its base. Each part is durable before the next one goes.
    pub fn take<B: Backend>(
        &self,
        backend: &B,
        id: &GenerationId,
        unlinked: &mut Unlinked,
        names: &mut usize,
        removed: &mut Removed,
    ) -> anyhow::Result<()> {
        for volume in self.next_volumes(*names) {
            removed.freed_bytes += backend.unlink(volume, unlinked)?;
            removed.volumes += 1;
            *names -= 1;
        }
        if !self.volumes.is_empty() || *names == 0 {
            return Ok(());
        }
        if self.origin_bytes.is_some() {
            removed.freed_bytes += backend.remove_origin(id)?;
            *names -= 1;
            return Ok(());
        }
        let part = self.files.parts().into_iter().find(|part| !part.is_empty());
        for path in part.unwrap_or_default().iter().take(*names) {
            removed.freed_bytes += unlinked.unlink(path)?;
            *names -= 1;
        }
        Ok(())
    }
}
