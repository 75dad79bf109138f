//! Tells what a machine is, and what changed on it.
//!
//! `collect` reads what the kernel and the firmware say of this machine, starts no process for it, and prints the section `host`.
//! What is not known is absent, with the reason in `missing`. `changes` compares that with a baseline which a technician accepted
//! (`accept`) and tells each difference once, as an event. `metrics` writes the same as a file that node_exporter serves.

mod collect;
pub mod report;
pub mod request;

use jsonpipe::{Answer, Exit, Pipe, Tool};

use request::{Arguments, Command};

/// Who is speaking, and the section that it writes.
pub const TOOL: Tool = Tool { name: "invcollect", section: "host" };

/// Does what the command line asks for.
pub fn run(arguments: Arguments, _pipe: &Pipe) -> anyhow::Result<Answer> {
    let common = &arguments.common;
    match arguments.command {
        Command::Collect(options) => collect::collect(common, &options),
        Command::Changes { .. } | Command::Accept { .. } | Command::Metrics { .. } => {
            Err(Exit::Software.error("this part is not there yet"))
        }
    }
}
