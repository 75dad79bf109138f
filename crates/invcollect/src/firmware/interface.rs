//! The two ways to the firmware's settings: the kernel's firmware attributes, and Dell's cctk.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use jsonpipe::{Exit, shown};

use crate::firmware::policy::{self, Policy};
use crate::read::cctk;
use crate::read::firmware::DIRECTORY;
use crate::read::machine::Machine;

const CCTK: &str = "cctk";
/// The role of the setup password (sysfs-class-firmware-attributes of the kernel's ABI).
const SETUP_ROLE: &str = "bios-admin";

/// A way to the settings.
#[derive(Debug)]
pub enum Interface {
    /// A driver of the kernel, by its name in /sys/class/firmware-attributes.
    Kernel(String),
    /// Dell's program, with the settings that it printed.
    Cctk(Vec<(String, String)>),
}

impl Interface {
    /// The machine's interface and the policy for it. Status 69 when there is no interface, 78 when
    /// firmware.ini has no policy for it.
    pub fn find<'a>(
        machine: &Machine,
        policies: &'a [(String, Policy)],
        model: Option<&str>,
    ) -> anyhow::Result<(Interface, &'a Policy)> {
        let drivers = machine.names(DIRECTORY);
        let chosen = |name: &str| policy::choose(policies, name, model);
        if let Some((driver, policy)) = drivers.iter().find_map(|name| Some((name, chosen(name)?)))
        {
            return Ok((Interface::Kernel(driver.clone()), policy));
        }
        let name = match drivers.first() {
            Some(driver) => driver,
            None => {
                let settings = cctk::settings(machine).map_err(|reason| {
                    Exit::Unavailable
                        .error(format_args!("reading the firmware's settings: {reason}"))
                })?;
                match chosen(CCTK) {
                    Some(policy) => return Ok((Interface::Cctk(settings), policy)),
                    None => CCTK,
                }
            }
        };
        Err(Exit::Config.error(format_args!(
            "{}: no section [firmware.{}], and this machine has that interface",
            machine.common.config(policy::FILE).display(),
            shown(name)
        )))
    }

    /// Its name in firmware.ini.
    pub fn name(&self) -> &str {
        match self {
            Interface::Kernel(driver) => driver,
            Interface::Cctk(_) => CCTK,
        }
    }

    /// The value of a setting; `None` when the firmware does not have the setting.
    pub fn value(&self, machine: &Machine, attribute: &str) -> io::Result<Option<String>> {
        match self {
            Interface::Kernel(driver) => {
                match machine.text(file(driver, attribute, "current_value")) {
                    // Some firmware of Lenovo's adds its choices: Enable;[Optional:Disable,Enable]
                    Ok(text) => {
                        let value = text.split(';').next().unwrap_or_default().trim();
                        Ok(Some(shown(value).into_owned()))
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error),
                }
            }
            Interface::Cctk(settings) => Ok(settings
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(attribute))
                .map(|(_, value)| shown(value).into_owned())),
        }
    }

    /// Whether two spellings are one value.
    pub fn is_same(&self, value: &str, other: &str) -> bool {
        match self {
            Interface::Kernel(_) => value == other,
            Interface::Cctk(_) => value.eq_ignore_ascii_case(other),
        }
    }

    /// The values that a setting takes; empty where the interface does not list them.
    pub fn possible(&self, machine: &Machine, attribute: &str) -> Vec<String> {
        let Interface::Kernel(driver) = self else {
            return Vec::new();
        };
        let text = machine.value(file(driver, attribute, "possible_values"));
        // Some kernels have the commas of a Lenovo's firmware.
        let text = text.unwrap_or_default();
        let values = text.split([';', ',']).map(str::trim);
        let values = values.filter(|value| !value.is_empty());
        values.map(str::to_owned).collect()
    }

    /// Gives a setting its value.
    pub fn write(&self, machine: &Machine, attribute: &str, value: &str) -> io::Result<()> {
        match self {
            Interface::Kernel(driver) => write(
                &machine.path(file(driver, attribute, "current_value")),
                value.as_bytes(),
            ),
            Interface::Cctk(_) => cctk::set(machine, attribute, value).map_err(io::Error::other),
        }
    }

    /// The directory of the setup password, and its name; `None` where the interface has none.
    pub fn setup_password(&self, machine: &Machine) -> Option<(String, String)> {
        let Interface::Kernel(driver) = self else {
            return None;
        };
        let authentication = format!("{DIRECTORY}/{driver}/authentication");
        let is_setup = |name: &String| {
            let role = machine.value(format!("{authentication}/{name}/role"));
            role.as_deref() == Some(SETUP_ROLE)
        };
        let name = machine.names(&authentication).into_iter().find(is_setup)?;
        Some((format!("{authentication}/{name}"), name))
    }

    /// Whether changes take effect at the next boot; `None` where the interface does not tell.
    pub fn pending_reboot(&self, machine: &Machine) -> Option<bool> {
        let Interface::Kernel(driver) = self else {
            return None;
        };
        let pending = machine.number(format!("{DIRECTORY}/{driver}/attributes/pending_reboot"))?;
        Some(pending != 0)
    }

    /// Makes the next [`Interface::value`] the present one.
    pub fn refresh(&mut self, machine: &Machine) -> io::Result<()> {
        if let Interface::Cctk(settings) = self {
            cctk::forget(machine);
            *settings = cctk::settings(machine).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

fn file(driver: &str, attribute: &str, name: &str) -> String {
    format!("{DIRECTORY}/{driver}/attributes/{attribute}/{name}")
}

/// Writes a file of sysfs, by one call.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)?
        .write_all(bytes)
}
