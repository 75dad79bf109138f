//! A program under strace(1).

use std::fs;
use std::process::Command;

use super::Ended;

/// Runs the program to its end, and returns that with the record of `calls`, such as
/// `%file,execve`: one line for each system call of the program and its children.
pub fn traced(calls: &str, command: &Command) -> (Ended, String) {
    let record = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-e", &format!("trace={calls}"), "-o"])
        .arg(record.path())
        .arg(command.get_program())
        .args(command.get_args());
    let output = strace.output().expect("strace, from Debian's package");
    (
        Ended::of(output),
        fs::read_to_string(record.path()).unwrap(),
    )
}
