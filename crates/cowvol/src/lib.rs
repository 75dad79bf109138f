//! Gives each user a copy-on-write disk of a base.
//!
//! A lab machine keeps one base per guest system, and per user and base a small overlay that holds
//! only the user's changes. `clone` reads the user and the chosen base, makes the user's overlay if
//! it does not exist, holds the whole room that it can come to need, and reports its path; where the
//! disk is full, it evicts volumes of others that nothing uses. `release` gives the room back after
//! the session, `discard` removes the volumes of one user, and `restore` gives one an earlier content.
//! `export` and `import` carry a volume to another machine. `list` shows the bases and the overlays on
//! them. The overlay is a qcow2 file that this crate writes itself: its path is made from a digest of the
//! user's name, so no name can build a path, and it records its base, so it is never opened over
//! another one. `install-base` makes a new generation of a base the current one, only by the rename
//! of bases.ini, and `prune` removes earlier generations with their overlays, once they are unused.

mod backend;
mod base;
mod busy;
mod carry;
mod catalog;
mod check;
mod clone;
mod directory;
mod discard;
mod ephemeral;
mod event;
mod evict;
mod fault;
mod idle;
mod install;
mod layout;
mod points;
mod promise;
mod prune;
mod published;
mod quiet;
mod release;
mod repair;
mod replace;
pub mod report;
pub mod request;
mod restore;
mod settings;
mod standing;
mod token;
mod unlinked;
mod verify;

pub use token::Token;

use jsonpipe::{Answer, Pipe, Tool};

use backend::qcow2::Qcow2;
use backend::zfs::Zfs;
use carry::Carrier;
use request::{Arguments, Command};

/// The name of the tool, and the section that it writes.
pub const TOOL: Tool = Tool {
    name: "cowvol",
    section: "volume",
};

/// Does what the command line asks for.
pub fn run(arguments: Arguments, pipe: &Pipe) -> anyhow::Result<Answer> {
    let common = &arguments.common;
    match settings::read(common)?.zfs {
        Some(settings) => run_on(&Zfs::new(common, &settings), arguments, pipe),
        None => {
            let common = common.clone();
            run_on(&Qcow2 { common }, arguments, pipe)
        }
    }
}

fn run_on<B>(backend: &B, arguments: Arguments, pipe: &Pipe) -> anyhow::Result<Answer>
where
    B: Carrier + Clone + 'static,
{
    let common = &arguments.common;
    match arguments.command {
        Command::List { user } => catalog::list(common, backend, pipe, user.as_deref()),
        Command::Clone { ephemeral, dry_run } => {
            clone::clone(common, backend, pipe, ephemeral, dry_run)
        }
        Command::Release { dry_run } => release::release(common, backend, pipe, dry_run),
        Command::Discard(options) => discard::discard(common, backend, pipe, &options),
        Command::Restore(options) => restore::restore(common, backend, pipe, &options),
        Command::Export(options) => carry::export::export(common, backend, pipe, &options),
        Command::Import(options) => carry::import::import(common, backend, pipe, &options),
        Command::Layout { dry_run } => layout::layout(common, backend, dry_run),
        Command::InstallBase(options) => install::install(common, backend, pipe, options),
        Command::Check => check::check(common, backend),
        Command::Repair { dry_run } => repair::repair(common, backend, pipe, dry_run),
        Command::Prune { dry_run } => prune::prune(common, backend, pipe, dry_run),
    }
}
