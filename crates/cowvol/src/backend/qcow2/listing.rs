//! The users' overlays for a list: each is opened once, for its header and its locks.
//!
//! A list of ten thousand is nearly all system calls, so they are as few as possible: names are read
//! by getdents(2) into one buffer, files are opened relative to their directory, and the processors
//! share the users.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use jsonpipe::{Common, Exit, io_error};
use qcow2::Header;
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
use rustix::io::Errno;

use super::overlay::{self, EPHEMERAL, backing_name, parse_name, state_of};
use super::{in_use, look_at, names};
use crate::backend::{Item, Listed, VolumeId};
use crate::token::Token;

/// Some two hundred names at once.
const NAMES_BYTES: usize = 16 << 10;

/// The overlays of one user or of all, in no order. Other entries (`lost+found`, half-written files)
/// are skipped.
pub fn list(common: &Common, of: Option<&Token>) -> anyhow::Result<Vec<Listed>> {
    let users = names::users(common, of)?;
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let share = users.len().div_ceil(processors).max(1);
    thread::scope(|scope| {
        let shares: Vec<_> = users
            .chunks(share)
            .map(|share| scope.spawn(|| list_share(share)))
            .collect();
        let mut all = Vec::new();
        for share in shares {
            let found = share.join().unwrap_or_else(|panic| resume_unwind(panic));
            all.extend(found?);
        }
        if of.is_none() {
            all.extend(list_ephemerals(common)?);
        }
        Ok(all)
    })
}

fn list_ephemerals(common: &Common) -> anyhow::Result<Vec<Listed>> {
    let path = common.path(EPHEMERAL);
    let Some(directory) = open_directory(&path)? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for (Item { id, is_remains }, file) in names::ephemerals(common)? {
        let name = file.file_name().and_then(OsStr::to_str);
        if let Some(name) = name.filter(|_| !is_remains) {
            found.extend(look(&directory, &path, name, id)?);
        }
    }
    Ok(found)
}

fn list_share(users: &[(Token, PathBuf)]) -> anyhow::Result<Vec<Listed>> {
    let mut found = Vec::with_capacity(users.len());
    let mut names = Vec::with_capacity(NAMES_BYTES);
    for (token, path) in users {
        let Some(directory) = open_directory(path)? else {
            continue;
        };
        let mut entries = RawDir::new(&directory, names.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|error| reading(path, error))?;
            let Some(name) = entry.file_name().to_str().ok() else {
                continue;
            };
            let Some((base, generation)) = parse_name(name) else {
                continue;
            };
            let id = VolumeId {
                token: token.clone(),
                base,
                generation,
                is_ephemeral: false,
            };
            found.extend(look(&directory, path, name, id)?);
        }
    }
    Ok(found)
}

/// `None` when it is gone, or a file has its name.
fn open_directory(path: &Path) -> anyhow::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(reading(path, error)),
    }
}

fn reading(path: &Path, error: Errno) -> anyhow::Error {
    io_error(
        error.into(),
        Exit::of_read,
        format_args!("reading {}", path.display()),
    )
}

/// `None` when it has disappeared since its name was read.
fn look(
    directory: &OwnedFd,
    path: &Path,
    name: &str,
    id: VolumeId,
) -> anyhow::Result<Option<Listed>> {
    let path = path.join(name);
    let failed = |error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("looking at {}", path.display()),
        )
    };
    let (metadata, is_open, read) = match open(directory, name) {
        Ok((file, metadata)) if metadata.is_file() => {
            let is_open = in_use::is_open(&file).map_err(failed)?;
            let read = || -> anyhow::Result<_> {
                let header = qcow2::header_of(&path, &file, metadata.len())?;
                let point = qcow2::read_point(&path, &file, &header)?;
                Ok((header, point))
            };
            let read = read();
            (metadata, is_open, read)
        }
        // A link, a FIFO, or something else that is no file; or it is gone.
        _ => match look_at(&path)? {
            Some(found) => (
                found,
                false,
                qcow2::read_header(&path).map(|header| (header, None)),
            ),
            None => return Ok(None),
        },
    };
    let is_on_its_base = |header: &Header| {
        header.backing_name.as_deref() == Some(&backing_name(&id.base, id.generation))
    };
    let (virtual_bytes, point) = match read {
        Ok((header, point)) if is_on_its_base(&header) => {
            (Ok(header.virtual_bytes), point.map(|point| point.taken))
        }
        Ok(_) => (Err("its backing file is not its base".to_owned()), None),
        Err(error) => (Err(format!("{error:#}")), None),
    };
    Ok(Some(Listed {
        path: overlay::path_of(&id),
        state: state_of(&metadata),
        virtual_bytes,
        point,
        is_open,
        id,
    }))
}

fn open(directory: &OwnedFd, name: &str) -> io::Result<(File, Metadata)> {
    // Opening a FIFO must not block.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    Ok((file, metadata))
}
