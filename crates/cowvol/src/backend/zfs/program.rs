//! Runs `zfs` and `zpool`, one call for one thing.

use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use jsonpipe::{Exit, io_error};

/// A call that the program refused.
#[derive(Debug)]
pub struct Refusal {
    command: String,
    said: String,
}

/// The cause of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The dataset does not exist.
    Absent,
    /// A program has the volume open.
    Busy,
    /// There is no room.
    Full,
    /// Only root may do it.
    Denied,
    /// The kernel has no ZFS.
    NoZfs,
    /// Any other.
    Other,
}

impl Refusal {
    /// The cause, which the program shows by its words alone; its status is always 1.
    pub fn cause(&self) -> Cause {
        let words = [
            ("dataset does not exist", Cause::Absent),
            ("no such pool", Cause::Absent),
            ("dataset is busy", Cause::Busy),
            ("pool or dataset is busy", Cause::Busy),
            ("out of space", Cause::Full),
            ("greater than available space", Cause::Full),
            ("permission denied", Cause::Denied),
            ("Permission denied", Cause::Denied),
            ("ZFS modules", Cause::NoZfs),
        ];
        let found = words.iter().find(|(word, _)| self.said.contains(word));
        found.map_or(Cause::Other, |(_, cause)| *cause)
    }

    /// The error, with the status of its cause.
    pub fn error(self, doing: impl fmt::Display) -> anyhow::Error {
        let exit = match self.cause() {
            Cause::Absent => Exit::NoInput,
            Cause::Busy => Exit::TemporaryFailure,
            Cause::Full => Exit::CantCreate,
            Cause::Denied => Exit::NoPermission,
            Cause::NoZfs => Exit::Unavailable,
            Cause::Other => Exit::Io,
        };
        exit.error(format_args!("{doing}: {}: {}", self.command, self.said))
    }
}

/// Runs `zfs`; its standard output.
pub fn zfs(arguments: &[&str]) -> anyhow::Result<Result<String, Refusal>> {
    run("zfs", arguments)
}

/// Runs `zpool`; its standard output.
pub fn zpool(arguments: &[&str]) -> anyhow::Result<Result<String, Refusal>> {
    run("zpool", arguments)
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Result<String, Refusal>> {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .process_group(0) // Ctrl-C must not end it halfway
        .output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Exit::Unavailable.error(format_args!(
            "starting {program}: no such program; install zfsutils-linux"
        )),
        _ => io_error(
            error,
            |_| Exit::Software,
            format_args!("starting {program}"),
        ),
    })?;
    if output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        return Ok(Ok(text.into_owned()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(Err(Refusal {
        command: format!("{program} {}", arguments.join(" ")),
        said: said.trim().replace('\n', "; "),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_status_of_its_cause() {
        // Said by OpenZFS 2.1.11.
        for (said, exit) in [
            (
                "cannot open 'tank/x': dataset does not exist",
                Exit::NoInput,
            ),
            (
                "cannot destroy 'tank/x': dataset is busy",
                Exit::TemporaryFailure,
            ),
            ("cannot create 'tank/x': out of space", Exit::CantCreate),
            (
                "cannot set property for 'tank/x': size is greater than available space",
                Exit::CantCreate,
            ),
            (
                "cannot create 'tank/x': permission denied",
                Exit::NoPermission,
            ),
            (
                "The ZFS modules are not loaded.; Try running '/sbin/modprobe zfs' as root to load them.",
                Exit::Unavailable,
            ),
            ("cannot destroy 'tank/x': volume has children", Exit::Io),
        ] {
            let refusal = Refusal {
                command: "zfs x".into(),
                said: said.into(),
            };
            assert_eq!(Exit::of(&refusal.error("doing")), exit, "{said}");
        }
    }
}
