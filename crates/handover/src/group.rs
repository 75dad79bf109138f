//! The nodes of IOMMU groups: given to QEMU's user, and taken back.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use jsonpipe::{Common, Exit, ExitContext};

use crate::journal::Group;
use crate::{Owner, kill_point, system};

/// Root's, as the kernel makes a node.
const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// The node's state.
pub(crate) fn before(common: &Common, group: u32) -> Group {
    let found = fs::metadata(path(common, group)).ok();
    Group {
        group,
        owner: found.map(|found| Owner {
            uid: found.uid(),
            gid: found.gid(),
        }),
    }
}

/// Gives the node to `owner`, after asking the kernel whether the group is viable. Status 78 when
/// it is not, 75 when another process has it.
pub(crate) fn take(common: &Common, group: u32, owner: Owner) -> anyhow::Result<()> {
    let path = path(common, group);
    let object = || format!("opening IOMMU group {group}");
    let opened = OpenOptions::new().read(true).write(true).open(&path);
    let node = opened.map_err(|error| {
        let holders = pci::holders(common, &[pci::group_node(common, group)]);
        let holder = holders
            .first()
            .map_or_else(String::new, |holder| format!(": {holder}; end that"));
        Exit::TemporaryFailure.error(format_args!("{}: {error}{holder}", object()))
    })?;
    if !system::is_viable(&node).exit(Exit::Io, object)? {
        let bound = pci::members(common, group)?
            .into_iter()
            .filter_map(|member| Some(format!("{} ({})", member.address, member.driver?)));
        let bound: Vec<_> = bound
            .filter(|member| !member.ends_with("(vfio-pci)"))
            .collect();
        return Err(Exit::Config.error(format_args!(
            "{}: the group is not viable: the host uses {}",
            object(),
            bound.join(", ")
        )));
    }
    drop(node);
    set(common, group, owner)
}

/// Makes the owner as it was; root's, if there was no node.
pub(crate) fn give_back(common: &Common, before: &Group) -> anyhow::Result<()> {
    let wanted = before.owner.unwrap_or(ROOT);
    match self::before(common, before.group).owner {
        Some(now) if now != wanted => set(common, before.group, wanted),
        _ => Ok(()),
    }
}

/// How the node differs from its state before, if it does. Without its devices a group has none.
pub(crate) fn difference(common: &Common, before: &Group) -> Option<String> {
    let wanted = before.owner.unwrap_or(ROOT);
    let now = self::before(common, before.group).owner?;
    (now != wanted).then(|| {
        let path = path(common, before.group);
        format!("{}: belongs to {}:{}", path.display(), now.uid, now.gid)
    })
}

fn set(common: &Common, group: u32, owner: Owner) -> anyhow::Result<()> {
    let path = path(common, group);
    let done = chown(&path, Some(owner.uid), Some(owner.gid));
    kill_point();
    done.exit(Exit::Io, || {
        format!("changing the owner of {}", path.display())
    })
}

fn path(common: &Common, group: u32) -> PathBuf {
    common.path(pci::group_node(common, group).path)
}
