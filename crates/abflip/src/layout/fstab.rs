//! The fstab of a lab machine.

use super::document::Wanted;
use super::part::{Content, Part};

/// A file system that cannot be mounted keeps no machine from booting: otherwise it would wait for
/// the password of a root that has none. What needs the mount starts after it, or not at all.
const NOT_FATAL: &str = "nofail,x-systemd.before=local-fs.target";

/// The lines of fstab(5). File systems have the same UUIDs on every machine, so the lines are the
/// same wherever the partitions are.
pub fn fstab(wanted: &Wanted) -> String {
    let mut lines =
        "# Made by abflip layout. The boot entry mounts the root, which is one of two.\n"
            .to_owned();
    for part in Part::ALL {
        if let Content::Ext4 {
            mount_point,
            options,
            ..
        } = part.content()
            && let Some(filesystem) = wanted.of(part).and_then(|wanted| wanted.filesystem)
        {
            let (uuid, name) = (filesystem.uuid(), filesystem.name());
            lines += &format!("UUID={uuid} {mount_point} {name} {options},{NOT_FATAL} 0 2\n");
        }
    }
    lines
}
