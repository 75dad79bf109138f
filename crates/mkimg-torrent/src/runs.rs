//! The data and the holes of a file, by SEEK_DATA and SEEK_HOLE, in whole blocks.

use std::fs::File;
use std::io;

use block_map::BLOCK_BYTES;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// Every run begins at a multiple of this and, except the last one, ends at one.
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whether it must be read; otherwise it is zeros.
    pub data: bool,
    /// Its start.
    pub start: u64,
    /// Its end.
    pub end: u64,
}

/// The runs of a file of `size` bytes. Without support for holes everything is data.
pub fn runs(file: &File, size: u64) -> impl Iterator<Item = io::Result<Run>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= size {
            return None;
        }
        let run = next(file, start, size);
        start = run.as_ref().map_or(size, |run| run.end);
        Some(run)
    })
}

fn next(file: &File, start: u64, size: u64) -> io::Result<Run> {
    let data = seek(file, start, Whence::SeekData)?.unwrap_or(size);
    let first = data.min(size) / BLOCK * BLOCK;
    if data >= size || first > start {
        return Ok(Run {
            data: false,
            start,
            end: if data >= size { size } else { first },
        });
    }
    let hole = seek(file, data, Whence::SeekHole)?.unwrap_or(size);
    let end = hole
        .max(start + 1)
        .checked_next_multiple_of(BLOCK)
        .unwrap_or(size)
        .min(size);
    Ok(Run {
        data: true,
        start,
        end,
    })
}

/// `None` when nothing more of the kind follows.
fn seek(file: &File, from: u64, whence: Whence) -> io::Result<Option<u64>> {
    let from = i64::try_from(from).map_err(|_| io::Error::from(Errno::EFBIG))?;
    match lseek(file, from, whence) {
        Ok(at) => Ok(Some(at as u64)),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn of(size: u64, writes: &[(u64, usize)]) -> Vec<(bool, u64, u64)> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (at, length) in writes {
            file.write_all_at(&vec![1; *length], *at).unwrap();
        }
        runs(&file, size)
            .map(|run| {
                run.map(|Run { data, start, end }| (data, start, end))
                    .unwrap()
            })
            .collect()
    }

    #[test]
    fn runs_are_whole_blocks_and_cover_the_file() {
        assert_eq!(of(0, &[]), []);
        assert_eq!(of(1, &[]), [(false, 0, 1)]);
        assert_eq!(of(1, &[(0, 1)]), [(true, 0, 1)]);
        assert_eq!(of(5 * BLOCK + 7, &[]), [(false, 0, 5 * BLOCK + 7)]);
        assert_eq!(of(BLOCK, &[(0, 65536)]), [(true, 0, BLOCK)]);
        let found = of(
            10 * BLOCK + 9,
            &[(3 * BLOCK + 5000, 10), (6 * BLOCK - 1, 2)],
        );
        assert_eq!(
            found,
            [
                (false, 0, 3 * BLOCK),
                (true, 3 * BLOCK, 4 * BLOCK),
                (false, 4 * BLOCK, 5 * BLOCK),
                (true, 5 * BLOCK, 7 * BLOCK),
                (false, 7 * BLOCK, 10 * BLOCK + 9)
            ]
        );
        assert_eq!(
            of(BLOCK + 9, &[(BLOCK + 8, 1)]),
            [(false, 0, BLOCK), (true, BLOCK, BLOCK + 9)]
        );
    }
}
