//! The layout of the datasets (Table 2 of the thesis): what has to be there, and how it has to be.

use images::bases::Entry;
use jsonpipe::{Exit, ExitContext};
use manifest::is_name;

use super::Zfs;
use super::names::EPHEMERAL;
use super::program::zfs;
use super::properties::{self, Datasets, Properties};
use crate::backend::GenerationId;
use crate::report::{Layout, Wrong};
use crate::token::Token;

/// Makes the datasets that are missing, and finds all that is wrong.
pub fn lay_out(of: &Zfs, bases: &[Entry], dry_run: bool) -> anyhow::Result<Layout> {
    let mut layout = Layout::default();
    let names = &of.names;
    let wanted = [
        "type",
        "mountpoint",
        "checksum",
        "readonly",
        "origin",
        &of.label("name"),
        &of.label("ostype"),
        &of.label("default"),
    ];
    let pool = properties::get(&names.pool, &[], &wanted)?.exit(Exit::NoInput, || {
        format!(
            "{}: no such pool or dataset; make it first, with zpool create or zfs create",
            names.pool
        )
    })?;
    check_filesystems(&pool, &mut layout.wrong);
    let kinds = ["-r", "-t", "filesystem,volume,snapshot"];
    for dataset in [names.bases(), names.users()] {
        let Some(found) = properties::get(&dataset, &kinds, &wanted)? else {
            if !dry_run {
                make(&dataset)?;
            }
            layout.changed = true;
            layout.made.push(dataset);
            continue;
        };
        check_filesystems(&found, &mut layout.wrong);
        if dataset == names.bases() {
            check_bases(of, &found, bases, &mut layout.wrong);
        } else {
            check_users(of, &found, &mut layout.wrong);
        }
    }
    layout.wrong.sort_by(|a, b| a.dataset.cmp(&b.dataset));
    Ok(layout)
}

fn make(dataset: &str) -> anyhow::Result<()> {
    let made = zfs(&["create", "-o", "mountpoint=none", dataset])?;
    made.map(drop)
        .map_err(|refusal| refusal.error(format_args!("making {dataset}")))
}

/// Checks those that hold other datasets, and the checksums of all.
fn check_filesystems(found: &Datasets, wrong: &mut Vec<Wrong>) {
    for (dataset, of) in found {
        let of = |property| of.text(property).unwrap_or_default();
        if of("type") == "filesystem" && of("mountpoint") != "none" {
            let set = format!("zfs set mountpoint=none {dataset}");
            wrong.push(Wrong::of(dataset, format!("it has a mountpoint; {set}")));
        }
        if of("checksum") == "off" {
            let set = format!("zfs set checksum=on {dataset}");
            wrong.push(Wrong::of(
                dataset,
                format!("damage goes unseen without checksums; {set}"),
            ));
        }
    }
}

fn check_bases(of: &Zfs, found: &Datasets, bases: &[Entry], wrong: &mut Vec<Wrong>) {
    let below = format!("{}/", of.names.bases());
    for (dataset, properties) in found {
        let Some(name) = dataset.strip_prefix(&below) else {
            continue;
        };
        let kind = properties.text("type").unwrap_or_default();
        if kind == "snapshot" {
            continue;
        }
        let base = name.split(':').next().unwrap_or(name);
        if kind != "volume" || !is_name(base) {
            wrong.push(Wrong::of(dataset, "not a base, which is a volume".into()));
            continue;
        }
        if of.names.half_made_of(dataset).is_some() {
            let left = "cowvol install-base is making it, or was interrupted; the next one removes the remains";
            wrong.push(Wrong::of(dataset, left.into()));
            continue;
        }
        let of_it = format!("{dataset}@");
        let mut snapshots = found.keys().filter(|name| name.starts_with(&of_it));
        if !snapshots.any(|snapshot| of.names.base_of(snapshot).is_some()) {
            wrong.push(Wrong::of(
                dataset,
                "it has no snapshot with the number of its generation; cowvol install-base makes bases".into(),
            ));
        }
        if properties.text("readonly") != Some("on") {
            let set = format!("zfs set readonly=on {dataset}");
            wrong.push(Wrong::of(dataset, format!("it can be written; {set}")));
        }
    }
    for entry in bases {
        let current = GenerationId {
            base: entry.name.clone(),
            generation: entry.generation,
        };
        let snapshot = found
            .keys()
            .find(|name| of.names.base_of(name).as_ref() == Some(&current));
        match snapshot.and_then(|snapshot| snapshot.split_once('@')) {
            None => wrong.push(Wrong::of(
                &format!("{below}{}@{}", entry.name, entry.generation),
                "no such snapshot, and bases.ini offers it; cowvol install-base makes it".into(),
            )),
            Some((dataset, _)) => check_labels(of, dataset, found.get(dataset), entry, wrong),
        }
    }
}

/// Checks that a base has the properties that bases.ini gives it.
fn check_labels(
    of: &Zfs,
    dataset: &str,
    found: Option<&Properties>,
    entry: &Entry,
    wrong: &mut Vec<Wrong>,
) {
    for (label, expected) in of.labels(entry) {
        if found.and_then(|found| found.local(&label)) != Some(expected.as_str()) {
            wrong.push(Wrong::of(
                dataset,
                format!("{label} is not as in bases.ini; zfs set {label}='{expected}' {dataset}"),
            ));
        }
    }
}

fn check_users(of: &Zfs, found: &Datasets, wrong: &mut Vec<Wrong>) {
    let below = format!("{}/", of.names.users());
    for (dataset, properties) in found {
        let Some(name) = dataset.strip_prefix(&below) else {
            continue;
        };
        let is_right = match properties.text("type") {
            Some("snapshot") => true,
            Some("filesystem") => Token::parse(name).is_some() || name == EPHEMERAL,
            _ => properties
                .text("origin")
                .is_some_and(|origin| of.names.item_of(dataset, origin).is_some()),
        };
        if !is_right {
            wrong.push(Wrong::of(
                dataset,
                "not a user's volume on a base; move it away with zfs rename".into(),
            ));
        }
    }
}
