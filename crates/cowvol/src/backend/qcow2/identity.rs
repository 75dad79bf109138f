//! The identity of the base of an overlay.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use images::bases::Entry;
use qcow2::Image;
use serde::{Deserialize, Serialize};

use super::overlay::backing_name;

/// The base of an overlay, as the overlay itself records it in a header extension.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Identity {
    /// The version of this record.
    schema: u64,
    /// The name of the base.
    name: String,
    /// The generation of the base.
    generation: u64,
    /// The size of the disk as the guest sees it.
    virtual_bytes: u64,
    /// The length of the base's file.
    file_bytes: u64,
    /// The SHA-256 of the header and the tables of the base, in hexadecimal.
    tables_sha256: String,
    /// The modification time of the base's file, in seconds and nanoseconds: a write to the base
    /// need not change its tables.
    modified: (i64, i64),
    /// The base's file, for messages; it is not recorded.
    #[serde(skip)]
    file: PathBuf,
}

impl Identity {
    /// The identity of a base as it is now.
    pub fn of(base: &Entry, image: &Image) -> anyhow::Result<Identity> {
        let metadata = image.metadata()?;
        Ok(Identity {
            schema: 2,
            name: base.name.clone(),
            generation: base.generation,
            virtual_bytes: image.header.virtual_bytes,
            file_bytes: image.file_bytes,
            tables_sha256: manifest::Hex(image.tables_digest()?).to_string(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            file: image.path().to_owned(),
        })
    }

    /// Compares the recorded base with the present one. The error describes the difference.
    fn check_is(&self, present: &Identity) -> Result<(), String> {
        let of = |identity: &Identity| {
            let (name, generation) = (&identity.name, identity.generation);
            format!("{name}@{generation}")
        };
        let unlike =
            |differs: String| Err(format!("it was made for another {}: {differs}", of(self)));
        if of(self) != of(present)
            || (self.virtual_bytes, self.file_bytes) != (present.virtual_bytes, present.file_bytes)
        {
            return unlike(format!(
                "for a disk of {} bytes in a file of {}, but the base has {} in {}; put the old base back",
                self.virtual_bytes, self.file_bytes, present.virtual_bytes, present.file_bytes
            ));
        }
        if self.tables_sha256 != present.tables_sha256 {
            return unlike("its header or tables have changed; put the old base back".into());
        }
        if self.modified != present.modified {
            let (seconds, nanoseconds) = self.modified;
            return unlike(format!(
                "its file was written or copied since; put the old base back, or if this is the old one, its time: \
                 touch -d @{seconds}.{nanoseconds:09} {}",
                present.file.display()
            ));
        }
        Ok(())
    }
}

/// What every version of the record has.
#[derive(Deserialize)]
struct Version {
    schema: u64,
}

/// Checks that an image is an overlay of this base, in the form of this suite. The error describes
/// the fault.
pub fn check_is_overlay(image: &Image, base: &Entry, expected: &Identity) -> Result<(), String> {
    let header = &image.header;
    if header.backing_name.as_deref() != Some(&backing_name(&base.name, base.generation))
        || header.backing_format.as_deref() != Some("qcow2")
    {
        return Err("its backing file is not its base".into());
    }
    let recorded = header
        .identity
        .as_deref()
        .ok_or("it does not record which base it was made for")?;
    let Version { schema } =
        serde_json::from_slice(recorded).map_err(|_| "its record of the base cannot be read")?;
    if schema != expected.schema {
        return Err("its record of the base is not one that this release knows".into());
    }
    let recorded: Identity =
        serde_json::from_slice(recorded).map_err(|_| "its record of the base cannot be read")?;
    recorded.check_is(expected)?;
    if header.virtual_bytes != expected.virtual_bytes {
        return Err(format!(
            "its disk has {} bytes, that of the base {}",
            header.virtual_bytes, expected.virtual_bytes
        ));
    }
    if !header.is_laid_out_as_ours() {
        return Err("it is not laid out as cowvol does it".into());
    }
    Ok(())
}
