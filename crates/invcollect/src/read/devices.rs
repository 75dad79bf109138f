//! The PCI devices, and those set aside for a guest, from /sys/bus/pci/devices.

use std::fs;

use crate::read::machine::Machine;
use crate::report::Device;

const DIRECTORY: &str = "/sys/bus/pci/devices";

/// By address.
pub fn read(machine: &Machine) -> Vec<Device> {
    let device = |address: String| {
        let hex = |file: &str| {
            let value = machine.value(format!("{DIRECTORY}/{address}/{file}"))?;
            Some(value.strip_prefix("0x")?.to_owned())
        };
        let driver = machine.linked(format!("{DIRECTORY}/{address}/driver"));
        Some(Device {
            id: format!("{}:{}", hex("vendor")?, hex("device")?),
            class: hex("class")?,
            passed: driver.as_deref() == Some(pci::VFIO),
            removable: is_removable(machine, &format!("{DIRECTORY}/{address}")),
            driver,
            address: jsonpipe::shown(&address).into_owned(),
        })
    };
    // A machine without PCI, such as many virtual ones, has no devices.
    machine
        .names(DIRECTORY)
        .into_iter()
        .filter_map(device)
        .collect()
}

/// Whether a device, or one above it, can be removed by its user: on USB, or behind a port that the
/// firmware calls external-facing (Documentation/ABI/testing/sysfs-devices-removable).
pub fn is_removable(machine: &Machine, directory: &str) -> bool {
    let real = |path: &str| fs::canonicalize(machine.path(path));
    let (Ok(place), Ok(root)) = (real(directory), real("/")) else {
        return false;
    };
    let above = place
        .ancestors()
        .take_while(|directory| directory.starts_with(&root));
    above
        .map(|directory| directory.join("removable"))
        .any(|file| fs::read(file).is_ok_and(|text| text.trim_ascii() == b"removable"))
}
