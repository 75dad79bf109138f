//! `cowvol discard`: removes the volumes of one user, who then starts afresh.

use images::POOL_LOCK;
use jsonpipe::{Answer, Common, Document, Exit, Pipe, lock, signals};

use crate::backend::{Backend, Stored};
use crate::report::{Discarded, Evicted, Gone};
use crate::request::Discard;
use crate::token::Token;
use crate::{event, promise};

/// Removes them. Status 75, with nothing removed, when one is in use.
pub fn discard<B: Backend>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    options: &Discard,
) -> anyhow::Result<Answer> {
    let ending_signals = signals::defer()?;
    let token = Token::of(&options.user);
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
    for Stored { item, .. } in &stored {
        let free = match options.dry_run {
            true => !backend.is_in_use(item)?,
            false => backend.hold(item)?.map(|of| held.push(of)).is_some(),
        };
        if !free {
            return Err(Exit::TemporaryFailure.error(format_args!(
                "discarding {}: a program has it open; end the session first; nothing was removed",
                backend.disk_of(&item.id).path
            )));
        }
    }
    let volumes: Vec<Evicted> = stored
        .iter()
        .map(|Stored { item, state }| {
            let what = if item.is_remains {
                Gone::Remains
            } else {
                Gone::Volume
            };
            Evicted::of(what, &item.id, state.freeable_bytes, state.last_login)
        })
        .collect();
    if !options.dry_run {
        event::log(common, pipe, "discard", None, &volumes);
        for (held, Stored { item, .. }) in held.into_iter().zip(&stored) {
            backend.remove(held)?;
            promise::withdraw(common, &item.id)?;
        }
    }
    drop(lock);
    let changed = !volumes.is_empty();
    if !changed {
        let of_base = options.base.as_ref();
        let on_base = of_base.map_or(String::new(), |base| format!(" on {base}"));
        pipe.warn(format_args!(
            "discarding the volumes of {}{on_base}: there is none on this machine; a name is written as in login.user, \
             with its realm, and upper and lower case count",
            options.user
        ));
    }
    let mut document = Document::default();
    document.set(
        "discarded",
        &Discarded {
            changed,
            user: &options.user,
            token: token.as_str(),
            volumes: &volumes,
        },
    )?;
    Ok(Answer::yes(document)
        .staying(changed && !options.dry_run)
        .holding(ending_signals))
}
