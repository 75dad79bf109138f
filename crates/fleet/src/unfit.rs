//! The differences of a machine from its model's section in models.ini.

use model::{Bios, Difference, Hardware};
use pci::Device;

use crate::report::What;
use crate::reported::{self, Snapshot};
use crate::roster::Roster;

const NOT_READ: &str = "not read from the report";

/// Devices that guests cannot get, graphics cards that they do not get (thesis, 5.4: an external one
/// did not fit), and an older BIOS. Memory has its own finding, because it can be accepted.
pub fn of_model(
    snapshot: &Snapshot,
    name: Option<&str>,
    roster: &Roster,
) -> Vec<(What, String, &'static [&'static str])> {
    let Some((name, model)) = name.and_then(|name| Some((name, roster.models.get(name)?))) else {
        return Vec::new();
    };
    let told = |difference| -> Option<(What, String, &'static [&'static str])> {
        let (what, seen, likely): (What, String, &[&str]) = match difference {
            // Devices were not reported.
            Difference::NoDevice { .. } if snapshot.devices.is_empty() => return None,
            Difference::NoDevice { listed } => (
                What::UnfitDevices,
                format!(
                    "no PCI device at {}, which [model.{name}] hands to guests",
                    listed.address
                ),
                &["switched off in the firmware", "a card that was taken out"],
            ),
            Difference::OtherDevice { listed, found } => (
                What::UnfitDevices,
                format!(
                    "PCI device {found} at {}, where [model.{name}] has another",
                    listed.address
                ),
                &["another board", "another processor"],
            ),
            Difference::ExtraGraphics { address, id } => (
                What::UnfitDevices,
                format!(
                    "graphics card {id} at {address}, which [model.{name}] does not hand to guests"
                ),
                &["a card that was added"],
            ),
            Difference::OlderBios { found, tested } => (
                What::OldBios,
                format!("BIOS {found}, and [model.{name}] was tested with {tested} and later"),
                &["the board was exchanged", "it was left out of an update"],
            ),
            Difference::OtherBios { found, tested } => (
                What::OldBios,
                format!("BIOS {found}, which cannot be compared with {tested} of [model.{name}]"),
                &["the board was exchanged", "another form of versions"],
            ),
            // Memory has its own finding; processors are not read, and what is unknown is no task.
            Difference::LessMemory { .. }
            | Difference::OtherProcessor { .. }
            | Difference::Unknown { .. } => return None,
        };
        Some((what, seen, likely))
    };
    hardware(snapshot)
        .differences(model)
        .into_iter()
        .filter_map(told)
        .collect()
}

/// The hardware as it was reported; a device whose strings are none of sysfs is left out.
fn hardware(snapshot: &Snapshot) -> Hardware {
    let device = |reported: &reported::Device| {
        Some(Device {
            address: reported.address.parse().ok()?,
            id: reported.id.parse().ok()?,
            class: u32::from_str_radix(&reported.class, 16).ok()?,
            driver: None,
            group: None,
        })
    };
    let version = snapshot.firmware.version.clone();
    Hardware {
        devices: snapshot.devices.iter().filter_map(device).collect(),
        memory: Err(NOT_READ.into()),
        bios: version
            .ok_or(NOT_READ)
            .and_then(Bios::try_from)
            .map_err(str::to_owned),
        processor: Err(NOT_READ.into()),
    }
}
