//! The platform: the IOMMU, interrupt remapping, and the kernel modules of VFIO.

use std::path::Path;

use jsonpipe::Common;

use crate::finding::{Finding, Findings, Kind};
use crate::sysfs::{Taken, names, text, value};

/// One entry for each IOMMU that the kernel uses: dmar0, ivhd0.
const IOMMUS: &str = "/sys/class/iommu";
/// The firmware's descriptions of the IOMMUs of Intel and AMD; without one it hides them.
const INTEL: &str = "DMAR";
const AMD: &str = "IVRS";
/// The parameters that keep the kernel from AMD's, which it uses otherwise.
const AMD_OFF: [(&str, &str); 2] = [("amd_iommu", "off"), ("iommu", "off")];
const TABLES: &str = "/sys/firmware/acpi/tables";
const COMMAND_LINE: &str = "/proc/cmdline";
const INTERRUPTS: &str = "/proc/interrupts";
const RELEASE: &str = "/proc/sys/kernel/osrelease";
/// Only with interrupt remapping does the kernel put this before the names of interrupt
/// controllers (arch/x86/kernel/apic, drivers/iommu/irq_remapping.c).
const REMAPPED: &str = "IR-";
/// The modules that a hand-over loads.
const MODULES: [&str; 2] = [pci::VFIO, "vfio_iommu_type1"];

/// A parameter of the kernel's command line.
pub(crate) fn parameter(common: &Common, name: &str) -> anyhow::Result<Option<String>> {
    let line = text(&common.path(COMMAND_LINE))?.unwrap_or_default();
    let last = line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .next_back();
    Ok(last.map(str::to_owned))
}

/// Whether the kernel uses an IOMMU.
pub(crate) fn has_iommu(common: &Common) -> anyhow::Result<bool> {
    Ok(!names(&common.path(IOMMUS))?.is_empty())
}

pub(crate) fn find(common: &Common, taken: &Taken, findings: &mut Findings) -> anyhow::Result<()> {
    if has_iommu(common)? {
        interrupt_remapping(common, findings)?;
    } else {
        iommu_absent(common, findings)?;
    }
    if taken
        .devices
        .iter()
        .any(|device| device.driver.as_deref() != Some(pci::VFIO))
    {
        modules(common, findings)?;
    }
    Ok(())
}

fn iommu_absent(common: &Common, findings: &mut Findings) -> anyhow::Result<()> {
    let tables = names(&common.path(TABLES))?;
    let described = |table: &str| tables.iter().any(|name| name == table);
    let unused = |table: &str, way_out: &str| {
        Finding::new(
            Kind::IommuAbsent,
            format_args!(
                "the firmware describes an IOMMU (table {table}), but the kernel does not use it"
            ),
            way_out,
        )
    };
    let finding = if described(INTEL) {
        const SETTING: &str = "intel_iommu=on";
        let way_out =
            format!("add {SETTING} to the kernel's command line, without iommu=off, and reboot");
        unused(INTEL, &way_out).setting(SETTING)
    } else if described(AMD) {
        let mut off = None;
        for (name, value) in AMD_OFF {
            if off.is_none() && parameter(common, name)?.as_deref() == Some(value) {
                off = Some(format!("{name}={value}"));
            }
        }
        match off {
            Some(setting) => {
                let way_out =
                    format!("remove {setting} from the kernel's command line, and reboot");
                unused(AMD, &way_out).setting(setting)
            }
            None => unused(
                AMD,
                "look at the kernel's messages (dmesg | grep AMD-Vi), and update the BIOS",
            ),
        }
    } else {
        Finding::new(
            Kind::IommuAbsent,
            "no IOMMU: the processor or the board has none, or the firmware hides it",
            "switch on VT-d (Intel) or AMD-Vi, also called IOMMU, in the firmware's setup, and reboot",
        )
    };
    findings.block(finding);
    Ok(())
}

fn interrupt_remapping(common: &Common, findings: &mut Findings) -> anyhow::Result<()> {
    let Some(interrupts) = text(&common.path(INTERRUPTS))? else {
        findings.warn(Finding::new(
            Kind::NotLookedAt,
            format_args!("interrupt remapping is unknown: there is no {INTERRUPTS}"),
            "mount /proc",
        ));
        return Ok(());
    };
    let is_remapped = interrupts
        .lines()
        .flat_map(str::split_whitespace)
        .any(|word| word.starts_with(REMAPPED));
    if is_remapped {
        return Ok(());
    }
    let finding = match parameter(common, "intremap")?.as_deref() {
        Some(mode @ ("off" | "nosid")) => Finding::new(
            Kind::InterruptRemappingOff,
            format_args!(
                "interrupt remapping is off, by intremap={mode} on the kernel's command line"
            ),
            format_args!("remove intremap={mode} from the kernel's command line, and reboot"),
        )
        .setting(format_args!("intremap={mode}")),
        _ => Finding::new(
            Kind::InterruptRemappingOff,
            "interrupt remapping is off: the IOMMU lacks it, or the firmware has it switched off",
            "switch it on with VT-d or AMD-Vi in the firmware's setup, or update the BIOS; a machine without it cannot isolate a guest's devices",
        ),
    };
    findings.block(finding);
    Ok(())
}

fn modules(common: &Common, findings: &mut Findings) -> anyhow::Result<()> {
    let missing: Vec<&str> = MODULES
        .into_iter()
        .filter(|module| {
            let loaded = common.path("/sys/module").join(module.replace('-', "_"));
            !loaded.exists()
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let release = value(&common.path(RELEASE)).filter(|release| {
        !release.is_empty() && !release.contains('/') && !release.starts_with('.')
    });
    let Some(release) = release else {
        findings.warn(Finding::new(
            Kind::NotLookedAt,
            format_args!("the kernel's modules are unknown: {RELEASE} names no release"),
            "mount /proc",
        ));
        return Ok(());
    };
    let directory = common.path("/lib/modules").join(&release);
    let dependencies = text(&directory.join("modules.dep"))?.unwrap_or_default();
    let builtin = text(&directory.join("modules.builtin"))?.unwrap_or_default();
    for module in missing {
        if builtin.lines().any(|line| is_module(line, module))
            || can_load(&directory, &dependencies, module)
        {
            continue;
        }
        findings.block(
            Finding::new(
                Kind::VfioMissing,
                format_args!("the kernel {release} has no module {module}"),
                "boot Debian's kernel linux-image-amd64, which has it; the one for clouds does not",
            )
            .driver(module),
        );
    }
    Ok(())
}

/// Whether a module and all that it needs are in the files that modules.dep(5) names.
fn can_load(directory: &Path, dependencies: &str, module: &str) -> bool {
    dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(path, _)| is_module(path, module))
        .is_some_and(|(path, needed)| {
            [path]
                .into_iter()
                .chain(needed.split_whitespace())
                .all(|path| directory.join(path).exists())
        })
}

/// Whether `kernel/drivers/vfio/pci/vfio-pci.ko.xz` is the file of `module`. File names have a
/// hyphen or an underscore, as their makers like.
fn is_module(path: &str, module: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let name = file.split(".ko").next().unwrap_or_default();
    name.replace('-', "_") == module.replace('-', "_")
}
