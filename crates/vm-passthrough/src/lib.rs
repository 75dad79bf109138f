//! Boots a user's guest on the lab machine and supervises it.
//!
//! `vm-passthrough` reads the disk to boot (section `volume`), builds QEMU's command line from the
//! profile of the disk's operating system and the model of this machine, starts QEMU as a separate
//! user that can reach neither the disks by their paths nor the host's loopback, supervises it
//! until it ends, undoes its own changes, and reports the result (section `guest`). `plan` prints
//! the same report without starting a guest.

pub mod accel;
mod check;
mod child;
mod disks;
mod firewall;
pub mod machine;
pub mod memory;
mod probe;
pub mod profile;
pub mod qemu;
mod report;
pub mod request;
mod restore;
pub mod segment;
mod session;
mod supervise;
mod tail;
pub mod virtualizer;

use confined::Identity;
use jsonpipe::{Answer, Exit, Missing, Pipe, Tool};
use model::Memory;
use nix::unistd::geteuid;

use accel::Accel;
use machine::Machine;
use pci::PciAddress;
use profile::Configuration;
use qemu::{Qemu, Version};
use report::Guest;
use request::{Action, Arguments, Login, Volume};
use segment::Segment;
use virtualizer::{Descriptors, Parts, Virtualizer};

/// The name of the tool, and the section that it writes.
pub const TOOL: Tool = Tool {
    name: "vm-passthrough",
    section: "guest",
};

/// Reads the document, then plans or runs the guest.
pub fn run(arguments: Arguments, pipe: &Pipe) -> anyhow::Result<Answer> {
    let is_plan = match &arguments.action {
        Action::Probe { to } => return probe::run(to, &arguments.common, pipe),
        Action::Check => return check::run(&arguments.common, pipe),
        Action::Restore => return restore::run(&arguments.common, pipe),
        Action::Plan => true,
        Action::Run => false,
    };
    let mut document =
        pipe.document("a document with the section volume, as cowvol clone writes it")?;
    let login = document.read::<Login>("login")?;
    if login.as_ref().is_some_and(|login| !login.authenticated) {
        return Ok(Answer::no(document));
    }
    let volume = document.require::<Volume>("volume")?.checked()?;

    let common = &arguments.common;
    let model = model::of_machine(common);
    let Configuration {
        profile,
        devices,
        parked,
        settings,
    } = Configuration::read(common, &volume.ostype, model.as_deref().ok())?;
    let identity = settings.identity()?;
    let segment = profile
        .segment
        .then(|| Segment::of_room(common, login.as_ref()))
        .transpose()?;
    let machine = Machine::read(
        common,
        model,
        devices,
        login.as_ref().and_then(Login::interface),
    )?;
    if is_plan {
        machine.complete()?; // run names it among all that prevents the guest
    }
    if segment.is_some() && machine.mac.is_none() {
        return Err(Exit::Config.error(
            "connecting the guest to the room's network segment: this machine has no network card whose address tells its guest from the others",
        ));
    }
    let memory = memory::of_guest(
        common,
        profile.memory,
        settings.host_memory(volume.is_device()),
    )?;
    let virtualizer = Qemu {
        binary: settings.binary.clone(),
        version: machine
            .integrated_graphics
            .map(|_| Version::read(&settings.binary, geteuid().is_root().then_some(identity)))
            .transpose()?,
    };
    let plan = Plan {
        volume,
        profile,
        memory,
        settings,
        machine,
        segment,
        parked,
        identity,
        virtualizer: Box::new(virtualizer),
    };
    if !is_plan {
        return session::run(&plan, common, pipe, document);
    }
    let accel = accel::decide(common, plan.virtualizer.as_ref(), &plan.identity, pipe)?;
    document.set(TOOL.section, &plan.report(accel, Descriptors::PLANNED))?;
    Ok(Answer::yes(document))
}

/// Everything that is determined before any change.
struct Plan {
    volume: Volume,
    profile: profile::Profile,
    memory: Memory,
    settings: profile::Settings,
    machine: Machine,
    segment: Option<Segment>,
    parked: Vec<PciAddress>,
    identity: Identity,
    virtualizer: Box<dyn Virtualizer>,
}

impl Plan {
    fn report(&self, accel: Accel, descriptors: Descriptors) -> Guest {
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
