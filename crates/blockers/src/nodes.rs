//! Processes that have a node of a device open: the kernel waits for them before it takes the driver
//! away, without a limit.

use std::path::Path;
use std::process;

use jsonpipe::Common;
use nix::unistd::geteuid;
use pci::{Device, Holder, Node};

use crate::finding::{Finding, Findings, Kind};
use crate::sysfs::Taken;

/// The nodes of sound, DRI, frame buffers and video. Others, such as those of keyboards and disks,
/// do not keep a driver.
const NODES: [&str; 4] = ["/dev/snd/", "/dev/dri/", "/dev/fb", "/dev/video"];

pub(crate) fn find(common: &Common, taken: &Taken, findings: &mut Findings) {
    let mut are_hidden = false;
    for device in taken.all() {
        let nodes = keeping(common, device);
        for holder in holders(common, &nodes) {
            findings.block(
                Finding::new(Kind::NodeOpen, &holder, way_out(&holder))
                    .device(device.address)
                    .pid(holder.pid),
            );
        }
        let group = device.group.map(|group| pci::group_node(common, group));
        for holder in holders(common, group.as_slice()) {
            let way_out = "a guest has the device; wait until that guest has ended";
            findings.block(
                Finding::new(Kind::GroupInUse, &holder, way_out)
                    .device(device.address)
                    .pid(holder.pid),
            );
        }
        are_hidden |= !nodes.is_empty() || group.is_some();
    }
    if are_hidden && !geteuid().is_root() {
        findings.warn(Finding::new(
            Kind::NotLookedAt,
            "the open files of other users are hidden, and with them who has sound, graphics, video or a group open",
            "run the check as root",
        ));
    }
}

fn keeping(common: &Common, device: &Device) -> Vec<Node> {
    let is_keeping = |path: &Path| {
        let path = path.to_string_lossy();
        NODES.iter().any(|start| path.starts_with(start))
    };
    let mut nodes = pci::nodes(common, device.address);
    nodes.retain(|node| is_keeping(&node.path));
    nodes
}

fn way_out(holder: &Holder) -> String {
    // logind has them open for graphical sessions, and systemd keeps them for its restart.
    if holder.pid == 1 || holder.program == "systemd-logind" {
        return "end the graphical session or the greeter for which systemd has it open (loginctl, systemctl stop display-manager)".into();
    }
    format!(
        "end it (systemctl stop its service, or kill {})",
        holder.pid
    )
}

/// The other processes that have one of the nodes open.
fn holders(common: &Common, nodes: &[Node]) -> Vec<Holder> {
    if nodes.is_empty() {
        return Vec::new();
    }
    let mut holders = pci::holders(common, nodes);
    holders.retain(|holder| holder.pid != process::id());
    holders
}
