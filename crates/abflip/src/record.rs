//! The record of a verified `abflip write`: `flip` requires it before it lets a slot boot.
//!
//! The file /var/lib/labtools/slots.json holds a record per slot. It lies outside of the slots, so
//! both share it. `write` removes a slot's record before its first write there, and adds a new one
//! when the content read back has the digest of the manifest: a slot with a record holds a complete
//! image.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use jsonpipe::{Common, Exit, ExitContext, atomic, io_error};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::request::Slot;

const FILE: &str = "/var/lib/labtools/slots.json";
/// The number of rejected images that are kept.
const REJECTED_MAX: usize = 16;
/// The version of the file. An added key does not raise it.
const SCHEMA: u64 = 1;

/// A slot whose content was written, read back past the cache, and found to match the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Record {
    /// The disk that the slot is on, by the GUID in its header. PARTUUIDs are the same on every
    /// machine.
    pub disk_guid: Uuid,
    /// The root partition.
    pub partuuid: Uuid,
    /// The version of the host's image.
    pub version: u64,
    /// The digest of the image as it was shipped, in lower-case hex.
    pub sha256: String,
    /// The length of the image; the partition's bytes after it do not count.
    pub size_bytes: u64,
    /// The ranges that were patched after the copy, or may be later. The digest is taken with the
    /// shipped bytes in their place.
    pub masked: Vec<Masked>,
    /// The digest, in lower-case hex, of the loader that `try` copied from the image to the slot's
    /// own EFI system partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loader_sha256: Option<String>,
    /// When it was verified (RFC 3339).
    pub verified_at: String,
}

/// A range of a slot that differs from the shipped image: its file system's UUID and label, its
/// boot entry's `root=`, the two boot-once sectors of ldlinux.sys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Masked {
    /// The offset in the partition.
    pub offset_bytes: u64,
    /// The shipped bytes, in lower-case hex.
    pub shipped: String,
}

/// A trial that `abflip try` began and that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Tried {
    /// The disk that the slot is on.
    pub disk_guid: Uuid,
    /// The slot that is tried.
    pub slot: Slot,
    /// The image in the slot.
    pub image: Image,
    /// Whether the trial was armed. Recorded as false before arming, and as true after it. So if a
    /// trial is neither armed nor running, this shows whether it was booted in between or never
    /// armed.
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
    /// Images that were tried and did not commit, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<Image>,
}

impl Records {
    /// Reads them; empty when the file does not exist. Status 78 when its form is not this
    /// release's.
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

    /// The record of a slot, if it describes this partition of this disk.
    pub fn of(&self, slot: Slot, partuuid: Uuid, disk_guid: Uuid) -> Option<&Record> {
        let record = match slot {
            Slot::A => self.a.as_ref(),
            Slot::B => self.b.as_ref(),
        };
        record.filter(|record| record.partuuid == partuuid && record.disk_guid == disk_guid)
    }

    /// The GUIDs of all disks in the records.
    pub fn disk_guids(&self) -> Vec<Uuid> {
        let slots = [&self.a, &self.b]
            .into_iter()
            .flatten()
            .map(|record| record.disk_guid);
        slots
            .chain(self.trial.as_ref().map(|trial| trial.disk_guid))
            .collect()
    }

    /// Replaces a slot's record, or removes it, durably.
    pub fn set(
        &mut self,
        common: &Common,
        slot: Slot,
        record: Option<Record>,
    ) -> anyhow::Result<()> {
        *self.slot_mut(slot) = record;
        self.write(common)
    }

    /// Records, durably, that the loader of a slot's image is on the slot's own EFI system
    /// partition.
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

    /// The trial of this disk, if there is one.
    pub fn trial(&self, disk_guid: Uuid) -> Option<&Tried> {
        self.trial
            .as_ref()
            .filter(|trial| trial.disk_guid == disk_guid)
    }

    /// Whether a trial of any disk is recorded.
    pub fn has_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Records a trial, durably. It replaces any other, even one of another disk.
    pub fn set_trial(&mut self, common: &Common, trial: Tried) -> anyhow::Result<()> {
        if self.trial.as_ref() == Some(&trial) {
            return Ok(());
        }
        self.trial = Some(trial);
        self.write(common)
    }

    /// Also rejects the image of an earlier trial that failed, in the same write.
    pub fn set_trial_after(
        &mut self,
        common: &Common,
        failed: Option<Image>,
        trial: Tried,
    ) -> anyhow::Result<()> {
        failed.into_iter().for_each(|image| self.remember(image));
        self.set_trial(common, trial)
    }

    /// Records, durably, that the trial of this disk is about to be disarmed, so that it does not
    /// look like one that was booted.
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

    /// Ends the trial of this disk without a verdict on its image. Durably.
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

    /// Ends the trial of this disk and rejects its image. Durably.
    pub fn reject(&mut self, common: &Common, disk_guid: Uuid, image: Image) -> anyhow::Result<()> {
        self.remember(image);
        self.trial.take_if(|trial| trial.disk_guid == disk_guid);
        self.write(common)
    }

    /// Ends the trial of this disk and accepts its image. Durably.
    pub fn accept(&mut self, common: &Common, disk_guid: Uuid, sha256: &str) -> anyhow::Result<()> {
        let ended = self.trial.take_if(|trial| trial.disk_guid == disk_guid);
        if ended.is_none() && !self.is_rejected(sha256) {
            return Ok(());
        }
        self.rejected.retain(|rejected| rejected.sha256 != sha256);
        self.write(common)
    }

    /// Restores the earlier records, durably: a change that failed may be in the file nevertheless.
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

    /// invcollect reads this file to report the running image. Its tests read the same testdata, so
    /// that neither tool needs the other.
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
        let common = jsonpipe::testkit::common(directory.path());
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
        // A call for another disk changes nothing here.
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
