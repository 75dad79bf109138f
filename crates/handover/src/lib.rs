//! Takes a machine's PCI devices, its console and its memory for a guest, and gives them back.
//!
//! Every change is written down before the first one is made, can be taken back, and is verified by
//! reading it back. No driver can block the caller, and a kill at any instant leaves a journal from
//! which [`restore`] gives everything back. The loaded modules stay loaded.
//!
//! **Admission rule.** Belongs here: changes of sysfs and of /dev/vfio for a guest. Not: the choice
//! of the devices (`model`), the reasons against it (`blockers`), and the guest (`vm-passthrough`).

mod console;
mod device;
mod fragmentation;
mod group;
mod huge_pages;
mod journal;
mod left;
mod module;
mod returned;
mod step;
mod sysfs;
mod system;
mod take;

use serde::{Deserialize, Serialize};

pub use huge_pages::{HugePages, MOUNT};
pub use left::{Reclaimed, differences, reclaimed, release, strays};
pub use returned::{Returned, ReturnedDevice, is_taken, restore};
pub use step::Step;
pub use take::{Failed, Handover, Taken, Wanted};

/// The owner of a node in /dev.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// The share of the free memory that is in blocks smaller than a huge page of 2 MiB, from 0 to 1;
/// `None` where the kernel does not show its blocks.
pub fn fragmentation(common: &jsonpipe::Common) -> Option<f64> {
    fragmentation::index(common, 2 << 20)
}

/// Ends this process as a power cut would, in a debug build, at the change that the test names by
/// its number: `LABTOOLS_SABOTAGE=kill-at-3`.
fn kill_point() {
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::sys::signal::{Signal, raise};

    static CHANGES: AtomicU32 = AtomicU32::new(1);
    if cfg!(debug_assertions) {
        let number = CHANGES.fetch_add(1, Ordering::Relaxed);
        if jsonpipe::sabotaged(&format!("kill-at-{number}")) {
            let _ = raise(Signal::SIGKILL); // cannot fail
        }
    }
}
