//! The swarm of a campus: building first, controlled, reported.
//!
//! The engine is stock aria2; the intelligence is in the tracker's introductions. On a lab machine
//! `get` fills a new image from the old one and from the swarm, and `seed`, `status`, `wait` and
//! `stop` control aria2 there. On a server `track` is the crate `tracker`; `report`, `swarm`,
//! `hosts` and `nets` are the crate `campaign`, and `ask` is the crate `fanout`. The types that the
//! tracker and its clients share are in the crate `swarm`.

mod aria2;
mod bencode;
mod daemon;
mod fetch;
mod fill;
mod get;
mod introduction;
mod origin;
mod report;
pub mod request;
mod seed;
mod settings;
mod signed_image;
mod status;
mod stop;
mod store;
mod torrent;
mod wait;

use jsonpipe::{Answer, Pipe, Tool};

use request::{Arguments, Command};
use settings::Settings;

/// The name of the tool, and the section that it writes.
pub const TOOL: Tool = Tool {
    name: "seedctl",
    section: "transfer",
};

/// Does what the command line asks for.
pub fn run(arguments: Arguments, pipe: &Pipe) -> anyhow::Result<Answer> {
    let common = &arguments.common;
    match arguments.command {
        Command::Track => tracker::track(common, pipe, Settings::read(common)?.tracker),
        Command::Get(options) => get::get(common, pipe, &options),
        Command::Seed(options) => seed::seed(common, pipe, &options),
        Command::Status => status::status(common),
        Command::Wait(options) => wait::wait(common, pipe, &options),
        Command::Stop(options) => stop::stop(common, pipe, &options),
        Command::Swarm(options) => campaign::swarm(&options),
        Command::Report(options) => campaign::report(common, pipe, &options),
        Command::Ask(options) => fanout::ask(common, pipe, &options),
        Command::Hosts(options) => campaign::hosts(common, &options),
        Command::Nets => campaign::nets(common),
    }
}
