//! One command on one machine, by ssh, within bounds.

use std::future::pending;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use futures_lite::future::or;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::system;

/// The maximum of standard output. As a tree, a document takes a hundred times the memory of its text.
const STDOUT_MAX_BYTES: usize = 1 << 20;

/// The maximum of standard error: the messages of a day.
const STDERR_MAX_BYTES: usize = 16 << 20;

/// The end of standard error that is kept.
const STDERR_KEPT_BYTES: usize = 4096;

/// The time from SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// The scripts of labtools are found by their names.
const SCRIPTS: &str = "PATH=$PATH:/usr/lib/labtools; ";

/// How ssh is called.
#[derive(Debug)]
pub struct Ssh {
    /// Its configuration; `None` leaves it to ssh.
    pub config: Option<PathBuf>,
    /// The files for standard input, one after another.
    pub send: Vec<PathBuf>,
}

/// The limits of a command.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The time to its end.
    pub most: Duration,
    /// The time without output.
    pub quiet: Option<Duration>,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The way it ended.
    pub how: How,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// The end of its standard error, which is also that of ssh.
    pub stderr: Vec<u8>,
    /// Why its standard input was not all that was meant for it.
    pub unsent: Option<String>,
}

/// The ways in which a command ends.
#[derive(Debug)]
pub enum How {
    /// The exit status of the command on the machine, or 255 when ssh failed or was killed.
    Status(u8),
    /// It exceeded its limits, in this way.
    Hung(String),
    /// ssh could not be started, for this reason.
    NotStarted(String),
}

/// The next event of a running command.
enum Next {
    Exited(io::Result<ExitStatus>),
    Stdout(io::Result<usize>),
    Stderr(io::Result<usize>),
    Late,
    Stopped,
}

impl Ssh {
    /// Runs `command` on `host`. `None` when `stopped` becomes true; its ssh has ended then.
    pub async fn run(
        &self,
        host: &str,
        command: &str,
        sends: bool,
        bounds: Bounds,
        stopped: &mut watch::Receiver<bool>,
    ) -> Option<Ended> {
        if *stopped.borrow() {
            return None;
        }
        let (mut feeder, mut child) = match self.start(host, command, sends, bounds) {
            Ok(started) => started,
            Err(error) => {
                return Some(Ended {
                    how: How::NotStarted(format!("starting ssh: {error}")),
                    stdout: Vec::new(),
                    stderr: Vec::new(),
                    unsent: None,
                });
            }
        };
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let (mut said, mut complaints) = (Vec::new(), Tail::default());
        let (mut out, mut err) = (vec![0; 16 << 10], vec![0; 4 << 10]);
        let end = Instant::now() + bounds.most;
        let mut last = Instant::now();
        let how = loop {
            let silent = bounds.quiet.map(|quiet| last + quiet);
            let late = silent.map_or(end, |silent| silent.min(end));
            let next = or(
                or(async { Next::Exited(child.wait().await) }, async {
                    let _ = stopped.wait_for(|stopped| *stopped).await;
                    Next::Stopped
                }),
                or(
                    or(
                        async { Next::Stdout(some(&mut stdout, &mut out).await) },
                        async { Next::Stderr(some(&mut stderr, &mut err).await) },
                    ),
                    async {
                        sleep_until(late).await;
                        Next::Late
                    },
                ),
            )
            .await;
            match next {
                Next::Stdout(Ok(read)) if read > 0 => {
                    said.extend_from_slice(&out[..read]);
                    last = Instant::now();
                }
                Next::Stderr(Ok(read)) if read > 0 => {
                    complaints.add(&err[..read]);
                    last = Instant::now();
                }
                // The end of that pipe; ssh ends soon.
                Next::Stdout(_) => stdout = None,
                Next::Stderr(_) => stderr = None,
                Next::Exited(ended) => {
                    // All of its output is in the pipes. They may stay open: a background process of
                    // ssh, as a connection for later ones, holds them.
                    drain::<ChildStdout>(stdout.as_ref(), |bytes| {
                        said.extend_from_slice(bytes);
                        said.len() <= STDOUT_MAX_BYTES
                    });
                    drain::<ChildStderr>(stderr.as_ref(), |bytes| {
                        complaints.add(bytes);
                        complaints.length <= STDERR_MAX_BYTES
                    });
                    break How::Status(ended.map_or(255, status_of));
                }
                Next::Late => {
                    break How::Hung(if late == end {
                        format!("not at its end after {} seconds", bounds.most.as_secs())
                    } else {
                        let quiet = bounds.quiet.unwrap_or_default();
                        format!("nothing was heard for {} seconds", quiet.as_secs())
                    });
                }
                Next::Stopped => {
                    end_both(&mut feeder, &mut child).await;
                    return None;
                }
            }
            if said.len() > STDOUT_MAX_BYTES {
                break How::Hung("it printed more than 1 MiB".into());
            }
            if complaints.length > STDERR_MAX_BYTES {
                break How::Hung("it printed more than 16 MiB of errors".into());
            }
        };
        end_both(&mut feeder, &mut child).await;
        said.truncate(STDOUT_MAX_BYTES);
        Some(Ended {
            how,
            stdout: said,
            stderr: complaints.bytes,
            unsent: feeder.and_then(failure),
        })
    }

    /// Starts ssh and the process that feeds it, each in its own group, so that its children end with it.
    fn start(
        &self,
        host: &str,
        command: &str,
        sends: bool,
        bounds: Bounds,
    ) -> io::Result<(Option<Child>, Child)> {
        let mut feeder = None;
        let mut input = Stdio::null();
        if sends && !self.send.is_empty() {
            // cat, and not this thread: a FIFO may block.
            let mut cat = Command::new("cat");
            cat.arg("--")
                .args(&self.send)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let mut cat = spawn(cat)?;
            if let Some(stdout) = cat.stdout.take() {
                input = stdout.try_into()?;
            }
            feeder = Some(cat);
        }
        let mut ssh = Command::new("ssh");
        if let Some(config) = &self.config {
            ssh.arg("-F").arg(config);
        }
        let connect = (bounds.most.as_secs() / 5).clamp(1, 10);
        // Its messages tell its faults apart, so that a LogLevel in its configuration must not hide them.
        ssh.args(["-T", "-oLogLevel=INFO"])
            .args(["-oBatchMode=yes", "-oStrictHostKeyChecking=yes"])
            .args(["-oServerAliveInterval=15", "-oServerAliveCountMax=4"])
            .arg(format!("-oConnectTimeout={connect}"))
            .args(["--", host])
            .arg(format!("{SCRIPTS}{command}"))
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok((feeder, spawn(ssh)?))
    }
}

fn spawn(mut command: Command) -> io::Result<Child> {
    command.process_group(0);
    system::live_with_us(&mut command);
    tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
}

async fn some(stream: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> io::Result<usize> {
    match stream {
        Some(stream) => stream.read(buffer).await,
        None => pending().await,
    }
}

/// Reads the content of a pipe without waiting for more, until `take` returns false.
fn drain<T: AsFd>(stream: Option<&T>, mut take: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 4096];
    while let Some(stream) = stream
        && let Ok(read @ 1..) = nix::unistd::read(stream, &mut buffer)
        && take(&buffer[..read])
    {}
}

/// 255 for an ssh that a signal ended: the connection broke.
fn status_of(status: ExitStatus) -> u8 {
    let status = status.code().and_then(|status| u8::try_from(status).ok());
    status.unwrap_or(255)
}

/// Ends both, with their children. The background processes of an ssh that has already ended stay:
/// they may be connections for later ones.
async fn end_both(feeder: &mut Option<Child>, child: &mut Child) {
    for process in feeder.iter_mut().chain([child]) {
        let Some(group) = process.id().and_then(|id| i32::try_from(id).ok()) else {
            continue; // it has ended
        };
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let _ = killpg(Pid::from_raw(group), signal);
            if timeout(GRACE, process.wait()).await.is_ok() {
                break;
            }
        }
    }
}

/// The complaint of a cat that has ended; `None` if it wrote everything, or was ended by a signal
/// because the command did not read that far.
fn failure(mut cat: Child) -> Option<String> {
    let status = cat.try_wait().ok()??;
    status.code().filter(|code| *code != 0)?;
    let mut complaint = Tail::default();
    drain::<ChildStderr>(cat.stderr.as_ref(), |bytes| {
        complaint.add(bytes);
        true
    });
    Some(format!(
        "sending: {}",
        String::from_utf8_lossy(&complaint.bytes)
    ))
}

/// The end of a stream.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    /// The length of the whole stream.
    length: usize,
}

impl Tail {
    fn add(&mut self, more: &[u8]) {
        self.length = self.length.saturating_add(more.len());
        self.bytes.extend_from_slice(more);
        let beyond = self.bytes.len().saturating_sub(STDERR_KEPT_BYTES);
        self.bytes.drain(..beyond);
    }
}
