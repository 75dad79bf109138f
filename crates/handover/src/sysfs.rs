//! Reads and writes of sysfs that no driver can block for good: a child process does each, with a
//! time limit.
//!
//! An unbind waits inside the kernel, where no signal reaches it, until the last user of the device
//! has closed its node, and holds the device's lock meanwhile. A child that does not return is left
//! behind and ends by itself once the node is closed.

use std::ffi::CString;
use std::fmt;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, read as read_fd, write as write_fd};

use crate::{kill_point, system};

/// The limit of a write to a driver. Graphics and USB controllers take up to two seconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// The time that a killed child has to end.
const KILL_LIMIT: Duration = Duration::from_millis(500);
/// The longest value: a page.
const VALUE_BYTES: usize = 4096;

/// Why a read or write failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The kernel refused it.
    Refused(io::Error),
    /// It has not returned within the limit, and the child still waits.
    Hangs,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Refused(error) => error.fmt(f),
            Fault::Hangs => {
                write!(
                    f,
                    "no answer: the driver waits for a program that has it open"
                )
            }
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Refused(error)
    }
}

/// Writes `value` and a newline, in one write.
pub(crate) fn write(path: &Path, value: &str, limit: Duration) -> Result<(), Fault> {
    let line = format!("{value}\n");
    let written = attempt(path, limit, Work::Write(line.as_bytes())).map(drop);
    kill_point();
    written
}

/// The text of a file, without the newline at its end.
pub(crate) fn read(path: &Path, limit: Duration) -> Result<String, Fault> {
    let bytes = attempt(path, limit, Work::Read)?;
    Ok(String::from_utf8_lossy(&bytes)
        .trim_end_matches('\n')
        .to_owned())
}

enum Work<'a> {
    Write(&'a [u8]),
    Read,
}

/// The child sends the error number, then the bytes that it has read.
fn attempt(path: &Path, limit: Duration, work: Work) -> Result<Vec<u8>, Fault> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)?;
    let (mut reader, writer) = io::pipe()?;
    let child = system::in_child(writer.as_fd(), || {
        let mut buffer = [0; VALUE_BYTES];
        let done = match work {
            Work::Write(line) => open(
                path.as_c_str(),
                OFlag::O_WRONLY | OFlag::O_TRUNC,
                Mode::empty(),
            )
            .and_then(|file| write_fd(file, line))
            .map(|_| 0),
            Work::Read => open(path.as_c_str(), OFlag::O_RDONLY, Mode::empty())
                .and_then(|file| read_fd(file, &mut buffer)),
        };
        let (errno, length) = match done {
            Ok(length) => (0, length),
            Err(errno) => (errno as i32, 0),
        };
        // The reader knows an incomplete answer.
        let _ = write_fd(&writer, &errno.to_ne_bytes());
        let _ = write_fd(&writer, &buffer[..length]);
    })?;
    drop(writer);
    let answer = match answer(&mut reader, limit)? {
        Some(answer) => answer,
        None => {
            let _ = kill(child, Signal::SIGKILL); // it may just have ended
            let Some(answer) = self::answer(&mut reader, KILL_LIMIT)? else {
                return Err(Fault::Hangs);
            };
            answer
        }
    };
    reap(child);
    let (errno, text) = answer
        .split_first_chunk()
        .ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?;
    match i32::from_ne_bytes(*errno) {
        0 => Ok(text.to_vec()),
        errno => Err(io::Error::from_raw_os_error(errno).into()),
    }
}

/// All that the child sends until its end, or `None` after the limit.
fn answer(reader: &mut PipeReader, limit: Duration) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + limit;
    let mut answer = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(
            &mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(0) => return Ok(None),
            Ok(_) => {
                let mut buffer = [0; VALUE_BYTES];
                match reader.read(&mut buffer)? {
                    0 => return Ok(Some(answer)),
                    length => answer.extend_from_slice(&buffer[..length]),
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A caller that ignores the ends of its children leaves nothing to wait for.
fn reap(child: Pid) {
    while waitpid(child, None) == Err(Errno::EINTR) {}
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn a_value_is_written_and_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("driver_override");
        fs::write(&path, "a longer value\n").unwrap();
        write(&path, "vfio-pci", LIMIT).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "vfio-pci\n");
        assert_eq!(read(&path, LIMIT).unwrap(), "vfio-pci");
    }

    #[test]
    fn the_error_is_the_kernels() {
        let absent = Path::new("/proc/self/absent");
        for result in [write(absent, "1", LIMIT), read(absent, LIMIT).map(drop)] {
            let Err(Fault::Refused(error)) = result else {
                panic!("{result:?}")
            };
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }

    /// A fake: a pipe without a reader stands for a driver that does not answer, but lets the child
    /// be killed.
    #[test]
    fn a_write_that_blocks_ends_with_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("unbind");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let result = write(&path, "0000:00:1b.0", Duration::from_millis(10));
        let Err(Fault::Refused(error)) = result else {
            panic!("{result:?}")
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
