//! Memory for the guest and the host.

use std::path::Path;

use jsonpipe::Common;

use crate::finding::{Finding, Findings, Kind};
use crate::mounts;
use crate::sysfs::names;
use crate::{Guest, Wish};

const PAGE_SIZES: &str = "/sys/kernel/mm/hugepages";
/// With less, guests on ZFS volumes were killed, or ended for want of a thread.
const ZFS_HOST_BYTES: u64 = 2048 << 20;

pub(crate) fn find(common: &Common, wish: &Wish, findings: &mut Findings) -> anyhow::Result<()> {
    let total = match meminfo::total(common) {
        Ok(total) => total,
        Err(reason) => {
            findings.warn(Finding::new(
                Kind::NotLookedAt,
                format_args!("the memory of this machine is unknown: {reason}"),
                "mount /proc",
            ));
            return Ok(());
        }
    };
    for guest in wish.guests {
        let setting = guest.setting();
        let (needed, reserve) = (guest.memory_bytes, wish.reserve_bytes);
        if needed.saturating_add(reserve) > total {
            findings.block(
                Finding::new(
                    Kind::MemoryShort,
                    format_args!(
                        "the guest of [profile.{}] gets {} and the host keeps {}, but this machine has {}",
                        guest.profile, mebibytes(needed), mebibytes(reserve), mebibytes(total)
                    ),
                    format_args!("add memory to the machine, or lower {setting}, memory of this model, or host_memory in vm-passthrough.ini"),
                )
                .setting(&setting),
            );
        }
        if guest.zfs && needed.saturating_add(ZFS_HOST_BYTES) > total {
            findings.block(
                Finding::new(
                    Kind::ZfsMemory,
                    format_args!(
                        "the guest of [profile.{}] is on ZFS and gets {} of {}, which leaves the host less than {}",
                        guest.profile, mebibytes(needed), mebibytes(total), mebibytes(ZFS_HOST_BYTES)
                    ),
                    format_args!("give the guest at most {}, by {setting} or by memory of this model", mebibytes(total.saturating_sub(ZFS_HOST_BYTES))),
                )
                .setting(&setting),
            );
        }
    }
    huge_pages(common, wish.guests, findings)
}

impl Guest<'_> {
    fn setting(&self) -> String {
        format!("profile.{}.memory", self.profile)
    }
}

fn huge_pages(common: &Common, guests: &[Guest], findings: &mut Findings) -> anyhow::Result<()> {
    for guest in guests {
        let Some(mount) = guest.hugepages else {
            continue;
        };
        if is_huge(common, mount)? {
            continue;
        }
        let setting = format!("profile.{}.hugepages", guest.profile);
        let finding = if names(&common.path(PAGE_SIZES))?.is_empty() {
            Finding::new(
                Kind::HugePages,
                "the kernel has no huge pages",
                format_args!("set {setting}=false, or boot a kernel with CONFIG_HUGETLBFS"),
            )
        } else {
            let mount = mount.display();
            Finding::new(
                Kind::HugePages,
                format_args!("no hugetlbfs is mounted at {mount}"),
                format_args!("enable hugepages.mount of the package labtools-host, or mount one there (mount -t hugetlbfs none {mount}), or set {setting}=false"),
            )
            .mount(mount)
        };
        findings.block(finding.setting(setting));
    }
    Ok(())
}

/// Whether a hugetlbfs is mounted there. In a recorded tree only the table of mounts shows it.
fn is_huge(common: &Common, mount: &Path) -> anyhow::Result<bool> {
    let is_there = meminfo::huge_page_bytes(common, mount).is_some();
    let is_listed = mounts::read(common)?
        .iter()
        .rfind(|found| Path::new(&found.point) == mount)
        .is_some_and(|found| found.kind == "hugetlbfs");
    Ok(is_there || is_listed)
}

fn mebibytes(bytes: u64) -> String {
    format!("{}M", bytes >> 20)
}
