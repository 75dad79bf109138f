//! /etc/labtools/cowvol.ini: how room is promised.

use jsonpipe::{Common, ini};
use serde::Deserialize;

/// The name of the file in the directory for configuration.
pub const FILE: &str = "cowvol.ini";

/// `[room]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Room {
    /// The bytes that have to be free for a volume, in place of the whole room that its disk can come
    /// to need. They are looked for and not held, which every file system can do.
    pub reserve: Option<u64>,
}

/// Reads the file; what it does not say has its default. Status 78 when it is invalid.
pub fn read(common: &Common) -> anyhow::Result<Room> {
    Ok(ini::read_section(&common.config(FILE), "room")?.unwrap_or_default())
}
