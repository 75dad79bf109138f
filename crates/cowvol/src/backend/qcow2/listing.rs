//! The users' overlays for a list: each is opened once, for its header and its locks.

use std::path::Path;

use jsonpipe::{Common, Exit, io_error};
use qcow2::{Follow, Header};

use super::overlay::{backing_name, parse_name, state_of};
use super::{in_use, look_at, names};
use crate::backend::{Listed, VolumeId};
use crate::directory::entries;
use crate::token::Token;

/// The overlays of one user or of all, in no order. Other entries (`lost+found`, half-written files)
/// are skipped.
pub fn list(common: &Common, of: Option<&Token>) -> anyhow::Result<Vec<Listed>> {
    let mut found = Vec::new();
    for (token, directory) in names::users(common, of)? {
        for file in entries(&directory)? {
            let Some((base, generation)) = file.file_name().to_str().and_then(parse_name) else {
                continue;
            };
            let id = VolumeId {
                token: token.clone(),
                base,
                generation,
            };
            found.extend(look(&file.path(), id)?);
        }
    }
    Ok(found)
}

/// `None` when it has disappeared since its name was read.
fn look(path: &Path, id: VolumeId) -> anyhow::Result<Option<Listed>> {
    let failed = |error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("looking at {}", path.display()),
        )
    };
    let (metadata, is_open, header) = match qcow2::open(path, Follow::Nothing) {
        Ok(file) => (
            file.metadata().map_err(failed)?,
            in_use::is_open(&file).map_err(failed)?,
            qcow2::read_header(path, &file),
        ),
        // A link, or something else that is no file; or it is gone.
        Err(error) => match look_at(path)? {
            Some(found) => (found, false, Err(error)),
            None => return Ok(None),
        },
    };
    let is_on_its_base = |header: &Header| {
        header.backing_name.as_deref() == Some(&backing_name(&id.base, id.generation))
    };
    let virtual_bytes = match header {
        Ok(header) if is_on_its_base(&header) => Ok(header.virtual_bytes),
        Ok(_) => Err("its backing file is not its base".to_owned()),
        Err(error) => Err(format!("{error:#}")),
    };
    Ok(Some(Listed {
        state: state_of(&metadata),
        virtual_bytes,
        is_open,
        id,
    }))
}
