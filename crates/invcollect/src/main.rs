//! `invcollect`; see invcollect(8) and invcollect-fleet(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    let exit = jsonpipe::main(invcollect::TOOL, invcollect::run);
    // A thread whose read not even a kill ends keeps all that is open, and who reads what was
    // printed would wait for it.
    for descriptor in 0..=2 {
        let _ = nix::unistd::close(descriptor); // one that was closed from the start
    }
    exit
}
