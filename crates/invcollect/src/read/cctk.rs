//! Dell's cctk, for machines whose kernel lacks firmware attributes (thesis, 4.1: `cctk -o
//! /dev/stdout`).
//!
//! The only program started here: nothing else reads or writes the settings of an OptiPlex 7010,
//! 9020 or 7040. It takes seconds, so its output, or its failure, is cached for an hour or until the
//! next boot, and a run that takes too long is killed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use envelope::text;
use jsonpipe::{atomic, shown};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::read::machine::Machine;

const PROGRAMS: &[&str] = &["/opt/dell/dcc/cctk", "/opt/dell/toolkit/bin/cctk"];
const CACHE: &str = "/run/labtools/cctk";
const KEPT: Duration = Duration::from_secs(3600);
/// The prefix of a failure's reason in the cache. cctk prints no such line.
const FAILED: &str = "failed: ";
/// The time limit.
pub const PATIENCE: Duration = Duration::from_secs(10);
const OUTPUT_MAX_BYTES: u64 = 1 << 20;
/// The part of the output that an error has.
const SHOWN_BYTES: usize = 1024;

/// The path of the installed program.
pub fn program(machine: &Machine) -> Option<&'static str> {
    PROGRAMS
        .iter()
        .find(|program| machine.path(program).is_file())
        .copied()
}

/// Removes its kept answer, so that the next read asks it again.
pub fn forget(machine: &Machine) {
    let _ = fs::remove_file(machine.path(CACHE)); // there may be none
}

/// Its settings, as pairs of name and value; otherwise why there are none.
pub fn settings(machine: &Machine) -> Result<Vec<(String, String)>, String> {
    let Some(program) = program(machine) else {
        return Err("no /sys/class/firmware-attributes, and no cctk".into());
    };
    let kept = || {
        let changed = fs::metadata(machine.path(CACHE)).ok()?.modified().ok()?;
        // A time in the future comes from a wrong clock.
        let age = SystemTime::now().duration_since(changed).ok()?;
        if age < KEPT {
            machine.text(CACHE).ok()
        } else {
            None
        }
    };
    let text = kept().unwrap_or_else(|| {
        let ran = run(machine, program, &["-o", "/dev/stdout"]);
        let text = ran.map_or_else(|reason| format!("{FAILED}{reason}"), |(text, _)| text);
        // Without the cache, only the next run is slower.
        if let Some(directory) = machine.path(CACHE).parent() {
            let _ = atomic::create_directory(directory, 0o700).and_then(|()| {
                atomic::write(&machine.path(CACHE), 0o600, |file| {
                    file.write_all(text.as_bytes())
                })
            });
        }
        text
    });
    if let Some(reason) = text.strip_prefix(FAILED) {
        return Err(reason.to_owned());
    }
    let settings = text::settings(&text);
    if settings.is_empty() {
        Err(format!("{program} printed no setting"))
    } else {
        Ok(settings)
    }
}

/// Gives a setting a value; otherwise the reason, with the end of what it printed. Whether the
/// firmware has the value then is to be read.
pub fn set(machine: &Machine, attribute: &str, value: &str) -> Result<(), String> {
    let program = program(machine).ok_or("cctk is gone")?;
    let argument = format!("--{attribute}={value}");
    let failed = |why: &str| format!("{program} {argument}: {why}");
    let (text, child) = run(machine, program, &[&argument])?;
    match child.status().map_err(|errno| failed(errno.desc()))? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, status) => {
            let end = &text.as_bytes()[text.len().saturating_sub(SHOWN_BYTES)..];
            let end = String::from_utf8_lossy(end);
            Err(failed(&format!("status {status}: {}", shown(end.trim()))))
        }
        status => Err(failed(&format!("{status:?}"))),
    }
}

/// Runs it until it closes its output, which is the text. Dropping the process ends it.
fn run(
    machine: &Machine,
    program: &str,
    arguments: &[&str],
) -> Result<(String, KilledOnDrop), String> {
    let failed = |error: std::io::Error| format!("running {program}: {error}");
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    let errors = writer.try_clone().map_err(failed)?;
    let mut command = Command::new(machine.path(program));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(OwnedFd::from(writer))
        .stderr(OwnedFd::from(errors));
    let child = KilledOnDrop(command.process_group(0).spawn().map_err(failed)?);
    drop(command); // closes our end of the pipe
    let mut reader = File::from(OwnedFd::from(reader)).take(OUTPUT_MAX_BYTES);
    let (mut output, until) = (Vec::new(), Instant::now() + PATIENCE);
    loop {
        let left = PollTimeout::try_from(until.saturating_duration_since(Instant::now()))
            .unwrap_or(PollTimeout::ZERO);
        let ready = poll(
            &mut [PollFd::new(reader.get_ref().as_fd(), PollFlags::POLLIN)],
            left,
        )
        .map_err(|errno| failed(errno.into()))?;
        if ready == 0 {
            return Err(format!(
                "{program} did not end within {} seconds",
                PATIENCE.as_secs()
            ));
        }
        let mut piece = [0; 4096];
        match reader.read(&mut piece).map_err(failed)? {
            0 => break,
            read => output.extend(&piece[..read]),
        }
    }
    Ok((String::from_utf8_lossy(&output).into_owned(), child))
}

/// Children of cctk are in its process group, and are killed with it. They are not waited for,
/// because a process that waits for the firmware cannot be killed; the rest ends with this process.
struct KilledOnDrop(Child);

impl KilledOnDrop {
    /// Waits for the end of the process, and leaves its number in use.
    fn status(&self) -> nix::Result<WaitStatus> {
        let process = Pid::from_raw(self.0.id().cast_signed());
        waitid(
            Id::Pid(process),
            WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT,
        )
    }
}

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.0.id()) {
            // The process has not been waited for, so its number cannot have been reused.
            let _ =
                nix::sys::signal::killpg(Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
        }
    }
}
