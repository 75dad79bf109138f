//! `cowvol discard`: removes the volumes of one user, who then starts afresh.

use images::POOL_LOCK;
use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Pipe, lock, signals};

use crate::backend::{Backend, Stored};
use crate::report::{Discarded, Evicted};
use crate::request::Discard;
use crate::{busy, event, evict};

/// Removes them. Status 75, with nothing removed, when a program or a session has one; 1 when one could
/// not be removed, or a power cut may bring one back.
pub fn discard<B: Backend>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    options: &Discard,
) -> anyhow::Result<Answer> {
    let ending_signals = signals::defer()?;
    let token = options.whose.token();
    let token = token.exit(Exit::Software, || "neither a name nor a token")?;
    let lock = match options.dry_run {
        true => None,
        false => Some(lock::wait(common, POOL_LOCK, &ending_signals)?),
    };
    let mut stored = backend.volumes(Some(&token))?;
    stored.retain(|Stored { item, .. }| {
        let base = options.base.as_ref();
        base.is_none_or(|base| *base == item.id.base)
    });
    stored.sort_by(|a, b| a.item.cmp(&b.item));
    let mut held = Vec::new();
    for volume in &stored {
        if let Some(why) = busy::why(common, backend, volume)? {
            return Err(in_use(volume, why));
        }
        if !options.dry_run {
            let of = backend.hold_found(volume)?;
            held.push(of.ok_or_else(|| in_use(volume, busy::PROGRAM_HAS_IT))?);
        }
    }
    let mut volumes: Vec<Evicted> = stored.iter().map(evict::gone).collect();
    let mut failed = Vec::new();
    if !options.dry_run {
        event::log(common, pipe, "discard", None, &volumes);
        let mut removed = Vec::new();
        for (held, gone) in held.into_iter().zip(volumes) {
            match backend.remove(held) {
                Ok(_) => removed.push(gone),
                // ZFS keeps a volume that a program reads without a lock.
                Err(error)
                    if removed.is_empty()
                        && failed.is_empty()
                        && Exit::of(&error) == Exit::TemporaryFailure =>
                {
                    return Err(error.context("nothing was removed"));
                }
                Err(error) => failed.push(format!("{error:#}")),
            }
        }
        // The files are private: a power cut must not bring back what was reported as gone.
        if let Err(error) = backend.settle(&token) {
            failed.push(format!("{error:#}"));
        }
        volumes = removed;
    }
    drop(lock);
    let changed = !volumes.is_empty();
    if stored.is_empty() {
        let of_base = options.base.as_ref();
        let on_base = of_base.map_or(String::new(), |base| format!(" on {base}"));
        pipe.warn(format_args!(
            "discarding the volumes of {}{on_base}: there is none on this machine; a name is written as in login.user, \
             with its realm, and upper and lower case count",
            options.whose.user.as_deref().unwrap_or(token.as_str())
        ));
    }
    let mut document = Document::default();
    document.set(
        "discarded",
        &Discarded {
            changed,
            user: options.whose.user.as_deref(),
            token: token.as_str(),
            volumes: &volumes,
            failed: &failed,
        },
    )?;
    let answer = match failed.is_empty() {
        true => Answer::yes(document),
        false => Answer::no(document),
    };
    Ok(answer
        .staying(changed && !options.dry_run)
        .holding(ending_signals))
}

/// The refusal (75) to remove what is in use.
fn in_use(Stored { path, .. }: &Stored, why: &str) -> anyhow::Error {
    Exit::TemporaryFailure.error(format_args!(
        "discarding {path}: {why}; nothing was removed"
    ))
}
