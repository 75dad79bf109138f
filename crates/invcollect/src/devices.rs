//! The PCI devices, and which of them are set aside for a guest, from /sys/bus/pci/devices.

use crate::machine::Machine;
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
            passed: driver.as_deref() == Some("vfio-pci"),
            driver,
            address,
        })
    };
    // A machine without PCI is one without devices on it; most virtual ones are not.
    machine.names(DIRECTORY).into_iter().filter_map(device).collect()
}
