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
    match meminfo::total(common) {
        Ok(total) => amount(total, wish, findings),
        Err(reason) => findings.warn(Finding::new(
            Kind::NotLookedAt,
            format_args!("the memory of this machine is unknown: {reason}"),
            "mount /proc",
        )),
    }
    huge_pages(common, wish, findings)
}

fn amount(total: u64, wish: &Wish, findings: &mut Findings) {
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
}

impl Guest<'_> {
    fn setting(&self) -> String {
        format!("profile.{}.memory", self.profile)
    }
}

fn huge_pages(common: &Common, wish: &Wish, findings: &mut Findings) -> anyhow::Result<()> {
    for guest in wish.guests {
        let Some(mount) = guest.hugepages else {
            continue;
        };
        if meminfo::huge_page_bytes(common, mount).is_some() {
            continue;
        }
        // The table alone shows it where a tree stands for a machine; a guest needs the pages.
        if !wish.is_locked && is_listed(common, mount)? {
            findings.warn(only_listed(common, mount));
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
                format_args!("enable hugepages.mount of the package labtools-host, or mount one there (mount -t hugetlbfs -o gid=labtools-qemu,mode=0770 none {mount}), or set {setting}=false"),
            )
            .mount(mount)
        };
        findings.block(finding.setting(setting));
    }
    Ok(())
}

/// Whether the table of mounts has a hugetlbfs there.
fn is_listed(common: &Common, mount: &Path) -> anyhow::Result<bool> {
    let mounts = mounts::read(common)?;
    let seen = mounts
        .iter()
        .rfind(|found| Path::new(&found.point) == mount);
    Ok(seen.is_some_and(|found| found.kind == "hugetlbfs"))
}

fn only_listed(common: &Common, mount: &Path) -> Finding {
    let directory = common.path(mount);
    Finding::new(
        Kind::NotLookedAt,
        format_args!(
            "the table of mounts has huge pages at {}, but at {} there are none",
            mount.display(),
            directory.display()
        ),
        format_args!(
            "before a guest runs in this directory, mount them there (mount -t hugetlbfs none {})",
            directory.display()
        ),
    )
    .mount(mount.display())
}

fn mebibytes(bytes: u64) -> String {
    format!("{}M", bytes >> 20)
}
