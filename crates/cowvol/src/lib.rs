//! Gives each user a copy-on-write disk of a base.
//!
//! A lab machine keeps one base per guest system, and per user and base a small overlay that holds
//! only the user's changes. `clone` reads the user and the chosen base, makes the user's overlay if
//! it does not exist, and reports its path. `list` shows the bases and the overlays on them. The
//! overlay is a qcow2 file that this crate writes itself: its path is made from a digest of the
//! user's name, so no name can build a path, and it records its base, so it is never opened over
//! another one. `install-base` makes a new generation of a base the current one, only by the rename
//! of bases.ini, and `prune` removes earlier generations with their overlays, once they are unused.

mod base;
mod catalog;
mod clone;
mod in_use;
mod install;
mod overlay;
mod prune;
pub mod report;
pub mod request;
mod standing;
mod store;
mod token;
mod verify;

pub use token::Token;

use jsonpipe::{Answer, Pipe, Tool};

use request::{Arguments, Command};

/// The name of the tool, and the section that it writes.
pub const TOOL: Tool = Tool {
    name: "cowvol",
    section: "volume",
};

/// Does what the command line asks for.
pub fn run(arguments: Arguments, pipe: &Pipe) -> anyhow::Result<Answer> {
    match arguments.command {
        Command::List => catalog::list(&arguments.common),
        Command::Clone { dry_run } => clone::clone(&arguments.common, pipe, dry_run),
        Command::InstallBase(options) => install::install(&arguments.common, pipe, options),
        Command::Prune { dry_run } => prune::prune(&arguments.common, dry_run),
    }
}
