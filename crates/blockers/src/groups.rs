//! IOMMU groups: the kernel hands over a group as a whole.

use std::io;

use jsonpipe::{Common, lock};
use nix::libc;
use nix::unistd::geteuid;
use pci::Device;

use crate::finding::{Finding, Findings, Kind};
use crate::graphics;
use crate::platform;
use crate::sysfs::Taken;

/// The drivers beside which a group is viable: those of VFIO and the two that do no transfers
/// themselves (`driver_managed_dma` in Linux).
const HARMLESS: [&str; 3] = [pci::VFIO, "pci-stub", "pcieport"];

pub(crate) fn find(
    common: &Common,
    taken: &Taken,
    is_locked: bool,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut groups = Vec::new();
    for device in &taken.devices {
        if device.is_bridge() {
            findings.block(
                Finding::new(
                    Kind::Bridge,
                    "a bridge: what is behind it belongs to the host",
                    "remove it from the model's devices",
                )
                .device(device.address),
            );
        }
        match device.group {
            Some(group) => groups.push(group),
            None => no_group(common, device, findings)?,
        }
    }
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        let members = pci::members(common, group)?;
        let before = findings.blockers.len();
        for member in &members {
            sibling(taken, member, group, findings);
        }
        let is_named = findings.blockers.len() > before;
        let is_ready = members.iter().all(is_harmless);
        if geteuid().is_root() && is_ready && !is_named {
            viable(common, &members, group, is_locked, findings)?;
        }
    }
    Ok(())
}

fn is_harmless(device: &Device) -> bool {
    device
        .driver
        .as_deref()
        .is_none_or(|driver| HARMLESS.contains(&driver))
}

fn no_group(common: &Common, device: &Device, findings: &mut Findings) -> anyhow::Result<()> {
    if !platform::has_iommu(common)? {
        return Ok(()); // named already, for all devices
    }
    // Debian's kernel leaves the integrated graphics out of the IOMMU unless it is told not to
    // (CONFIG_INTEL_IOMMU_DEFAULT_ON_INTGPU_OFF).
    let finding = if graphics::is_integrated(device) {
        const SETTING: &str = "intel_iommu=on";
        let now = match platform::parameter(common, "intel_iommu")? {
            Some(mode) => format!("replace intel_iommu={mode} with"),
            None => "add".into(),
        };
        Finding::new(
            Kind::IntelIommuNotOn,
            "the kernel leaves the integrated graphics out of the IOMMU",
            format_args!("{now} {SETTING} on the kernel's command line, and reboot"),
        )
        .setting(SETTING)
    } else {
        Finding::new(
            Kind::NoGroup,
            "in no IOMMU group: no IOMMU is responsible for it",
            "update the BIOS, or remove the device from the model's devices",
        )
    };
    findings.block(finding.device(device.address));
    Ok(())
}

/// Storage and network with a driver stay the host's, although the model lists them as parked: their
/// use is not always visible, such as that of a network card before the login.
fn sibling(taken: &Taken, member: &Device, group: u32, findings: &mut Findings) {
    let is_in = |list: &[Device]| list.iter().any(|device| device.address == member.address);
    let is_parked = is_in(&taken.parked) && !member.is_storage_or_network();
    if is_in(&taken.devices) || is_parked || is_harmless(member) {
        return;
    }
    let driver = member.driver.as_deref().unwrap_or_default();
    let with: Vec<String> = taken
        .devices
        .iter()
        .filter(|device| device.group == Some(group))
        .map(|device| device.address.to_string())
        .collect();
    let way_out = if member.is_storage_or_network() {
        "the host needs it: remove the others from the model's devices"
    } else {
        "if the host can do without it during a session, add it to the model's parked devices; otherwise remove the others from the model's devices"
    };
    findings.block(
        Finding::new(
            Kind::GroupSibling,
            format_args!(
                "the host uses it (driver {driver}), and it is in IOMMU group {group} with {}, which the guest gets",
                with.join(", ")
            ),
            way_out,
        )
        .device(member.address)
        .driver(driver),
    );
}

/// The kernel's own answer, where no driver of the host is in the way any more. While another
/// process starts a guest, opening the group could make that start fail, so that the lock decides.
fn viable(
    common: &Common,
    members: &[Device],
    group: u32,
    is_locked: bool,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let Some(member) = members.first() else {
        return Ok(());
    };
    let is_named = findings.blockers.iter().any(|found| {
        found.kind == Kind::GroupInUse
            && members
                .iter()
                .any(|member| found.device == Some(member.address))
    });
    if is_named || !is_locked && lock::is_held(common, occupancy::GUEST)? {
        return Ok(());
    }
    match pci::is_viable(common, group) {
        Ok(false) => findings.block(
            Finding::new(
                Kind::GroupNotViable,
                format_args!("the kernel does not accept IOMMU group {group}: a member is in use in a way that is not visible here"),
                format_args!("look at the members in /sys/kernel/iommu_groups/{group}/devices and at the kernel's messages"),
            )
            .device(member.address),
        ),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => findings.block(
            Finding::new(
                Kind::GroupInUse,
                format_args!("IOMMU group {group} is in use by another process"),
                "wait until that guest has ended",
            )
            .device(member.address),
        ),
        // Without vfio-pci on a member there is no node; in a directory that stands for a machine,
        // it is a file.
        Ok(true) => {}
        Err(error) => not_asked(group, &error, findings),
    }
    Ok(())
}

fn not_asked(group: u32, error: &io::Error, findings: &mut Findings) {
    if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTTY)) {
        return;
    }
    findings.warn(Finding::new(
        Kind::NotLookedAt,
        format_args!("IOMMU group {group} could not be asked: {error}"),
        "the members' drivers allow the hand-over",
    ));
}
