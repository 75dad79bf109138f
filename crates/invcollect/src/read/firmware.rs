//! The settings of the firmware, including whether its switch detected that the case was opened.
//!
//! From /sys/class/firmware-attributes where the kernel has them. Each read is a call into the
//! firmware, so only those of an allowlist are read; none is ever written. Without them (all three
//! models of the thesis), Dell's cctk is used, if it is installed.

use envelope::text;

use crate::read::cctk;
use crate::read::machine::{Machine, PATIENCE};
use crate::read::sensors;
use crate::report::{Attribute, Chassis};

/// The kernel's firmware attributes, a directory for each driver.
pub const DIRECTORY: &str = "/sys/class/firmware-attributes";
const KEY: &str = "firmware.attributes";
/// The settings that technicians need: case intrusion, wake-up, and the devices of guests. The
/// names are those of Dell, Lenovo (thinklmi) and HP (hp-bioscfg); only letters and digits count,
/// because their spelling varies.
const ALLOWED: &[&str] = &[
    "AcPwrRcvry",
    "AfterPowerLoss",
    "AutoOn",
    "BottomCoverTamperDetected",
    "ChasIntrusion",
    "ChassisIntrusionStatus",
    "ConfigureSATAas",
    "CoverRemovalSensor",
    "CoverTamperDetected",
    "DeepSleepCtrl",
    "EmbSataRaid",
    "SATAControllerMode",
    "SecureBoot",
    "SVMCPUVirtualization",
    "VirtualizationTechnology",
    "VirtualizationTechnologyVTx",
    "VirtualizationTechnologyforDirectedIOVTd",
    "Virtualization",
    "VTdFeature",
    "VtForDirectIo",
    "WakeOnLan",
];
const INTRUSION: &str = "ChassisIntrusionStatus";

/// The settings, by name.
pub fn attributes(machine: &Machine) -> Vec<Attribute> {
    let drivers = machine.names(DIRECTORY);
    // Either may block on the firmware for ever: a call that never returns, a cctk that cannot be
    // killed.
    let attributes = if drivers.is_empty() {
        machine.within(
            cctk::PATIENCE + PATIENCE,
            KEY,
            |machine| match cctk::settings(machine) {
                Ok(settings) => allowed(settings),
                Err(reason) => {
                    machine.missing(KEY, reason);
                    Vec::new()
                }
            },
        )
    } else {
        machine.within(PATIENCE, KEY, move |machine| of_kernel(machine, &drivers))
    };
    attributes.unwrap_or_default()
}

fn of_kernel(machine: &Machine, drivers: &[String]) -> Vec<Attribute> {
    let mut attributes = Vec::new();
    for driver in drivers {
        let directory = format!("{DIRECTORY}/{driver}/attributes");
        for name in machine
            .names(&directory)
            .into_iter()
            .filter(|name| known(name).is_some())
        {
            if let Some(value) = machine.value(format!("{directory}/{name}/current_value")) {
                attributes.push(Attribute {
                    name: jsonpipe::shown(&name).into_owned(),
                    value,
                });
            }
        }
    }
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    attributes
}

/// Its name in the allowlist.
fn known(name: &str) -> Option<&'static str> {
    let plain = |name: &str| {
        name.chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_ascii_lowercase()
    };
    ALLOWED
        .iter()
        .find(|known| plain(known) == plain(name))
        .copied()
}

/// The settings of the allowlist, under the kernel's names, sorted. cctk writes all names in lower
/// case.
fn allowed(settings: Vec<(String, String)>) -> Vec<Attribute> {
    let named = |(name, value): (String, String)| {
        Some(Attribute {
            name: known(&name)?.to_owned(),
            value: jsonpipe::shown(&value).into_owned(),
        })
    };
    let mut attributes: Vec<Attribute> = settings.into_iter().filter_map(named).collect();
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    attributes
}

/// Completes the tables' data on the case: whether it was opened, and the source of that.
///
/// The security status of SMBIOS type 3 is not about the case, despite its name, but about
/// locked-out keyboards.
pub fn intrusion(machine: &Machine, attributes: &[Attribute], chassis: &mut Chassis) {
    let status = attributes
        .iter()
        .find(|attribute| attribute.name == INTRUSION);
    let switch = || sensors::intrusion(machine).map(|opened| (opened, "hwmon"));
    let by_firmware = if machine.names(DIRECTORY).is_empty() {
        "cctk"
    } else {
        "firmware"
    };
    let said = status
        .and_then(|status| text::opened(&status.value))
        .map(|opened| (opened, by_firmware));
    match said.or_else(switch) {
        Some((opened, by)) => {
            chassis.opened = Some(opened);
            chassis.opened_by = Some(by);
        }
        None => machine.missing(
            "chassis.opened",
            match status {
                Some(status) => format!("{INTRUSION} is {}, which is not known", status.value),
                None => format!(
                    "no {INTRUSION} in the firmware's settings, and no sensor of the switch"
                ),
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_allowed_is_told() {
        let settings = [
            ("wakeonlan", "lanwlan"),
            ("setuppwd", "secret"),
            ("chasintrusion", "enable"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let names: Vec<String> = allowed(settings.into())
            .into_iter()
            .map(|attribute| attribute.name)
            .collect();
        assert_eq!(names, ["ChasIntrusion", "WakeOnLan"]);
    }
}
