//! `cowvol install-base`: makes a new generation of a base the current one.
//!
//! Everything is checked and made durable first; the rename of bases.ini is the only step that
//! changes what sessions start from.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::PathBuf;

use images::bases::{self, Entry};
use images::{POOL_LOCK, edit, image_path};
use jsonpipe::signals::Deferred;
use jsonpipe::{Answer, Common, Exit, ExitContext, Pipe, atomic, ini, lock, sabotaged, signals};
use manifest::{Format, Keys, Kind, Signed};

use crate::backend::{Backend, Published};
use crate::prune::Pruning;
use crate::report;
use crate::request::{Image, InstallBase, Transfer};
use crate::verify::Candidate;

/// Switches to the image that the document describes; a dry run checks it and reports the intended
/// changes.
pub fn install<B: Backend>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    options: InstallBase,
) -> anyhow::Result<Answer> {
    let mut document = pipe.document("a document with the sections image and transfer")?;
    let image: Image = document.require("image")?;
    let transfer: Transfer = document.require("transfer")?;
    if transfer.state != "complete" {
        return Ok(Answer::no(document));
    }
    let keys = Keys::read(&common.config("keys"), Kind::Base)?;
    let manifest: manifest::Base =
        Signed::from_base64(&image.manifest, &image.signature)?.verify(&keys)?;
    check_fits(common, &manifest, &transfer)?;
    let new = Entry {
        name: manifest.name.clone(),
        title: manifest.title.clone(),
        ostype: manifest.ostype.clone(),
        default: manifest.default,
        generation: manifest.generation,
    };
    // Before the long reading; repeated once the lock is held, which decides.
    let switch_over = SwitchOver::of(common, &new, options)?;
    if sabotaged("commit-first") {
        switch_over.commit()?;
    }
    let candidate = Candidate::open(common, &manifest)?;
    candidate.check_digest(&manifest)?;
    let installing = Installing {
        common,
        backend,
        pipe,
        options,
        new: &new,
    };
    let done = match options.dry_run {
        true => installing.would_do(&switch_over)?,
        false => installing.run(&candidate, &manifest)?,
    };
    document.set(
        "base",
        &report::Installed {
            changed: done.changed,
            path: image_path(&new.name, new.generation),
            name: new.name,
            generation: new.generation,
            replaced: done.replaced,
            pruned: done.pruned,
        },
    )?;
    Ok(Answer::yes(document).staying(done.changed && !options.dry_run))
}

/// An image that was compared with its manifest, and is to become the current generation.
struct Installing<'a, B> {
    common: &'a Common,
    backend: &'a B,
    pipe: &'a Pipe,
    options: InstallBase,
    new: &'a Entry,
}

/// The result.
struct Done {
    changed: bool,
    replaced: Option<u64>,
    pruned: report::Pruned,
}

impl<B: Backend> Installing<'_, B> {
    /// What [`run`](Installing::run) would do.
    fn would_do(&self, switch_over: &SwitchOver) -> anyhow::Result<Done> {
        let pruned = self.pruning(switch_over).plan(&switch_over.after)?;
        Ok(Done {
            changed: switch_over.changes() || pruned.changed(),
            replaced: switch_over.replaced,
            pruned,
        })
    }

    fn run(&self, candidate: &Candidate, manifest: &manifest::Base) -> anyhow::Result<Done> {
        candidate.sync()?;
        // From here on, a signal ends the process when the machine has either the old generation or
        // the new one.
        let ending_signals = signals::defer()?;
        let published = candidate.published(self.new, manifest);
        let made = self.backend.make_origin(&published, &ending_signals)?;
        let switch_over = self.switch_over(&published, &ending_signals)?;
        let pruned = self.pruning(&switch_over).run(&ending_signals);
        let pruned = pruned.unwrap_or_else(|error| {
            self.pipe.warn(format_args!(
                "removing unused generations: {error:#}; run cowvol prune later"
            ));
            report::Pruned::default()
        });
        Ok(Done {
            changed: made || switch_over.changes() || pruned.changed(),
            replaced: switch_over.replaced,
            pruned,
        })
    }

    /// Makes it the current generation, under the pool's lock. No later failure undoes that.
    fn switch_over(
        &self,
        published: &Published<'_>,
        ending_signals: &Deferred,
    ) -> anyhow::Result<SwitchOver> {
        let Entry {
            name, generation, ..
        } = self.new;
        let _lock = lock::wait(self.common, POOL_LOCK, ending_signals)?;
        let switch_over = SwitchOver::of(self.common, self.new, self.options)?;
        published.check_still_there()?;
        if switch_over.changes() {
            if let Err(error) = switch_over.commit() {
                if !switch_over.is_in_effect() {
                    return Err(error);
                }
                // All removals that follow are behind it in the file system's journal.
                self.pipe.warn(format_args!(
                    "{error:#}; {name} {generation} is the current generation, unless a power cut brings the one before back; \
                     then run cowvol install-base again"
                ));
            }
            self.pipe.note(format_args!(
                "{name} {generation} is the current generation"
            ));
        }
        if let Err(error) = self.backend.name_origins(&switch_over.after) {
            self.pipe
                .warn(format_args!("{error:#}; run cowvol install-base again"));
        }
        Ok(switch_over)
    }

    fn pruning<'b>(&'b self, switch_over: &SwitchOver) -> Pruning<'b, B> {
        Pruning {
            common: self.common,
            backend: self.backend,
            pipe: self.pipe,
            also: switch_over.retired(self.new),
        }
    }
}

/// Checks an image without looking at its file.
fn check_fits(
    common: &Common,
    manifest: &manifest::Base,
    transfer: &Transfer,
) -> anyhow::Result<()> {
    let path = image_path(&manifest.name, manifest.generation);
    for (key, found, expected) in [
        ("path", transfer.path.as_ref(), path),
        (
            "infohash",
            transfer.infohash.as_ref(),
            manifest.infohash.to_string(),
        ),
        (
            "sha256",
            transfer.sha256.as_ref(),
            manifest.sha256.to_string(),
        ),
    ] {
        if found.is_some_and(|found| *found != expected) {
            return Err(Exit::Data.error(format_args!(
                "transfer.{key}: not {expected}, as the manifest says"
            )));
        }
    }
    if manifest.format != Format::Qcow2 {
        let format = manifest.format.as_str();
        return Err(Exit::Data.error(format_args!(
            "image.manifest: a {format} image; a base is qcow2, see qemu-img convert"
        )));
    }
    manifest::check_model(
        model::of_machine(common),
        &manifest.models,
        &format!("install {}", manifest.name),
    )
}

/// The old and the new content of bases.ini.
struct SwitchOver {
    path: PathBuf,
    before: Vec<Entry>,
    after: Vec<Entry>,
    text: String,
    /// The generation that is replaced.
    replaced: Option<u64>,
}

impl SwitchOver {
    /// Status 65 when a higher generation is installed and a downgrade is not allowed.
    fn of(common: &Common, new: &Entry, options: InstallBase) -> anyhow::Result<SwitchOver> {
        let path = common.path(bases::PATH);
        let text = match ini::read_text(&path) {
            Err(error) if Exit::of(&error) == Exit::NoInput => String::new(),
            text => text?,
        };
        let before = bases::parse(&path, &text)?;
        let (text, after) = edit::put_in(&path, &text, new)?;
        let current = before
            .iter()
            .find(|base| base.name == new.name)
            .map(|base| base.generation);
        if let Some(current) =
            current.filter(|current| new.generation < *current && !options.allow_downgrade)
        {
            return Err(Exit::Data.error(format_args!(
                "refusing to install generation {} of {}: {current} is installed; to go back, use --allow-downgrade",
                new.generation, new.name
            )));
        }
        Ok(SwitchOver {
            path,
            before,
            after,
            text,
            replaced: current.filter(|current| *current != new.generation),
        })
    }

    fn changes(&self) -> bool {
        self.before != self.after
    }

    /// Whether bases.ini has the new content: after a failed commit, its rename may have been the last
    /// step that went well.
    fn is_in_effect(&self) -> bool {
        ini::read_text(&self.path).is_ok_and(|text| text == self.text)
    }

    /// The generation to prune, even if it is the higher one.
    fn retired<'a>(&self, new: &'a Entry) -> Option<(&'a str, u64)> {
        self.replaced
            .map(|generation| (new.name.as_str(), generation))
    }

    /// Replaces bases.ini: the switch. If it is a link, its target is replaced, and keeps its
    /// owner.
    fn commit(&self) -> anyhow::Result<()> {
        let (path, mode, owner) =
            match fs::canonicalize(&self.path).and_then(|path| Ok((fs::metadata(&path)?, path))) {
                Ok((found, path)) => (
                    path,
                    found.permissions().mode() & 0o7777,
                    Some((found.uid(), found.gid())),
                ),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    (self.path.clone(), 0o644, None)
                }
                Err(error) => {
                    return Err(error).exit(Exit::Config, || {
                        format!("finding what {} leads to", self.path.display())
                    });
                }
            };
        atomic::write(&path, mode, |file| {
            let made = file.metadata()?;
            if let Some((uid, gid)) = owner.filter(|owner| *owner != (made.uid(), made.gid())) {
                fchown(&*file, Some(uid), Some(gid))?;
            }
            file.write_all(self.text.as_bytes())
        })
    }
}
