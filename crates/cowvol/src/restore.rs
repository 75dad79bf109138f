//! `cowvol restore`: gives a user's volume the content of its restore point, or of its base.

use std::time::SystemTime;

use images::POOL_LOCK;
use images::bases;
use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Pipe, lock, signals, timestamp};

use crate::backend::{Backend, Change, Content, Item, State, VolumeId};
use crate::evict::Eviction;
use crate::report::{Evicted, Gone, Restored};
use crate::request::{Restore, RestoreTo};
use crate::token::Token;
use crate::{base, busy, event, evict};

/// Restores it; a dry run reports whether that is possible. Status 66 when there is no such volume or
/// restore point, 65 when it is to go back and is not a volume on its base, 75 when the volume is in
/// use, 73 when there is no room for the new tables.
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
    let bases = bases::read(common)?;
    let entry = base::choose(bases.clone(), options.base.as_deref(), "--base")?;
    let id = VolumeId::of(&token, &entry);
    let path = backend.disk_of(&id).path;
    if !options.dry_run {
        backend.finish(&id)?;
    }
    let found = backend.stored(&Item::whole(id.clone()))?;
    let found = found.ok_or_else(|| no_volume(backend, &id))?;
    if let Some(why) = busy::why(common, backend, &found)? {
        return Err(in_use(&path, why));
    }
    let base = backend.open_base(&entry)?;
    let point = match options.to {
        RestoreTo::Yesterday => {
            backend.find(&id, &base)?; // it stays on its base, so it has to be on it
            Some(point_of(backend, &id)?)
        }
        RestoreTo::Clean => None,
    };
    let content = match options.to {
        RestoreTo::Yesterday => To::Point(Change {
            content: Content::Point,
            point,
        }),
        RestoreTo::Clean => To::Base(base),
    };
    // What the volume gives up is free only when it has its new content.
    let eviction = Eviction {
        common,
        bases: &bases,
        for_whom: &id,
        need_bytes: match &content {
            To::Point(change) => backend.changing_bytes(&id, change)?,
            To::Base(_) => backend.making_bytes(),
        },
    };
    let evicted = match options.dry_run {
        true => eviction.would_go(backend)?,
        false => {
            let held = backend.hold_found(&found)?;
            let held = held.ok_or_else(|| in_use(&path, busy::PROGRAM_HAS_IT))?;
            let evicted = eviction.make_room(backend, pipe)?;
            event::log(
                common,
                pipe,
                "restore",
                None,
                &[lost(options.to, &id, found.state)],
            );
            give(backend, held, &id, &content, found.state)
                .map_err(|error| evict::after(evicted.len(), error))?;
            evicted
        }
    };
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
            evicted: &evicted,
        },
    )?;
    Ok(Answer::yes(document)
        .staying(!options.dry_run)
        .holding(ending_signals))
}

/// What a volume is restored to.
enum To<B> {
    Point(Change),
    Base(B),
}

/// Gives a volume that content. Its last login stays.
fn give<B: Backend>(
    backend: &B,
    held: B::Held,
    id: &VolumeId,
    content: &To<B::Base>,
    found: State,
) -> anyhow::Result<()> {
    match content {
        To::Point(change) => backend.change(&held, change),
        To::Base(base) => {
            backend.renew(held, id, base)?;
            if let Some(login) = found.last_login {
                backend.touch(id, login)?;
            }
            Ok(())
        }
    }
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

/// The refusal (66) to restore what does not exist.
pub fn no_volume<B: Backend>(backend: &B, id: &VolumeId) -> anyhow::Error {
    let path = backend.disk_of(id).path;
    Exit::NoInput.error(format_args!(
        "restoring {path}: the user has no such volume here; cowvol list --user shows which there are"
    ))
}

/// The refusal (75) to restore a volume that is in use.
fn in_use(path: &str, why: &str) -> anyhow::Error {
    Exit::TemporaryFailure.error(format_args!("restoring {path}: {why}; nothing was changed"))
}
