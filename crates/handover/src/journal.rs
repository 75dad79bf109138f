//! The journal: the state of everything before the first change, on the disk before that change.
//!
//! It is written before a guest and removed once everything is as it was; where something stays as
//! the guest had it, the journal shrinks to that. So a kill at any instant leaves either no journal
//! and nothing changed, or one that says what to restore; a restore compares it with the machine's
//! state and changes only the difference.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jsonpipe::{Common, Exit, atomic, io_error, is_hidden};
use nix::libc;
use pci::PciAddress;
use serde::{Deserialize, Serialize};

use crate::console::Console;
use crate::huge_pages::Reservation;
use crate::{Owner, kill_point};

/// Its path.
const PATH: &str = "/run/labtools/guest.journal";

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const SCHEMA: u32 = 1;
/// Far above any real journal.
const LENGTH_MAX_BYTES: u64 = 1 << 20;
const WAY_OUT: &str = "restart the machine, which gives every device back to its driver";

/// The state before a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    schema: u32,
    boot_id: String,
    /// The devices for the guest, in the order in which they are taken.
    pub devices: Vec<Before>,
    /// The members of their groups that are unbound meanwhile.
    pub parked: Vec<Before>,
    /// The nodes of the groups.
    pub groups: Vec<Group>,
    pub console: Console,
    pub huge_pages: Option<Reservation>,
}

/// A device before a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Before {
    pub device: PciAddress,
    pub driver: Option<String>,
    pub driver_override: Option<String>,
}

/// The node of an IOMMU group before a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub group: u32,
    /// Absent when the group had no node.
    pub owner: Option<Owner>,
}

/// The part of every schema.
#[derive(Deserialize)]
struct Head {
    schema: u32,
    boot_id: String,
}

impl Journal {
    /// An empty one of this boot.
    pub(crate) fn new(common: &Common) -> anyhow::Result<Journal> {
        Ok(Journal {
            schema: SCHEMA,
            boot_id: boot_id(common)?,
            devices: Vec::new(),
            parked: Vec::new(),
            groups: Vec::new(),
            console: Console::default(),
            huge_pages: None,
        })
    }

    /// This state, and `later` for all that it does not have. A device that was not given back keeps
    /// the driver that it had before the first of the guests.
    pub(crate) fn and(mut self, later: &Journal) -> Journal {
        let is_known = |before: &&Before| !self.befores().any(|old| old.device == before.device);
        let devices: Vec<_> = later.devices.iter().filter(is_known).cloned().collect();
        let parked: Vec<_> = later.parked.iter().filter(is_known).cloned().collect();
        self.devices.extend(devices);
        self.parked.extend(parked);
        for group in &later.groups {
            if !self.groups.iter().any(|old| old.group == group.group) {
                self.groups.push(group.clone());
            }
        }
        self.console.extend(&later.console);
        self.huge_pages = match (self.huge_pages, &later.huge_pages) {
            (Some(old), Some(later)) => Some(old.and(later)),
            (old, later) => old.or_else(|| later.clone()),
        };
        self
    }

    /// The devices: first those that are parked, which come back last.
    pub(crate) fn befores(&self) -> impl DoubleEndedIterator<Item = &Before> {
        self.parked.iter().chain(&self.devices)
    }

    /// Whether there is one, whatever it holds. Status 77 for a user who may not look.
    pub(crate) fn is_there(common: &Common) -> anyhow::Result<bool> {
        let path = common.path(PATH);
        match path.symlink_metadata() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error(
                error,
                Exit::of_read,
                format_args!("looking at {}", path.display()),
            )),
        }
    }

    /// The journal of this boot; `None` when there is none. One of another boot is removed: every
    /// device came up with its driver. Status 78 when it cannot be followed.
    pub(crate) fn read(common: &Common) -> anyhow::Result<Option<Journal>> {
        let found = Journal::look(common)?;
        if found.is_none() && Journal::is_there(common)? {
            remove(common)?;
        }
        Ok(found)
    }

    /// The same, and nothing is changed.
    pub(crate) fn look(common: &Common) -> anyhow::Result<Option<Journal>> {
        let path = common.path(PATH);
        let wrong = |what: &str| {
            Exit::Config.error(format_args!(
                "reading {}: {what}; {WAY_OUT}",
                path.display()
            ))
        };
        let bytes = match bytes(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if is_not_ours(&error) => return Err(wrong("not a journal")),
            bytes => bytes.map_err(|error| {
                io_error(
                    error,
                    Exit::of_read,
                    format_args!("reading {}", path.display()),
                )
            })?,
        };
        let head: Head = serde_json::from_slice(&bytes).map_err(|_| wrong("not a journal"))?;
        if head.boot_id != boot_id(common)? {
            return Ok(None);
        }
        if head.schema != SCHEMA {
            return Err(wrong("written by another version"));
        }
        let journal: Journal =
            serde_json::from_slice(&bytes).map_err(|_| wrong("not a journal"))?;
        if journal.is_valid() {
            Ok(Some(journal))
        } else {
            Err(wrong("it holds names that are none"))
        }
    }

    /// Names become parts of paths, and values lines of sysfs.
    fn is_valid(&self) -> bool {
        self.befores().all(|before| {
            before.driver.as_deref().is_none_or(is_name)
                && before.driver_override.as_deref().is_none_or(is_line)
        }) && self.console.is_valid()
            && self.huge_pages.as_ref().is_none_or(Reservation::is_valid)
    }

    /// Puts it on the disk.
    pub(crate) fn write(&self, common: &Common) -> anyhow::Result<()> {
        let path = common.path(PATH);
        if let Some(directory) = path.parent() {
            atomic::create_directory(directory, 0o700)?;
        }
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        atomic::write(&path, 0o600, |file| file.write_all(&text))?;
        kill_point();
        Ok(())
    }
}

/// The start of a regular file. Opening a pipe must not block, for signals are deferred.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    file.take(LENGTH_MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether there is something other than a regular file.
fn is_not_ours(error: &io::Error) -> bool {
    let is_link_or_socket = matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO));
    is_link_or_socket || error.kind() == io::ErrorKind::InvalidData
}

/// Removes it: everything is as it was.
pub(crate) fn remove(common: &Common) -> anyhow::Result<()> {
    let path = common.path(PATH);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed.map_err(|error| {
            io_error(
                error,
                Exit::of_change,
                format_args!("removing {}", path.display()),
            )
        })?,
    }
    kill_point();
    path.parent().map_or(Ok(()), atomic::sync_directory)
}

/// Whether a name can be that of a driver.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/') && is_line(name)
}

fn is_line(value: &str) -> bool {
    !value.contains(is_hidden)
}

fn boot_id(common: &Common) -> anyhow::Result<String> {
    Ok(jsonpipe::read_text(&common.path(BOOT_ID))?
        .trim()
        .to_owned())
}
