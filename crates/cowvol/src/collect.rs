//! `cowvol collect`: generations that are no longer current go, with the volumes made on them, once nothing uses them.
//!
//! Only what stands below the current generation of a base that bases.ini names is collected. A higher one waits to be installed,
//! and where bases.ini does not name the base, or cannot be read, nobody knows what is no longer wanted. First the volumes go, then
//! what describes the image, then the image: whatever ends this, no volume is left without its base and no description without its
//! image, and the next call goes on.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use jsonpipe::signals::Deferred;
use jsonpipe::{Answer, Common, Document, Exit, ExitContext, atomic, io_error, signals};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::base::{self, Base};
use crate::overlay::USERS;
use crate::report::{Collected, Collection, Removed, Retained};
use crate::store::{self, Generation};
use crate::{in_use, pool};

/// So many files go while the lock is held once: they stay open, so that their room, which takes time to free, comes free after.
const FILES_AT_ONCE: usize = 256;

/// Collects; in a dry run says what would go. Status 1 when something should have gone and could not be removed.
pub fn collect(common: &Common, dry_run: bool) -> anyhow::Result<Answer> {
    let ending_signals = signals::defer().exit(Exit::Software, || "deferring signals")?;
    let collecting = Collecting { common, also: None };
    let bases = base::read_all(common)?;
    // At the end of a session there is nearly always nothing to do.
    let plan = collecting.plan(&bases)?;
    let collected = if dry_run || plan.removed.is_empty() { plan } else { collecting.run(&ending_signals)? };
    let failed = collected.retained.iter().any(|retained| retained.reason.starts_with(FAILED));
    let mut document = Document::default();
    document.set("collected", &Collection { changed: collected.changed(), collected })?;
    let answer = if failed { Answer::no(document) } else { Answer::yes(document) };
    Ok(answer.holding(ending_signals))
}

/// How the reason begins where removing failed.
const FAILED: &str = "removing it failed: ";

/// One collection.
#[derive(Clone, Copy, Debug)]
pub struct Collecting<'a> {
    /// The machine.
    pub common: &'a Common,
    /// A generation to collect although it may be above the current one: the one that was gone back from.
    pub also: Option<(&'a str, u64)>,
}

/// What one look at the store found.
struct Found {
    to_remove: Vec<((String, u64), Generation)>,
    retained: Vec<Retained>,
    /// While this lives no guest starts.
    quiet: Option<in_use::Quiet>,
}

impl Collecting<'_> {
    /// What would go.
    pub fn plan(&self, bases: &[Base]) -> anyhow::Result<Collected> {
        let found = self.look(bases, true)?;
        let mut collected = Collected { retained: found.retained, ..Collected::default() };
        for ((base, generation), there) in found.to_remove {
            let freed_bytes = there.in_order().filter_map(|path| fs::symlink_metadata(path).ok()).map(|file| room(&file)).sum();
            collected.freed_bytes += freed_bytes;
            collected.removed.push(Removed { base, generation, volumes: there.volumes.len() as u64, freed_bytes });
        }
        Ok(collected)
    }

    /// Removes it. A generation of which something cannot be removed is retained, with the reason.
    pub fn run(&self, ending_signals: &Deferred) -> anyhow::Result<Collected> {
        let mut removed: BTreeMap<(String, u64), Removed> = BTreeMap::new();
        let mut failed: BTreeMap<(String, u64), String> = BTreeMap::new();
        loop {
            let lock = pool::lock(self.common, ending_signals)?;
            let mut found = self.look(&base::read_all(self.common)?, false)?;
            let mut gone = Gone::default();
            for (of, there) in &found.to_remove {
                let entry = || Removed { base: of.0.clone(), generation: of.1, volumes: 0, freed_bytes: 0 };
                if failed.contains_key(of) || gone.is_full() {
                    continue;
                }
                let freed_before = gone.freed_bytes;
                let volumes_before = gone.volumes;
                if let Err(error) = gone.take(there) {
                    failed.insert(of.clone(), format!("{FAILED}{error:#}"));
                }
                let removed = removed.entry(of.clone()).or_insert_with(entry);
                removed.volumes += gone.volumes - volumes_before;
                removed.freed_bytes += gone.freed_bytes - freed_before;
            }
            let more = gone.is_full() && !ending_signals.pending();
            drop(found.quiet.take());
            drop(lock);
            drop(gone); // now their room comes free
            if more {
                continue;
            }
            return Ok(summary(found, removed, failed));
        }
    }

    /// Looks at everything that is not current. Under the lock, unless nothing is written.
    fn look(&self, bases: &[Base], dry_run: bool) -> anyhow::Result<Found> {
        let mut found = Found { to_remove: Vec::new(), retained: Vec::new(), quiet: None };
        let mut quiet = None;
        check_users_directory(self.common)?;
        for ((name, number), there) in store::generations(self.common)? {
            let current = bases.iter().find(|base| base.name == name);
            if current.is_some_and(|current| current.generation == number) {
                continue;
            }
            let reason = match current {
                None => Some("bases.ini does not name this base".into()),
                Some(current) if number > current.generation && self.also != Some((name.as_str(), number)) => Some(format!(
                    "newer than the current generation, {}; cowvol install-base makes it the current one",
                    current.generation
                )),
                Some(current) => match self.reason_to_wait(current, &there)? {
                    Some(reason) => Some(reason),
                    None => {
                        if quiet.is_none() {
                            quiet = Some(in_use::quiet(self.common, dry_run)?);
                        }
                        quiet.as_ref().and_then(|quiet| quiet.as_ref().err().cloned())
                    }
                },
            };
            match reason {
                Some(reason) => found.retained.push(retained((name, number), &there, reason)),
                None => found.to_remove.push(((name, number), there)),
            }
        }
        found.quiet = quiet.and_then(Result::ok);
        Ok(found)
    }

    /// Why a generation below the current one has to wait, apart from what is at work on the machine as a whole.
    fn reason_to_wait(&self, current: &Base, there: &Generation) -> anyhow::Result<Option<String>> {
        if let Err(error) = current.open(self.common) {
            return Ok(Some(format!("the current generation, {}, is not right: {error:#}", current.generation)));
        }
        for path in there.in_order() {
            if in_use::is_locked(path)? {
                let path = path.strip_prefix(&self.common.root).unwrap_or(path); // as seen below it
                return Ok(Some(format!("/{} is in use", path.display())));
            }
        }
        Ok(None)
    }
}

fn retained((base, generation): (String, u64), there: &Generation, reason: String) -> Retained {
    Retained { base, generation, volumes: there.volumes.len() as u64, reason }
}

/// What came of it all. What is left of a generation after the last look was interrupted.
fn summary(found: Found, mut removed: BTreeMap<(String, u64), Removed>, failed: BTreeMap<(String, u64), String>) -> Collected {
    let freed_bytes = removed.values().map(|removed| removed.freed_bytes).sum();
    let mut all_retained = found.retained;
    for (of, there) in found.to_remove {
        let reason = match failed.get(&of) {
            Some(reason) => reason.clone(),
            None if there.in_order().any(|path| fs::symlink_metadata(path).is_ok()) => "interrupted by a signal".into(),
            None => continue,
        };
        removed.remove(&of);
        all_retained.push(retained(of, &there, reason));
    }
    all_retained.sort_by(|a, b| (&a.base, a.generation).cmp(&(&b.base, b.generation)));
    Collected { removed: removed.into_values().collect(), retained: all_retained, freed_bytes }
}

/// Files that have lost their names, and hold their room until they are closed.
#[derive(Default)]
struct Gone {
    files: Vec<File>,
    volumes: u64,
    freed_bytes: u64,
}

impl Gone {
    fn is_full(&self) -> bool {
        self.files.len() >= FILES_AT_ONCE
    }

    /// Takes away a generation, or as much of it as may go at once, each step durable before the next.
    fn take(&mut self, there: &Generation) -> anyhow::Result<()> {
        let mut homes: Vec<&Path> = Vec::new();
        for path in &there.volumes {
            if self.is_full() {
                break;
            }
            self.unlink(path)?;
            self.volumes += 1;
            homes.extend(path.parent().filter(|home| homes.last() != Some(home)));
        }
        for home in homes {
            atomic::sync_directory(home)?;
            match fs::remove_dir(home) {
                Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
                    return Err(io_error(error, Exit::of_write, format_args!("removing directory {}", home.display())));
                }
                _ => {}
            }
        }
        if self.is_full() {
            return Ok(()); // the image goes when the last volume has gone
        }
        for path in &there.files {
            self.unlink(path)?;
            if let Some(directory) = path.parent() {
                atomic::sync_directory(directory)?;
            }
        }
        Ok(())
    }

    /// Takes away a name. What it links to stays.
    fn unlink(&mut self, path: &Path) -> anyhow::Result<()> {
        let failed = |error| io_error(error, Exit::of_write, format_args!("removing {}", path.display()));
        let freed_bytes = room(&fs::symlink_metadata(path).map_err(failed)?);
        // A link cannot be opened so, and has no room to free.
        self.files.extend(OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path));
        fs::remove_file(path).map_err(failed)?;
        self.freed_bytes += freed_bytes;
        Ok(())
    }
}

/// The room that comes free when a name goes: none, while the file has another.
fn room(file: &fs::Metadata) -> u64 {
    if file.is_file() && file.nlink() == 1 { file.blocks() * 512 } else { 0 }
}

/// A link to another place has volumes that are not of these bases.
fn check_users_directory(common: &Common) -> anyhow::Result<()> {
    let users = common.path(USERS);
    if fs::symlink_metadata(&users).is_ok_and(|found| found.is_symlink()) {
        let users = users.display();
        return Err(Exit::Config.error(format_args!("{users}: mount the disk for volumes there instead of linking to it")));
    }
    Ok(())
}
