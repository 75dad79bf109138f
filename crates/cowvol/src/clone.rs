//! `cowvol clone`: the user's overlay is there, and the document says where.

use std::os::unix::fs::MetadataExt;

use jsonpipe::{Answer, Common, Exit, ExitContext, Pipe, lock, signals};

use crate::overlay::Overlay;
use crate::request::{Choice, Login};
use crate::token::Token;
use crate::{TOOL, base, report};

/// Makes the overlay if it is missing, reuses it if it is there; in a dry run says which.
pub fn clone(common: &Common, pipe: &Pipe, dry_run: bool) -> anyhow::Result<Answer> {
    let mut document = pipe.document("a document with the section login")?;
    let login: Login = document.require("login")?;
    let choice: Choice = document.read("choice")?.unwrap_or_default();
    if !login.authenticated {
        return Ok(Answer::no(document));
    }
    let user = login.user.filter(|user| !user.is_empty());
    let user = user.exit(Exit::Data, || "login.user: missing or empty, though login.authenticated is true")?;
    let token = Token::of(&user);
    let base = base::choose(base::read_all(common)?, choice.base.as_deref())?;
    let overlay = Overlay::of(common, &token, &base);

    // A signal that comes from here on ends the process when the overlay is whole or was never there.
    let ending_signals = signals::defer().exit(Exit::Software, || "deferring signals")?;
    // A dry run writes nothing, the lock's file included. Otherwise nobody may take the base away before its overlay is there.
    let lock = if dry_run { None } else { Some(lock::wait(common, lock::POOL, &ending_signals)?) };
    let base_image = base.open(common)?;
    let found = overlay.find(&base, &base_image)?;
    let created = match &found {
        Some(image) if !dry_run => image.touch().map(|()| None)?,
        None if !dry_run => {
            pipe.note(format_args!("making {}", overlay.path));
            Some(overlay.create(&base, &base_image)?)
        }
        _ => None,
    };
    let held_bytes = match (&found, &created) {
        (Some(image), _) => image.metadata()?.blocks() * 512,
        (None, Some(created)) => created.held_bytes,
        (None, None) => 0,
    };
    drop(ending_signals);

    document.set(
        TOOL.section,
        &report::Volume {
            user: &user,
            token: token.as_str(),
            base: &base.name,
            ostype: &base.ostype,
            generation: base.generation,
            backend: "qcow2",
            format: "qcow2",
            path: &overlay.path,
            backing_path: &base.path(),
            backing_format: "qcow2",
            virtual_bytes: base_image.header.virtual_bytes,
            held_bytes,
            created: found.is_none(),
            changed: found.is_none(),
        },
    )?;
    let answer = Answer::yes(document).holding(lock);
    Ok(match created {
        // Status 74 means that nothing was changed.
        Some(created) => answer.or_undo(|| created.discard()),
        None => answer,
    })
}
