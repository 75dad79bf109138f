//! The mounts of this machine, /proc/self/mountinfo (proc_pid_mountinfo(5)).

use jsonpipe::Common;

use crate::sysfs::{text, unescaped};

const MOUNTS: &str = "/proc/self/mountinfo";

/// A mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The number of its device, `8:1`.
    pub number: String,
    /// Its mount point.
    pub point: String,
    /// The type of the file system.
    pub kind: String,
    /// Its source: a device, a server's directory, or only a word.
    pub source: String,
    /// The options of the file system, separated by commas.
    pub options: String,
}

/// All mounts, in the kernel's order: of two on one mount point, the last one is seen.
pub(crate) fn read(common: &Common) -> anyhow::Result<Vec<Mount>> {
    let text = text(&common.path(MOUNTS))?.unwrap_or_default();
    Ok(text.lines().filter_map(mount).collect())
}

fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let before: Vec<&str> = before.split(' ').collect();
    let mut after = after.split(' ');
    Some(Mount {
        number: (*before.get(2)?).to_owned(),
        point: unescaped(before.get(4)?),
        kind: after.next()?.to_owned(),
        source: unescaped(after.next()?),
        options: after.next().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_whatever_its_names_are() {
        let line = r"36 35 8:1 / /media/a\040-\040b\012 rw,noatime shared:1 master:2 - ext4 /dev/sda1 rw,errors=continue";
        assert_eq!(
            mount(line),
            Some(Mount {
                number: "8:1".into(),
                point: "/media/a - b\n".into(),
                kind: "ext4".into(),
                source: "/dev/sda1".into(),
                options: "rw,errors=continue".into(),
            })
        );
        for line in ["", "36 35 8:1 / /media", "36 35 - ext4 /dev/sda1 rw"] {
            assert_eq!(mount(line), None, "{line}");
        }
    }
}
