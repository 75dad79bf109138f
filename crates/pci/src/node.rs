//! The nodes of a device in /dev, and the processes that have them open.
//!
//! A driver gives a device away only after the last of some nodes is closed (those of sound cards,
//! and of vfio): until then an unbind blocks.

use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use jsonpipe::{Common, shown};
use nix::sys::stat::makedev;
use serde::Serialize;

use crate::{PciAddress, device};

/// The deepest directory below a device's that is searched: a disk behind a USB controller has its
/// node at depth 12.
const DEPTH: u32 = 16;

/// A character or block device of the kernel, made by the driver of a PCI device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its path, `/dev/snd/controlC0`.
    pub path: PathBuf,
    /// Its major and minor number in one; absent when the kernel no longer shows it.
    number: Option<u64>,
    is_block: bool,
}

/// A process that has a node open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The name of its program.
    pub program: String,
    /// The node.
    pub node: PathBuf,
}

/// `process 812 (pulseaudio) has /dev/snd/controlC0 open`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holder { pid, program, node } = self;
        write!(
            f,
            "process {pid} ({program}) has {} open",
            shown(&node.to_string_lossy())
        )
    }
}

/// The nodes that the driver of the device at `address`, and the drivers below it, have made, by
/// path. Unreadable parts of sysfs have none.
pub fn nodes(common: &Common, address: PciAddress) -> Vec<Node> {
    let mut found = Vec::new();
    collect(&device::path(common, address), DEPTH, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The node of an IOMMU group, through which a user of its devices has them.
pub fn group_node(common: &Common, group: u32) -> Node {
    let path = Path::new("/dev/vfio").join(group.to_string());
    Node {
        number: fs::metadata(common.path(&path))
            .ok()
            .map(|found| found.rdev()),
        is_block: false,
        path,
    }
}

/// The processes that have one of `nodes` open, by process id; a process that ends meanwhile, or
/// that this user may not look into, is none.
pub fn holders(common: &Common, nodes: &[Node]) -> Vec<Holder> {
    let mut holders: Vec<Holder> = entries(&common.path("/proc"))
        .filter_map(|process| {
            let pid = process.file_name()?.to_str()?.parse().ok()?;
            let held = entries(&process.join("fd"))
                .find_map(|fd| nodes.iter().find(|node| node.is_open_as(&fd)))?;
            let program = fs::read_to_string(process.join("comm")).unwrap_or_default();
            Some(Holder {
                pid,
                program: shown(program.trim()).into_owned(),
                node: held.path.clone(),
            })
        })
        .collect();
    holders.sort_by_key(|holder| holder.pid);
    holders
}

impl Node {
    /// Whether a link in /proc/PID/fd leads to it. Its number decides, whatever name it was opened
    /// by; its name does where the link's target is not there, as in a recorded tree. Only links to
    /// /dev are followed: another may lead to a server that does not answer.
    fn is_open_as(&self, fd: &Path) -> bool {
        let Ok(target) = fs::read_link(fd) else {
            return false;
        };
        if !target.starts_with("/dev") {
            return false;
        }
        let is_same = |found: Metadata| {
            let kind = found.file_type();
            let is_kind = if self.is_block {
                kind.is_block_device()
            } else {
                kind.is_char_device()
            };
            is_kind && Some(found.rdev()) == self.number
        };
        target == self.path || fs::metadata(fd).is_ok_and(is_same)
    }
}

fn collect(directory: &Path, depth: u32, found: &mut Vec<Node>) {
    found.extend(node(directory));
    if depth == 0 {
        return;
    }
    for entry in entries(directory) {
        // Links lead to other devices, and back.
        if fs::symlink_metadata(&entry).is_ok_and(|kind| kind.is_dir()) {
            collect(&entry, depth - 1, found);
        }
    }
}

/// The node of one directory in sysfs, whose file `dev` is `116:0` and whose `uevent` has
/// `DEVNAME=snd/controlC0`.
fn node(directory: &Path) -> Option<Node> {
    let number = fs::read_to_string(directory.join("dev")).ok()?;
    let (major, minor) = number.trim().split_once(':')?;
    let uevent = fs::read_to_string(directory.join("uevent")).ok()?;
    let name = uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="))?;
    let subsystem = fs::read_link(directory.join("subsystem")).unwrap_or_default();
    Some(Node {
        path: Path::new("/dev").join(name.trim_start_matches('/')),
        number: Some(makedev(major.parse().ok()?, minor.parse().ok()?)),
        is_block: subsystem.ends_with("block"),
    })
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::process;

    use super::*;

    fn machine(root: &Path) -> Common {
        jsonpipe::testkit::common(root)
    }

    fn audio(common: &Common, number: &str) -> Vec<Node> {
        let address = "00:1b.0".parse().unwrap();
        let directory = device::path(common, address).join("sound/card0/controlC0");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("dev"), number).unwrap();
        fs::write(directory.join("uevent"), "MAJOR=1\nDEVNAME=snd/controlC0\n").unwrap();
        // A loop, as sysfs has everywhere.
        let _ = symlink("..", directory.join("device"));
        nodes(common, address)
    }

    #[test]
    fn the_nodes_of_a_device_are_found_below_its_directory() {
        let root = tempfile::tempdir().unwrap();
        let found = audio(&machine(root.path()), "116:0\n");
        let paths: Vec<_> = found
            .iter()
            .map(|node| node.path.to_str().unwrap())
            .collect();
        assert_eq!(paths, ["/dev/snd/controlC0"]);
    }

    #[test]
    fn a_holder_is_known_by_the_number_of_the_node() {
        let root = tempfile::tempdir().unwrap();
        let null = audio(&machine(root.path()), "1:3\n"); // the number of /dev/null
        let open = File::open("/dev/null").unwrap();
        let here = machine(Path::new("/"));
        let holders = holders(&here, &null);
        let ours = holders.iter().find(|holder| holder.pid == process::id());
        let ours = ours.unwrap().to_string();
        assert!(ours.ends_with("has /dev/snd/controlC0 open"), "{ours}");
        drop(open);
    }

    #[test]
    fn a_holder_in_a_recorded_tree_is_known_by_the_name_of_the_node() {
        let root = tempfile::tempdir().unwrap();
        let common = machine(root.path());
        let nodes = audio(&common, "116:0\n");
        assert_eq!(holders(&common, &nodes), []);
        let process = common.path("/proc/812");
        fs::create_dir_all(process.join("fd")).unwrap();
        fs::write(process.join("comm"), "pulse\u{1b}audio\n").unwrap();
        symlink("/dev/snd/controlC0", process.join("fd/7")).unwrap();
        let expected = Holder {
            pid: 812,
            program: "pulse\u{fffd}audio".into(),
            node: "/dev/snd/controlC0".into(),
        };
        assert_eq!(holders(&common, &nodes), [expected]);
    }
}
