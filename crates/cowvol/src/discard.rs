//! `cowvol discard`: removes the volumes of one user, who then starts afresh.

use images::POOL_LOCK;
use jsonpipe::{Answer, Common, Document, Exit, Pipe, lock, signals};

use crate::backend::{Backend, Stored};
use crate::report::{Discarded, Evicted, Gone};
use crate::request::Discard;
use crate::token::Token;
use crate::{event, promise};

/// Removes them. Status 75, with nothing removed, when one is in use; 1 when one could not be removed, or
/// a power cut may bring one back.
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
    for volume in &stored {
        let free = match options.dry_run {
            true => !backend.is_found_in_use(volume)?,
            false => {
                let of = backend.hold_found(volume)?;
                of.map(|of| held.push(of)).is_some()
            }
        };
        if !free {
            return Err(Exit::TemporaryFailure.error(format_args!(
                "discarding {}: a program has it open; end the session first; nothing was removed",
                volume.path
            )));
        }
    }
    let mut volumes: Vec<Evicted> = stored.iter().map(gone).collect();
    let mut failed = Vec::new();
    if !options.dry_run {
        event::log(common, pipe, "discard", None, &volumes);
        let mut removed = Vec::new();
        for ((held, Stored { item, .. }), gone) in held.into_iter().zip(&stored).zip(volumes) {
            let done = backend.remove(held).and_then(|_| {
                removed.push(gone);
                promise::withdraw(common, &item.id)
            });
            if let Err(error) = done {
                failed.push(format!("{error:#}"));
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

fn gone(Stored { item, state, .. }: &Stored) -> Evicted {
    let what = match item.is_remains {
        true => Gone::Remains,
        false => Gone::Volume,
    };
    Evicted::of(what, &item.id, state.freeable_bytes, state.last_login)
}
