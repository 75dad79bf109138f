//! `cowvol`; see cowvol(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    jsonpipe::main(cowvol::TOOL, cowvol::run)
}
