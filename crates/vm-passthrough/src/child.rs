//! Starts QEMU as its own user, with only the files handed to it.

use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};

use confined::Start;
use jsonpipe::{Exit, ExitContext, io_error};

use crate::tail::Tail;

/// QEMU must not start programs, gain rights or change its own priority.
pub const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// A running program. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Running(Child);

/// Starts QEMU by its command line. A missing program is status 69, one that this user may not run
/// 78.
pub fn spawn(argv: &[String], start: &Start) -> anyhow::Result<(Running, Tail)> {
    let program = argv
        .first()
        .exit(Exit::Software, || "an empty command line")?;
    let mut command = Command::new(program);
    command
        .args(&argv[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = start.spawn(command).map_err(|error| {
        let exit_of = |error: &io::Error| match error.kind() {
            io::ErrorKind::NotFound => Exit::Unavailable,
            _ => Exit::Config,
        };
        io_error(error, exit_of, format_args!("starting {program}"))
    })?;
    let stderr = child.stderr.take();
    Ok((Running(child), Tail::new(stderr)))
}

impl Running {
    /// Waits for its end, and returns its status.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) -> io::Result<()> {
        self.0.kill()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended already
        let _ = self.0.wait();
    }
}
