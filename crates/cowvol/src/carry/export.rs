//! `cowvol export`: writes a user's volume as a stream.

use std::io::{BufWriter, Write};
use std::path::Path;

use images::{POOL_LOCK, bases};
use jsonpipe::signals::Deferred;
use jsonpipe::{Answer, Common, Document, Exit, Pipe, lock, signals};
use progress::{Progress, Size};

use super::Carrier;
use super::place::{Target, writing};
use super::stream::{Carried, Header, Writer};
use crate::backend::{Item, VolumeId};
use crate::report::{self, Exported};
use crate::request::Export;
use crate::token::Token;
use crate::{TOOL, base, event, promise};

/// Writes it. Status 66 when the user has no volume on the base, 75 when it is in use.
pub fn export<B: Carrier>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    options: &Export,
) -> anyhow::Result<Answer> {
    // Before any lock: a FIFO waits for its reader.
    let target = match options.dry_run {
        true => Target::Nowhere,
        false => Target::open(&options.to)?,
    };
    let ending_signals = signals::defer()?;
    let volume = Volume::hold(common, backend, options, &ending_signals)?;
    // Only a new file is half made until the end. A pipe whose reader stands still would keep the
    // process, and so a signal ends that at once.
    let ending_signals = matches!(target, Target::New(_)).then_some(ending_signals);
    let header = Header::new(&volume.id.token, backend.origin(&volume.base)?);
    let carried = target.write(|to| {
        let to = BufWriter::new(to);
        volume.write(backend, &header, to, &options.to, ending_signals.as_ref())
    })?;

    let carried = report::Carried::of(&volume.id, header.base.virtual_bytes, &carried);
    if !options.dry_run {
        event::log(common, pipe, "export", None, &[&carried]);
    }
    let mut document = Document::default();
    document.set(
        "exported",
        &Exported {
            changed: true,
            user: &options.user,
            carried: &carried,
        },
    )?;
    let answer = Answer::yes(document).staying(!options.dry_run);
    Ok(match ending_signals {
        Some(signals) => answer.holding(signals),
        None => answer,
    })
}

/// A volume that nothing uses, and that nothing can open while this exists.
struct Volume<B: Carrier> {
    id: VolumeId,
    base: B::Base,
    held: B::Held,
}

impl<B: Carrier> Volume<B> {
    fn hold(
        common: &Common,
        backend: &B,
        options: &Export,
        ending_signals: &Deferred,
    ) -> anyhow::Result<Volume<B>> {
        // A dry run writes nothing, not even the lock's file.
        let _lock = match options.dry_run {
            true => None,
            false => Some(lock::wait(common, POOL_LOCK, ending_signals)?),
        };
        let entry = base::choose(bases::read(common)?, options.base.as_deref(), "--base")?;
        let id = VolumeId::of(&Token::of(&options.user), &entry);
        let base = backend.open_base(&entry)?;
        let path = backend.disk_of(&id).path;
        if backend.state(&id)?.is_none() {
            return Err(Exit::NoInput.error(format_args!(
                "exporting {path}: the user has no volume on {}@{} (cowvol list shows where)",
                id.base, id.generation
            )));
        }
        let is_promised = promise::all(common)?.contains(&id);
        let held = match is_promised {
            true => None,
            false => backend.hold(&Item::whole(id.clone()))?,
        };
        let held = held.ok_or_else(|| {
            Exit::TemporaryFailure.error(format_args!(
                "exporting {path}: a session or a program uses it; try again when that has ended \
                 (cowvol release ends what a killed session left)"
            ))
        })?;
        Ok(Volume { id, base, held })
    }

    fn write(
        &self,
        backend: &B,
        header: &Header,
        to: impl Write,
        path: &Path,
        ending_signals: Option<&Deferred>,
    ) -> anyhow::Result<Carried> {
        let failed = |error| writing(path, error);
        let mut stream = Writer::new(to, header).map_err(failed)?;
        let mut progress = Progress::new(TOOL);
        let doing = format!("exporting to {}", path.display());
        let disk_bytes = header.base.virtual_bytes;
        let mut changed_bytes = 0;
        backend.for_each_change(&self.held, &self.base, &mut |offset, content| {
            if ending_signals.is_some_and(Deferred::pending) {
                return Err(Exit::TemporaryFailure.error("exporting: a signal ends it"));
            }
            changed_bytes += content.bytes();
            let more = format!(" looked through, {} changed", Size(changed_bytes));
            progress.show_with(&doing, offset, disk_bytes, more);
            stream.put(offset, content).map_err(failed)
        })?;
        stream.finish().map_err(failed)
    }
}
