//! Files that appear whole or not at all: temporary name, fsync, rename, fsync of the directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::libc;

use crate::exit::{Exit, ExitContext, io_error};
use crate::sabotaged;

/// Creates or replaces `path` with the output of `fill`, with the permissions `mode`.
///
/// The temporary name is `.NAME.tmp` beside it, held by a kernel lock: the next writer overwrites
/// what a power cut left there, and a second simultaneous writer gets status 75. When `fill` or a
/// write fails, no file is left behind. No room is status 73, other failures as in
/// [`Exit::of_write`].
pub fn write(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> anyhow::Result<()> {
    let failed = |error| {
        io_error(
            error,
            Exit::of_write,
            format_args!("writing {}", path.display()),
        )
    };
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(
            Exit::Software.error(format_args!("{}: not the name of a file", path.display()))
        );
    };
    // A path of one part is in the working directory.
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let temporary = directory.join(format!(".{}.tmp", name.to_string_lossy()));
    let mut file = open_locked(&temporary, mode).map_err(failed)?;
    let guard = RemoveOnDrop(&temporary);
    let write = || {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.set_len(0)?; // left by a power cut
        fill(&mut file)?;
        if !sabotaged("skip-fsync") {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    };
    write().map_err(failed)?;
    std::mem::forget(guard); // the file has its final name
    sync_directory(directory)
}

/// Makes the names in a directory durable.
pub fn sync_directory(directory: &Path) -> anyhow::Result<()> {
    File::open(directory)
        .and_then(|d| d.sync_all())
        .exit(Exit::Io, || format!("syncing {}", directory.display()))
}

/// Makes `directory` and its missing parents, with the permissions `mode` whatever the umask, each
/// durable in its parent.
pub fn create_directory(directory: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if directory.is_dir() {
        return Ok(());
    }
    // The parent of a name alone is the empty path: the directory that the program is in.
    let parent = directory
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    create_directory(parent, mode)?;
    let made = fs::DirBuilder::new().mode(mode).create(directory);
    match made.and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(mode))) {
        Ok(()) => sync_directory(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(io_error(
            error,
            Exit::of_write,
            format_args!("making directory {}", directory.display()),
        )),
    }
}

/// Opens the temporary file and locks it; `WouldBlock` when another writer holds the lock.
fn open_locked(temporary: &Path, mode: u32) -> io::Result<Flock<File>> {
    if fs::symlink_metadata(temporary).is_ok_and(|found| !found.is_file()) {
        let temporary = temporary.display();
        return Err(io::Error::other(format!(
            "{temporary} is not a file; move it away"
        )));
    }
    loop {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false) // not ours before it is locked
            .mode(mode)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(temporary)?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io::Error::from(errno))?;
        // The other writer may have renamed it between our open and our lock: then our descriptor
        // is of the published file.
        match fs::symlink_metadata(temporary) {
            Ok(named) if named.ino() == file.metadata()?.ino() => {
                return Ok(file);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

struct RemoveOnDrop<'a>(&'a PathBuf);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0); // a failure is reported by the write that failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn something_else_under_the_temporary_name_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let temporary = directory.path().join(".file.tmp");
        let makes: [fn(&Path); 3] = [
            |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            |path| std::os::unix::fs::symlink("/nowhere", path).unwrap(),
            |path| fs::create_dir(path).unwrap(),
        ];
        for make in makes {
            make(&temporary);
            let error = write(&directory.path().join("file"), 0o600, |_| Ok(())).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Io);
            assert!(
                format!("{error:#}").ends_with("/.file.tmp is not a file; move it away"),
                "{error:#}"
            );
            let left = fs::symlink_metadata(&temporary).unwrap();
            match left.is_dir() {
                true => fs::remove_dir(&temporary).unwrap(),
                false => fs::remove_file(&temporary).unwrap(),
            }
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn it_appears_whole_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(
            dir.path().join(".file.tmp"),
            "left by a power cut, longer than the new text",
        )
        .unwrap();
        write(&path, 0o640, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        let error = write(&path, 0o600, |file| {
            file.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert_eq!(Exit::of(&error), Exit::CantCreate);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn a_second_writer_is_told_to_come_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, 0o600, |file| {
            let error = write(&path, 0o600, |_| Ok(())).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::TemporaryFailure);
            file.write_all(b"first")
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn directories_are_made_with_their_parents() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        create_directory(&deep, 0o700).unwrap();
        create_directory(&deep, 0o700).unwrap();
        assert_eq!(fs::metadata(&deep).unwrap().mode() & 0o777, 0o700);
        create_directory(&dir.path().join("open"), 0o777).unwrap();
        assert_eq!(
            fs::metadata(dir.path().join("open")).unwrap().mode() & 0o777,
            0o777,
            "more than a umask leaves"
        );
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(create_directory(&dir.path().join("file/x"), 0o700).is_err());
    }
}
