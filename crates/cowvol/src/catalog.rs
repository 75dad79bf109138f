//! `cowvol list`: the bases and the volumes on them, as they are on the disk.

use std::collections::BTreeMap;

use images::bases::{self, Entry};
use jsonpipe::{Answer, Common, Document, Missing, Pipe, timestamp};

use crate::backend::{Backend, GenerationId, Listed};
use crate::token::Token;
use crate::{promise, published, report};

/// The version of the section: 2 since a volume's `last_used_at` is `last_login_at`, as in `evicted`.
const SCHEMA: u64 = 2;

/// Lists bases and volumes. A damaged base or volume is listed with the reason, and is not an
/// error. With `user`, only the volumes of that user are listed.
pub fn list<B: Backend>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    user: Option<&str>,
) -> anyhow::Result<Answer> {
    let token = user.map(Token::of);
    let catalog = bases::steadily(common, |offered| {
        read(common, backend, offered, token.as_ref())
    })?;
    if let Some(user) = user.filter(|_| catalog.is_without_volumes()) {
        pipe.warn(format_args!(
            "{user} has no volume on this machine; the name is the full one, as in login.user"
        ));
    }
    let mut document = Document::default();
    document.set_with_schema("catalog", SCHEMA, &catalog)?;
    Ok(Answer::yes(document))
}

fn read<B: Backend>(
    common: &Common,
    backend: &B,
    offered: &[Entry],
    of: Option<&Token>,
) -> anyhow::Result<report::Catalog> {
    let mut missing = Vec::new();
    let mut bases: Vec<report::Base> = offered
        .iter()
        .enumerate()
        .map(|(index, base)| list_base(backend, base, index, &mut missing))
        .collect();
    list_other_generations(common, backend, &mut bases)?;
    let promised = promise::all(common)?;
    let mut orphans = Vec::new();
    let mut listed = backend.list(of)?;
    listed.sort_by(|a, b| a.id.cmp(&b.id));
    for volume in listed {
        let (list, place) = match bases
            .iter_mut()
            .enumerate()
            .find(|(_, base)| base.name == volume.id.base)
        {
            Some((index, base)) => (&mut base.volumes, format!("bases[{index}].volumes")),
            None => (&mut orphans, "orphans".to_owned()),
        };
        if let Err(reason) = &volume.virtual_bytes {
            for key in ["backing_path", "virtual_bytes"] {
                missing.push(Missing {
                    key: format!("{place}[{}].{key}", list.len()),
                    reason: reason.clone(),
                });
            }
        }
        let is_promised = promised.contains(&volume.id);
        list.push(list_volume(backend, volume, is_promised));
    }
    Ok(report::Catalog {
        changed: false,
        bases,
        orphans,
        missing,
    })
}

fn list_base<B: Backend>(
    backend: &B,
    base: &Entry,
    index: usize,
    missing: &mut Vec<Missing>,
) -> report::Base {
    let virtual_bytes = match backend.open_base(base) {
        Ok(opened) => Some(backend.virtual_bytes(&opened)),
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

/// Lists the images that are stored besides the current ones.
fn list_other_generations<B: Backend>(
    common: &Common,
    backend: &B,
    bases: &mut [report::Base],
) -> anyhow::Result<()> {
    let files = published::all(common)?.into_iter();
    let mut held: BTreeMap<GenerationId, u64> =
        files.map(|(id, files)| (id, files.held_bytes())).collect();
    for (id, bytes) in backend.origins()? {
        *held.entry(id).or_default() += bytes;
    }
    for (GenerationId { base, generation }, held_bytes) in held {
        let of = bases
            .iter_mut()
            .find(|of| of.name == base && of.generation != generation);
        if let Some(of) = of {
            of.other_generations.push(report::OtherGeneration {
                generation,
                held_bytes,
            });
        }
    }
    Ok(())
}

fn list_volume<B: Backend>(backend: &B, volume: Listed, is_promised: bool) -> report::ListedVolume {
    let disk = backend.disk_of(&volume.id);
    let virtual_bytes = volume.virtual_bytes.ok();
    report::ListedVolume {
        token: volume.id.token.to_string(),
        base: volume.id.base,
        generation: volume.id.generation,
        ephemeral: volume.id.is_ephemeral,
        path: volume.path,
        backing_path: disk
            .backing
            .filter(|_| virtual_bytes.is_some())
            .map(|of| of.path),
        held_bytes: volume.state.held_bytes,
        reserved_bytes: volume.state.reserved_bytes,
        in_use: is_promised || volume.is_open,
        virtual_bytes,
        restore_point_at: volume.point.map(timestamp::rfc3339),
        last_login_at: volume.state.last_login.map(timestamp::rfc3339),
    }
}
