//! Restore points of overlays, and the room that goes with them.
//!
//! What is changed is locked against QEMU, as for an eviction, so this writes the tables itself: the
//! programs of QEMU cannot open it.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use jsonpipe::{Exit, ExitContext, io_error};
use qcow2::{Follow, Image, Rewrite, need_bytes};

use super::in_use::Locked;
use crate::backend::{Change, Content};

/// When the restore point of an overlay was taken.
pub fn taken(path: &Path) -> anyhow::Result<Option<SystemTime>> {
    let image = Image::open(path, Follow::Nothing)?;
    Ok(image.point.map(|point| point.taken))
}

/// The room that an overlay can come to need besides that of a new one.
pub fn more_bytes(path: &Path, change: Option<&Change>) -> anyhow::Result<u64> {
    let image = Image::open(path, Follow::Nothing)?;
    let room_bytes = match (change, image.point) {
        (Some(change), _) => plan(&image, change)?.room_bytes(),
        (None, Some(point)) => point.room_bytes,
        (None, None) if image.header.is_as_created() => return Ok(0),
        // It had one, which left free clusters between others.
        (None, None) => Rewrite::plan(&image, qcow2::Content::Present, None)?.room_bytes(),
    };
    Ok(room_bytes.saturating_sub(need_bytes(image.header.virtual_bytes)))
}

/// The room that the new tables of a change take, and the file system's records of it.
pub fn changing_bytes(path: &Path, change: &Change) -> anyhow::Result<u64> {
    let image = Image::open(path, Follow::Nothing)?;
    let bytes = plan(&image, change)?.table_bytes();
    match bytes.exit(Exit::Io, || format!("reading {}", path.display()))? {
        0 => Ok(0),
        bytes => Ok(bytes + RECORDS_BYTES),
    }
}

/// The blocks in which a file system lists the pieces of the tables, at most: 16 blocks, where each lists
/// some hundred pieces.
const RECORDS_BYTES: u64 = 64 << 10;

/// Changes an overlay and its restore point.
pub fn change(held: &Locked, change: &Change) -> anyhow::Result<()> {
    let failed = |error: io::Error| {
        io_error(
            error,
            Exit::of_change,
            format_args!("changing {}", held.path().display()),
        )
    };
    let file = held.file().try_clone().map_err(failed)?;
    let last_login = file
        .metadata()
        .and_then(|found| found.modified())
        .map_err(failed)?;
    let image = Image::read(held.path(), file)?;
    plan(&image, change)?.run(held.file())?;
    held.file().set_modified(last_login).map_err(failed)
}

fn plan<'a>(image: &'a Image, change: &Change) -> anyhow::Result<Rewrite<'a>> {
    let content = match change.content {
        Content::Present => qcow2::Content::Present,
        Content::Point => qcow2::Content::Point,
    };
    Rewrite::plan(image, content, change.point)
}
