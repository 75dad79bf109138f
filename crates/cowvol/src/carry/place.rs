//! Where a stream goes to, and where it comes from.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use jsonpipe::signals::Deferred;
use jsonpipe::{Exit, ExitContext, atomic, io_error};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Where a stream goes to.
#[derive(Debug)]
pub enum Target {
    /// A file that is not there yet. It appears whole or not at all.
    New(PathBuf),
    /// A pipe, a device, or a descriptor that is open: written to as it is.
    Open(PathBuf, File),
    /// Nowhere: a dry run.
    Nowhere,
}

impl Target {
    /// Opens it; a FIFO when it has a reader. Status 73 when a file is there already, 2 when it is
    /// standard output.
    pub fn open(path: &Path) -> anyhow::Result<Target> {
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Target::New(path.to_owned()));
            }
            Err(error) => return Err(writing(path, error)),
        };
        let kind = found.file_type();
        let is_descriptor = ["/dev/fd", "/proc/self/fd"]
            .iter()
            .any(|directory| path.starts_with(directory));
        let stdout =
            nix::sys::stat::fstat(io::stdout()).exit(Exit::Io, || "looking at standard output")?;
        if !kind.is_char_device() && (found.dev(), found.ino()) == (stdout.st_dev, stdout.st_ino) {
            return Err(Exit::Usage.error(format_args!(
                "{}: standard output is for the document",
                path.display()
            )));
        }
        if !is_descriptor && !kind.is_fifo() && !kind.is_char_device() {
            return Err(Exit::CantCreate.error(format_args!(
                "writing {}: it is there already; name a new file",
                path.display()
            )));
        }
        // Appending: a descriptor that is open in a file is opened anew, at its beginning.
        let file = File::options().append(true).open(path);
        file.map(|file| Target::Open(path.to_owned(), file))
            .map_err(|error| writing(path, error))
    }

    /// Lets `fill` write to it, and makes it durable. On failure no new file is left.
    pub fn write<T>(
        &self,
        fill: impl FnOnce(&mut dyn Write) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        match self {
            Target::Nowhere => fill(&mut io::sink()),
            Target::Open(path, file) => {
                let mut to = file;
                let filled = fill(&mut to)?;
                let is_file = file.metadata().is_ok_and(|found| found.is_file());
                let synced = if is_file { file.sync_all() } else { Ok(()) };
                synced.map_err(|error| writing(path, error))?;
                Ok(filled)
            }
            Target::New(path) => {
                let mut filled = None;
                let written = atomic::write(path, 0o600, |file| match fill(file) {
                    Ok(result) => {
                        filled = Some(Ok(result));
                        Ok(())
                    }
                    Err(error) => {
                        filled = Some(Err(error));
                        Err(io::Error::other("it was not filled"))
                    }
                });
                match filled {
                    Some(Err(error)) => Err(error),
                    Some(Ok(result)) => written.map(|()| result),
                    None => Err(written.err().unwrap_or_else(|| {
                        Exit::Software.error(format_args!("writing {}: not begun", path.display()))
                    })),
                }
            }
        }
    }
}

/// A failed write to a target.
pub fn writing(path: &Path, error: io::Error) -> anyhow::Error {
    io_error(
        error,
        Exit::of_write,
        format_args!("writing {}", path.display()),
    )
}

/// A stream that is read until a signal comes, also while the writer of a pipe lets it wait.
#[derive(Debug)]
pub struct Source<'a> {
    /// The file or pipe.
    pub file: File,
    /// The signals.
    pub signals: &'a Deferred,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ready = [
            PollFd::new(self.file.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut ready, PollTimeout::NONE)?;
        if ready[1].any().unwrap_or(false) {
            return Err(io::Error::other("a signal ends it"));
        }
        self.file.read(buffer)
    }
}
