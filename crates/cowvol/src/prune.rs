//! `cowvol prune`: removes generations that are no longer current, with the volumes made on them,
//! once they are unused.
//!
//! Only generations below the current one of a base in bases.ini are pruned. A higher one waits to
//! be installed; and if bases.ini lacks the base or cannot be read, it is not known which
//! generations are wanted. Volumes are removed first, then the descriptions of the image, then the
//! image: however the run ends, no volume is left without its base and no description without its
//! image, and the next call continues.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use images::POOL_LOCK;
use images::bases::{self, Entry};
use jsonpipe::signals::Deferred;
use jsonpipe::{Answer, Common, Document, Exit, atomic, io_error, lock, signals};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::backend::qcow2::in_use;
use crate::backend::qcow2::overlay::USERS;
use crate::backend::qcow2::store::{self, Generation};
use crate::base;
use crate::report::{Pruned, PrunedSection, Removed, Retained};

/// The maximum number of names removed per holding of the lock. Their files are kept open until it
/// is released.
const FILES_AT_ONCE: usize = 256;

/// Prunes; a dry run reports what would be removed. Status 1 when a removal failed.
pub fn prune(common: &Common, dry_run: bool) -> anyhow::Result<Answer> {
    let ending_signals = signals::defer()?;
    let pruning = Pruning { common, also: None };
    // At the end of a session there is nearly always nothing to do.
    let plan = bases::steadily(common, |bases| pruning.plan(bases))?;
    let pruned = if dry_run || plan.removed.is_empty() {
        plan
    } else {
        pruning.run(&ending_signals)?
    };
    let failed = pruned
        .retained
        .iter()
        .any(|retained| retained.reason.starts_with(FAILED));
    let mut document = Document::default();
    let changed = pruned.changed();
    document.set("pruned", &PrunedSection { changed, pruned })?;
    let answer = if failed {
        Answer::no(document)
    } else {
        Answer::yes(document)
    };
    Ok(answer.staying(changed && !dry_run).holding(ending_signals))
}

/// The beginning of the reason after a failed removal.
const FAILED: &str = "removing it failed: ";

/// One pruning.
#[derive(Clone, Copy, Debug)]
pub struct Pruning<'a> {
    /// The machine.
    pub common: &'a Common,
    /// A generation to prune even if it is above the current one: the one that a downgrade
    /// replaced.
    pub also: Option<(&'a str, u64)>,
}

/// The result of examining the store.
struct Found {
    to_remove: Vec<((String, u64), Generation)>,
    retained: Vec<Retained>,
    /// While this exists, no guest starts.
    quiet: Option<in_use::Quiet>,
}

impl Pruning<'_> {
    /// The generations that would be removed.
    pub fn plan(&self, bases: &[Entry]) -> anyhow::Result<Pruned> {
        let found = self.look(bases, true)?;
        let mut pruned = Pruned {
            retained: found.retained,
            ..Pruned::default()
        };
        for ((base, generation), there) in found.to_remove {
            let freed_bytes = there
                .all()
                .filter_map(|path| fs::symlink_metadata(path).ok())
                .map(|file| room(&file))
                .sum();
            pruned.freed_bytes += freed_bytes;
            let (volumes, linked_path) = (there.volumes.len() as u64, self.linked_path(&there));
            pruned.removed.push(Removed {
                base,
                generation,
                volumes,
                freed_bytes,
                linked_path,
            });
        }
        Ok(pruned)
    }

    /// Removes them. A generation of which a part cannot be removed is retained, with the reason.
    ///
    /// Each step holds the lock only while names are removed; between steps the names are made
    /// durable and the space is freed, which takes longer and delays no login. An error means that
    /// nothing was removed: a failure before a later step is recorded as a reason.
    pub fn run(&self, ending_signals: &Deferred) -> anyhow::Result<Pruned> {
        let (mut removed, mut failed) = (BTreeMap::new(), BTreeMap::new());
        let mut before: Option<Found> = None;
        loop {
            let (found, gone) = match (self.step(&mut removed, &mut failed, ending_signals), before)
            {
                (Ok(step), _) => step,
                (Err(error), None) => return Err(error),
                (Err(error), Some(before)) => {
                    for (of, _) in before
                        .to_remove
                        .iter()
                        .filter(|(_, there)| there.is_there())
                    {
                        failed
                            .entry(of.clone())
                            .or_insert_with(|| format!("{FAILED}{error:#}"));
                    }
                    return Ok(summary(before, removed, failed));
                }
            };
            let was_last = gone.files.is_empty();
            let settled = gone.settle();
            if let Err(error) = &settled {
                failed.extend(
                    found
                        .to_remove
                        .iter()
                        .map(|(of, _)| (of.clone(), format!("{FAILED}{error:#}"))),
                );
            }
            if was_last || settled.is_err() || ending_signals.pending() {
                return Ok(summary(found, removed, failed));
            }
            before = Some(found);
        }
    }

    /// Takes one step with each generation that is being removed and has not failed. Returns the
    /// earlier findings and the removed names.
    fn step(
        &self,
        removed: &mut BTreeMap<(String, u64), Removed>,
        failed: &mut BTreeMap<(String, u64), String>,
        ending_signals: &Deferred,
    ) -> anyhow::Result<(Found, Gone)> {
        let _lock = lock::wait(self.common, POOL_LOCK, ending_signals)?;
        let mut found = self.look(&bases::read(self.common)?, false)?;
        let mut gone = Gone::default();
        for (of, there) in &found.to_remove {
            if failed.contains_key(of) {
                continue;
            }
            let nothing = || {
                let (base, generation) = of.clone();
                Removed {
                    base,
                    generation,
                    volumes: 0,
                    freed_bytes: 0,
                    linked_path: self.linked_path(there),
                }
            };
            if let Err(error) = gone.take(there, removed.entry(of.clone()).or_insert_with(nothing))
            {
                failed.insert(of.clone(), format!("{FAILED}{error:#}"));
            }
        }
        drop(found.quiet.take());
        Ok((found, gone))
    }

    /// Examines every generation that is not current. Under the lock, except in a dry run.
    fn look(&self, bases: &[Entry], dry_run: bool) -> anyhow::Result<Found> {
        let mut found = Found {
            to_remove: Vec::new(),
            retained: Vec::new(),
            quiet: None,
        };
        let mut quiet = None;
        check_users_directory(self.common)?;
        for ((name, number), there) in store::generations(self.common)? {
            let current = bases.iter().find(|base| base.name == name);
            if current.is_some_and(|current| current.generation == number) {
                continue;
            }
            let reason = match current {
                None => Some("bases.ini does not name this base".into()),
                Some(current)
                    if number > current.generation
                        && self.also != Some((name.as_str(), number)) =>
                {
                    Some(format!(
                        "newer than the current generation, {}; cowvol install-base makes it the current one",
                        current.generation
                    ))
                }
                Some(current) => match self.reason_to_wait(current, &there)? {
                    Some(reason) => Some(reason),
                    None => {
                        if quiet.is_none() {
                            quiet = Some(in_use::quiet(self.common, dry_run)?);
                        }
                        quiet
                            .as_ref()
                            .and_then(|quiet| quiet.as_ref().err().cloned())
                    }
                },
            };
            match reason {
                Some(reason) => found
                    .retained
                    .push(retained((name, number), &there, reason)),
                None => found.to_remove.push(((name, number), there)),
            }
        }
        found.quiet = quiet.and_then(Result::ok);
        Ok(found)
    }

    /// The target of a linked image, relative to the root if it is there. It may belong to
    /// something else, so it stays.
    fn linked_path(&self, there: &Generation) -> Option<String> {
        let image = there
            .files
            .iter()
            .find(|path| path.extension().is_some_and(|ending| ending == "qcow2"))?;
        let leads_to = fs::canonicalize(image.is_symlink().then_some(image)?).ok()?;
        let root = fs::canonicalize(&self.common.root).ok()?;
        let below = leads_to
            .strip_prefix(root)
            .map_or_else(|_| leads_to.clone(), |path| Path::new("/").join(path));
        Some(below.to_string_lossy().into_owned())
    }

    /// Why a generation below the current one must wait, apart from activity on the machine as a
    /// whole.
    fn reason_to_wait(
        &self,
        current: &Entry,
        there: &Generation,
    ) -> anyhow::Result<Option<String>> {
        if let Err(error) = base::open(self.common, current) {
            return Ok(Some(format!(
                "the current generation, {}, is not right: {error:#}",
                current.generation
            )));
        }
        for path in there.all() {
            if in_use::is_locked(path)? {
                let path = path.strip_prefix(&self.common.root).unwrap_or(path); // relative to the root
                return Ok(Some(format!("/{} is in use", path.display())));
            }
        }
        Ok(None)
    }
}

fn retained((base, generation): (String, u64), there: &Generation, reason: String) -> Retained {
    Retained {
        base,
        generation,
        volumes: there.volumes.len() as u64,
        reason,
    }
}

/// The result. A generation is removed when nothing is left of it.
fn summary(
    found: Found,
    mut removed: BTreeMap<(String, u64), Removed>,
    failed: BTreeMap<(String, u64), String>,
) -> Pruned {
    let freed_bytes = removed.values().map(|removed| removed.freed_bytes).sum();
    let mut all_retained = found.retained;
    for (of, there) in found.to_remove {
        let interrupted = || there.is_there().then(|| "interrupted by a signal".into());
        if let Some(reason) = failed.get(&of).cloned().or_else(interrupted) {
            all_retained.push(retained(of, &there, reason));
        }
    }
    for kept in &all_retained {
        removed.remove(&(kept.base.clone(), kept.generation));
    }
    all_retained.sort_by(|a, b| (&a.base, a.generation).cmp(&(&b.base, b.generation)));
    Pruned {
        removed: removed.into_values().collect(),
        retained: all_retained,
        freed_bytes,
    }
}

/// Removed names. The files keep their space until they are closed.
#[derive(Default)]
struct Gone {
    /// `None` for a link, which has no space.
    files: Vec<Option<File>>,
    changed: BTreeSet<PathBuf>,
}

impl Gone {
    /// Removes the first remaining step of a generation, or as much of it as is allowed at once.
    fn take(&mut self, there: &Generation, removed: &mut Removed) -> anyhow::Result<()> {
        let Some(step) = there.steps().into_iter().find(|step| !step.is_empty()) else {
            return Ok(());
        };
        for path in step
            .iter()
            .take(FILES_AT_ONCE - self.files.len().min(FILES_AT_ONCE))
        {
            removed.freed_bytes += self.unlink(path)?;
            let Some(directory) = path.parent() else {
                continue;
            };
            self.changed.insert(directory.to_owned());
            if there.volumes.is_empty() {
                continue;
            }
            removed.volumes += 1;
            // A user's directory that has become empty is also removed.
            if fs::remove_dir(directory).is_ok() {
                self.changed.remove(directory);
                self.changed.extend(directory.parent().map(Path::to_owned));
            }
        }
        Ok(())
    }

    /// Removes a name, and counts the space that becomes free. The target of a link stays.
    fn unlink(&mut self, path: &Path) -> anyhow::Result<u64> {
        let failed = |error| {
            io_error(
                error,
                Exit::of_change,
                format_args!("removing {}", path.display()),
            )
        };
        let freed_bytes = room(&fs::symlink_metadata(path).map_err(failed)?);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(O_NOFOLLOW | O_NONBLOCK)
            .open(path);
        fs::remove_file(path).map_err(failed)?;
        self.files.push(file.ok());
        Ok(freed_bytes)
    }

    /// Makes the removals durable, then frees the space.
    fn settle(self) -> anyhow::Result<()> {
        self.changed
            .iter()
            .try_for_each(|directory| atomic::sync_directory(directory))
    }
}

/// The space that the removal of a name frees: none, while the file has another name.
fn room(file: &fs::Metadata) -> u64 {
    if file.is_file() && file.nlink() == 1 {
        file.blocks() * 512
    } else {
        0
    }
}

/// If the directory is a link, its volumes do not belong to these bases.
fn check_users_directory(common: &Common) -> anyhow::Result<()> {
    let users = common.path(USERS);
    if fs::symlink_metadata(&users).is_ok_and(|found| found.is_symlink()) {
        let users = users.display();
        return Err(Exit::Config.error(format_args!(
            "{users}: mount the disk for volumes there instead of linking to it"
        )));
    }
    Ok(())
}
