//! Changes of a disk, one after the other, taken back when one of them fails.

use crate::disk::Disk;

/// Bytes that go to a place on a disk.
#[derive(Clone, Debug)]
pub struct Change {
    /// What they are, for people: `the backup table's entries`.
    pub what: &'static str,
    /// Where, in bytes.
    pub offset: u64,
    /// The bytes to write.
    pub bytes: Vec<u8>,
}

/// How a failure left the disk.
#[derive(Debug)]
pub enum Failure {
    /// As it was before.
    Undone(anyhow::Error),
    /// Not as it was: undoing it also failed.
    Stays(anyhow::Error),
}

impl Failure {
    /// The same where something else was done before: that is taken back, too, unless something
    /// stays anyway.
    pub fn undoing(self, undo: impl FnOnce() -> anyhow::Result<()>) -> Failure {
        match self {
            Failure::Undone(error) => match undo() {
                Ok(()) => Failure::Undone(error),
                Err(undoing) => Failure::stays(error, &undoing),
            },
            stays => stays,
        }
    }

    /// Neither it went well, nor could it be taken back.
    pub fn stays(error: anyhow::Error, undoing: &anyhow::Error) -> Failure {
        Failure::Stays(error.context(format!("undoing it also failed ({undoing:#})")))
    }
}

/// Makes the changes in this order, and then looks at what came of them. Each is on the medium, and
/// was read back, before the next begins.
///
/// A change that failed may have happened nevertheless, so it is taken back with those before it,
/// the last one first; so are all of them when `check` does not like what it finds.
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
