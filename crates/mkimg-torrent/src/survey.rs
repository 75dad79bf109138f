//! The one pass over the image of a host's root: its SHA-256, and the PARTUUIDs to replace in its
//! boot entries.
//!
//! It is read in pieces, so memory does not depend on the image's size; a text across two pieces is
//! also found. Holes are not read: they contain no text.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use block_map::BLOCK_BYTES;
use manifest::{Digest, Hex};
use sha2::{Digest as _, Sha256};

use crate::pieces::feed_zeros;
use crate::runs::runs;

/// The text of a boot entry in the shipped image; the digits are replaced by a slot's own.
///
/// Not a constant: this program is in the image as well, and must not contain the text.
pub fn boot_entry() -> String {
    let digits = [8, 4, 4, 4, 12].map(|count| "0".repeat(count)).join("-");
    format!("root=PARTUUID={digits}")
}

/// The results of the pass.
#[derive(Debug, PartialEq, Eq)]
pub struct Survey {
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// The offset of each boot entry.
    pub boot_entries: Vec<u64>,
}

/// Reads `size` bytes of a file. `UnexpectedEof` when it has fewer. Calls `progress` with the bytes
/// read.
pub fn survey(file: &File, size: u64, mut progress: impl FnMut(u64)) -> io::Result<Survey> {
    let mut sha256 = Sha256::new();
    let text = boot_entry();
    let finder = memchr::memmem::Finder::new(&text);
    let mut boot_entries = Vec::new();
    // The end of the last piece, shorter than the text, is kept in front of the next one.
    let keep = text.len() - 1;
    let mut buffer = vec![0; keep + BLOCK_BYTES];
    let mut kept = 0;
    for run in runs(file, size) {
        let run = run?;
        if !run.data {
            feed_zeros(run.end - run.start, |zeros| sha256.update(zeros));
            kept = 0;
            progress(run.end);
            continue;
        }
        let mut at = run.start;
        while at < run.end {
            let length = (run.end - at).min(BLOCK_BYTES as u64) as usize;
            let read = &mut buffer[kept..kept + length];
            file.read_exact_at(read, at)?;
            sha256.update(&*read);
            let known = &buffer[..kept + length];
            boot_entries.extend(
                finder
                    .find_iter(known)
                    .map(|found| at - kept as u64 + found as u64),
            );
            let rest = known.len().saturating_sub(keep)..known.len();
            kept = rest.len();
            buffer.copy_within(rest, 0);
            at += length as u64;
            progress(at);
        }
    }
    Ok(Survey {
        sha256: Hex(sha256.finalize().into()),
        boot_entries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survey_finds_every_entry_and_each_once() {
        let file = tempfile::tempfile().unwrap();
        let text = boot_entry();
        let (piece, length) = (BLOCK_BYTES as u64, text.len() as u64);
        let (data, size) = (60 * piece, 100 * piece + 7);
        file.set_len(size).unwrap();
        file.write_all_at(&vec![b'r'; data as usize], 0).unwrap();
        // At both ends, one after another, across two pieces in every way, and alone between holes.
        let mut at = vec![
            0,
            length,
            data,
            80 * piece + 3,
            90 * piece - 1,
            size - length,
        ];
        at.extend((1..length).map(|before| before * piece - before));
        for at in &at {
            file.write_all_at(text.as_bytes(), *at).unwrap();
        }
        // Nearly the text: the last digit is missing or different.
        file.write_all_at(&text.as_bytes()[..49], 55 * piece - 20)
            .unwrap();
        file.write_all_at(text.replace("0000-0", "0001-0").as_bytes(), 57 * piece - 20)
            .unwrap();
        at.sort_unstable();
        let mut seen = 0;
        let found = survey(&file, size, |done| seen = done).unwrap();
        assert_eq!(found.boot_entries, at);
        assert_eq!(seen, size);
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(found.sha256, Hex(Sha256::digest(&bytes).into()));
        // Only the length shows that the file was cut off.
        file.set_len(size - 1).unwrap();
        assert_eq!(
            survey(&file, size, |_| ()).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
