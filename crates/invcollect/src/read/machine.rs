//! The machine being read: files below its root, and the missing values.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use jsonpipe::{Common, Missing};

/// Above the size of any file of /proc and /sys that is read here.
const TEXT_MAX_BYTES: u64 = 4 << 20;
/// The time limit of reads that take no time on a healthy machine.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The machine below `--root`. Readers read from it, and record missing values in it.
#[derive(Debug)]
pub struct Machine<'a> {
    /// The flags of every tool.
    pub common: &'a Common,
    missing: RefCell<Vec<Missing>>,
}

impl<'a> Machine<'a> {
    /// A machine of which nothing has been read yet.
    pub fn new(common: &'a Common) -> Machine<'a> {
        Machine {
            common,
            missing: RefCell::default(),
        }
    }

    /// Whether this process runs on the machine. The running kernel knows nothing about another
    /// one.
    pub fn is_running(&self) -> bool {
        self.common.root == Path::new("/")
    }

    /// The place of a path below the root.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.common.path(path)
    }

    /// A file's bytes, the first 4 MiB.
    pub fn bytes(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(path))?
            .take(TEXT_MAX_BYTES)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A file as text; what is not UTF-8 is replaced by U+FFFD.
    pub fn text(&self, path: impl AsRef<Path>) -> io::Result<String> {
        self.bytes(path).map(|bytes| {
            String::from_utf8(bytes)
                .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
        })
    }

    /// A file with one value, without the white space and NULs around it; `None` when it cannot be
    /// read or is empty. The content is untrusted, so invisible and terminal control characters are
    /// replaced by U+FFFD.
    pub fn value(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = self.text(path).ok()?;
        let value = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        (!value.is_empty()).then(|| jsonpipe::shown(value).into_owned())
    }

    /// A file with one non-negative number.
    pub fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.value(path)?.parse().ok()
    }

    /// The names in a directory, sorted; empty when it cannot be read.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        self.list(path).unwrap_or_default()
    }

    /// The names in a directory, sorted. Names that are not UTF-8 are left out: the kernel has
    /// none.
    pub fn list(&self, path: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.path(path))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        Ok(names)
    }

    /// The file name of a symbolic link's target: for `device/driver` the driver.
    pub fn linked(&self, path: impl AsRef<Path>) -> Option<String> {
        Some(
            jsonpipe::shown(fs::read_link(self.path(path)).ok()?.file_name()?.to_str()?)
                .into_owned(),
        )
    }

    /// Records that a key of the section is absent, and why.
    pub fn missing(&self, key: impl Into<String>, reason: impl ToString) {
        self.missing.borrow_mut().push(Missing {
            key: key.into(),
            reason: reason.to_string(),
        });
    }

    /// The same, for a file that could not be read.
    pub fn unreadable(&self, key: impl Into<String>, path: &str, error: &io::Error) {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => format!("no {path}"),
            io::ErrorKind::PermissionDenied => format!("{path}: needs root"),
            _ => format!("{path}: {error}"),
        };
        self.missing(key, reason);
    }

    /// Runs a reader that may block for ever in its own thread, which is abandoned after a while
    /// and ends with the process. `None`, with a reason under `key`, when it does not finish in
    /// time.
    pub fn within<T: Send + 'static>(
        &self,
        patience: Duration,
        key: &str,
        read: impl FnOnce(&Machine) -> T + Send + 'static,
    ) -> Option<T> {
        self.ask(patience, key, read).answer(self)
    }

    /// Starts such a reader; readers that were started together are waited for together.
    pub fn ask<T: Send + 'static>(
        &self,
        patience: Duration,
        key: impl Into<String>,
        read: impl FnOnce(&Machine) -> T + Send + 'static,
    ) -> Asked<T> {
        let (sender, answer) = mpsc::channel();
        let common = self.common.clone();
        let ask = move || {
            let machine = Machine::new(&common);
            let read = read(&machine);
            let _ = sender.send((read, machine.missing.into_inner())); // the receiver may be gone
        };
        let started = thread::Builder::new().spawn(ask).map(drop);
        Asked {
            key: key.into(),
            patience,
            since: Instant::now(),
            started,
            answer,
        }
    }

    /// The missing values, by key.
    pub fn into_missing(self) -> Vec<Missing> {
        let mut missing = self.missing.into_inner();
        missing.sort_by(|a, b| a.key.cmp(&b.key));
        missing
    }
}

/// A reader that may never return.
#[derive(Debug)]
pub struct Asked<T> {
    key: String,
    patience: Duration,
    since: Instant,
    started: io::Result<()>,
    answer: Receiver<(T, Vec<Missing>)>,
}

impl<T> Asked<T> {
    /// Its result; `None`, with a reason, when it does not finish in time.
    pub fn answer(self, machine: &Machine) -> Option<T> {
        let reason = match self
            .answer
            .recv_timeout(self.patience.saturating_sub(self.since.elapsed()))
        {
            Ok((read, missing)) => {
                machine.missing.borrow_mut().extend(missing);
                return Some(read);
            }
            Err(RecvTimeoutError::Timeout) => {
                format!("no answer within {} seconds", self.patience.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => match self.started {
                Ok(()) => "reading it failed".to_owned(),
                Err(error) => format!("starting a thread: {error}"),
            },
        };
        machine.missing(self.key, reason);
        None
    }
}
