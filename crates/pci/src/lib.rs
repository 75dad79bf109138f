//! The PCI devices of a machine: their addresses, ids, drivers and IOMMU groups, as the kernel's
//! sysfs shows them.
//!
//! **Admission rule.** Belongs here: what is read below /sys/bus/pci, its types, the processes that
//! use a device through its nodes in /dev, and the kernel's word on a group. Not: changes of a driver
//! (`handover`), the reasons why a device cannot be handed over (`blockers`), and what a model of
//! computer should have (`model`).

mod address;
mod device;
mod id;
mod ioctl;
mod node;
mod vfio;

pub use address::PciAddress;
pub use device::{Device, all, device, members, path};
pub use id::Id;
pub use node::{Holder, Node, group_node, holders, nodes};
pub use vfio::{VFIO, is_viable};
