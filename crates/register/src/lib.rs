//! The access register of a lab machine: who used its network, from which addresses, and when.
//!
//! Brazil's Law 12.965/2014 obliges a provider to record of each connection the date and time of
//! its start and its end, its duration and its address (article 5, VI), to keep that for a year,
//! and to keep it confidential (article 13). A session has a line at its start and one at its end,
//! a refused login has one. `recover` closes sessions left open by a power cut or a kill, `find`
//! answers who had an address at a time, and `prune` removes lines older than the law asks for.
//!
//! **Admission rule:** the format of a line, its making, and every reading of the file belong here.
//! The facts of a session belong to the writer of the section `login`.

mod backwards;
mod find;
mod input;
mod line;
mod prune;
mod record;
mod recover;
mod report;
mod request;
mod tail;
mod time;

use std::io;

use jsonpipe::{Answer, Common, Exit, Pipe, io_error};

pub use prune::moved;
pub use request::Command;

/// Where it lies.
pub const PATH: &str = "/var/log/labtools/register/register.jsonl";

/// The section of the report.
const SECTION: &str = "register";

/// Runs a command.
pub fn run(command: &Command, common: &Common, pipe: &Pipe) -> anyhow::Result<Answer> {
    let pipe = pipe.owning(SECTION);
    let answer = match command {
        Command::Start { dry_run } => record::start(common, &pipe, *dry_run),
        Command::End { how, dry_run } => record::end(common, &pipe, how, *dry_run),
        Command::Refused { dry_run } => record::refused(common, &pipe, *dry_run),
        Command::Recover { dry_run } => recover::recover(common, *dry_run),
        Command::Find { address, at } => find::find(common, *address, *at),
        Command::Prune { days, dry_run } => prune::prune(common, *days, *dry_run),
    };
    answer.map_err(|error| match Exit::of(&error) {
        Exit::NoPermission => {
            Exit::NoPermission.error(format_args!("{error:#}; the register needs root"))
        }
        _ => error,
    })
}

fn unreadable(common: &Common, error: io::Error) -> anyhow::Error {
    let path = common.path(PATH);
    io_error(
        error,
        Exit::of_read,
        format_args!("reading {}", path.display()),
    )
}
