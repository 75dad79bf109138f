//! Starts the virtualizer as its own user, with only the files handed to it.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use confined::{Identity, Life, Start};
use jsonpipe::{Exit, ExitContext};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::tail::Tail;

/// A running program. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Running(Child);

/// Starts it by its command line. A missing program is status 69, one that this user may not run
/// 78.
pub fn spawn(argv: &[String], start: &Start) -> anyhow::Result<(Running, Tail)> {
    let mut child = spawn_with(argv, start, Stdio::null(), Stdio::piped())?;
    let stderr = child.stderr.take();
    Ok((Running(child), Tail::new(stderr)))
}

/// The standard output of a program that ends at once, up to 64 KiB. A missing program is status
/// 69, one that this user may not run 78, one that takes longer than `limit` 75.
pub fn output(
    argv: &[String],
    identity: Option<Identity>,
    limit: Duration,
) -> anyhow::Result<String> {
    const LENGTH_MAX_BYTES: usize = 64 << 10;
    let start = Start {
        identity,
        hand_down: &[],
        life: Life::WithUs,
        lock_memory: false,
    };
    let child = spawn_with(argv, &start, Stdio::piped(), Stdio::null())?;
    let mut running = Running(child); // ends it in any case
    let doing = || format!("reading the output of {}", argv.join(" "));
    let mut stdout = running.0.stdout.take().exit(Exit::Software, doing)?;
    let deadline = Instant::now() + limit;
    let mut printed = Vec::new();
    while printed.len() < LENGTH_MAX_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(
            &mut [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Err(Errno::EINTR) => continue,
            Ok(0) => {
                return Err(Exit::TemporaryFailure.error(format_args!(
                    "{}: no answer within {} s",
                    doing(),
                    limit.as_secs()
                )));
            }
            ready => ready.exit(Exit::Io, doing)?,
        };
        let mut chunk = [0; 4096];
        let count = stdout.read(&mut chunk).exit(Exit::Io, doing)?;
        if count == 0 {
            break;
        }
        printed.extend_from_slice(&chunk[..count]);
    }
    Ok(String::from_utf8_lossy(&printed).into_owned())
}

fn spawn_with(
    argv: &[String],
    start: &Start,
    stdout: Stdio,
    stderr: Stdio,
) -> anyhow::Result<Child> {
    let program = argv
        .first()
        .exit(Exit::Software, || "an empty command line")?;
    let mut command = Command::new(program);
    command.args(&argv[1..]).stdout(stdout).stderr(stderr);
    start.spawn(command).map_err(|error| {
        let (exit, way_out) = match error.kind() {
            io::ErrorKind::NotFound => (
                Exit::Unavailable,
                "; install it, or set its path in vm-passthrough.ini",
            ),
            io::ErrorKind::PermissionDenied => (
                Exit::Config,
                "; let its user run it, or set another path in vm-passthrough.ini",
            ),
            _ => (Exit::Config, ""),
        };
        exit.error(format_args!("starting {program}: {error}{way_out}"))
    })
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
