//! The record of what `abflip write` wrote to a slot and read back: `flip` requires it before it
//! lets a slot boot.
//!
//! One file, /var/lib/labtools/slots.json, holds a record per slot. It is shared by both slots,
//! since it lies outside of them. `write` takes a slot's record away before its first write there,
//! and puts a new one when what it read back has the digest of the manifest: a slot with a record
//! holds a whole image.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use jsonpipe::{Common, Exit, ExitContext, atomic, io_error};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::request::Slot;

const FILE: &str = "/var/lib/labtools/slots.json";
/// How many rejected images are remembered.
const REJECTED_MAX: usize = 16;
/// The version of the file. A key that is added keeps it.
const SCHEMA: u64 = 1;

/// A slot whose content was written, read back past the cache, and found to be what the manifest
/// says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Record {
    /// The disk that the slot is on, by the GUID in its header. PARTUUIDs are the same on every
    /// machine.
    pub disk_guid: Uuid,
    /// The root partition that was written.
    pub partuuid: Uuid,
    /// The version of the host's image.
    pub version: u64,
    /// The digest of the image as it was shipped, in lower-case hex.
    pub sha256: String,
    /// How long the image is; what lies behind it in the partition does not count.
    pub size_bytes: u64,
    /// What was patched after the copy, or may be later: left out of the digest by putting the
    /// shipped bytes in its place.
    pub masked: Vec<Masked>,
    /// The digest of the loader that `try` took from it and put on the slot's own EFI system
    /// partition, in lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loader_sha256: Option<String>,
    /// When it was verified (RFC 3339).
    pub verified_at: String,
}

/// A part of a slot that is not as it was shipped: its file system's UUID and label, its boot
/// entry's `root=`, the two boot-once sectors of ldlinux.sys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Masked {
    /// Where it begins, from the start of the partition.
    pub offset_bytes: u64,
    /// The bytes that the image was shipped with there, in lower-case hex.
    pub shipped: String,
}

/// A trial that `abflip try` began, and that nothing has ended yet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Tried {
    /// The disk that the slot is on.
    pub disk_guid: Uuid,
    /// The slot that is tried.
    pub slot: Slot,
    /// The image that is in it.
    pub image: Image,
    /// Whether the next boot was made to be the slot's. Written before that, and once more after
    /// it: a trial that is not armed and does not run was booted in between, or was never armed,
    /// and this says which.
    pub armed: bool,
}

/// An image of the host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Image {
    /// Its version.
    pub version: u64,
    /// Its digest, in lower-case hex.
    pub sha256: String,
}

impl From<&Record> for Image {
    fn from(record: &Record) -> Image {
        Image {
            version: record.version,
            sha256: record.sha256.clone(),
        }
    }
}

/// The records of both slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Records {
    schema: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<Record>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<Record>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trial: Option<Tried>,
    /// What was tried and did not commit, the last one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<Image>,
}

impl Records {
    /// Reads them; none when the file is not there. Status 78 when it is not what this release
    /// writes.
    pub fn read(common: &Common) -> anyhow::Result<Records> {
        let path = common.path(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Records::default()),
            Err(error) => {
                return Err(io_error(
                    error,
                    Exit::of_read,
                    format_args!("reading {}", path.display()),
                ));
            }
        };
        let way_out = "remove it, and write the slots again";
        let wrong = || format!("reading {}; {way_out}", path.display());
        let records: Records = serde_json::from_str(&text).exit(Exit::Config, wrong)?;
        if records.schema != SCHEMA {
            return Err(Exit::Config.error(format_args!("{}: not of schema {SCHEMA}", wrong())));
        }
        Ok(records)
    }

    /// The record of a slot, if it is about this partition of this disk.
    pub fn of(&self, slot: Slot, partuuid: Uuid, disk_guid: Uuid) -> Option<&Record> {
        let record = match slot {
            Slot::A => self.a.as_ref(),
            Slot::B => self.b.as_ref(),
        };
        record.filter(|record| record.partuuid == partuuid && record.disk_guid == disk_guid)
    }

    /// The disks that any of this is about.
    pub fn disk_guids(&self) -> Vec<Uuid> {
        let slots = [&self.a, &self.b]
            .into_iter()
            .flatten()
            .map(|record| record.disk_guid);
        slots
            .chain(self.trial.as_ref().map(|trial| trial.disk_guid))
            .collect()
    }

    /// Replaces a slot's record, or takes it away, durably.
    pub fn set(
        &mut self,
        common: &Common,
        slot: Slot,
        record: Option<Record>,
    ) -> anyhow::Result<()> {
        *self.slot_mut(slot) = record;
        self.write(common)
    }

    /// The loader of the image in a slot was put on the slot's own EFI system partition. Durably.
    pub fn set_loader(
        &mut self,
        common: &Common,
        slot: Slot,
        sha256: String,
    ) -> anyhow::Result<()> {
        if let Some(record) = self.slot_mut(slot) {
            record.loader_sha256 = Some(sha256);
        }
        self.write(common)
    }

    fn slot_mut(&mut self, slot: Slot) -> &mut Option<Record> {
        match slot {
            Slot::A => &mut self.a,
            Slot::B => &mut self.b,
        }
    }

    /// The trial, if it is one of this disk.
    pub fn trial(&self, disk_guid: Uuid) -> Option<&Tried> {
        self.trial
            .as_ref()
            .filter(|trial| trial.disk_guid == disk_guid)
    }

    /// Whether a trial of any disk is recorded, and has not ended.
    pub fn has_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Records a trial. There is one: one of another disk goes. Durably.
    pub fn set_trial(&mut self, common: &Common, trial: Tried) -> anyhow::Result<()> {
        if self.trial.as_ref() == Some(&trial) {
            return Ok(());
        }
        self.trial = Some(trial);
        self.write(common)
    }

    /// The same, and this image, of a trial that has failed, is not to be tried again: at once.
    pub fn set_trial_after(
        &mut self,
        common: &Common,
        failed: Option<Image>,
        trial: Tried,
    ) -> anyhow::Result<()> {
        failed.into_iter().for_each(|image| self.remember(image));
        self.set_trial(common, trial)
    }

    /// The trial of this disk is going to be disarmed, so that nobody takes it for one that was
    /// booted. Durably.
    pub fn disarm_trial(&mut self, common: &Common, disk_guid: Uuid) -> anyhow::Result<()> {
        match self.trial(disk_guid).cloned() {
            Some(trial) => self.set_trial(
                common,
                Tried {
                    armed: false,
                    ..trial
                },
            ),
            None => Ok(()),
        }
    }

    /// Ends the trial of this disk; nothing is known about its image. Durably.
    pub fn end_trial(&mut self, common: &Common, disk_guid: Uuid) -> anyhow::Result<()> {
        if self
            .trial
            .take_if(|trial| trial.disk_guid == disk_guid)
            .is_none()
        {
            return Ok(());
        }
        self.write(common)
    }

    /// Whether that image was tried and did not commit.
    pub fn is_rejected(&self, sha256: &str) -> bool {
        self.rejected.iter().any(|image| image.sha256 == sha256)
    }

    /// Ends the trial of this disk; its image is not to be tried again. Durably.
    pub fn reject(&mut self, common: &Common, disk_guid: Uuid, image: Image) -> anyhow::Result<()> {
        self.remember(image);
        self.trial.take_if(|trial| trial.disk_guid == disk_guid);
        self.write(common)
    }

    /// Ends the trial of this disk; its image is as good as one can be. Durably.
    pub fn accept(&mut self, common: &Common, disk_guid: Uuid, sha256: &str) -> anyhow::Result<()> {
        let ended = self.trial.take_if(|trial| trial.disk_guid == disk_guid);
        if ended.is_none() && !self.is_rejected(sha256) {
            return Ok(());
        }
        self.rejected.retain(|rejected| rejected.sha256 != sha256);
        self.write(common)
    }

    /// Makes them what they were before, durably: a change that failed may be in the file
    /// nevertheless.
    pub fn restore(&mut self, common: &Common, before: Records) -> anyhow::Result<()> {
        *self = before;
        if Records::read(common)? == *self {
            Ok(())
        } else {
            self.write(common)
        }
    }

    fn remember(&mut self, image: Image) {
        self.rejected
            .retain(|rejected| rejected.sha256 != image.sha256);
        self.rejected.push(image);
        let surplus = self.rejected.len().saturating_sub(REJECTED_MAX);
        self.rejected.drain(..surplus);
    }

    fn write(&mut self, common: &Common) -> anyhow::Result<()> {
        self.schema = SCHEMA;
        let path = self.path(common)?;
        let text = serde_json::to_string(self)?;
        atomic::write(&path, 0o644, |file| writeln!(file, "{text}"))
    }

    fn path(&self, common: &Common) -> anyhow::Result<PathBuf> {
        let path = common.path(FILE);
        let directory = path
            .parent()
            .exit(Exit::Software, || "a file in no directory")?;
        atomic::create_directory(directory, 0o755)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn a_record_is_about_a_slot_of_one_disk() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        let common =
            crate::request::Arguments::parse_from(["abflip", "--root", root, "status"]).common;
        let (disk, other, partuuid) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let record = Record {
            disk_guid: disk,
            partuuid,
            version: 7,
            sha256: "00".into(),
            size_bytes: 4096,
            masked: vec![Masked {
                offset_bytes: 1144,
                shipped: "00ff".into(),
            }],
            loader_sha256: None,
            verified_at: "2026-11-23T00:00:00Z".into(),
        };
        Records::read(&common)
            .unwrap()
            .set(&common, Slot::B, Some(record.clone()))
            .unwrap();
        let mut records = Records::read(&common).unwrap();
        assert_eq!(records.of(Slot::B, partuuid, disk), Some(&record));
        for (slot, partuuid, disk) in [
            (Slot::A, partuuid, disk),
            (Slot::B, partuuid, other),
            (Slot::B, other, disk),
        ] {
            assert_eq!(records.of(slot, partuuid, disk), None);
        }
        records.set(&common, Slot::B, None).unwrap();
        assert_eq!(
            Records::read(&common).unwrap().of(Slot::B, partuuid, disk),
            None
        );
    }

    /// invcollect reports the image that runs by this file; it reads the same one in its tests, and
    /// neither tool needs the other.
    #[test]
    fn records_are_as_invcollect_knows_them() {
        let text = include_str!(
            "../../../testdata/invcollect/collect/optiplex-7010/in/var/lib/labtools/slots.json"
        );
        let records: Records = serde_json::from_str(text).unwrap();
        let known: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&records).unwrap(), known);
        assert_eq!(records.schema, SCHEMA);
    }

    #[test]
    fn a_trial_ends_by_being_accepted_or_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let common = Common {
            verbose: false,
            log: false,
            root: directory.path().to_owned(),
            config: None,
        };
        let disk = Uuid::from_u128(1);
        let image = |version: u64| Image {
            version,
            sha256: version.to_string(),
        };
        let other = Uuid::from_u128(2);
        let tried = |version| Tried {
            disk_guid: disk,
            slot: Slot::B,
            image: image(version),
            armed: true,
        };
        let read = || Records::read(&common).unwrap();
        read().set_trial(&common, tried(7)).unwrap();
        assert_eq!(read().trial(disk), Some(&tried(7)));
        // What is done about another disk does nothing to it.
        read().disarm_trial(&common, other).unwrap();
        read().end_trial(&common, other).unwrap();
        read().reject(&common, other, image(1)).unwrap();
        read().accept(&common, other, "1").unwrap();
        assert_eq!(
            (read().trial(other), read().trial(disk)),
            (None, Some(&tried(7)))
        );
        read().disarm_trial(&common, disk).unwrap();
        assert_eq!(
            read().trial(disk),
            Some(&Tried {
                armed: false,
                ..tried(7)
            })
        );
        read().end_trial(&common, disk).unwrap();
        assert_eq!(read().trial(disk), None);
        for version in 0..20 {
            read().set_trial(&common, tried(version)).unwrap();
            read().reject(&common, disk, image(version)).unwrap();
            assert_eq!(read().trial(disk), None);
        }
        assert_eq!(read().rejected, (4..20).map(image).collect::<Vec<_>>());
        read()
            .set_trial_after(&common, Some(image(7)), tried(8))
            .unwrap();
        assert_eq!(
            (
                read().rejected.len(),
                read().rejected.last(),
                read().trial(disk)
            ),
            (16, Some(&image(7)), Some(&tried(8)))
        );
        read().accept(&common, disk, "7").unwrap();
        assert_eq!(read().trial(disk), None);
        assert!(!read().is_rejected("7") && read().is_rejected("8"));
    }
}
