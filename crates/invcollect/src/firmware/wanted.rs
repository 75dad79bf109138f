//! The settings that firmware.ini wants, with their present values.

use jsonpipe::{Exit, io_error, shown};

use crate::firmware::interface::Interface;
use crate::firmware::policy::{self, Policy, SETUP_PASSWORD};
use crate::read::machine::Machine;
use crate::report::Wanted;

/// The values of the setup password.
const SET: &str = "set";
const UNSET: &str = "unset";
const KEY: &str = "firmware.wanted";

/// A wanted setting.
#[derive(Debug)]
pub struct Reading<'a> {
    /// Its key in firmware.ini.
    pub setting: &'static str,
    /// Its name in the interface.
    pub attribute: String,
    /// The wanted value.
    pub wanted: &'a str,
    /// Its value, in the spelling of the wanted one where it is that. Status 78 when the firmware
    /// does not have the setting.
    pub is: anyhow::Result<String>,
}

/// Reads the wanted settings, the setup password last. Each read is a call into the firmware.
pub fn read_all<'a>(
    machine: &Machine,
    interface: &Interface,
    policy: &'a Policy,
) -> Vec<Reading<'a>> {
    let settings = policy.settings().map(|(setting, wanted)| Reading {
        setting,
        attribute: wanted.attribute.clone(),
        wanted: &wanted.value,
        is: value(machine, interface, &wanted.attribute, &wanted.value),
    });
    let password = policy.setup_password.then(|| {
        let (attribute, is) = match interface.setup_password(machine) {
            Some((directory, name)) => {
                let is = is_set(machine, &directory);
                (name, is.map(word))
            }
            None => (SETUP_PASSWORD.to_owned(), Err(no_password(interface))),
        };
        Reading {
            setting: SETUP_PASSWORD,
            attribute,
            wanted: SET,
            is,
        }
    });
    settings.chain(password).collect()
}

/// A setting's value, in the spelling of `wanted` where it is that.
pub fn value(
    machine: &Machine,
    interface: &Interface,
    attribute: &str,
    wanted: &str,
) -> anyhow::Result<String> {
    match interface.value(machine, attribute) {
        Ok(Some(is)) if interface.is_same(&is, wanted) => Ok(wanted.to_owned()),
        Ok(Some(is)) => Ok(is),
        Ok(None) => Err(Exit::Config.error(format_args!("this firmware has no {attribute}"))),
        Err(error) => {
            let text = format_args!("reading {attribute}");
            Err(io_error(error, Exit::of_read, text))
        }
    }
}

/// The value of the setup password, which stands for whether it is set.
pub fn word(is_set: bool) -> String {
    if is_set { SET } else { UNSET }.to_owned()
}

/// Whether the password of a directory of the kernel's is set.
pub fn is_set(machine: &Machine, directory: &str) -> anyhow::Result<bool> {
    let path = format!("{directory}/is_enabled");
    match machine.number(&path) {
        Some(number) => Ok(number != 0),
        None => Err(Exit::Io.error(format_args!("reading {path}: no number"))),
    }
}

fn no_password(interface: &Interface) -> anyhow::Error {
    Exit::Config.error(match interface {
        Interface::Kernel(_) => "the kernel shows no setup password of this firmware",
        Interface::Cctk(_) => {
            "cctk takes a password only on its command line, which every process can read; set it by hand, and false here"
        }
    })
}

/// The wanted settings of this machine, for its inventory; none without a firmware.ini.
pub fn of_machine(machine: &Machine) -> Vec<Wanted> {
    let model = model::of_machine(machine.common).ok();
    let found = policy::read_all(machine.common).and_then(|policies| {
        let (interface, policy) = Interface::find(machine, &policies, model.as_deref())?;
        let told = |reading: Reading| {
            let attribute = shown(&reading.attribute).into_owned();
            let unknown = |why| machine.missing(format!("{KEY}.{attribute}"), format!("{why:#}"));
            Wanted {
                setting: reading.setting,
                wanted: reading.wanted.to_owned(),
                is: reading.is.map_err(unknown).ok(),
                attribute,
            }
        };
        let readings = read_all(machine, &interface, policy).into_iter();
        Ok(readings.map(told).collect())
    });
    found.unwrap_or_else(|error: anyhow::Error| {
        if Exit::of(&error) != Exit::NoInput {
            machine.missing(KEY, format_args!("{error:#}"));
        }
        Vec::new()
    })
}
