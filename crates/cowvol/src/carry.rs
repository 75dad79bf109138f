//! `cowvol export` and `import`: a user's volume goes to another machine, as a stream of what it
//! changes of its base.

pub mod export;
pub mod import;
mod place;
pub mod stream;

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, State, VolumeId};

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
    /// Compares the base of a stream with that of this machine, which has its name and generation.
    /// The error describes the difference.
    fn check_is(&self, here: &Origin) -> Result<(), String> {
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

/// The content of a part of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// So many zeros.
    Zeros(u64),
}

impl Content<'_> {
    /// Its length.
    pub fn bytes(&self) -> u64 {
        match self {
            Content::Data(bytes) => bytes.len() as u64,
            Content::Zeros(bytes) => *bytes,
        }
    }
}

/// Takes the changed parts of a disk, in its order: an offset, which is a multiple of 64 KiB, and the
/// content from there on.
pub type Visit<'a> = dyn FnMut(u64, Content<'_>) -> anyhow::Result<()> + 'a;

/// A volume that is being filled. No other program can see it.
pub trait Filling {
    /// Puts content at an offset of the disk, a multiple of 64 KiB; in the order of the disk.
    fn put(&mut self, offset: u64, content: Content<'_>) -> anyhow::Result<()>;
    /// All is there; makes it durable.
    fn finish(&mut self) -> anyhow::Result<()>;
}

/// A mechanism whose volumes can be carried to another machine.
pub trait Carrier: Backend {
    /// What a base is on every machine.
    fn origin(&self, base: &Self::Base) -> anyhow::Result<Origin>;
    /// Visits what a volume changes of its base, each part once. Status 65 when it is not a volume
    /// on this base.
    fn for_each_change(
        &self,
        held: &Self::Held,
        base: &Self::Base,
        visit: &mut Visit<'_>,
    ) -> anyhow::Result<()>;
    /// Makes a volume as [`create`](Backend::create) does, and lets `fill` fill it before it has its
    /// name. Then it replaces the volume that had the name; until then, and on failure, that one
    /// stays.
    fn create_filled(
        &self,
        id: &VolumeId,
        base: &Self::Base,
        reserve: Option<u64>,
        fill: impl FnOnce(&mut dyn Filling) -> anyhow::Result<()>,
    ) -> anyhow::Result<State>;
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
