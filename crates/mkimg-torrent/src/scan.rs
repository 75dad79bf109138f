//! The one pass over an image: SHA-256 of the whole, SHA-1 of every piece, XXH3 of every block.
//!
//! This thread reads, a second one computes SHA-256, which cannot be divided, and a third one the
//! two others; so two processors are busy, and the data stays in their caches. Few buffers are in
//! flight. Holes are not read: blocks and pieces of zeros have known digests. Only SHA-256 must
//! process every zero.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use block_map::BLOCK_BYTES;
use manifest::{Digest, Hex};
use sha2::{Digest as _, Sha256};

use crate::pieces::{Piece, PieceHasher, feed_zeros};
use crate::runs::runs;

/// The size of a buffer: whole blocks, few enough to stay in a processor's cache.
const BUFFER_BYTES: usize = 8 * BLOCK_BYTES;
/// The number of buffers that may wait for each of the two threads.
const WAITING: usize = 8;

/// The results of the pass.
#[derive(Debug)]
pub struct Digests {
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// SHA-1 of its pieces.
    pub pieces: Vec<Piece>,
    /// Its block map.
    pub blocks: Vec<u8>,
    /// The bytes read, which are not in holes.
    pub read_bytes: u64,
    /// The time that SHA-256 took, and that of the two others.
    pub busy: [Duration; 2],
}

/// The next part of the file.
#[derive(Clone)]
enum Part {
    Data(Arc<Vec<u8>>),
    Zeros(u64),
}

/// Reads `size` bytes of a file. `UnexpectedEof` when it has fewer. Calls `progress` with the bytes
/// hashed.
pub fn scan(
    file: &File,
    size: u64,
    piece_bytes: u64,
    progress: impl FnMut(u64) + Send,
) -> io::Result<Digests> {
    thread::scope(|scope| {
        let (to_whole, whole) = sync_channel(WAITING);
        let (to_parts, parts) = sync_channel(WAITING);
        let whole = scope.spawn(move || digest_whole(whole, progress));
        let parts = scope.spawn(move || digest_parts(parts, size, piece_bytes));
        let read_bytes = read(file, size, &[to_whole, to_parts]);
        let (sha256, whole_busy) = whole.join().unwrap_or_else(|panic| resume_unwind(panic));
        let (pieces, blocks, parts_busy) =
            parts.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok(Digests {
            sha256,
            pieces,
            blocks,
            read_bytes: read_bytes?,
            busy: [whole_busy, parts_busy],
        })
    })
}

/// Sends the parts of the file, in order, to both threads. Returns the bytes read.
fn read(file: &File, size: u64, to: &[SyncSender<Part>; 2]) -> io::Result<u64> {
    // One more than can wait, and the one in work: by then the next one in the ring is free again.
    let mut ring: Vec<Arc<Vec<u8>>> = (0..WAITING + 2).map(|_| Arc::default()).collect();
    let mut turn = 0;
    let mut read_bytes = 0;
    for run in runs(file, size) {
        let run = run?;
        if !run.data {
            send(to, Part::Zeros(run.end - run.start));
            continue;
        }
        let mut at = run.start;
        while at < run.end {
            let length = (run.end - at).min(BUFFER_BYTES as u64) as usize;
            let buffer = &mut ring[turn];
            turn = (turn + 1) % (WAITING + 2);
            match Arc::get_mut(buffer) {
                Some(free) => free.resize(length, 0),
                None => *buffer = Arc::new(vec![0; length]),
            }
            let bytes = Arc::get_mut(buffer).ok_or(io::ErrorKind::ResourceBusy)?;
            file.read_exact_at(bytes, at)?;
            send(to, Part::Data(Arc::clone(buffer)));
            at += length as u64;
        }
        read_bytes += run.end - run.start;
    }
    Ok(read_bytes)
}

fn send(to: &[SyncSender<Part>; 2], part: Part) {
    for thread in to {
        let _ = thread.send(part.clone()); // it fails only if the thread panicked, which the join reports
    }
}

fn digest_whole(parts: Receiver<Part>, mut progress: impl FnMut(u64)) -> (Digest, Duration) {
    let (mut sha256, mut done) = (Sha256::new(), 0);
    let mut busy = Duration::ZERO;
    for part in parts {
        let since = Instant::now();
        let mut feed = |bytes: &[u8]| {
            sha256.update(bytes);
            done += bytes.len() as u64;
            progress(done);
        };
        match part {
            Part::Data(bytes) => feed(&bytes),
            Part::Zeros(count) => feed_zeros(count, feed),
        }
        busy += since.elapsed();
    }
    (Hex(sha256.finalize().into()), busy)
}

fn digest_parts(
    parts: Receiver<Part>,
    size: u64,
    piece_bytes: u64,
) -> (Vec<Piece>, Vec<u8>, Duration) {
    let mut pieces = PieceHasher::new(piece_bytes);
    let mut map = Vec::with_capacity(block_map::map_bytes(size) as usize);
    let zero_block = block_map::of_zeros(BLOCK_BYTES);
    let mut busy = Duration::ZERO;
    for part in parts {
        let since = Instant::now();
        // Every part begins at a block.
        match part {
            Part::Data(bytes) => {
                pieces.update(&bytes);
                bytes
                    .chunks(BLOCK_BYTES)
                    .for_each(|block| map.extend(block_map::digest(block)));
            }
            Part::Zeros(count) => {
                pieces.zeros(count);
                (0..count / BLOCK_BYTES as u64).for_each(|_| map.extend(zero_block));
                let rest = count % BLOCK_BYTES as u64;
                if rest > 0 {
                    map.extend(block_map::of_zeros(rest as usize));
                }
            }
        }
        busy += since.elapsed();
    }
    (pieces.finish(), map, busy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha1::Sha1;

    /// A direct implementation of the definitions.
    fn plain(bytes: &[u8], piece_bytes: usize) -> (Digest, Vec<Piece>, Vec<u8>) {
        let pieces = bytes
            .chunks(piece_bytes)
            .map(|piece| Sha1::digest(piece).into())
            .collect();
        let map = bytes
            .chunks(BLOCK_BYTES)
            .flat_map(block_map::digest)
            .collect();
        (Hex(Sha256::digest(bytes).into()), pieces, map)
    }

    fn check(size: usize, writes: &[(usize, usize)], piece_bytes: usize) -> Digests {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size as u64).unwrap();
        let mut bytes = vec![0; size];
        for (at, length) in writes {
            let end = (at + length).min(size);
            let start = (*at).min(end);
            bytes[start..end]
                .iter_mut()
                .enumerate()
                .for_each(|(i, byte)| *byte = (i % 251 + 1) as u8);
            file.write_all_at(&bytes[start..end], start as u64).unwrap();
        }
        let found = scan(&file, size as u64, piece_bytes as u64, |_| ()).unwrap();
        let expected = plain(&bytes, piece_bytes);
        assert!(
            (found.sha256, &found.pieces, &found.blocks) == (expected.0, &expected.1, &expected.2),
            "{size} {writes:?}"
        );
        found
    }

    #[test]
    fn sizes_around_every_boundary() {
        let around = [BLOCK_BYTES, BUFFER_BYTES, 1 << 20, 3 << 20]
            .into_iter()
            .flat_map(|n| [n - 1, n, n + 1]);
        for size in around.chain([0, 1, 7 << 20]) {
            assert_eq!(check(size, &[(0, size)], 1 << 20).read_bytes, size as u64);
            assert_eq!(check(size, &[], 1 << 20).read_bytes, 0);
        }
    }

    #[test]
    fn a_file_that_is_shorter_than_it_was_is_told() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 100], 0).unwrap();
        let error = scan(&file, 101, 1 << 20, |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_pattern_of_holes(
            size in 0usize..4 << 20,
            writes in proptest::collection::vec((0usize..4 << 20, 1usize..300_000), 0..8),
            piece_bits in 16usize..22,
        ) {
            check(size, &writes, 1 << piece_bits);
        }
    }
}
