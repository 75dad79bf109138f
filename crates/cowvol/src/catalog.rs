//! `cowvol list`: the bases and the volumes on them, as they are on the disk.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use images::bases::{self, Entry};
use jsonpipe::{Answer, Common, Document, Exit, Missing, io_error, timestamp};
use qcow2::read_header;

use crate::backend::VolumeId;
use crate::backend::qcow2::overlay::{USERS, backing_name, parse_name, state_of};
use crate::backend::qcow2::{in_use, store};
use crate::token::Token;
use crate::{base, promise, report};

/// A volume, and why its header could not be read.
type Found = (report::ListedVolume, Option<String>);

/// Lists bases and volumes. A damaged base or volume is listed with the reason, and is not an
/// error. With `user`, only the volumes of that user are listed.
pub fn list(common: &Common, user: Option<&str>) -> anyhow::Result<Answer> {
    let token = user.map(Token::of);
    let catalog = bases::steadily(common, |offered| read(common, offered, token.as_ref()))?;
    let mut document = Document::default();
    document.set("catalog", &catalog)?;
    Ok(Answer::yes(document))
}

fn read(common: &Common, offered: &[Entry], of: Option<&Token>) -> anyhow::Result<report::Catalog> {
    let mut missing = Vec::new();
    let mut bases: Vec<report::Base> = offered
        .iter()
        .enumerate()
        .map(|(index, base)| list_base(common, base, index, &mut missing))
        .collect();
    for ((name, generation), found) in store::generations(common)? {
        let base = bases
            .iter_mut()
            .find(|base| base.name == name && base.generation != generation);
        let files = [found.descriptions, found.files].concat();
        if let Some(base) = base.filter(|_| !files.is_empty()) {
            base.other_generations.push(report::OtherGeneration {
                generation,
                held_bytes: held_bytes(&files),
            });
        }
    }
    let mut orphans = Vec::new();
    for (volume, flaw) in volumes(common, of)? {
        let (list, place) = match bases
            .iter_mut()
            .enumerate()
            .find(|(_, base)| base.name == volume.base)
        {
            Some((index, base)) => (&mut base.volumes, format!("bases[{index}].volumes")),
            None => (&mut orphans, "orphans".to_owned()),
        };
        if let Some(reason) = flaw {
            for key in ["backing_path", "virtual_bytes"] {
                missing.push(Missing {
                    key: format!("{place}[{}].{key}", list.len()),
                    reason: reason.clone(),
                });
            }
        }
        list.push(volume);
    }
    Ok(report::Catalog {
        changed: false,
        bases,
        orphans,
        missing,
    })
}

fn list_base(
    common: &Common,
    base: &Entry,
    index: usize,
    missing: &mut Vec<Missing>,
) -> report::Base {
    let virtual_bytes = match base::open(common, base) {
        Ok(image) => Some(image.header.virtual_bytes),
        Err(error) => {
            missing.push(Missing {
                key: format!("bases[{index}].virtual_bytes"),
                reason: format!("{error:#}"),
            });
            None
        }
    };
    report::Base {
        name: base.name.clone(),
        title: base.title.clone(),
        ostype: base.ostype.clone(),
        default: base.default,
        generation: base.generation,
        format: "qcow2",
        path: base.image_path(),
        virtual_bytes,
        other_generations: Vec::new(),
        volumes: Vec::new(),
    }
}

/// The disk space of files; a file that has disappeared meanwhile has none.
fn held_bytes(files: &[PathBuf]) -> u64 {
    files
        .iter()
        .filter_map(|path| fs::symlink_metadata(path).ok())
        .map(|metadata| metadata.blocks() * 512)
        .sum()
}

/// All volumes, by token, base and generation. Other entries (`lost+found`, half-written files) are
/// skipped. With `of`, only those of one user.
fn volumes(common: &Common, of: Option<&Token>) -> anyhow::Result<Vec<Found>> {
    let promised = promise::all(common)?;
    let mut found = Vec::new();
    for user in store::users(common)? {
        let Some(token) = user.file_name().to_str().and_then(Token::parse) else {
            continue;
        };
        if of.is_some_and(|of| *of != token) {
            continue;
        }
        for entry in store::entries(&user.path())? {
            let Some((base, generation)) = entry.file_name().to_str().and_then(parse_name) else {
                continue;
            };
            let id = VolumeId {
                token: token.clone(),
                base,
                generation,
            };
            found.extend(list_volume(&entry, id, &promised)?);
        }
    }
    found.sort_by(|(a, _), (b, _)| {
        (&a.token, &a.base, a.generation).cmp(&(&b.token, &b.base, b.generation))
    });
    Ok(found)
}

/// `None` when it has disappeared since its name was read.
fn list_volume(
    entry: &DirEntry,
    id: VolumeId,
    promised: &BTreeSet<VolumeId>,
) -> anyhow::Result<Option<Found>> {
    let in_use = promised.contains(&id);
    let VolumeId {
        token,
        base,
        generation,
    } = id;
    let path = entry.path();
    let metadata = match entry.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(io_error(
                error,
                Exit::of_read,
                format_args!("looking at {}", path.display()),
            ));
        }
    };
    let modified = metadata
        .modified()
        .map_err(|error| io_error(error, Exit::of_read, path.display()))?;
    let state = state_of(&metadata);
    let (header, flaw) = match read_header(&path) {
        Ok(header) if header.backing_name.as_deref() == Some(&backing_name(&base, generation)) => {
            (Some(header), None)
        }
        Ok(_) => (None, Some("its backing file is not its base".to_owned())),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let volume = report::ListedVolume {
        token: token.to_string(),
        path: format!("{USERS}/{token}/{base}@{generation}.qcow2"),
        backing_path: header
            .as_ref()
            .map(|_| images::image_path(&base, generation)),
        held_bytes: state.held_bytes,
        reserved_bytes: state.reserved_bytes,
        in_use: in_use || (metadata.is_file() && in_use::is_locked(&path)?),
        virtual_bytes: header.map(|header| header.virtual_bytes),
        last_used_at: timestamp::rfc3339(modified),
        base,
        generation,
    };
    Ok(Some((volume, flaw)))
}
