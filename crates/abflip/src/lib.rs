//! Switches a machine between its two root slots with one sector write.
//!
//! A machine has two root partitions, a and b. It runs from one; the other takes the next version of the host's image. Which of
//! them boots next is told by an attribute bit in the partition table. `flip` moves that bit in such a way that the table's
//! checksum stays what it was, so that one sector is all that changes, and a machine that loses its power at any instant has a
//! valid table that names one of the two. `status` says which slot runs, which boots next, and whether both copies of the table
//! agree; `repair` makes them agree again where something else left them torn.

mod lock;
pub mod record;
pub mod report;
pub mod request;

use jsonpipe::{Answer, Pipe, Tool};

use request::Arguments;

/// Who is speaking, and the section that it writes.
pub const TOOL: Tool = Tool { name: "abflip", section: "slots" };

/// Does what the command line asks for.
pub fn run(arguments: Arguments, _pipe: &Pipe) -> anyhow::Result<Answer> {
    // The skeleton: the subcommands come one by one.
    let _lock = lock::lock(&arguments.common)?;
    Err(jsonpipe::Exit::Unavailable.error(format_args!("{:?}: not built yet", arguments.command)))
}
