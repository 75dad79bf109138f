//! How much of a new image a machine with the generation before it has already.
//!
//! By their block maps, as `seedctl get` finds it: a block counts wherever it was in the old image.
//! What is fetched comes in whole pieces, and with it the map, which a machine without an old image
//! does not need.

use std::collections::HashSet;
use std::path::PathBuf;

use block_map::{BLOCK_BYTES, BlockDigest, of_zeros};
use images::Ending;
use jsonpipe::{Common, Pipe};
use manifest::Base;

use crate::report::Delta;

/// Compares with the last generation below this one that has a signed block map in the store;
/// `None` where there is none.
pub fn delta(
    common: &Common,
    pipe: &Pipe,
    base: &Base,
    map: &[u8],
    piece_bytes: u64,
) -> Option<Delta> {
    for (generation, blocks) in earlier(common, base) {
        match block_map::beside(common, &blocks) {
            Ok(Some(old)) => {
                let blocks = piece_bytes / BLOCK_BYTES as u64;
                return Some(Delta::of(generation, &old, map, base.size_bytes, blocks));
            }
            Ok(None) => {}
            Err(error) => pipe.warn(format_args!("{error:#}; not compared with that image")),
        }
    }
    None
}

/// The generations below this one that have a block map, the last one first.
fn earlier(common: &Common, base: &Base) -> Vec<(u64, PathBuf)> {
    let directory = common.path(images::directory(&base.name));
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter_map(
            |entry| match images::parse_file_name(entry.file_name().to_str()?)? {
                (generation, Ending::Blocks) => Some((generation, entry.path())),
                _ => None,
            },
        )
        .filter(|(generation, _)| *generation < base.generation)
        .collect();
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    found
}

impl Delta {
    /// `piece` is the number of blocks in a piece.
    fn of(generation: u64, old: &[u8], new: &[u8], size_bytes: u64, piece: u64) -> Delta {
        let digests = |map| <[u8]>::as_chunks(map).0;
        let old: HashSet<&BlockDigest> = digests(old).iter().collect();
        let new: &[BlockDigest] = digests(new);
        let zeros = of_zeros(BLOCK_BYTES);
        let rest = size_bytes % BLOCK_BYTES as u64;
        let rest_zeros = of_zeros(rest as usize);
        let length = |index: usize| {
            let start = index as u64 * BLOCK_BYTES as u64;
            (size_bytes - start).min(BLOCK_BYTES as u64)
        };
        let is_zero = |index: usize| match length(index) == BLOCK_BYTES as u64 {
            true => new[index] == zeros,
            false => new[index] == rest_zeros,
        };
        let mut delta = Delta {
            generation,
            shared_bytes: 0,
            fetched_bytes: block_map::map_bytes(size_bytes),
            whole_bytes: 0,
        };
        let indexes: Vec<usize> = (0..new.len()).collect();
        for piece in indexes.chunks(piece as usize) {
            let bytes: u64 = piece.iter().map(|index| length(*index)).sum();
            let data = || piece.iter().filter(|index| !is_zero(**index));
            let shared = || data().filter(|index| old.contains(&new[**index]));
            delta.shared_bytes += shared().map(|index| length(*index)).sum::<u64>();
            if data().next().is_some() {
                delta.whole_bytes += bytes;
            }
            if shared().count() < data().count() {
                delta.fetched_bytes += bytes;
            }
        }
        delta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: usize = BLOCK_BYTES;

    fn image(blocks: &[u8], last: usize) -> Vec<u8> {
        let mut image: Vec<u8> = blocks.iter().flat_map(|value| vec![*value; B]).collect();
        image.truncate(image.len() - (B - last));
        image
    }

    fn of(old: &[u8], new: &[u8]) -> (u64, u64, u64) {
        let map =
            |image: &[u8]| -> Vec<u8> { image.chunks(B).flat_map(block_map::digest).collect() };
        let new_map = map(new);
        let delta = Delta::of(6, &map(old), &new_map, new.len() as u64, 2);
        assert_eq!(delta.generation, 6);
        (
            delta.shared_bytes,
            delta.fetched_bytes - new_map.len() as u64,
            delta.whole_bytes,
        )
    }

    #[test]
    fn delta_counts_blocks_that_moved_and_whole_pieces() {
        let b = B as u64;
        // Pieces of two blocks: both are in the old image; one is; zeros; the rest, which is not.
        let new = image(&[1, 2, 3, 9, 0, 0, 8], 5);
        let old = image(&[3, 2, 0, 1], B);
        assert_eq!(of(&old, &new), (3 * b, 2 * b + 5, 4 * b + 5));
        // The same image, and one that has nothing of it.
        assert_eq!(of(&new, &new), (4 * b + 5, 0, 4 * b + 5));
        assert_eq!(of(&image(&[7], 7), &new), (0, 4 * b + 5, 4 * b + 5));
        // A last block of zeros is shorter than the others.
        assert_eq!(of(&old, &image(&[1, 0], 7)), (b, 0, b + 7));
    }
}
