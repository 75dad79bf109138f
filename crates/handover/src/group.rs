//! The nodes of IOMMU groups: given to QEMU's user, and taken back.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use jsonpipe::{Common, Exit, ExitContext};

use crate::journal::Group;
use crate::{Owner, kill_point};

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
/// it is not, 75 when another process has it, 66 when it has no node, 77 when this user may not
/// open it.
pub(crate) fn take(common: &Common, group: u32, owner: Owner) -> anyhow::Result<()> {
    let is_viable = pci::is_viable(common, group).map_err(|error| {
        let exit = exit_of(&error);
        let holder = pci::holders(common, &[pci::group_node(common, group)])
            .first()
            .map_or_else(String::new, |holder| format!(": {holder}; end that"));
        exit.error(format_args!("opening IOMMU group {group}: {error}{holder}"))
    })?;
    if !is_viable {
        let bound: Vec<_> = pci::members(common, group)?
            .into_iter()
            .filter_map(|member| Some((member.address, member.driver?)))
            .filter(|(_, driver)| driver != pci::VFIO)
            .map(|(address, driver)| format!("{address} ({driver})"))
            .collect();
        return Err(Exit::Config.error(format_args!(
            "opening IOMMU group {group}: the group is not viable: the host uses {}",
            bound.join(", ")
        )));
    }
    set(common, group, owner)
}

/// The status of a group that could not be asked.
fn exit_of(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::ResourceBusy => Exit::TemporaryFailure,
        _ => Exit::of_read(error),
    }
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

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::*;

    #[test]
    fn a_group_that_cannot_be_opened_has_the_status_of_the_reason() {
        for (errno, exit) in [
            (libc::EBUSY, Exit::TemporaryFailure),
            (libc::ENOENT, Exit::NoInput),
            (libc::EACCES, Exit::NoPermission),
            (libc::ENOTTY, Exit::Io),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(exit_of(&error), exit, "{error}");
        }
    }

    #[test]
    fn a_group_without_a_node_is_named() {
        let root = tempfile::tempdir().unwrap();
        let common = jsonpipe::testkit::common(root.path());
        let error = take(&common, 7, ROOT).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::NoInput);
        let message = error.to_string();
        assert!(
            message.starts_with("opening IOMMU group 7: No such file"),
            "{message}"
        );
    }
}
