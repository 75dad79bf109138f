//! Memory from huge pages.

use std::fs;
use std::path::Path;

use jsonpipe::{Common, Exit};
use nix::sys::statfs::{HUGETLBFS_MAGIC, statfs};

use model::Memory;

/// The mount point of the huge pages.
pub const MOUNT: &str = "/hugepages";

/// Checks that a guest's memory is available: the mount exists, `accessible` accepts it, and enough
/// pages are free.
///
/// Pages are reserved when the host starts, not by a session: later there may not be enough
/// contiguous memory.
pub fn check(
    common: &Common,
    memory: Memory,
    accessible: impl Fn(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mount = common.path(MOUNT);
    let wrong = |what: &str| Exit::Config.error(format_args!("{}: {what}", mount.display()));
    let page_bytes = match statfs(&mount) {
        Ok(found) if found.filesystem_type() == HUGETLBFS_MAGIC => found.block_size() as u64,
        _ => {
            return Err(wrong(
                "not a mounted hugetlbfs; mount one there, or set hugepages=false in the profile",
            ));
        }
    };
    accessible(&mount)?;
    let counter = common.path(format!(
        "/sys/kernel/mm/hugepages/hugepages-{}kB/free_hugepages",
        page_bytes >> 10
    ));
    let free = fs::read_to_string(&counter)
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let needed = memory.bytes().div_ceil(page_bytes.max(1));
    match free {
        Some(free) if free >= needed => Ok(()),
        free => Err(wrong(&format!(
            "{needed} huge pages are needed and {} are free; reserve more when the host starts, with vm.nr_hugepages",
            free.unwrap_or(0)
        ))),
    }
}
