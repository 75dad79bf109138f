//! The result of a program that ran to its end.

use std::borrow::BorrowMut;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The result of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit status; -1 when a signal ended it.
    pub status: i32,
    /// The signal that ended it, where one did.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Converts the output of a finished run.
    pub fn of(output: Output) -> Ended {
        Ended {
            status: output.status.code().unwrap_or(-1),
            signal: output.status.signal(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8 on standard output"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8 on standard error"),
        }
    }

    /// The one document on standard output.
    pub fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The documents on standard output, one per line.
    pub fn lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }

    /// A section of the document; null where there is none.
    pub fn section(&self, name: &str) -> Value {
        self.document()[name].take()
    }

    /// Asserts that it ended with `status`, printed nothing, and that its one error line begins
    /// like this, after the tool's name.
    #[track_caller]
    pub fn refused(&self, status: i32, complaint: &str) {
        assert_eq!(
            (self.status, self.stdout.as_str()),
            (status, ""),
            "{self:?}"
        );
        let said = self.stderr.split_once(": ").map(|(_tool, said)| said);
        assert!(
            said.is_some_and(|said| said.starts_with(complaint)),
            "{self:?}"
        );
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
    }
}

/// Runs a command with `input` on standard input.
pub fn feed(mut command: impl BorrowMut<Command>, input: &str) -> Ended {
    feed_into(command.borrow_mut(), input, Stdio::piped())
}

/// The same, with another standard output.
pub(super) fn feed_into(command: &mut Command, input: &str, stdout: Stdio) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A tool that refuses its command line does not read its input.
    let _ = child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input.as_bytes());
    Ended::of(child.wait_with_output().expect("the program ends"))
}

/// The same command with its standard output redirected as only the shell can.
pub fn redirected(how: &str, command: &Command) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("exec \"$@\" {how}"), "bash"])
        .arg(command.get_program())
        .args(command.get_args());
    bash
}
