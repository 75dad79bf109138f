//! `nm-8021x-login`: see the library's first lines, or nm-8021x-login(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    jsonpipe::main(nm_8021x_login::TOOL, nm_8021x_login::run)
}
