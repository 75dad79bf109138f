//! The configuration: what machine each operating system gets, and what each model of computer changes about it.

use std::collections::HashSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonpipe::{Common, Exit, ini};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::pci::PciAddress;

const PROFILES: &str = "profiles.ini";
const MODELS: &str = "models.ini";
const SETTINGS: &str = "vm-passthrough.ini";

/// The slots that the machine `pc` has filled itself: the host bridge and the south bridge.
const TAKEN_SLOTS: [u8; 2] = [0, 1];

/// All of the configuration that concerns one guest on one machine.
#[derive(Debug)]
pub struct Configuration {
    /// The guest's machine, with what the model changes about it.
    pub profile: Profile,
    /// The devices that the guest gets.
    pub devices: Vec<PciAddress>,
    /// How QEMU is started.
    pub settings: Settings,
}

/// `[profile.OSTYPE]` in profiles.ini.
#[derive(Clone, Debug, Deserialize)]
pub struct Profile {
    /// The guest's memory.
    pub memory: Memory,
    /// The guest's processor cores.
    pub cores: NonZeroU32,
    /// What the guest takes the hardware clock for.
    #[serde(default)]
    pub rtc: Rtc,
    /// Whether the memory comes from the huge pages of /hugepages.
    #[serde(default)]
    pub hugepages: bool,
    /// Whether the guest's remote desktop can be reached at the management address.
    #[serde(default)]
    pub rdp: bool,
}

/// `[model.NAME]` in models.ini; NAME is the product name of the firmware.
#[derive(Debug, Default, Deserialize)]
struct Model {
    #[serde(default)]
    devices: Vec<PciAddress>,
    memory: Option<Memory>,
    cores: Option<NonZeroU32>,
    /// Of use to invcollect(8) alone.
    #[serde(rename = "intrusion_switch")]
    _intrusion_switch: Option<bool>,
}

/// `[qemu]` in vm-passthrough.ini.
#[derive(Debug, Deserialize)]
pub struct Settings {
    /// Who QEMU runs as: a name, or numbers `UID` or `UID:GID`.
    pub user: String,
    /// The program.
    #[serde(default = "default_binary")]
    pub binary: PathBuf,
    /// Where the remote desktop of guests can be reached.
    pub management_address: Option<Ipv4Addr>,
    /// The file that receives what the guest writes to its first serial port.
    pub console: Option<PathBuf>,
    /// How long a guest that is told to stop may take to shut down.
    #[serde(default = "default_shutdown_seconds")]
    shutdown_seconds: u32,
}

fn default_binary() -> PathBuf {
    "/usr/bin/qemu-system-x86_64".into()
}

/// Below the 90 seconds that systemd gives a service to stop, with room for what follows.
fn default_shutdown_seconds() -> u32 {
    60
}

impl Settings {
    /// How long a guest that is told to stop may take to shut down.
    pub fn shutdown(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds.into())
    }
}

/// An amount of memory in MiB, `6910M` or `4G` in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Memory {
    mebibytes: u32,
}

impl Memory {
    /// The same in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.mebibytes) << 20
    }
}

/// As QEMU's `-m` takes it.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}M", self.mebibytes)
    }
}

impl TryFrom<String> for Memory {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parse = || {
            let number = text.strip_suffix(['M', 'G'])?;
            let factor = if text.ends_with('G') { 1024 } else { 1 };
            // One way to write it: no sign, and no zero in front, which others take for the octal system.
            let number = number.parse::<u32>().ok().filter(|parsed| parsed.to_string() == number)?;
            number.checked_mul(factor).filter(|mebibytes| *mebibytes > 0)
        };
        parse().map(|mebibytes| Memory { mebibytes }).ok_or("expected an amount of memory such as 6910M or 4G")
    }
}

/// What a guest takes the hardware clock for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rtc {
    /// Universal time: everything but Windows.
    #[default]
    Utc,
    /// The time on the wall: Windows.
    Localtime,
}

impl Configuration {
    /// Reads what concerns a guest with `ostype` on a machine of this `model`. Every fault is status 78.
    pub fn read(common: &Common, ostype: &str, model: Option<&str>) -> anyhow::Result<Configuration> {
        let path = common.config(PROFILES);
        let Some(mut profile) = entry::<Profile>(&path, "profile", ostype)? else {
            return Err(wrong(&path, format_args!("no section [profile.{ostype}]; add one for this operating system")));
        };

        let path = common.config(MODELS);
        let Model { devices, memory, cores, .. } = match model {
            Some(model) => entry(&path, "model", model)?.unwrap_or_default(),
            None => Model::default(),
        };
        profile.memory = memory.unwrap_or(profile.memory);
        profile.cores = cores.unwrap_or(profile.cores);
        let mut slots = HashSet::from(TAKEN_SLOTS);
        if let Some(device) = devices.iter().find(|device| !slots.insert(device.slot())) {
            return Err(wrong(&path, format_args!("devices: {device}: the guest's slot {:02x} is taken already", device.slot())));
        }

        let path = common.config(SETTINGS);
        let Some(settings) = ini::read_section::<Settings>(&path, "qemu")? else {
            return Err(wrong(&path, "qemu.user: missing; name the user that QEMU runs as"));
        };
        match settings.management_address {
            Some(address) if address.is_unspecified() => {
                return Err(wrong(&path, "qemu.management_address: refusing all addresses; name one of this machine's"));
            }
            None if profile.rdp => {
                return Err(wrong(&path, format_args!("qemu.management_address: missing, and [profile.{ostype}] has rdp=true")));
            }
            _ => {}
        }
        Ok(Configuration { profile, devices, settings })
    }
}

/// One of the named things in a configuration file, which need not be there.
fn entry<T: DeserializeOwned>(path: &Path, kind: &str, name: &str) -> anyhow::Result<Option<T>> {
    let table = match ini::read_table(path, kind) {
        Err(error) if Exit::of(&error) == Exit::NoInput => Vec::new(),
        table => table?,
    };
    Ok(table.into_iter().find_map(|(found, entry)| (found == name).then_some(entry)))
}

fn wrong(path: &Path, what: impl fmt::Display) -> anyhow::Error {
    Exit::Config.error(format_args!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_said_as_qemu_takes_it() {
        for (text, shown) in [("6910M", "6910M"), ("4G", "4096M")] {
            assert_eq!(Memory::try_from(text.to_owned()).unwrap().to_string(), shown);
        }
        for text in ["", "6910", "0M", "M", "-1M", "4g", "1.5G", "5000000G", "+4G", "010M", "4 G"] {
            assert!(Memory::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
