//! `invcollect collect`, `changes`, `accept`, `metrics` and `push`; see invcollect(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    jsonpipe::main(invcollect::TOOL, invcollect::run)
}
