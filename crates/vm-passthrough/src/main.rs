//! The command `vm-passthrough`; see vm-passthrough(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    jsonpipe::main(vm_passthrough::TOOL, vm_passthrough::run)
}
