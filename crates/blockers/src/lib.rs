//! The obstacles to a hand-over of PCI devices to a guest: each with the device, driver, process,
//! mount, route or setting, and the way out. All are reported at once, in a fixed order, and nothing
//! is changed for it.
//!
//! **Admission rule.** Belongs here: reading the machine for a reason why a device, or the memory of
//! a guest, cannot be handed over. Not: the changes of a hand-over (`handover`), the properties of
//! a model (`model`), and the command line of a guest (`vm-passthrough`).

mod finding;
mod graphics;
mod groups;
mod hardware;
mod ioctl;
mod kvm;
mod memory;
mod mounts;
mod netlink;
mod network;
mod nodes;
mod platform;
mod storage;
mod sysfs;

use std::path::Path;

use jsonpipe::Common;
use model::Model;
use sysfs::Taken;

pub use finding::{Finding, Findings, Kind};

/// The hand-over that is planned.
#[derive(Debug)]
pub struct Wish<'a> {
    /// The product name of this machine, or why it is unknown.
    pub name: Result<&'a str, &'a str>,
    /// Its section in models.ini; without one no device is handed over.
    pub model: Option<&'a Model>,
    /// The guests, one of which gets the devices.
    pub guests: &'a [Guest<'a>],
    /// The bytes of memory that the host keeps.
    pub reserve_bytes: u64,
    /// Whether KVM works, or its fault; `None` where it was not tried.
    pub kvm: Option<Result<(), &'a str>>,
    /// Whether the caller holds the guest lock.
    pub is_locked: bool,
}

/// The memory of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest<'a> {
    /// The name of its profile.
    pub profile: &'a str,
    /// The bytes of memory that it gets, or at least needs.
    pub memory_bytes: u64,
    /// The mount point of the huge pages that its memory is made of; `None` for ordinary memory.
    pub hugepages: Option<&'a Path>,
    /// Whether its disk is a ZFS volume.
    pub zfs: bool,
}

/// Everything that is against the hand-over, and everything else to know about it. Status 74 when
/// the kernel's tables cannot be read.
pub fn find(common: &Common, wish: &Wish) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    hardware::find(common, wish, &mut findings)?;
    let taken = Taken::read(common, wish.model)?;
    if !taken.devices.is_empty() {
        platform::find(common, &taken, &mut findings)?;
        graphics::find(&taken, &mut findings);
        nodes::find(common, &taken, &mut findings);
        groups::find(common, &taken, wish.is_locked, &mut findings)?;
        storage::find(common, &taken, &mut findings)?;
        network::find(common, &taken, &mut findings)?;
    }
    memory::find(common, wish, &mut findings)?;
    if let Some(kvm) = wish.kvm {
        kvm::find(common, kvm, &taken, &mut findings);
    }
    findings.sort();
    Ok(findings)
}
