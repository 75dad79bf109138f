//! The fstab of a lab machine.

use super::document::Wanted;
use super::part::{Content, Part};

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
            lines += &format!("UUID={uuid} {mount_point} {name} {options} 0 2\n");
        }
    }
    lines
}
