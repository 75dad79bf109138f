//! The digest of a slot's content, computed as if no field had been patched.

use std::fmt;

use jsonpipe::{Exit, ExitContext};
use progress::Progress;
use sha2::{Digest, Sha256};

use crate::disk::Disk;
use crate::record::{Masked, Record};
use crate::{TOOL, stream};

/// Reads the image that starts at `offset` of the disk, past the cache, with every patched field
/// replaced by its shipped bytes. The digest is in lower-case hex. `doing` is the text of the
/// progress line. Status 74 when the disk cannot be read, 78 when the record describes an image of
/// another length.
pub fn of_slot(
    disk: &Disk,
    offset: u64,
    record: &Record,
    doing: impl fmt::Display,
) -> anyhow::Result<String> {
    let masks = masks(record).exit(
        Exit::Config,
        || "reading the record of a slot: what was patched is not in the image",
    )?;
    let mut hash = Sha256::new();
    let mut progress = Progress::new(TOOL);
    stream::read_back(disk, offset, record.size_bytes, |done, piece| {
        for (start, shipped) in &masks {
            put(piece, done, *start, shipped);
        }
        hash.update(&*piece);
        progress.show(&doing, done + piece.len() as u64, record.size_bytes);
    })?;
    Ok(hex(&hash.finalize()))
}

/// The patched ranges, with their original bytes.
fn masks(record: &Record) -> Option<Vec<(u64, Vec<u8>)>> {
    let mask = |Masked {
                    offset_bytes,
                    shipped,
                }: &Masked| {
        let bytes = unhex(shipped)?;
        let end = offset_bytes.checked_add(bytes.len() as u64)?;
        (end <= record.size_bytes).then_some((*offset_bytes, bytes))
    };
    record.masked.iter().map(mask).collect()
}

/// Copies the part of `bytes` that overlaps a piece of the image; `bytes` belong at `start`, the
/// piece begins at `begin`.
fn put(piece: &mut [u8], begin: u64, start: u64, bytes: &[u8]) {
    let from = start.max(begin);
    let to = (start + bytes.len() as u64).min(begin + piece.len() as u64);
    if from < to {
        piece[(from - begin) as usize..(to - begin) as usize]
            .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
    }
}

/// In lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(
        digits
            .chunks(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_across_pieces_is_taken_back() {
        let shipped: Vec<u8> = (0..40).collect();
        let mut patched = shipped.clone();
        patched[13..29].fill(0xff);
        let mut pieces = Vec::new();
        for (at, piece) in patched.chunks(10).enumerate() {
            let mut piece = piece.to_vec();
            put(&mut piece, 10 * at as u64, 13, &shipped[13..29]);
            pieces.extend(piece);
        }
        assert_eq!(pieces, shipped);
        assert_eq!(unhex("00ff"), Some(vec![0, 255]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("+f"), None);
    }
}
