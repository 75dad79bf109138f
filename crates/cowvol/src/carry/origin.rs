//! The identity of a base, by which two machines compare theirs.

use images::bases::Entry;
use jsonpipe::Common;
use manifest::Hex;
use qcow2::Image;
use serde::{Deserialize, Serialize};

use crate::base::signed_manifest;

/// A base by what it is on every machine. Its file's time, by which one machine notices that it was
/// written, is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Origin {
    /// The name of the base.
    pub name: String,
    /// The generation of the base.
    pub generation: u64,
    /// The size of the disk as the guest sees it.
    pub virtual_bytes: u64,
    /// The length of the published image.
    pub file_bytes: u64,
    /// The SHA-256 of its header and tables, in hexadecimal.
    pub tables_sha256: String,
    /// The SHA-256 of all of it, in hexadecimal, where a signed manifest has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Origin {
    /// The identity of a base whose published image is open.
    pub fn of(common: &Common, base: &Entry, image: &Image) -> anyhow::Result<Origin> {
        Ok(Origin {
            name: base.name.clone(),
            generation: base.generation,
            virtual_bytes: image.header.virtual_bytes,
            file_bytes: image.file_bytes,
            tables_sha256: Hex(image.tables_digest()?).to_string(),
            sha256: signed_manifest(common, base).map(|manifest| manifest.sha256.to_string()),
        })
    }

    /// Compares the base of a stream with that of this machine, which has its name and generation.
    /// The error describes the difference.
    pub fn check_is(&self, here: &Origin) -> Result<(), String> {
        for (what, there, here) in [
            ("a disk", self.virtual_bytes, here.virtual_bytes),
            ("a file", self.file_bytes, here.file_bytes),
        ] {
            if there != here {
                return Err(format!(
                    "it has {what} of {there} bytes, and here of {here}"
                ));
            }
        }
        if self.tables_sha256 != here.tables_sha256 {
            return Err("its header or tables are not those of the base here".into());
        }
        match (&self.sha256, &here.sha256) {
            (Some(there), Some(here)) if there != here => {
                Err("its manifest has another SHA-256 than the one here".into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_the_same_one_by_all_that_both_machines_know() {
        let here = Origin {
            name: "windows".into(),
            generation: 7,
            virtual_bytes: 1 << 30,
            file_bytes: 1 << 20,
            tables_sha256: "aa".into(),
            sha256: Some("bb".into()),
        };
        let with = |change: fn(&mut Origin)| {
            let mut there = here.clone();
            change(&mut there);
            there.check_is(&here)
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|there| there.sha256 = None), Ok(()), "copied by hand");
        for change in [
            |there: &mut Origin| there.virtual_bytes += 512,
            |there: &mut Origin| there.file_bytes += 1,
            |there: &mut Origin| there.tables_sha256.push('a'),
            |there: &mut Origin| there.sha256 = Some("cc".into()),
        ] {
            with(change).unwrap_err();
        }
    }
}
