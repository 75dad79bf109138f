//! The readers: each reads one part of the machine from the kernel, the firmware or the disk, below
//! [`machine::Machine`], and records in `missing` why a value is not known. Only [`cctk`] starts a
//! process, and none knows another machine or an earlier state. None changes anything, but for what
//! [`cctk::set`] is told.

pub mod bases;
pub mod boot;
pub mod cctk;
pub mod devices;
pub mod disks;
pub mod dmi;
pub mod filesystems;
pub mod firmware;
pub mod guest;
pub mod identity;
pub mod interfaces;
pub mod kernel;
pub mod kernel_log;
pub mod link_modes;
pub mod machine;
pub mod memory;
pub mod netlink;
pub mod place;
pub mod privacy;
pub mod processor;
pub mod routes;
pub mod sensors;
pub mod smart;
pub mod smbios;
pub mod wireless;
