//! Boots a user's guest on the lab machine and supervises it.
//!
//! `vm-passthrough` reads the disk to boot (section `volume`), builds QEMU's command line from the
//! profile of the disk's operating system and the model of this machine, starts QEMU as a separate
//! user that can reach neither the disks by their paths nor the host's loopback, supervises it
//! until it ends, undoes its own changes, and reports the result (section `guest`). `plan` prints
//! the same report without starting a guest.

pub mod accel;
pub mod argv;
mod check;
mod child;
mod disks;
mod firewall;
pub mod firmware;
mod hugepages;
pub mod machine;
mod memory;
pub mod profile;
mod qmp;
mod report;
pub mod request;
mod session;
mod supervise;
mod tail;

use confined::Identity;
use jsonpipe::{Answer, Missing, Pipe, Tool};

use accel::Accel;
use machine::Machine;
use profile::Configuration;
use report::Guest;
use request::{Action, Arguments, Login, Volume};

/// The name of the tool, and the section that it writes.
pub const TOOL: Tool = Tool {
    name: "vm-passthrough",
    section: "guest",
};

/// Reads the document, then plans or runs the guest.
pub fn run(arguments: Arguments, pipe: &Pipe) -> anyhow::Result<Answer> {
    let is_plan = match arguments.action {
        Action::Check => return check::run(&arguments.common, pipe),
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
        settings,
    } = Configuration::read(common, &volume.ostype, model.as_deref().ok())?;
    let identity = Identity::resolve("qemu.user", &settings.user)?;
    let machine = Machine::read(
        common,
        model,
        devices,
        login.and_then(Login::interface).as_deref(),
    )?;
    let plan = Plan {
        volume,
        profile,
        settings,
        machine,
        identity,
    };
    if !is_plan {
        return session::run(&plan, common, pipe, document);
    }
    let accel = accel::decide(common, &plan.settings.binary, &plan.identity, pipe)?;
    document.set(
        TOOL.section,
        &plan.report(accel, argv::Descriptors::PLANNED),
    )?;
    Ok(Answer::yes(document))
}

/// Everything that is determined before any change.
struct Plan {
    volume: Volume,
    profile: profile::Profile,
    settings: profile::Settings,
    machine: Machine,
    identity: Identity,
}

impl Plan {
    fn report(&self, accel: Accel, descriptors: argv::Descriptors) -> Guest {
        let Plan {
            volume,
            profile,
            settings,
            machine,
            ..
        } = self;
        let missing = machine.model.as_ref().err().map(|reason| Missing {
            key: "model".into(),
            reason: reason.clone(),
        });
        Guest {
            changed: false,
            accel,
            model: machine.model.clone().ok(),
            argv: argv::build(&argv::Parts {
                accel,
                machine,
                profile,
                settings,
                volume,
                descriptors,
            }),
            devices: machine.devices.iter().map(ToString::to_string).collect(),
            groups: machine.groups.clone(),
            session: None,
            missing: missing.into_iter().collect(),
        }
    }
}
