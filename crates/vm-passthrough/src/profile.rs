//! The configuration: the guest's machine for each operating system, and the changes for each model
//! of computer.

use std::collections::HashSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use confined::Identity;
use jsonpipe::{Common, Exit, ExitContext, ini};
use model::{Listed, Memory, Model};
use pci::PciAddress;
use serde::{Deserialize, Serialize};

use crate::machine::MacSource;

const PROFILES: &str = "profiles.ini";
const SETTINGS: &str = "vm-passthrough.ini";

/// The key of QEMU's user.
pub const USER: &str = "qemu.user";
/// The key of the address for remote desktops.
pub const ADDRESS: &str = "qemu.management_address";

/// The slots that the machine `pc` uses itself: the host bridge and the south bridge.
const TAKEN_SLOTS: [u8; 2] = [0, 1];

/// The configuration for the guests of one machine.
#[derive(Debug)]
pub struct Configuration {
    /// The guests' machines by operating system, with the model's changes.
    pub profiles: Vec<(String, Profile)>,
    /// The section of the machine's model.
    pub model: Option<Model>,
    /// The settings of QEMU.
    pub settings: Settings,
    /// The paths of the files, for messages.
    files: Files,
}

#[derive(Debug)]
struct Files {
    profiles: PathBuf,
    models: PathBuf,
    settings: PathBuf,
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

/// `[host]` in vm-passthrough.ini.
#[derive(Debug, Default, Deserialize)]
pub struct Host {
    /// When the host restarts after a session.
    #[serde(default)]
    pub reboot_between_sessions: Reboot,
}

impl Host {
    /// Reads the section; the default where it is not there. Status 78 where the file is wrong.
    pub fn read(common: &Common) -> anyhow::Result<Host> {
        Ok(sections(&common.config(SETTINGS))?.1.unwrap_or_default())
    }
}

/// When the host restarts after a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reboot {
    /// Not for the next guest.
    #[default]
    Never,
    /// When its memory is fragmented.
    Fragmented,
    /// After each session.
    Always,
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
    /// Reads the configuration of all guests on a machine of this `model`. Status 78 where a file
    /// is wrong.
    pub fn read(common: &Common, model: Option<&str>) -> anyhow::Result<Configuration> {
        let files = Files {
            profiles: common.config(PROFILES),
            models: common.config(model::FILE),
            settings: common.config(SETTINGS),
        };
        let model = model
            .map(|model| model::read(common, model))
            .transpose()?
            .flatten();
        let mut profiles = profiles(&files.profiles)?;
        if let Some(model) = &model {
            for (_, profile) in &mut profiles {
                profile.memory = model.memory.or(profile.memory);
                profile.cores = model.cores.unwrap_or(profile.cores);
            }
        }
        Ok(Configuration {
            profiles,
            model,
            settings: settings(&files.settings)?,
            files,
        })
    }

    /// The guest's machine for `ostype`. Status 78 without one.
    pub fn profile(&self, ostype: &str) -> anyhow::Result<&Profile> {
        let mut profiles = self.profiles.iter();
        let found = profiles.find_map(|(name, profile)| (name == ostype).then_some(profile));
        found.exit(Exit::Config, || {
            let path = self.files.profiles.display();
            if self.files.profiles.exists() {
                format!("{path}: no section [profile.{ostype}]; add one for this operating system, see vm-passthrough(8)")
            } else {
                format!("reading {path}: no such file; write it, with a section [profile.{ostype}], see vm-passthrough(8)")
            }
        })
    }

    /// The devices that the guest gets.
    pub fn devices(&self) -> Vec<PciAddress> {
        let model = self.model.as_ref();
        addresses(model.map_or(&[], |model| &model.devices))
    }

    /// The members of their groups that may lose their driver meanwhile.
    pub fn parked(&self) -> Vec<PciAddress> {
        let model = self.model.as_ref();
        addresses(model.map_or(&[], |model| &model.parked))
    }

    /// Checks that each device has its slot in the guest; status 78 names the first that has not.
    pub fn check_slots(&self) -> anyhow::Result<()> {
        let mut slots = HashSet::from(TAKEN_SLOTS);
        let mut devices = self.devices().into_iter();
        let Some(device) = devices.find(|device| !slots.insert(device.slot())) else {
            return Ok(());
        };
        Err(wrong(
            &self.files.models,
            format_args!(
                "devices: {device}: the guest's slot {:02x} is taken already; a guest has one device for each slot, and uses slots 00 and 01 itself: remove the device from the model's devices",
                device.slot()
            ),
        ))
    }

    /// Checks the address of the remote desktop, which `profile` of `ostype` may need; status 78.
    pub fn check_address(&self, ostype: &str, profile: &Profile) -> anyhow::Result<()> {
        let what = match self.settings.management_address {
            Some(address) if address.is_unspecified() => {
                "refusing all addresses; name one of this machine's".into()
            }
            None if profile.rdp => {
                format!(
                    "missing, and [profile.{ostype}] has rdp=true; name this machine's address for remote desktops, or set rdp=false"
                )
            }
            _ => return Ok(()),
        };
        Err(wrong(
            &self.files.settings,
            format_args!("{ADDRESS}: {what}"),
        ))
    }
}

fn addresses(list: &[Listed]) -> Vec<PciAddress> {
    list.iter().map(|listed| listed.address).collect()
}

/// The profiles; none where the file is not there. A wrong one keeps all guests from starting, so
/// that it is found before its first guest.
fn profiles(path: &Path) -> anyhow::Result<Vec<(String, Profile)>> {
    match ini::read_table(path, "profile") {
        Err(error) if Exit::of(&error) == Exit::NoInput => Ok(Vec::new()),
        Err(error) if Exit::of(&error) == Exit::Config => Err(Exit::Config.error(format_args!(
            "{error:#}; correct it, see vm-passthrough(8): guests start only where all profiles are right"
        ))),
        profiles => profiles,
    }
}

fn settings(path: &Path) -> anyhow::Result<Settings> {
    const WAY_OUT: &str =
        "name the user that QEMU runs as there, in [qemu]; vm-passthrough(8) has an example";
    ini::require(path, WAY_OUT).map_err(|error| Exit::Config.error(format_args!("{error:#}")))?;
    sections(path)?
        .0
        .ok_or_else(|| wrong(path, format_args!("{USER}: missing; {WAY_OUT}")))
}

/// The sections of vm-passthrough.ini.
fn sections(path: &Path) -> anyhow::Result<(Option<Settings>, Option<Host>)> {
    let mut file = ini::Configuration::read(path)?;
    let found = (file.section("qemu")?, file.section("host")?);
    file.end()?;
    Ok(found)
}

fn wrong(path: &Path, what: impl fmt::Display) -> anyhow::Error {
    Exit::Config.error(format_args!("{}: {what}", path.display()))
}
