//! Reads a file that holds a private key or a secret.
//!
//! **Admission rule:** the conditions for such a file, whatever its purpose, and the read itself
//! belong here. The meaning of its text belongs to its reader: [`read`] serves the keys that sign
//! manifests and reports, and the secrets of servers.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use jsonpipe::{Exit, io_error};
use nix::libc;
use nix::unistd::geteuid;
use zeroize::Zeroizing;

/// A key or a secret has a few hundred bytes.
const MAX_BYTES: usize = 4096;
/// Spare room that is never used, so that reading the end needs no other buffer.
const SPARE_BYTES: usize = 64;

/// Reads a secret. The text is wiped from memory when dropped.
///
/// The file must be a regular one of root or of this user, have mode 0600 or 0400, and hold at most
/// 4096 bytes of UTF-8. Status 66 when it does not exist, 78 when it violates this. A symbolic link
/// is refused: its owner could choose the secret.
pub fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let wrong = |what: &str| Exit::Config.error(format_args!("reading {}: {what}", path.display()));
    // Opening a FIFO without a writer must not block.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = file.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => wrong("a symbolic link; name the file itself"),
        Some(libc::ENXIO) => wrong("not a regular file"), // a socket
        _ => unreadable(path, error),
    })?;
    let metadata = file.metadata().map_err(|error| unreadable(path, error))?;
    if let Some(fault) = fault(&metadata, geteuid().as_raw()) {
        return Err(wrong(fault));
    }
    // Never moved, so that no copy stays behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES + SPARE_BYTES));
    match read_whole(file, &mut text) {
        Ok(length) if length > MAX_BYTES => Err(wrong("longer than any key or secret")),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(wrong("not text")),
        Err(error) => Err(unreadable(path, error)),
    }
}

fn read_whole(file: File, text: &mut String) -> io::Result<usize> {
    file.take(MAX_BYTES as u64 + 1).read_to_string(text)
}

fn unreadable(path: &Path, error: io::Error) -> anyhow::Error {
    io_error(
        error,
        Exit::of_read,
        format_args!("reading {}", path.display()),
    )
}

/// Why others may have seen it, or could change it.
fn fault(file: &Metadata, user: u32) -> Option<&'static str> {
    if !file.is_file() {
        return Some("not a regular file");
    }
    // Its owner could change its mode as well.
    if ![0, user].contains(&file.uid()) {
        return Some(
            "it belongs to another user; chown it to root, or make a new one if others have seen it",
        );
    }
    if !matches!(file.mode() & 0o7777, 0o600 | 0o400) {
        return Some("others may use it; chmod 600 it, or make a new one if others have seen it");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    struct Directory(tempfile::TempDir);

    impl Directory {
        fn new() -> Directory {
            Directory(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("secret")
        }

        fn write(&self, text: impl AsRef<[u8]>) {
            fs::write(self.path(), text).unwrap();
            self.set_mode(0o600);
        }

        fn set_mode(&self, mode: u32) {
            fs::set_permissions(self.path(), Permissions::from_mode(mode)).unwrap();
        }

        fn refused(&self) -> (Exit, String) {
            let error = read(&self.path()).unwrap_err();
            let place = format!("reading {}: ", self.path().display());
            (
                Exit::of(&error),
                format!("{error:#}")
                    .strip_prefix(&place)
                    .unwrap()
                    .to_owned(),
            )
        }

        fn assert_wrong(&self, words: &str) {
            let (exit, message) = self.refused();
            assert_eq!(exit, Exit::Config);
            assert!(message.starts_with(words), "{message}");
        }
    }

    #[test]
    fn modes_0600_and_0400_are_read_and_no_others() {
        let directory = Directory::new();
        assert_eq!(directory.refused().0, Exit::NoInput);
        directory.write("s3cret\n");
        for mode in [0o600, 0o400] {
            directory.set_mode(mode);
            assert_eq!(*read(&directory.path()).unwrap(), "s3cret\n");
        }
        for mode in [
            0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o700, 0o4600, 0o2600, 0o1600,
        ] {
            directory.set_mode(mode);
            directory.assert_wrong("others may use it");
        }
    }

    #[test]
    fn owner_is_root_or_this_user() {
        let directory = Directory::new();
        directory.write("s3cret");
        let metadata = fs::metadata(directory.path()).unwrap();
        let is_roots = metadata.uid() == 0;
        assert_eq!(fault(&metadata, metadata.uid()), None);
        assert_eq!(fault(&metadata, metadata.uid() + 1).is_none(), is_roots);
        if geteuid().is_root() {
            chown(directory.path(), Some(65534), None).unwrap();
            directory.assert_wrong("it belongs to another user");
            assert_eq!(fault(&fs::metadata(directory.path()).unwrap(), 65534), None);
        }
    }

    #[test]
    fn strange_files_are_refused_at_once() {
        let directory = Directory::new();
        let path = directory.path();
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        directory.assert_wrong("not a regular file");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        directory.assert_wrong("not a regular file");
        fs::remove_dir(&path).unwrap();
        let socket = UnixListener::bind(&path).unwrap();
        directory.assert_wrong("not a regular file");
        drop(socket);
        fs::remove_file(&path).unwrap();
        let target = path.with_extension("target");
        fs::write(&target, "s3cret").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o600)).unwrap();
        symlink(&target, &path).unwrap();
        directory.assert_wrong("a symbolic link");
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        directory.assert_wrong("a symbolic link");
    }

    #[test]
    fn long_files_and_bytes_that_are_no_text_are_refused() {
        let directory = Directory::new();
        directory.write("x".repeat(MAX_BYTES));
        assert_eq!(read(&directory.path()).unwrap().len(), MAX_BYTES);
        directory.write("x".repeat(MAX_BYTES + 1));
        directory.assert_wrong("longer than any key or secret");
        directory.write([b's', 0xff]);
        directory.assert_wrong("not text");
    }
}
