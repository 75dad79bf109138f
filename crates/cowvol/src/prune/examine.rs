//! Which generations can go, and why the others stay.

use images::bases::Entry;

use super::Pruning;
use super::stored::{self, Generation};
use crate::backend::{Backend, GenerationId};
use crate::quiet::{self, Quiet, Reason};
use crate::report::Retained;

/// The result of examining the store.
pub struct Found {
    /// The generations that can go.
    pub to_remove: Vec<(GenerationId, Generation)>,
    /// Those that stay and are not current.
    pub retained: Vec<Retained>,
    /// While this exists, no guest starts.
    pub quiet: Option<Quiet>,
}

impl<B: Backend> Pruning<'_, B> {
    /// Examines every generation that is not current. Under the lock, except in a dry run.
    pub fn examine(&self, bases: &[Entry], dry_run: bool) -> anyhow::Result<Found> {
        let (mut to_remove, mut retained) = (Vec::new(), Vec::new());
        let mut quiet = None;
        for (id, there) in stored::all(self.common, self.backend)? {
            let current = bases.iter().find(|base| base.name == id.base);
            if current.is_some_and(|current| current.generation == id.generation) {
                continue;
            }
            let reason = match self.reason_to_keep(current, &id, &there)? {
                Some(reason) => Some(reason),
                None => {
                    if quiet.is_none() {
                        quiet = Some(quiet::ensure(self.common, dry_run)?);
                    }
                    quiet
                        .as_ref()
                        .and_then(|quiet| quiet.as_ref().err().cloned())
                }
            };
            match reason {
                Some(reason) => retained.push(self::retained(id, &there, reason)),
                None => to_remove.push((id, there)),
            }
        }
        Ok(Found {
            to_remove,
            retained,
            quiet: quiet.and_then(Result::ok),
        })
    }

    /// Why a generation stays, apart from activity on the machine as a whole.
    fn reason_to_keep(
        &self,
        current: Option<&Entry>,
        id: &GenerationId,
        there: &Generation,
    ) -> anyhow::Result<Option<Reason>> {
        let Some(current) = current else {
            return Ok(Some("bases.ini does not name this base".into()));
        };
        let generation = current.generation;
        let is_wanted = self.also == Some((id.base.as_str(), id.generation));
        if id.generation > generation && !is_wanted {
            return Ok(Some(format!(
                "newer than the current generation, {generation}; cowvol install-base makes it the current one"
            )));
        }
        if let Err(error) = self.backend.open_base(current) {
            return Ok(Some(format!(
                "the current generation, {generation}, is not right: {error:#}"
            )));
        }
        let used = there.used_part(id, self.common, self.backend)?;
        Ok(used.map(|path| format!("{path} is in use")))
    }
}

/// A generation that stays.
pub fn retained(id: GenerationId, there: &Generation, reason: Reason) -> Retained {
    Retained {
        base: id.base,
        generation: id.generation,
        volumes: there.volumes.len() as u64,
        reason,
    }
}
