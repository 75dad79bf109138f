//! The settings of the firmware, and whether its switch saw the case opened.
//!
//! From /sys/class/firmware-attributes where the kernel has them. Each is read by a call into the
//! firmware, so only those of an allowlist are; none is ever written. Without them (all three
//! models of the thesis) Dell's cctk is asked, if it is there.

use envelope::text;

use crate::read::cctk;
use crate::read::machine::{Machine, PATIENCE};
use crate::read::sensors;
use crate::report::{Attribute, Chassis};

const DIRECTORY: &str = "/sys/class/firmware-attributes";
const KEY: &str = "firmware.attributes";
/// What technicians ask for: who opened the case, does it wake up, can a guest have its devices. By
/// Dell's names, those of Lenovo (thinklmi) and HP (hp-bioscfg), of which only letters and digits
/// count, for each has them in its own way.
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
    // Either waits for the firmware, which waits for nobody: a call that never comes back, a cctk
    // that cannot even be killed.
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

/// The name of the allowlist that this is.
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

/// Those of the allowlist, under the names that the kernel has for them, by name. cctk writes all
/// in lower case.
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

/// Completes what the tables say of the case: whether it was opened, and who says so.
///
/// The security status of SMBIOS type 3 does not say that, whatever its name: it is about
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
