//! Processes that have a node of a device open: the kernel waits for them before it takes the driver
//! away, without a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use jsonpipe::Common;
use nix::sys::stat::{major, minor};
use pci::PciAddress;

use crate::finding::{Finding, Findings, Kind};
use crate::groups;
use crate::sysfs::{Taken, names, value};

/// The classes of devices whose open nodes keep a driver: sound, DRI, frame buffers, video.
const CLASSES: [&str; 4] = ["sound", "drm", "graphics", "video4linux"];
const PROC: &str = "/proc";

/// A node by its number, `116:2`.
type Nodes = BTreeMap<String, Node>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    device: PciAddress,
    path: String,
    kind: Kind,
}

pub(crate) fn find(common: &Common, taken: &Taken, findings: &mut Findings) -> anyhow::Result<()> {
    let nodes = nodes(common, taken)?;
    if nodes.is_empty() {
        return Ok(());
    }
    let mut unseen = 0;
    for name in names(&common.path(PROC))? {
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        let process = common.path(PROC).join(&name);
        let mut open = BTreeMap::<_, BTreeSet<&str>>::new();
        match open_nodes(&process, &nodes) {
            Ok(found) => {
                for node in found {
                    open.entry((node.kind, node.device))
                        .or_default()
                        .insert(&node.path);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unseen += 1,
            Err(_) => {} // it has ended
        }
        for ((kind, device), paths) in open {
            let command = value(&process.join("comm")).unwrap_or_default();
            let paths: Vec<&str> = paths.into_iter().collect();
            findings.block(held(kind, pid, &command, &paths).device(device).pid(pid));
        }
    }
    if unseen > 0 {
        findings.warn(Finding::new(
            Kind::NotLookedAt,
            format_args!("the open files of {unseen} processes of other users are hidden, and with them who has sound, graphics or video open"),
            "run the check as root",
        ));
    }
    Ok(())
}

fn held(kind: Kind, pid: u32, command: &str, paths: &[&str]) -> Finding {
    let paths = paths.join(", ");
    let what = format!("process {pid} ({command}) has {paths} open");
    if kind == Kind::GroupInUse {
        Finding::new(
            kind,
            what,
            "a guest has it; wait until that guest has ended",
        )
    } else {
        let way_out = format!("end it (systemctl stop its service, or kill {pid})");
        Finding::new(kind, what, way_out)
    }
}

/// The nodes of all devices, and those of their groups.
fn nodes(common: &Common, taken: &Taken) -> anyhow::Result<Nodes> {
    let mut nodes = Nodes::new();
    for class in CLASSES {
        let directory = common.path("/sys/class").join(class);
        for entry in taken.below(common, class)? {
            let entry_directory = directory.join(&entry.name);
            // Without a number it has no node, such as a connector of a graphics card.
            if let Some(number) = value(&entry_directory.join("dev")) {
                let path = node_path(&entry_directory).unwrap_or(entry.name);
                let device = entry.device;
                let kind = Kind::NodeOpen;
                nodes.insert(number, Node { device, path, kind });
            }
        }
    }
    for device in taken.all() {
        if let Some(group) = device.group
            && let Some(number) = value(&common.path(format!("/sys/class/vfio/{group}/dev")))
        {
            nodes.entry(number).or_insert(Node {
                device: device.address,
                path: format!("{}/{group}", groups::NODES),
                kind: Kind::GroupInUse,
            });
        }
    }
    Ok(nodes)
}

/// The path that the kernel suggests for a device's node.
fn node_path(directory: &Path) -> Option<String> {
    let about = value(&directory.join("uevent"))?;
    let name = about
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(format!("/dev/{name}"))
}

/// The nodes that a process has open. Only files below /dev are looked at: others may be on a
/// server that does not answer.
fn open_nodes<'a>(process: &Path, nodes: &'a Nodes) -> io::Result<Vec<&'a Node>> {
    let mut open = Vec::new();
    for entry in fs::read_dir(process.join("fd"))? {
        let path = entry?.path();
        if !fs::read_link(&path)?.starts_with("/dev") {
            continue;
        }
        let Ok(file) = fs::metadata(&path) else {
            continue;
        };
        if file.file_type().is_char_device() {
            let number = format!("{}:{}", major(file.rdev()), minor(file.rdev()));
            open.extend(nodes.get(&number));
        }
    }
    Ok(open)
}
