//! Output: the section `windows`.

use serde::Serialize;

/// What the machine for the installation needs. The product key is absent.
#[derive(Debug, Serialize)]
pub struct Windows {
    /// Whether this call wrote any of the files (in a dry run: would write).
    pub changed: bool,
    /// The name of the edition in the installation medium.
    pub edition: String,
    /// The language of Windows.
    pub language: String,
    /// The size of the disk.
    pub disk_bytes: u64,
    /// Whether the machine has a network during the installation.
    pub network: bool,
    /// The files that the institution gives, relative to their directory.
    pub files: Vec<String>,
}
