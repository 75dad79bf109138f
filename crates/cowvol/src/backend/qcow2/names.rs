//! The names of users' volumes, and of what a power cut left of one.

use std::path::PathBuf;

use jsonpipe::Common;

use super::overlay::{EPHEMERAL, USERS, parse_name};
use crate::backend::{Item, VolumeId};
use crate::directory::entries;
use crate::token::Token;

/// The users' directories, or the one of a user, which may not exist, in no order. Other names are
/// skipped.
pub fn users(common: &Common, of: Option<&Token>) -> anyhow::Result<Vec<(Token, PathBuf)>> {
    let directory = common.path(USERS);
    if let Some(token) = of {
        let path = directory.join(token.as_str());
        let users = (!path.is_symlink()).then(|| (token.clone(), path));
        return Ok(users.into_iter().collect());
    }
    let users = entries(&directory)?.into_iter();
    Ok(users
        .filter(|user| user.file_type().is_ok_and(|kind| !kind.is_symlink()))
        .filter_map(|user| Some((Token::parse(user.file_name().to_str()?)?, user.path())))
        .collect())
}

/// Everything that has the name of a volume or of its remains, with its path, in no order: of one user,
/// or of all and the ephemeral ones.
pub fn items(common: &Common, of: Option<&Token>) -> anyhow::Result<Vec<(Item, PathBuf)>> {
    let mut items = Vec::new();
    for (token, directory) in users(common, of)? {
        for file in entries(&directory)? {
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            let Some((base, generation, is_remains)) = parse_item(name) else {
                continue;
            };
            let item = Item {
                id: VolumeId {
                    token: token.clone(),
                    base,
                    generation,
                    is_ephemeral: false,
                },
                is_remains,
            };
            items.push((item, file.path()));
        }
    }
    if of.is_none() {
        items.extend(ephemerals(common)?);
    }
    Ok(items)
}

/// The same of ephemeral volumes alone.
pub fn ephemerals(common: &Common) -> anyhow::Result<Vec<(Item, PathBuf)>> {
    let files = entries(&common.path(EPHEMERAL))?.into_iter();
    let items = files.filter_map(|file| {
        let item = parse_ephemeral(file.file_name().to_str()?)?;
        Some((item, file.path()))
    });
    Ok(items.collect())
}

/// What something in the directory of ephemeral volumes is.
pub fn parse_ephemeral(name: &str) -> Option<Item> {
    let half_made = half_made(name);
    let id = half_made.unwrap_or(name).strip_suffix(".qcow2")?;
    Some(Item {
        id: VolumeId::parse(id).filter(|id| id.is_ephemeral)?,
        is_remains: half_made.is_some(),
    })
}

/// The base, the generation, and whether it is only remains, of something in a user's directory.
pub fn parse_item(name: &str) -> Option<(String, u64, bool)> {
    let half_made = half_made(name);
    let (base, generation) = parse_name(half_made.unwrap_or(name))?;
    Some((base, generation, half_made.is_some()))
}

/// The name that a file would have had, if this is the name of one that a power cut left half made.
fn half_made(name: &str) -> Option<&str> {
    name.strip_prefix('.')?.strip_suffix(".tmp")
}
