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
mod fresh;
mod left;
pub mod machine;
pub mod memory;
mod obstacles;
mod plan;
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

use jsonpipe::{Answer, Pipe, Tool};

use plan::{Plan, Request};
use request::{Action, Arguments, Login, Volume};
use virtualizer::Descriptors;

/// The name of the tool, and the section that it writes.
pub const TOOL: Tool = Tool {
    name: "vm-passthrough",
    section: "guest",
};

/// Reads the document, then plans or runs the guest.
pub fn run(arguments: Arguments, pipe: &Pipe) -> anyhow::Result<Answer> {
    let is_run = match &arguments.action {
        Action::Probe { to } => return probe::run(to, &arguments.common, pipe),
        Action::Check => return check::run(&arguments.common, pipe),
        Action::IsFresh => return fresh::run(&arguments.common, pipe),
        Action::Restore { devices } => return restore::run(&arguments.common, devices, pipe),
        Action::Plan => false,
        Action::Run => true,
    };
    let mut document =
        pipe.document("a document with the section volume, as cowvol clone writes it")?;
    let login = document.read::<Login>("login")?;
    if login.as_ref().is_some_and(|login| !login.authenticated) {
        return Ok(Answer::no(document));
    }
    let volume = document.require::<Volume>("volume")?.checked()?;

    let common = &arguments.common;
    let request = Request::read(common, volume, login)?;
    if is_run {
        return session::run(request, common, pipe, document);
    }
    let plan = Plan::new(common, request)?;
    let accel = accel::decide(common, plan.virtualizer.as_ref(), &plan.identity, pipe)?;
    document.set(TOOL.section, &plan.report(accel, Descriptors::PLANNED))?;
    Ok(Answer::yes(document))
}
