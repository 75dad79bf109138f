//! Takes a machine's inventory, and reports changes.
//!
//! `collect` reads what the kernel and the firmware know about this machine, without starting a
//! process, and prints the section `host`. Unknown values are absent, with the reason in `missing`.
//! `changes` compares the inventory with a baseline that a technician accepted (`accept`) and
//! reports each difference once, as an event. `metrics` writes the inventory to a file that
//! node_exporter serves. `firmware` gives the firmware's settings the values that a file wants.
//! `supported` tells an installer whether models.ini has the machine. `name` gives it its name.
//! `push` sends all of it to the collector without losses; `fleet`, a crate, evaluates the received
//! reports.
//!
//! `read` knows only the machine; `collect` makes the report from it, with the earlier state in
//! `baseline`. The other subcommands begin with that report.

mod baseline;
mod changes;
mod collect;
mod event_log;
mod firmware;
mod glpi;
mod metrics;
mod naming;
pub mod push;
mod read;
pub mod report;
pub mod request;
mod settings;
mod supported;

use jsonpipe::{Answer, Exit, Pipe, Tool};

use nix::unistd::geteuid;
use request::{Arguments, Command};

/// The name of the tool, and the section that it writes.
pub const TOOL: Tool = Tool {
    name: "invcollect",
    section: "host",
};

/// Does what the command line asks for.
pub fn run(arguments: Arguments, pipe: &Pipe) -> anyhow::Result<Answer> {
    let common = &arguments.common;
    // Otherwise a mistyped --root would be read as an empty machine, and directories created in it.
    if !common.root.is_dir() {
        return Err(Exit::NoInput.error(format_args!(
            "reading {}: no such directory; check --root",
            common.root.display()
        )));
    }
    let needs_root = matches!(
        arguments.command,
        Command::Changes { .. }
            | Command::Accept { .. }
            | Command::Firmware { .. }
            | Command::Name { .. }
            | Command::Push(_)
    );
    let answer = match arguments.command {
        Command::Collect(options) => collect::collect(common, pipe, &options),
        Command::Changes { dry_run } => changes::changes(common, pipe, dry_run),
        Command::Accept { dry_run } => changes::accept(common, pipe, dry_run),
        Command::Metrics { file, dry_run } => metrics::metrics(common, pipe, &file, dry_run),
        Command::Push(options) => push::push(common, pipe, &options),
        Command::Firmware { dry_run } => firmware::firmware(common, pipe, dry_run),
        Command::Supported => supported::supported(common, pipe),
        Command::Name { dry_run } => naming::name(common, pipe, dry_run),
        Command::Fleet(options) => fleet::fleet(common, pipe, &options),
    };
    answer.map_err(|error| match Exit::of(&error) {
        Exit::NoPermission if needs_root && !geteuid().is_root() => {
            Exit::NoPermission.error(format_args!("{error:#}; needs root"))
        }
        _ => error,
    })
}
