//! The kernel's modules for VFIO.

use std::path::Path;
use std::process::{Command, Stdio};

use jsonpipe::{Common, Exit, ExitContext};
use pci::VFIO;

const TYPE1: &str = "vfio_iommu_type1";

/// Loads vfio-pci and the driver of its IOMMU, unless they are there; they stay loaded. Status 78
/// when this kernel lacks them, 69 without modprobe.
///
/// Without `vfio_iommu_type1` QEMU finds "no available IOMMU models"; without vfio-pci a probe
/// succeeds and leaves the device without a driver. The option allow_unsafe_interrupts is never
/// set: without interrupt remapping a device could raise any interrupt of the host.
pub(crate) fn load(common: &Common) -> anyhow::Result<()> {
    let is_there = || {
        common.path("/sys/bus/pci/drivers").join(VFIO).is_dir()
            && common.path("/sys/module").join(TYPE1).is_dir()
    };
    if is_there() {
        return Ok(());
    }
    let failed = |why: &str| {
        Exit::Config.error(format_args!(
            "loading the modules {VFIO} and {TYPE1}: {why}; install the modules of the running kernel"
        ))
    };
    const ABSENT: &str = "they are not there";
    if common.root != Path::new("/") {
        return Err(failed(ABSENT)); // modprobe would load this machine's
    }
    let output = Command::new("modprobe")
        .args(["-a", VFIO, TYPE1])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .exit(
            Exit::Unavailable,
            || "loading the modules of VFIO: starting modprobe",
        )?;
    if output.status.success() && is_there() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().replace('\n', "; ");
    Err(failed(if said.is_empty() { ABSENT } else { &said }))
}
