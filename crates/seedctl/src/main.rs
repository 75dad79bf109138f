//! `seedctl track`, `get`, `seed`, `status`, `wait`, `stop`, `swarm` and `report`; see seedctl(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    jsonpipe::main(seedctl::TOOL, seedctl::run)
}
