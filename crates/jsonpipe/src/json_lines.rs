//! Files of JSON Lines that several programs add to: a line that is there is whole, whoever was
//! killed and whenever the power was cut. The scripts add to them by `append-record`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::atomic;
use crate::exit::{Exit, io_error};

/// The time to wait for another writer, the same as in `append-record`.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// A file, open for adding. The kernel lock on it is held until this is dropped.
#[derive(Debug)]
pub struct JsonLines {
    file: File,
    path: PathBuf,
}

impl JsonLines {
    /// Opens the file at `path` (0600, its directory 0700, made if missing) and waits for its lock.
    ///
    /// Status 73 when there is no room for it, 75 when another writer holds the lock, 77 without
    /// permission.
    pub fn open(path: PathBuf) -> anyhow::Result<JsonLines> {
        atomic::create_directory(path.parent().unwrap_or(&path), 0o700)?;
        match open_locked(&path, true, PATIENCE) {
            Ok(file) => Ok(JsonLines { file, path }),
            Err(error) => Err(not_opened(error, &path)),
        }
    }

    /// The same, but `None` when there is no such file.
    pub fn open_if_there(path: PathBuf) -> anyhow::Result<Option<JsonLines>> {
        match open_locked(&path, false, PATIENCE) {
            Ok(file) => Ok(Some(JsonLines { file, path })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(not_opened(error, &path)),
        }
    }

    /// The file, for reading while nobody else may add to it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The end of the file, as for [`tail`].
    pub fn tail(&self, bytes: u64) -> anyhow::Result<Vec<u8>> {
        tail(&self.path, bytes).map_err(|error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", self.path.display()),
            )
        })
    }

    /// Adds lines, each with its newline, in one write. A line torn by a power cut is ended first,
    /// so that it spoils no other; a partial write is cut off again.
    pub fn append(&mut self, lines: &str) -> anyhow::Result<()> {
        self.add(lines).map_err(|error| self.failed(error))
    }

    /// Syncs the added lines to the disk.
    pub fn sync(&self) -> anyhow::Result<()> {
        self.file.sync_all().map_err(|error| self.failed(error))?;
        atomic::sync_directory(self.path.parent().unwrap_or(&self.path))
    }

    fn add(&mut self, lines: &str) -> io::Result<()> {
        let size = self.file.metadata()?.size();
        let mut last = *b"\n";
        if size > 0 {
            self.file.read_exact_at(&mut last, size - 1)?;
        }
        let torn = if last == *b"\n" { "" } else { "\n" };
        let written = self.file.write_all(format!("{torn}{lines}").as_bytes());
        if written.is_err() {
            let _ = self.file.set_len(size); // the first error is the one to report
        }
        written
    }

    fn failed(&self, error: io::Error) -> anyhow::Error {
        io_error(
            error,
            Exit::of_write,
            format_args!("writing {}", self.path.display()),
        )
    }
}

/// The end of the file at `path`: at most `bytes`, preceded by the end of the rotated file when it is
/// shorter. May begin and end within a line.
pub fn tail(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let end = |path: &Path, bytes: u64| {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(
            file.metadata()?.size().saturating_sub(bytes),
        ))?;
        let mut end = Vec::new();
        file.take(bytes).read_to_end(&mut end).map(|_| end)
    };
    let current = end(path, bytes);
    let left = bytes.saturating_sub(current.as_ref().map_or(0, |end| end.len() as u64));
    match (end(&rotated(path, 1), left), current) {
        (Ok(old), Ok(current)) => Ok([old, current].concat()),
        (Ok(old), Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(old), // just rotated
        (_, current) => current,
    }
}

/// The name that logrotate(8) gives to a file after `age` rotations.
pub fn rotated(path: &Path, age: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}

fn not_opened(error: io::Error, path: &Path) -> anyhow::Error {
    io_error(
        error,
        Exit::of_write,
        format_args!("opening {}", path.display()),
    )
}

fn open_locked(path: &Path, create: bool, patience: Duration) -> io::Result<File> {
    let since = Instant::now();
    loop {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(create)
            .mode(0o600)
            .open(path)?;
        while let Err(error) = file.try_lock() {
            match error {
                TryLockError::Error(error) => return Err(error),
                TryLockError::WouldBlock if since.elapsed() < patience => {}
                TryLockError::WouldBlock => {
                    return Err(io::Error::new(
                        io::ErrorKind::WouldBlock,
                        "another program keeps its lock",
                    ));
                }
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        // It may have been rotated or replaced between our open and our lock.
        match std::fs::metadata(path) {
            Ok(named) if named.ino() == file.metadata()?.ino() => return Ok(file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log/events.jsonl");
        (directory, path)
    }

    fn open(path: &Path) -> JsonLines {
        JsonLines::open(path.to_owned()).unwrap()
    }

    #[test]
    fn json_lines_is_for_root_alone() {
        let (_directory, path) = file();
        open(&path).append("{}\n").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn json_lines_ends_a_torn_line_first() {
        let (_directory, path) = file();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for torn in ["{\"at\":", "{}\n\0\0"] {
            fs::write(&path, torn).unwrap();
            let mut log = open(&path);
            log.append("{\"a\":1}\n").unwrap();
            log.append("{\"b\":1}\n").unwrap();
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                format!("{torn}\n{{\"a\":1}}\n{{\"b\":1}}\n")
            );
        }
    }

    #[test]
    fn json_lines_goes_on_in_the_new_file_after_a_rotation() {
        let (_directory, path) = file();
        open(&path).append("a\n").unwrap();
        fs::rename(&path, rotated(&path, 1)).unwrap();
        assert_eq!(tail(&path, 9).unwrap(), b"a\n");
        let mut log = open(&path);
        log.append("b\n").unwrap();
        assert_eq!(
            (log.tail(9).unwrap(), log.tail(3).unwrap()),
            (b"a\nb\n".to_vec(), b"\nb\n".to_vec())
        );
        assert_eq!(fs::read(&path).unwrap(), b"b\n");
    }

    #[test]
    fn json_lines_that_another_program_keeps_is_75_in_the_end() {
        let (_directory, path) = file();
        let _kept = open(&path);
        let error = open_locked(&path, true, Duration::ZERO).unwrap_err();
        assert_eq!(
            (Exit::of_write(&error), error.to_string().as_str()),
            (Exit::TemporaryFailure, "another program keeps its lock")
        );
    }

    #[test]
    fn json_lines_that_is_a_directory_is_named() {
        let (_directory, path) = file();
        fs::create_dir_all(&path).unwrap();
        let error = JsonLines::open(path).unwrap_err();
        assert!(
            format!("{error:#}").contains("events.jsonl: Is a directory"),
            "{error:#}"
        );
    }
}
