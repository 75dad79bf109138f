//! The configuration: the guest's machine for each operating system, and the changes for each model
//! of computer.

use std::collections::HashSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use confined::Identity;
use jsonpipe::{Common, Exit, ini};
use model::{Listed, Memory, Model};
use pci::PciAddress;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::machine::MacSource;

const PROFILES: &str = "profiles.ini";
const SETTINGS: &str = "vm-passthrough.ini";

/// The key of QEMU's user.
pub const USER: &str = "qemu.user";

/// The slots that the machine `pc` uses itself: the host bridge and the south bridge.
const TAKEN_SLOTS: [u8; 2] = [0, 1];

/// The configuration for one guest on one machine.
#[derive(Debug)]
pub struct Configuration {
    /// The guest's machine, with the model's changes.
    pub profile: Profile,
    /// The devices that the guest gets.
    pub devices: Vec<PciAddress>,
    /// The members of their groups that may lose their driver meanwhile.
    pub parked: Vec<PciAddress>,
    /// The settings of QEMU.
    pub settings: Settings,
}

/// `[profile.OSTYPE]` in profiles.ini.
#[derive(Clone, Debug, Deserialize)]
pub struct Profile {
    /// The most memory that the guest gets; without it, all that the host can spare.
    pub memory: Option<Memory>,
    /// The guest's processor cores.
    pub cores: NonZeroU32,
    /// The time in the guest's hardware clock.
    #[serde(default)]
    pub rtc: Rtc,
    /// Whether the guest uses Hyper-V's interfaces: Windows.
    #[serde(default)]
    pub hyperv: bool,
    /// Whether the memory comes from the huge pages of /hugepages.
    #[serde(default)]
    pub hugepages: bool,
    /// Whether the guest's remote desktop is reachable at the management address.
    #[serde(default)]
    pub rdp: bool,
    /// The address of the guest's network card.
    #[serde(default)]
    pub mac: MacSource,
    /// Whether the guest has a second network card, on the room's isolated segment.
    #[serde(default)]
    pub segment: bool,
}

/// `[qemu]` in vm-passthrough.ini.
#[derive(Debug, Deserialize)]
pub struct Settings {
    /// The user that QEMU runs as: a name, or numbers `UID` or `UID:GID`.
    user: String,
    /// The path of QEMU.
    #[serde(default = "default_binary")]
    pub binary: PathBuf,
    /// The memory that stays the host's.
    host_memory: Option<Memory>,
    /// The address at which guests' remote desktops are reachable.
    pub management_address: Option<Ipv4Addr>,
    /// The file for the output of the guest's first serial port.
    pub console: Option<PathBuf>,
    /// The time that a guest has to shut down once it is asked to.
    #[serde(default = "default_shutdown_seconds")]
    shutdown_seconds: u32,
}

fn default_binary() -> PathBuf {
    "/usr/bin/qemu-system-x86_64".into()
}

/// Below the 90 seconds that systemd gives a service to stop, with a margin for the rest.
fn default_shutdown_seconds() -> u32 {
    60
}

impl Settings {
    /// The memory that stays the host's. The thesis's host with ZFS lost its guests below 2048 MiB.
    pub fn host_memory(&self, zfs: bool) -> Memory {
        let default = if zfs { 2048 } else { 1024 };
        self.host_memory.unwrap_or(Memory::of_mebibytes(default))
    }

    /// The bytes of the host's memory that must be free when huge pages are reserved: a quarter.
    /// Its programs use the rest already.
    pub fn free_memory_bytes(&self, zfs: bool) -> u64 {
        self.host_memory(zfs).bytes() / 4
    }

    /// The user that QEMU runs as. One that is not there, and root, is status 78.
    pub fn identity(&self) -> anyhow::Result<Identity> {
        Identity::resolve(USER, &self.user)
    }

    /// The time that a guest has to shut down once it is asked to.
    pub fn shutdown(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds.into())
    }
}

/// The time in a guest's hardware clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rtc {
    /// Universal time: everything but Windows.
    #[default]
    Utc,
    /// Local time: Windows.
    Localtime,
}

impl Configuration {
    /// Reads the configuration of a guest with `ostype` on a machine of this `model`. Every fault
    /// is status 78.
    pub fn read(
        common: &Common,
        ostype: &str,
        model: Option<&str>,
    ) -> anyhow::Result<Configuration> {
        let path = common.config(PROFILES);
        let Some(mut profile) = find::<Profile>(table(&path, "profile")?, ostype) else {
            return Err(wrong(
                &path,
                format_args!("no section [profile.{ostype}]; add one for this operating system"),
            ));
        };

        let Model {
            devices,
            parked,
            memory,
            cores,
            ..
        } = match model {
            Some(model) => model::read(common, model)?.unwrap_or_default(),
            None => Model::default(),
        };
        let addresses = |list: &[Listed]| list.iter().map(|listed| listed.address).collect();
        let devices: Vec<PciAddress> = addresses(&devices);
        let parked = addresses(&parked);
        profile.memory = memory.or(profile.memory);
        profile.cores = cores.unwrap_or(profile.cores);
        if let Some(device) = without_slot(&devices) {
            return Err(wrong(
                &common.config(model::FILE),
                format_args!(
                    "devices: {device}: the guest's slot {:02x} is taken already",
                    device.slot()
                ),
            ));
        }

        let path = common.config(SETTINGS);
        let settings = settings(common)?;
        match settings.management_address {
            Some(address) if address.is_unspecified() => {
                return Err(wrong(
                    &path,
                    "qemu.management_address: refusing all addresses; name one of this machine's",
                ));
            }
            None if profile.rdp => {
                return Err(wrong(
                    &path,
                    format_args!(
                        "qemu.management_address: missing, and [profile.{ostype}] has rdp=true"
                    ),
                ));
            }
            _ => {}
        }
        Ok(Configuration {
            profile,
            devices,
            parked,
            settings,
        })
    }
}

/// The configuration for any guest on one machine.
#[derive(Debug)]
pub struct Every {
    /// The profiles by operating system, with the model's changes.
    pub profiles: Vec<(String, Profile)>,
    /// The section of the machine's model.
    pub model: Option<Model>,
    /// The settings of QEMU.
    pub settings: Settings,
}

impl Every {
    /// Reads the configuration of all guests on a machine of this `model`. Every fault is status
    /// 78.
    pub fn read(common: &Common, model: Option<&str>) -> anyhow::Result<Every> {
        let model = model
            .map(|model| model::read(common, model))
            .transpose()?
            .flatten();
        let mut profiles: Vec<(String, Profile)> = table(&common.config(PROFILES), "profile")?;
        if let Some(memory) = model.as_ref().and_then(|model| model.memory) {
            for (_, profile) in &mut profiles {
                profile.memory = Some(memory);
            }
        }
        Ok(Every {
            profiles,
            model,
            settings: settings(common)?,
        })
    }
}

/// The first device whose slot in the guest another one has, or the machine itself.
pub fn without_slot(devices: &[PciAddress]) -> Option<PciAddress> {
    let mut slots = HashSet::from(TAKEN_SLOTS);
    let mut devices = devices.iter().copied();
    devices.find(|device| !slots.insert(device.slot()))
}

fn settings(common: &Common) -> anyhow::Result<Settings> {
    let path = common.config(SETTINGS);
    ini::read_section(&path, "qemu")?.ok_or_else(|| {
        wrong(
            &path,
            format_args!("{USER}: missing; name the user that QEMU runs as"),
        )
    })
}

/// The entries of a configuration file, which may be missing.
fn table<T: DeserializeOwned>(path: &Path, kind: &str) -> anyhow::Result<Vec<(String, T)>> {
    match ini::read_table(path, kind) {
        Err(error) if Exit::of(&error) == Exit::NoInput => Ok(Vec::new()),
        table => table,
    }
}

fn find<T>(table: Vec<(String, T)>, name: &str) -> Option<T> {
    table
        .into_iter()
        .find_map(|(found, entry)| (found == name).then_some(entry))
}

fn wrong(path: &Path, what: impl fmt::Display) -> anyhow::Error {
    Exit::Config.error(format_args!("{}: {what}", path.display()))
}
