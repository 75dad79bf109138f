//! The keeper: a small process above the holder that has no password. It ends the session when the
//! process ends that the session is for, and closes the ports when the holder was killed.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use jsonpipe::{Common, Exit, ExitContext, signals};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};
use rustix::process::{PidfdFlags, pidfd_open};

use super::lock::Lock;
use super::order::Outcome;
use super::outside::SEAT_ENDED;
use super::{closing, state};
use crate::TOOL;

/// Starts the holder, with the order on standard input, which is not read here, and waits for its
/// end. If it is bound, standard output is a pidfd of the process that the session is for.
/// False: something is left to do.
pub fn keep(common: &Common, is_bound: bool) -> anyhow::Result<bool> {
    close_inherited()?;
    setsid()?;
    nix::sys::prctl::set_name(c"nm-8021x-keeper")?; // that of the link by which it was started says nothing
    std::env::set_current_dir("/")?;
    let ending = signals::defer()?;
    let started = start(common, is_bound, &ending);
    let (mut holder, session, _lock, pipe) = match started {
        Ok(started) => started,
        Err(error) => {
            let mut front = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
            let _ = Outcome::failure(&error).write(&mut front); // it has gone: nobody waits
            return Ok(true);
        }
    };
    silence()?;
    let status = wait(&mut holder, session, &ending, pipe)?;
    if status.success() {
        return Ok(true);
    }
    let (_, closed) = closing::close_remains(common)?;
    let _ = fs::remove_file(common.path(state::SOCKET)); // the next one replaces it
    Ok(closed.is_clean())
}

type Started = (Child, Option<OwnedFd>, Lock, io::PipeWriter);

fn start(common: &Common, is_bound: bool, ending: &signals::Deferred) -> anyhow::Result<Started> {
    let lock = Lock::take(common, ending)?;
    lock.bequeath()?; // it is free when the holder has ended as well
    let session = is_bound
        .then(|| io::stdout().as_fd().try_clone_to_owned())
        .transpose()?;
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(TOOL.name).arg("hold").stdin(Stdio::inherit());
    if common.verbose {
        command.arg("--verbose");
    }
    let holder = command.stdout(reader).spawn();
    let holder = holder.exit(
        Exit::TemporaryFailure,
        || "starting the holder of the session",
    )?;
    Ok((holder, session, lock, writer))
}

/// Means this process, and no later one with its number. Status 66 when there is none.
pub fn pidfd(pid: i32) -> anyhow::Result<OwnedFd> {
    let doing = || format!("watching process {pid}, for which the session is");
    let pid = rustix::process::Pid::from_raw(pid).exit(Exit::Usage, doing)?;
    pidfd_open(pid, PidfdFlags::empty())
        .map_err(io::Error::from)
        .exit(Exit::NoInput, doing)
}

/// Waits for the holder's end, and asks it for that when it is time.
fn wait(
    holder: &mut Child,
    session: Option<OwnedFd>,
    ending: &signals::Deferred,
    mut pipe: io::PipeWriter,
) -> anyhow::Result<std::process::ExitStatus> {
    let holder_pid = Pid::from_raw(holder.id().cast_signed());
    let pidfd = pidfd(holder_pid.as_raw())?;
    let mut is_asked = false;
    loop {
        let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        if !is_asked {
            fds.push(PollFd::new(ending.as_fd(), PollFlags::POLLIN));
            fds.extend(
                session
                    .as_ref()
                    .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)),
            );
        }
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue; // EINTR
        }
        if fds[0].any().unwrap_or(false) {
            return holder
                .wait()
                .exit(Exit::Software, || "waiting for the holder");
        }
        is_asked = true;
        if fds.get(2).is_some_and(|fd| fd.any().unwrap_or(false)) {
            let _ = pipe.write_all(SEAT_ENDED); // it has ended by itself
            continue;
        }
        let _ = kill(holder_pid, Signal::SIGTERM); // it is ours until it is waited for
    }
}

/// A pipe of the caller, or its lock, ends with the caller and not with the session.
fn close_inherited() -> anyhow::Result<()> {
    let numbers: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        let _ = nix::unistd::close(number); // that of the list itself is closed already
    }
    Ok(())
}

/// Lets go of the caller's end of standard input, output and error.
fn silence() -> anyhow::Result<()> {
    let null = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}
