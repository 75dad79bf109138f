//! `invcollect`; see invcollect(8) and invcollect-fleet(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    let exit = jsonpipe::main(invcollect::TOOL, invcollect::run);
    // A thread whose read cannot even be killed keeps the descriptors open, and the reader of the
    // output would wait for it.
    for descriptor in 0..=2 {
        let _ = nix::unistd::close(descriptor); // it may have been closed from the start
    }
    exit
}
