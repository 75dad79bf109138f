//! What is among the datasets of bases and users, and is none of them.

use images::bases::Entry;

use super::names::EPHEMERAL;
use super::program::{Cause, zfs};
use super::{Zfs, layout, properties};
use crate::backend::{Stray, StrayKind};

/// Finds all of it.
pub fn find(of: &Zfs, bases: &[Entry]) -> anyhow::Result<Vec<Stray>> {
    let wrong = layout::lay_out(of, bases, true)?.wrong.into_iter();
    let mut strays: Vec<Stray> = wrong
        .map(|wrong| Stray {
            kind: StrayKind::Layout,
            path: wrong.dataset,
            reason: wrong.reason,
        })
        .collect();
    let users = of.names.users();
    let kinds = ["-r", "-t", "filesystem,volume"];
    let found = properties::get(&users, &kinds, &["type"])?.unwrap_or_default();
    for (dataset, properties) in &found {
        let below = format!("{dataset}/");
        let is_empty = !found.keys().any(|name| name.starts_with(&below));
        let is_shared = *dataset == users || *dataset == format!("{users}/{EPHEMERAL}");
        if !is_shared && properties.text("type") == Some("filesystem") && is_empty {
            strays.push(Stray {
                kind: StrayKind::EmptyDirectory,
                path: dataset.clone(),
                reason: "the dataset of a user without a volume".into(),
            });
        }
    }
    Ok(strays)
}

/// Removes the dataset of a user; ZFS refuses while anything is below it.
pub fn remove_if_empty(dataset: &str) -> anyhow::Result<()> {
    match zfs(&["destroy", dataset])? {
        Err(refusal) if refusal.cause() != Cause::Absent => {
            Err(refusal.error(format_args!("removing {dataset}")))
        }
        _ => Ok(()),
    }
}
