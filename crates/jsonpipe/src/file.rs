//! Reads a small file whole, with the status of its failure.

use std::fs;
use std::io;
use std::path::Path;

use crate::exit::{Exit, io_error};

/// The bytes of a file. Status 66 when it does not exist, 77 without permission, otherwise 74.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).map_err(|error| failed(path, error))
}

/// The same as text; 74 when it is not UTF-8.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).map_err(|error| failed(path, error))
}

/// The bytes of a file, or `None` when it does not exist.
pub fn read_if_there(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some).map_err(|error| failed(path, error)),
    }
}

fn failed(path: &Path, error: io::Error) -> anyhow::Error {
    io_error(
        error,
        Exit::of_read,
        format_args!("reading {}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_tells_an_absent_file_from_one_that_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(Exit::of(&read(&path).unwrap_err()), Exit::NoInput);
        assert_eq!(read_if_there(&path).unwrap(), None);
        fs::write(&path, "text").unwrap();
        assert_eq!(
            (read(&path).unwrap(), read_text(&path).unwrap()),
            (b"text".to_vec(), "text".to_owned())
        );
        assert_eq!(read_if_there(&path).unwrap(), Some(b"text".to_vec()));
        let error = read_if_there(directory.path()).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Io);
        assert!(
            format!("{error:#}").starts_with(&format!("reading {}: ", directory.path().display())),
            "{error:#}"
        );
    }
}
