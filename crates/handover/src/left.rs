//! What the guests before have left, as far as it was not given back.

use std::fmt;

use jsonpipe::{Common, Exit, ExitContext};
use pci::{PciAddress, VFIO};

use crate::device;
use crate::journal::Journal;
use crate::returned::{self, ReturnedDevice};

/// A device that was not given back, and that a driver of the host has since. The host may use it in
/// a way that is not visible: no guest gets it before a restore has accounted for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// Its address.
    pub device: PciAddress,
    /// Its driver now.
    pub driver: String,
    /// Its driver before the guest.
    pub before: Option<String>,
}

impl Reclaimed {
    /// The way out.
    pub const WAY_OUT: &str = "unbind it and run vm-passthrough restore, or restart the machine";

    /// The cause.
    pub fn what(&self) -> String {
        let before = self.before.as_deref().unwrap_or("no driver");
        let driver = &self.driver;
        format!("{driver} has it, and it was not given back: before the last guest {before} had it")
    }
}

impl fmt::Display for Reclaimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, what, way_out) = (self.device, self.what(), Reclaimed::WAY_OUT);
        write!(f, "{device}: {what}; {way_out}")
    }
}

/// Those of `devices` that were not given back, and that a driver of the host has that they did not
/// have before. Status 78 when the journal cannot be followed.
pub fn reclaimed(common: &Common, devices: &[PciAddress]) -> anyhow::Result<Vec<Reclaimed>> {
    let Some(journal) = Journal::look(common)? else {
        return Ok(Vec::new());
    };
    let wanted = journal
        .befores()
        .filter(|before| devices.contains(&before.device));
    Ok(wanted
        .filter_map(|before| {
            let driver = device::driver(common, before.device)?;
            let is_known = driver == VFIO || before.driver.as_deref() == Some(&driver);
            (!is_known).then(|| Reclaimed {
                device: before.device,
                driver,
                before: before.driver.clone(),
            })
        })
        .collect())
}

/// Those of `devices` that vfio-pci, or no driver, has by their `driver_override`. With neither a
/// guest nor a journal, an administrator gave them to it; or a run was killed whose journal was
/// deleted.
pub fn strays(common: &Common, devices: &[PciAddress]) -> Vec<PciAddress> {
    let devices = devices.iter().copied();
    devices
        .filter(|device| device::is_overridden(common, *device))
        .collect()
}

/// Gives a device from vfio-pci, or without a driver, to the driver that the kernel chooses, as at a
/// boot. `None` when a driver of the host has it. The caller holds the guest's lock, and there is no
/// journal of the device. Status 66 when it is not there, 75 when a process has its group, and 78
/// when it has another `driver_override` or no driver takes it.
pub fn release(common: &Common, device: PciAddress) -> anyhow::Result<Option<ReturnedDevice>> {
    let found = pci::device(common, device)?
        .exit(Exit::NoInput, || format!("PCI device {device}: not there"))?;
    if found.driver.as_deref().is_some_and(|driver| driver != VFIO) {
        return Ok(None);
    }
    if !device::is_overridden(common, device) && !device::is_free(common, device) {
        let has = found.driver.as_deref().unwrap_or("no driver");
        return Err(Exit::Config.error(format_args!(
            "releasing {device}: {has} has it, and not by a driver_override of {VFIO}; see its driver_override, and ids of {VFIO} in /etc/modprobe.d and on the kernel's command line"
        )));
    }
    // An unbind would wait for it, and then take the device.
    let group = found.group.map(|group| pci::group_node(common, group));
    if let Some(holder) = pci::holders(common, group.as_slice()).first() {
        return Err(
            Exit::TemporaryFailure.error(format_args!("releasing {device}: {holder}; end that"))
        );
    }
    let now = device::release(common, device)?;
    Ok(Some(ReturnedDevice {
        device,
        before: found.driver,
        now: Some(now),
    }))
}

/// How the machine differs from its state before the guests, by the journal of a run that was killed
/// or has not given everything back; huge pages do not show. `None` without a journal. Nothing is
/// changed. Status 78 when the journal cannot be followed.
pub fn differences(common: &Common) -> anyhow::Result<Option<Vec<String>>> {
    let journal = Journal::look(common)?;
    Ok(journal.map(|journal| returned::rest(common, &journal).1))
}
