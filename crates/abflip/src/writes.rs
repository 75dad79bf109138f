//! A sequence of changes of a disk, undone when one of them fails.

use crate::disk::Disk;

/// Bytes for one place on a disk.
#[derive(Clone, Debug)]
pub struct Change {
    /// The description for messages: `the backup table's entries`.
    pub what: &'static str,
    /// The offset in bytes.
    pub offset: u64,
    /// The bytes to write.
    pub bytes: Vec<u8>,
}

/// The state of the disk after a failure.
#[derive(Debug)]
pub enum Failure {
    /// The disk is as it was before.
    Undone(anyhow::Error),
    /// It is not: undoing the changes also failed.
    Stays(anyhow::Error),
}

impl Failure {
    /// Undoes an earlier action as well, unless changes stay anyway.
    pub fn undoing(self, undo: impl FnOnce() -> anyhow::Result<()>) -> Failure {
        match self {
            Failure::Undone(error) => match undo() {
                Ok(()) => Failure::Undone(error),
                Err(undoing) => Failure::stays(error, &undoing),
            },
            stays => stays,
        }
    }

    /// A failure whose undoing also failed.
    pub fn stays(error: anyhow::Error, undoing: &anyhow::Error) -> Failure {
        Failure::Stays(error.context(format!("undoing it also failed ({undoing:#})")))
    }
}

/// Makes the changes in this order, then runs `check`. Each change is on the medium and read back
/// before the next begins.
///
/// A change that failed may be on the disk nevertheless, so it is undone together with the changes
/// before it, the last one first. If `check` fails, all changes are undone.
pub fn make<T>(
    disk: &Disk,
    changes: &[Change],
    check: impl FnOnce() -> anyhow::Result<T>,
) -> Result<T, Failure> {
    let mut before = Vec::new();
    for change in changes {
        before.push(Change {
            bytes: disk
                .read(change.offset, change.bytes.len())
                .map_err(Failure::Undone)?,
            ..change.clone()
        });
    }
    let mut done = 0;
    let made = changes.iter().try_for_each(|change| {
        done += 1;
        write(disk, change)
    });
    made.and_then(|()| check()).map_err(|error| {
        match before[..done]
            .iter()
            .rev()
            .try_for_each(|change| write(disk, change))
        {
            Ok(()) => Failure::Undone(error),
            Err(undoing) => Failure::stays(error, &undoing),
        }
    })
}

fn write(disk: &Disk, change: &Change) -> anyhow::Result<()> {
    let within = |error: anyhow::Error| error.context(change.what);
    disk.write(change.offset, &change.bytes).map_err(within)?;
    disk.flush().map_err(within)
}
