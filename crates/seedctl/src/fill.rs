//! Fills a new image with data that this machine already has: an earlier attempt at the same image,
//! and old images of the base.
//!
//! The block map of the new image gives the digest of each block. The map of an old image shows
//! where such a block may be, if it is the one that was signed with that image; without a map all
//! of the old image is read. Each block is verified before it is used, so a wrong old image only
//! costs time. Blocks of zeros are left as holes.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use block_map::{BLOCK_BYTES, DIGEST_BYTES, digest, map_bytes};
use jsonpipe::signals::Deferred;
use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::unistd::{Whence, lseek};

/// A digest of a block.
type BlockDigest = [u8; DIGEST_BYTES];

/// The state of a block of the new image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Missing: it must be fetched.
    Absent,
    /// Present from an earlier attempt.
    Kept,
    /// Copied from an old image.
    Copied,
    /// Zeros, which need neither a fetch nor a copy.
    Zero,
}

/// The new image while it is being filled.
#[derive(Debug)]
pub struct Filling<'a> {
    file: &'a File,
    length: u64,
    wanted: &'a [BlockDigest],
    /// The indexes of the blocks, sorted by digest.
    by_digest: Vec<u32>,
    blocks: Vec<Block>,
    absent: usize,
}

/// The filled part, in bytes of the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// The bytes that need not be fetched: in pieces of the torrent without absent blocks, since
    /// pieces are fetched whole.
    pub present_bytes: u64,
    /// The zeros among them.
    pub zero_bytes: u64,
    /// The bytes among them from an earlier attempt.
    pub kept_bytes: u64,
}

impl<'a> Filling<'a> {
    /// `file` already has its final length; `map` is the verified block map of the new image.
    pub fn new(file: &'a File, length: u64, map: &'a [u8]) -> Filling<'a> {
        let wanted = map.as_chunks::<DIGEST_BYTES>().0;
        debug_assert_eq!(map.len() as u64, map_bytes(length));
        let mut by_digest: Vec<u32> = (0..wanted.len() as u32).collect();
        by_digest.sort_unstable_by_key(|index| wanted[*index as usize]);
        Filling {
            file,
            length,
            wanted,
            by_digest,
            blocks: vec![Block::Absent; wanted.len()],
            absent: wanted.len(),
        }
    }

    /// Checks the data that an earlier attempt left in the file. Wrong blocks stay, and are fetched
    /// again. Returns `false` when a signal ended it.
    pub fn keep(&mut self, signals: &Deferred, mut progress: impl FnMut(u64)) -> io::Result<bool> {
        let zeros = vec![0; BLOCK_BYTES];
        let (full, last) = (
            digest(&zeros),
            digest(&zeros[..block_length(self.length, self.wanted.len().saturating_sub(1))]),
        );
        let mut buffer = vec![0; BLOCK_BYTES];
        let mut next_data = 0;
        for index in 0..self.wanted.len() {
            let offset = offset(index);
            let block = &mut buffer[..block_length(self.length, index)];
            let is_zero = self.wanted[index]
                == if block.len() == BLOCK_BYTES {
                    full
                } else {
                    last
                };
            if next_data <= offset {
                next_data = data_from(self.file, offset)?;
            }
            if next_data >= offset + block.len() as u64 {
                // A hole.
                if is_zero {
                    self.have(index, Block::Zero);
                }
                continue;
            }
            self.file.read_exact_at(block, offset)?;
            if digest(block) == self.wanted[index] {
                self.have(index, if is_zero { Block::Zero } else { Block::Kept });
            } else if is_zero {
                self.file.write_all_at(&zeros[..block.len()], offset)?;
                self.have(index, Block::Zero);
            }
            progress(offset);
            if signals.pending() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Copies wanted blocks from an old image. Returns `false` when a signal ended it.
    ///
    /// An unreadable old image counts as empty, and the error is only reported. A failed write is
    /// an error of this call.
    pub fn copy(
        &mut self,
        source: &mut Source,
        signals: &Deferred,
        mut progress: impl FnMut(u64),
    ) -> io::Result<bool> {
        let mut buffer = vec![0; BLOCK_BYTES];
        let blocks = source.length.div_ceil(BLOCK_BYTES as u64);
        let Ok(blocks) = u32::try_from(blocks) else {
            return Ok(true);
        };
        let mut next_data = 0;
        for index in 0..blocks as usize {
            if self.absent == 0 {
                break;
            }
            let offset = offset(index);
            if let Some(map) = &source.map
                && !self.wants(map[index])
            {
                continue;
            }
            let block = &mut buffer[..block_length(source.length, index)];
            let end = offset + block.len() as u64;
            if source.map.is_none() && next_data <= offset {
                next_data = data_from(&source.file, offset).unwrap_or(offset);
            }
            if source.map.is_none() && next_data >= end {
                continue; // copying zeros gains nothing
            }
            if let Err(error) = source.file.read_exact_at(block, offset) {
                source.trouble.get_or_insert(error);
                continue;
            }
            let found = digest(block);
            if let Some(map) = &source.map
                && map[index] != found
            {
                // The map is another image's, or the image has changed: either way its map is
                // useless.
                source.map = None;
            }
            self.put(found, block)?;
            progress(offset);
            if signals.pending() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether anything is still absent.
    pub fn is_whole(&self) -> bool {
        self.absent == 0
    }

    /// The disk space that the absent blocks will take.
    pub fn absent_bytes(&self) -> u64 {
        let absent = self
            .blocks
            .iter()
            .enumerate()
            .filter(|(_, block)| **block == Block::Absent);
        absent
            .map(|(index, _)| block_length(self.length, index) as u64)
            .sum()
    }

    /// The part that the torrent, with pieces of this length, need not fetch.
    pub fn filled(&self, piece_length: u64) -> Filled {
        let mut filled = Filled::default();
        let mut start = 0;
        while start < self.length {
            let end = start.saturating_add(piece_length).min(self.length);
            let last = ((end - 1) / BLOCK_BYTES as u64) as usize;
            let inside = (start / BLOCK_BYTES as u64) as usize..=last;
            if self.blocks[inside.clone()]
                .iter()
                .all(|block| *block != Block::Absent)
            {
                filled.present_bytes += end - start;
                for index in inside {
                    let block_end = offset(index) + block_length(self.length, index) as u64;
                    let shared = block_end.min(end) - offset(index).max(start);
                    match self.blocks[index] {
                        Block::Zero => filled.zero_bytes += shared,
                        Block::Kept => filled.kept_bytes += shared,
                        Block::Absent | Block::Copied => {}
                    }
                }
            }
            start = end;
        }
        filled
    }

    /// Whether a block with this digest is absent.
    fn wants(&self, digest: BlockDigest) -> bool {
        self.places(digest)
            .any(|at| self.blocks[self.by_digest[at] as usize] == Block::Absent)
    }

    /// Writes a block to each place where it is absent.
    fn put(&mut self, digest: BlockDigest, block: &[u8]) -> io::Result<()> {
        for at in self.places(digest) {
            let index = self.by_digest[at] as usize;
            if self.blocks[index] == Block::Absent
                && block_length(self.length, index) == block.len()
            {
                self.file.write_all_at(block, offset(index))?;
                self.have(index, Block::Copied);
            }
        }
        Ok(())
    }

    /// The range in `by_digest` of the blocks with this digest.
    fn places(&self, digest: BlockDigest) -> Range<usize> {
        let start = self
            .by_digest
            .partition_point(|index| self.wanted[*index as usize] < digest);
        let end = self
            .by_digest
            .partition_point(|index| self.wanted[*index as usize] <= digest);
        start..end
    }

    fn have(&mut self, index: usize, block: Block) {
        self.blocks[index] = block;
        self.absent -= 1;
    }
}

/// An old image.
#[derive(Debug)]
pub struct Source {
    file: File,
    length: u64,
    /// Its block map; without one all of the image is read.
    map: Option<Vec<BlockDigest>>,
    /// The first error while reading it.
    pub trouble: Option<io::Error>,
}

impl Source {
    /// Opens an old image. Its map counts only if it has the right length. A FIFO under the name is
    /// refused without blocking.
    pub fn open(image: &Path, map: Option<&[u8]>) -> io::Result<Source> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open(image)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let length = metadata.len();
        let map = map
            .filter(|map| map.len() as u64 == map_bytes(length))
            .map(|map| map.as_chunks().0.to_vec());
        Ok(Source {
            file,
            length,
            map,
            trouble: None,
        })
    }

    /// Its length.
    pub fn length(&self) -> u64 {
        self.length
    }
}

fn offset(index: usize) -> u64 {
    index as u64 * BLOCK_BYTES as u64
}

/// The length of a block of a file: the last one may be shorter.
fn block_length(length: u64, index: usize) -> usize {
    length.saturating_sub(offset(index)).min(BLOCK_BYTES as u64) as usize
}

/// The offset of the next byte outside of a hole; the maximum value when the rest is a hole.
fn data_from(file: &File, offset: u64) -> io::Result<u64> {
    match lseek(file, offset as i64, Whence::SeekData) {
        Ok(found) => Ok(found as u64),
        Err(Errno::ENXIO) => Ok(u64::MAX),
        Err(Errno::EINVAL) => Ok(offset), // a file system without holes
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    const B: usize = BLOCK_BYTES;

    fn map(image: &[u8]) -> Vec<u8> {
        image.chunks(B).flat_map(digest).collect()
    }

    /// An image of blocks that each repeat one byte; the last one may be shorter.
    fn image(blocks: &[u8], last: usize) -> Vec<u8> {
        let mut image: Vec<u8> = blocks.iter().flat_map(|value| vec![*value; B]).collect();
        image.truncate(image.len() - (B - last));
        image
    }

    struct Filled3 {
        bytes: Vec<u8>,
        blocks: Vec<Block>,
        held: u64,
    }

    /// Fills a new image from its earlier content and the old images, each with or without a map.
    fn fill(new: &[u8], there: Option<&[u8]>, old: &[(&[u8], Option<&[u8]>)]) -> Filled3 {
        let signals = jsonpipe::signals::defer().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        if let Some(there) = there {
            fs::write(path("new"), there).unwrap();
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path("new"))
            .unwrap();
        file.set_len(new.len() as u64).unwrap();
        let map = map(new);
        let mut filling = Filling::new(&file, new.len() as u64, &map);
        assert!(filling.keep(&signals, |_| ()).unwrap());
        for (bytes, map) in old {
            fs::write(path("old"), bytes).unwrap();
            let mut source = Source::open(&path("old"), *map).unwrap();
            assert!(filling.copy(&mut source, &signals, |_| ()).unwrap());
        }
        let blocks = filling.blocks.clone();
        assert_eq!(filling.is_whole(), !blocks.contains(&Block::Absent));
        Filled3 {
            bytes: fs::read(path("new")).unwrap(),
            blocks,
            held: file.metadata().unwrap().blocks() * 512,
        }
    }

    use Block::{Absent, Copied, Kept, Zero};

    #[test]
    fn blocks_are_found_wherever_they_stand() {
        let (new, old) = (image(&[1, 2, 0, 3, 1, 4], B), image(&[3, 0, 1, 9], B));
        let old_map = map(&old);
        for map in [None, Some(old_map.as_slice())] {
            let filled = fill(&new, None, &[(&old, map)]);
            assert_eq!(
                filled.blocks,
                [Copied, Absent, Zero, Copied, Copied, Absent]
            );
            for (index, block) in filled
                .blocks
                .iter()
                .enumerate()
                .filter(|(_, block)| **block != Absent)
            {
                assert!(
                    filled.bytes[index * B..][..B] == new[index * B..][..B],
                    "{index} {block:?}"
                );
            }
            assert_eq!(
                filled.held,
                3 * B as u64,
                "zeros and absent blocks are holes"
            );
        }
    }

    #[test]
    fn a_wrong_map_or_a_corrupt_image_costs_time_only() {
        let (new, old) = (image(&[1, 2, 3, 4], B), image(&[4, 3, 2, 1], B));
        // The map of another image of the same length.
        let wrong = map(&image(&[1, 2, 3, 4], B));
        assert!(fill(&new, None, &[(&old, Some(&wrong))]).bytes == new);
        let mut corrupt = old.clone();
        corrupt[B + 7] ^= 1;
        let filled = fill(&new, None, &[(&corrupt, Some(&map(&old)))]);
        assert_eq!(filled.blocks, [Copied, Copied, Absent, Copied]);
        // Longer and shorter than its map.
        for old in [
            [old.clone(), vec![7; 100]].concat(),
            old[..3 * B - 5].to_vec(),
        ] {
            let filled = fill(&new, None, &[(&old, Some(&map(&image(&[4, 3, 2, 1], B))))]);
            assert!(
                filled
                    .blocks
                    .iter()
                    .filter(|block| **block == Copied)
                    .count()
                    >= 2
            );
        }
        assert_eq!(
            fill(&new, None, &[(b"", None), (b"x", Some(b"y"))]).blocks,
            [Absent; 4]
        );
    }

    #[test]
    fn right_blocks_of_an_earlier_attempt_are_kept() {
        let new = image(&[1, 0, 3, 0, 5], 100);
        let mut there = image(&[1, 9, 9, 0, 5], 100);
        there.extend([1; 70_000]); // also longer
        let filled = fill(&new, Some(&there), &[]);
        assert_eq!(filled.blocks, [Kept, Zero, Absent, Zero, Kept]);
        assert!(filled.bytes[B..2 * B] == new[B..2 * B]);
        let filled = fill(&new, Some(&there), &[(&new, None)]);
        assert_eq!(filled.blocks, [Kept, Zero, Copied, Zero, Kept]);
        assert!(filled.bytes == new);
    }

    #[test]
    fn a_last_block_is_not_taken_for_a_whole_one() {
        for (new, old) in [
            (image(&[1, 2], 1), image(&[2, 1], B)),
            (image(&[1], 1), image(&[1], 1)),
            (vec![0], vec![0; B]),
        ] {
            let filled = fill(&new, None, &[(&old, Some(&map(&old)))]);
            for (index, block) in filled
                .blocks
                .iter()
                .enumerate()
                .filter(|(_, block)| **block != Absent)
            {
                let end = new.len().min((index + 1) * B);
                assert!(
                    filled.bytes[index * B..end] == new[index * B..end],
                    "{block:?}"
                );
            }
        }
    }

    #[test]
    fn a_piece_counts_when_all_of_it_is_there() {
        let new = image(&[1, 0, 3, 4, 0, 5], 7);
        let map = map(&new);
        let file = tempfile::tempfile().unwrap();
        let mut filling = Filling::new(&file, new.len() as u64, &map);
        for (index, block) in [(0, Copied), (1, Zero), (2, Kept), (4, Zero), (5, Kept)] {
            filling.have(index, block);
        }
        let b = B as u64;
        assert_eq!(filling.absent_bytes(), b);
        // Pieces of two blocks: 0 and 1, 4 and 5.
        let expected = Filled {
            present_bytes: 3 * b + 7,
            zero_bytes: 2 * b,
            kept_bytes: 7,
        };
        assert_eq!(filling.filled(2 * b), expected);
        // Pieces of half a block.
        assert_eq!(
            filling.filled(b / 2),
            Filled {
                present_bytes: 4 * b + 7,
                zero_bytes: 2 * b,
                kept_bytes: b + 7
            }
        );
        assert_eq!(filling.filled(u64::MAX), Filled::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn blocks_counted_as_present_are_right(
            new in proptest::collection::vec(0_u8..5, 1..9), there in proptest::collection::vec(0_u8..5, 1..9),
            old in proptest::collection::vec(0_u8..5, 1..9), last in 1..=B, mapped in any::<bool>(),
        ) {
            let (new, there, old) = (image(&new, last), image(&there, 5), image(&old, last));
            let old_map = map(&old);
            let filled = fill(&new, Some(&there), &[(&old, mapped.then_some(old_map.as_slice()))]);
            prop_assert_eq!(filled.bytes.len(), new.len());
            for (index, block) in filled.blocks.iter().enumerate() {
                let end = new.len().min((index + 1) * B);
                prop_assert!(*block == Absent || filled.bytes[index * B..end] == new[index * B..end]);
            }
        }
    }
}
