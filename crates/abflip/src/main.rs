//! `abflip status`, `write`, `flip`, `try`, `commit`, `rollback`, `settle`, `layout` and `repair`; see abflip(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    jsonpipe::main(abflip::TOOL, abflip::run)
}
