//! The plan of a guest: all that is determined before any change.

use std::net::Ipv4Addr;

use confined::Identity;
use jsonpipe::{Common, Missing};
use model::Memory;
use nix::unistd::geteuid;
use pci::PciAddress;

use crate::accel::Accel;
use crate::machine::Machine;
use crate::memory;
use crate::profile::{Configuration, Profile, Settings};
use crate::qemu::{Qemu, Version};
use crate::report::Guest;
use crate::request::{Login, Volume};
use crate::segment::{self, Segment};
use crate::virtualizer::{Descriptors, Parts, Virtualizer};

/// The guest that the document asks for, on this machine. Whether it can start is open.
#[derive(Debug)]
pub(crate) struct Request {
    pub volume: Volume,
    pub configuration: Configuration,
    pub machine: Machine,
    /// The host's address on the room's network, for a profile with a segment.
    pub local_address: Option<Ipv4Addr>,
}

impl Request {
    /// Reads the configuration and the machine. Status 65 and 66 where the login does not fit
    /// them, 78 where a file of the configuration is wrong.
    pub fn read(common: &Common, volume: Volume, login: Option<Login>) -> anyhow::Result<Request> {
        let login = login.as_ref();
        let model = model::of_machine(common);
        let configuration = Configuration::read(common, model.as_deref().ok())?;
        let machine = Machine::read(
            common,
            model,
            configuration.devices(),
            login.and_then(Login::interface),
        )?;
        let profile = configuration.profile(&volume.ostype).ok();
        let local_address = profile
            .filter(|profile| profile.segment)
            .map(|_| segment::local_address(login))
            .transpose()?;
        Ok(Request {
            volume,
            configuration,
            machine,
            local_address,
        })
    }
}

/// Everything that is determined before any change.
#[derive(Debug)]
pub(crate) struct Plan {
    pub volume: Volume,
    pub profile: Profile,
    pub memory: Memory,
    pub settings: Settings,
    pub machine: Machine,
    pub segment: Option<Segment>,
    pub parked: Vec<PciAddress>,
    pub identity: Identity,
    pub virtualizer: Box<dyn Virtualizer>,
}

impl Plan {
    /// Status 78 names the first obstacle of the configuration or of the machine's memory, 66 a
    /// device that is not there, 69 a virtualizer that is not.
    pub fn new(common: &Common, request: Request) -> anyhow::Result<Plan> {
        let Request {
            volume,
            configuration,
            machine,
            local_address,
        } = request;
        let profile = configuration.profile(&volume.ostype)?.clone();
        configuration.check_slots()?;
        configuration.check_address(&volume.ostype, &profile)?;
        let parked = configuration.parked();
        let settings = configuration.settings;
        let identity = settings.identity()?;
        let segment = local_address
            .map(|address| Segment::of_room(&segment::campus(common, machine.mac)?, &[address]))
            .transpose()?;
        machine.complete()?; // before a run it is among all that prevents the guest
        let reserve = settings.host_memory(volume.is_device());
        let memory = memory::of_guest(common, profile.memory, reserve)?;
        let version = machine
            .integrated_graphics
            .map(|_| Version::read(&settings.binary, geteuid().is_root().then_some(identity)))
            .transpose()?;
        let virtualizer = Box::new(Qemu {
            binary: settings.binary.clone(),
            version,
        });
        Ok(Plan {
            volume,
            profile,
            memory,
            settings,
            machine,
            segment,
            parked,
            identity,
            virtualizer,
        })
    }

    /// The section `guest` before anything has happened.
    pub fn report(&self, accel: Accel, descriptors: Descriptors) -> Guest {
        let machine = &self.machine;
        let missing = machine.model.as_ref().err().map(|reason| Missing {
            key: "model".into(),
            reason: reason.clone(),
        });
        Guest {
            changed: false,
            accel,
            model: machine.model.clone().ok(),
            argv: self.virtualizer.command_line(&Parts {
                accel,
                machine,
                profile: &self.profile,
                memory: self.memory,
                settings: &self.settings,
                volume: &self.volume,
                segment: self.segment.as_ref(),
                descriptors,
            }),
            devices: machine.devices.iter().map(ToString::to_string).collect(),
            groups: machine.groups.clone(),
            session: None,
            ended_reason: None,
            handed_back: None,
            missing: missing.into_iter().collect(),
        }
    }
}
