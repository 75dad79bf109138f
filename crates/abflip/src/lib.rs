//! Switches a machine between its two root slots with one sector write.
//!
//! A machine has two root partitions, a and b. It runs from one; `write` writes the next version of
//! the host's image to the other, and verifies it. An attribute bit in the partition table selects
//! the one that boots next. `flip` moves that bit without changing the table's checksum. So only
//! one sector changes, and a machine that loses power at any instant has a valid table that names
//! one of the two. `status` shows which slot runs, which boots next, and whether both copies of the
//! table agree; `try` boots the other slot once, and `commit` makes it permanent once it has proved
//! healthy; `settle` makes that decision at boot; `repair` restores a table that something else
//! left torn. `layout` makes the partitions of a new machine.

mod commit;
mod digest;
pub mod disk;
mod efi;
mod ended;
mod esp;
mod extlinux;
mod flip;
pub mod gpt;
mod heal;
mod layout;
mod loader;
mod machine;
pub mod neutral;
pub mod record;
mod repair;
pub mod report;
pub mod request;
mod running;
mod settle;
pub mod slots;
mod source;
mod status;
mod stream;
mod target;
mod trial;
mod try_once;
mod write;
mod writes;

use jsonpipe::{Answer, Pipe, Tool};

use request::{Arguments, Command};
use status::Content;

/// The name of the tool, and the section that it writes.
pub const TOOL: Tool = Tool {
    name: "abflip",
    section: "slots",
};

/// Does what the command line asks for.
pub fn run(arguments: Arguments, pipe: &Pipe) -> anyhow::Result<Answer> {
    let Arguments {
        common,
        disk,
        command,
    } = arguments;
    match command {
        Command::Status { digest } => {
            let content = if digest {
                Content::Compared
            } else {
                Content::Recorded
            };
            status::status(&common, disk.as_deref(), content)
        }
        Command::Write(options) => write::write(&common, pipe, disk.as_deref(), &options),
        Command::Flip {
            active,
            no_repair,
            dry_run,
        } => flip::flip(
            &common,
            pipe,
            disk.as_deref(),
            flip::Options {
                active,
                no_repair,
                dry_run,
            },
        )?
        .answer(),
        Command::Try { again, dry_run } => try_once::try_once(
            &common,
            pipe,
            disk.as_deref(),
            try_once::Options { again, dry_run },
        ),
        Command::Commit { dry_run } => {
            commit::commit(&common, pipe, disk.as_deref(), dry_run)?.answer()
        }
        Command::Rollback { dry_run } => {
            commit::rollback(&common, pipe, disk.as_deref(), dry_run)?.answer()
        }
        Command::Settle(options) => settle::settle(&common, pipe, disk.as_deref(), &options),
        Command::Layout(options) => layout::layout(&common, pipe, disk.as_deref(), &options),
        Command::Repair { active, dry_run } => repair::repair(
            &common,
            pipe,
            disk.as_deref(),
            repair::Options { active, dry_run },
        ),
    }
}
