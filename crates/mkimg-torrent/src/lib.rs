//! Describes an image so that every machine can fetch and verify it.
//!
//! `create` reads an image once, as fast as the processor can hash it, and writes the files for its
//! distribution beside it: a signed manifest with its SHA-256, a torrent, and a map of its blocks
//! with its own torrent. `verify` compares an image with such a description and lists the wrong
//! pieces. `host` describes and signs the root of a host; `verify-host` verifies that on a machine.
//! `answer-file` comes before all of them, where the image is Windows: it writes the files by which
//! its setup makes the image, from the description that `create` will read.
//! Nothing here uses the network: `seedctl` distributes, and trusts only the manifest.

mod answer_file;
mod create;
mod delta;
mod ext4;
mod host;
mod image;
pub mod metainfo;
mod metalink;
pub mod pieces;
pub mod report;
pub mod request;
mod runs;
mod scan;
mod store;
mod survey;
mod verify;

use jsonpipe::{Answer, Pipe, Tool};

use request::{Arguments, Command};

/// The name of the tool, and the section that it writes.
pub const TOOL: Tool = Tool {
    name: "mkimg-torrent",
    section: "image",
};

/// Does what the command line asks for.
pub fn run(arguments: Arguments, pipe: &Pipe) -> anyhow::Result<Answer> {
    match arguments.command {
        Command::AnswerFile(options) => answer_file::answer_file(pipe, &options),
        Command::Create(options) => create::create(&arguments.common, pipe, &options),
        Command::Verify(options) => verify::verify(&arguments.common, pipe, &options),
        Command::Host(options) => host::host(&arguments.common, pipe, &options),
        Command::VerifyHost(options) => host::verify_host(&arguments.common, &options),
    }
}
