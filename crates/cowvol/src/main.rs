//! `cowvol clone`, `release`, `list`, `discard`, `install-base` and `prune`; see cowvol(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    jsonpipe::main(cowvol::TOOL, cowvol::run)
}
