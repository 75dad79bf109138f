//! Signals that a program under test gets, whatever its caller ignores.

use std::process::Command;

/// A command that runs `program`, under the same process id, with the signals that end it at their
/// defaults. Background jobs of a script ignore SIGINT, and with them a test and its children.
pub fn heeding_signals(program: &str) -> Command {
    let mut command = Command::new("/usr/bin/env");
    command.arg("--default-signal=HUP,INT,TERM").arg(program);
    command
}
