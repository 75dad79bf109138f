//! `cowvol restore`: gives a user's volume the content of its restore point, or of its base.

use std::time::SystemTime;

use images::POOL_LOCK;
use images::bases;
use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Pipe, lock, signals, timestamp};

use crate::backend::{Backend, Change, Content, Item, State, VolumeId};
use crate::replace::{PROGRAM_HAS_IT, SESSION_NOT_ENDED};
use crate::report::{Evicted, Gone, Restored};
use crate::request::{Restore, RestoreTo};
use crate::token::Token;
use crate::{base, event, promise};

/// Restores it; a dry run reports whether that is possible. Status 66 when there is no such volume or
/// restore point, 75 when the volume is in use.
pub fn restore<B: Backend>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    options: &Restore,
) -> anyhow::Result<Answer> {
    let ending_signals = signals::defer()?;
    let token = Token::of(&options.user);
    let _lock = match options.dry_run {
        true => None,
        false => Some(lock::wait(common, POOL_LOCK, &ending_signals)?),
    };
    let entry = base::choose(bases::read(common)?, options.base.as_deref(), "--base")?;
    let id = VolumeId::of(&token, &entry);
    let path = backend.disk_of(&id).path;
    if !options.dry_run {
        backend.finish(&id)?;
    }
    let found = backend.state(&id)?;
    let found = found.ok_or_else(|| no_volume(backend, &id))?;
    check_session_has_ended(common, backend, &id)?;
    let point = match options.to {
        RestoreTo::Yesterday => Some(point_of(backend, &id)?),
        RestoreTo::Clean => None,
    };
    if !options.dry_run {
        let held = backend.hold(&Item::whole(id.clone()))?;
        let held = held.ok_or_else(|| in_use(&path, PROGRAM_HAS_IT))?;
        let opened = match options.to {
            RestoreTo::Yesterday => None,
            RestoreTo::Clean => Some(backend.open_base(&entry)?),
        };
        let gone = lost(options.to, &id, found);
        event::log(common, pipe, "restore", None, &[gone]);
        match opened {
            None => backend.change(
                &held,
                &Change {
                    content: Content::Point,
                    point,
                },
            )?,
            Some(base) => {
                backend.renew(held, &id, &base)?;
                if let Some(login) = found.last_login {
                    backend.touch(&id, login)?;
                }
            }
        }
    }
    let mut document = Document::default();
    document.set(
        "restored",
        &Restored {
            changed: true,
            user: &options.user,
            token: token.as_str(),
            base: &entry.name,
            generation: entry.generation,
            to: options.to,
            restore_point_at: point.map(timestamp::rfc3339),
        },
    )?;
    Ok(Answer::yes(document)
        .staying(!options.dry_run)
        .holding(ending_signals))
}

/// What a volume loses when it is restored, for the event log.
pub fn lost(to: RestoreTo, id: &VolumeId, found: State) -> Evicted {
    match to {
        RestoreTo::Yesterday => Evicted::of(Gone::Writes, id, 0, found.last_login),
        RestoreTo::Clean => Evicted::of(Gone::Volume, id, found.freeable_bytes, found.last_login),
    }
}

/// When the restore point of a volume was taken. Status 66 when it has none.
pub fn point_of<B: Backend>(backend: &B, id: &VolumeId) -> anyhow::Result<SystemTime> {
    let point = backend.point(id)?;
    point.exit(Exit::NoInput, || {
        let path = backend.disk_of(id).path;
        format!("restoring {path}: it has no restore point; it can be restored to clean")
    })
}

fn check_session_has_ended<B: Backend>(
    common: &Common,
    backend: &B,
    id: &VolumeId,
) -> anyhow::Result<()> {
    let path = backend.disk_of(id).path;
    if backend.is_in_use(&Item::whole(id.clone()))? {
        return Err(in_use(&path, PROGRAM_HAS_IT));
    }
    if promise::all(common)?.contains(id) {
        return Err(in_use(&path, SESSION_NOT_ENDED));
    }
    Ok(())
}

/// The refusal (66) to restore what does not exist.
pub fn no_volume<B: Backend>(backend: &B, id: &VolumeId) -> anyhow::Error {
    let path = backend.disk_of(id).path;
    Exit::NoInput.error(format_args!(
        "restoring {path}: the user has no such volume here"
    ))
}

/// The refusal (75) to restore a volume that is in use.
pub fn in_use(path: &str, why: &str) -> anyhow::Error {
    Exit::TemporaryFailure.error(format_args!("restoring {path}: {why}; nothing was changed"))
}
