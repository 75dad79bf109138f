//! `cowvol clone`: provides the user's overlay, and reports its path.

use std::os::unix::fs::MetadataExt;

use images::POOL_LOCK;
use images::bases::{self, Entry};
use jsonpipe::{Answer, Common, Exit, ExitContext, Pipe, lock, signals};
use qcow2::Image;

use crate::overlay::{Created, Overlay};
use crate::request::{Choice, Login};
use crate::token::Token;
use crate::{TOOL, base, report};

/// Makes the overlay if it does not exist, otherwise reuses it; a dry run only reports which.
pub fn clone(common: &Common, pipe: &Pipe, dry_run: bool) -> anyhow::Result<Answer> {
    let mut document = pipe.document("a document with the section login")?;
    let login: Login = document.require("login")?;
    let choice: Choice = document.read("choice")?.unwrap_or_default();
    if !login.authenticated {
        return Ok(Answer::no(document));
    }
    let user = login.user.filter(|user| !user.is_empty());
    let user = user.exit(
        Exit::Data,
        || "login.user: missing or empty, though login.authenticated is true",
    )?;
    let token = Token::of(&user);
    let Cloned {
        base,
        base_image,
        overlay,
        held_bytes,
        found,
        created,
    } = if dry_run {
        // A dry run writes nothing, not even the lock's file.
        bases::steadily(common, |bases| {
            prepare(
                common,
                &token,
                base::choose(bases.to_vec(), choice.base.as_deref())?,
                None,
            )
        })?
    } else {
        // From here on, a signal ends the process when the overlay is complete or absent.
        let ending_signals = signals::defer()?;
        // While the overlay is being made, its base must not be removed, nor another generation
        // become current. The lock is released before the rest, in particular before the document
        // is read.
        let _lock = lock::wait(common, POOL_LOCK, &ending_signals)?;
        prepare(
            common,
            &token,
            base::choose(bases::read(common)?, choice.base.as_deref())?,
            Some(pipe),
        )?
    };

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
            backing_path: &base.image_path(),
            backing_format: "qcow2",
            virtual_bytes: base_image.header.virtual_bytes,
            held_bytes,
            created: !found,
            changed: !found,
        },
    )?;
    let answer = Answer::yes(document);
    let common = common.clone();
    Ok(match created {
        // Status 74 means that nothing was changed.
        Some(created) => answer.or_undo(move || created.take_back(&common)),
        None => answer,
    })
}

/// A user's overlay on a base.
struct Cloned {
    base: Entry,
    base_image: Image,
    overlay: Overlay,
    held_bytes: u64,
    /// It existed.
    found: bool,
    /// It was made.
    created: Option<Created>,
}

/// Finds the overlay, or makes it if it does not exist and `making` is given.
fn prepare(
    common: &Common,
    token: &Token,
    base: Entry,
    making: Option<&Pipe>,
) -> anyhow::Result<Cloned> {
    let overlay = Overlay::of(common, token, &base);
    let base_image = base::open(common, &base)?;
    let found = overlay.find(&base, &base_image)?;
    let (mut held_bytes, mut created) = (0, None);
    match (&found, making) {
        (Some(image), making) => {
            making.map_or(Ok(()), |_| image.touch())?;
            held_bytes = image.metadata()?.blocks() * 512;
        }
        (None, Some(pipe)) => {
            pipe.note(format_args!("making {}", overlay.path));
            let made = overlay.create(&base, &base_image)?;
            held_bytes = made.held_bytes;
            created = Some(made);
        }
        (None, None) => {}
    }
    Ok(Cloned {
        base,
        base_image,
        overlay,
        held_bytes,
        found: found.is_some(),
        created,
    })
}
