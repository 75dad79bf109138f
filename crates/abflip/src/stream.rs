//! Moves an image to a slot and back, with two threads and at most three pieces in memory.
//!
//! Writing: one thread reads the source, decompresses and digests, the other writes. Reading back:
//! one thread reads, the other digests.

use std::io::{self, Read};
use std::panic;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use jsonpipe::{Exit, ExitContext};
use sha2::{Digest, Sha256};

use crate::disk::{ALIGNMENT, Aligned, Disk, PIECE_BYTES};
use crate::target::Target;

/// The head of an image, without which a slot cannot be mounted or booted. It is written last.
pub const HEAD_BYTES: u64 = 1 << 20;

/// A run of zeros of this length is zeroed by one call; shorter runs are written.
const RUN_BYTES: usize = 256 << 10;

/// One is being filled, one waits, one is being emptied.
const PIECES: usize = 3;

/// The result of reading a source.
#[derive(Debug)]
pub struct Copied {
    /// The digest of the image.
    pub sha256: [u8; 32],
    /// Its head, which is not written yet.
    pub head: Aligned,
}

/// Part of an image.
struct Piece {
    /// The offset in the image.
    offset: u64,
    /// The length of the content; the buffer may be longer.
    length: usize,
    buffer: Aligned,
}

/// Copies all but the head of `source` to the target; `source` must return exactly `size_bytes`.
/// Calls `show` with the progress. When this returns, everything is on the medium.
///
/// Status 65 when the source is shorter or longer, or cannot be decompressed; 73 or 74 when writing
/// fails.
pub fn copy(
    source: &mut (dyn Read + Send),
    target: &Target,
    size_bytes: u64,
    mut show: impl FnMut(u64) + Send,
) -> anyhow::Result<Copied> {
    let head_bytes = size_bytes.min(HEAD_BYTES) as usize;
    let mut head = Aligned::new(head_bytes.next_multiple_of(ALIGNMENT));
    let mut digest = Sha256::new();
    let fill = |piece: &mut Piece| {
        piece.length = (size_bytes - piece.offset).min(PIECE_BYTES as u64) as usize;
        let bytes = &mut piece.buffer.bytes()[..piece.length];
        let read = read_full(source, bytes).exit(Exit::Data, || "reading the image")?;
        if read < piece.length {
            let found = piece.offset + read as u64;
            return Err(Exit::Data.error(format_args!(
                "reading the image: it ends after {found} of {size_bytes} bytes"
            )));
        }
        digest.update(&*bytes);
        if piece.offset == 0 {
            head.bytes()[..head_bytes].copy_from_slice(&bytes[..head_bytes]);
        }
        let done = piece.offset + piece.length as u64;
        show(done);
        if done == size_bytes
            && read_full(source, &mut [0])
                .exit(Exit::Data, || "reading the image, behind its end")?
                > 0
        {
            return Err(Exit::Data.error(format_args!(
                "reading the image: it is longer than {size_bytes} bytes"
            )));
        }
        Ok(())
    };
    let empty = |piece: &mut Piece| write(target, piece);
    in_pieces(size_bytes, fill, empty)?;
    target.flush()?;
    Ok(Copied {
        sha256: digest.finalize().into(),
        head,
    })
}

/// Reads `size_bytes` from `start` on, past the cache, and passes each piece with its offset from
/// `start` to `take`.
pub fn read_back(
    disk: &Disk,
    start: u64,
    size_bytes: u64,
    mut take: impl FnMut(u64, &mut [u8]),
) -> anyhow::Result<()> {
    let fill = |piece: &mut Piece| {
        piece.length = (size_bytes - piece.offset).min(PIECE_BYTES as u64) as usize;
        let from = start + piece.offset;
        // Whole blocks; a disk may end within one.
        let room = usize::try_from(disk.size_bytes.saturating_sub(from)).unwrap_or(usize::MAX);
        let whole = piece
            .length
            .next_multiple_of(ALIGNMENT)
            .min(room.max(piece.length));
        disk.read_piece(from, &mut piece.buffer.bytes()[..whole])
    };
    let empty = |piece: &mut Piece| {
        take(piece.offset, &mut piece.buffer.bytes()[..piece.length]);
        Ok(())
    };
    in_pieces(size_bytes, fill, empty)
}

/// Splits `size_bytes` into pieces: one thread fills them, and the calling thread empties them in
/// order. The first failure of either ends both.
fn in_pieces(
    size_bytes: u64,
    mut fill: impl FnMut(&mut Piece) -> anyhow::Result<()> + Send,
    mut empty: impl FnMut(&mut Piece) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (emptied, to_fill) = sync_channel(PIECES);
    let (filled, to_empty): (SyncSender<Piece>, Receiver<Piece>) = sync_channel(PIECES);
    for _ in 0..PIECES {
        let _ = emptied.send(Aligned::new(PIECE_BYTES)); // the channel has room for all of them
    }
    thread::scope(|scope| {
        let filling = scope.spawn(move || -> anyhow::Result<()> {
            for offset in (0..size_bytes).step_by(PIECE_BYTES) {
                // Emptying failed and closed the channel; that failure is reported.
                let Ok(buffer) = to_fill.recv() else { break };
                let mut piece = Piece {
                    offset,
                    length: 0,
                    buffer,
                };
                fill(&mut piece)?;
                if filled.send(piece).is_err() {
                    break;
                }
            }
            Ok(())
        });
        let emptying = to_empty.into_iter().try_for_each(|mut piece| {
            empty(&mut piece)?;
            let _ = emptied.send(piece.buffer); // fails after the last piece, when it is not needed
            Ok(())
        });
        drop(emptied);
        let filling = filling
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic));
        emptying.and(filling)
    })
}

/// Writes a piece without the head; zeros are not sent to the disk.
fn write(target: &Target, piece: &mut Piece) -> anyhow::Result<()> {
    let whole = target.round_up(piece.offset, piece.length);
    let bytes = &mut piece.buffer.bytes()[..whole];
    bytes[piece.length..].fill(0);
    let mut at = if piece.offset == 0 {
        whole.min(HEAD_BYTES as usize)
    } else {
        0
    };
    while at < whole {
        let (zeros, end) = run(bytes, at);
        let offset = piece.offset + at as u64;
        if zeros {
            target.zero(offset, (end - at) as u64)?;
        } else {
            target.write(offset, &bytes[at..end])?;
        }
        at = end;
    }
    Ok(())
}

/// Whether a run of zeros begins at `from`, and the end of that run.
fn run(bytes: &[u8], from: usize) -> (bool, usize) {
    let mut stretches = bytes[from..]
        .chunks(RUN_BYTES)
        .map(|stretch| (is_zeros(stretch), stretch.len()));
    let (zeros, first) = stretches.next().unwrap_or((false, 0));
    let more = stretches
        .take_while(|(also, _)| *also == zeros)
        .map(|(_, length)| length)
        .sum::<usize>();
    (zeros, from + first + more)
}

/// Compares eight bytes at a time; a shorter rest is cheaper to write.
fn is_zeros(stretch: &[u8]) -> bool {
    stretch.len() == RUN_BYTES
        && stretch
            .as_chunks::<8>()
            .0
            .iter()
            .all(|bytes| u64::from_ne_bytes(*bytes) == 0)
}

/// Reads until the buffer is full or the source ends.
fn read_full(source: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Access;
    use crate::gpt::Place;
    use proptest::prelude::*;
    use std::fs;

    /// A reader that returns pieces of any length.
    struct Dripping<'a> {
        left: &'a [u8],
        lengths: std::iter::Cycle<std::vec::IntoIter<usize>>,
    }

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self
                .lengths
                .next()
                .unwrap_or(1)
                .min(buffer.len())
                .min(self.left.len());
            let (now, left) = self.left.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.left = left;
            Ok(length)
        }
    }

    /// Runs of data and of zeros, some longer than one write, most of odd length.
    fn images() -> impl Strategy<Value = Vec<u8>> {
        let run = (
            any::<bool>(),
            prop_oneof![
                1usize..5000,
                (RUN_BYTES - 2)..(2 * RUN_BYTES),
                1usize..(PIECE_BYTES + PIECE_BYTES / 3)
            ],
        );
        proptest::collection::vec(run, 1..5).prop_map(|runs| {
            runs.into_iter()
                .flat_map(|(zeros, length)| {
                    std::iter::repeat_n(if zeros { 0 } else { 0xa5 }, length)
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn stream_is_written_and_read_back_unchanged(
            image in images(),
            lengths in proptest::collection::vec(1usize..2_000_000, 1..8),
            wanted in -2i64..=2,
        ) {
            let directory = tempfile::tempdir_in(".").unwrap();
            let path = directory.path().join("disk");
            let (start, room) = (4096, image.len().next_multiple_of(ALIGNMENT) + (1 << 20));
            fs::write(&path, vec![0xff; start + room + 4096]).unwrap();
            let common = jsonpipe::testkit::common(directory.path());
            let place = Place { number: 1, start_bytes: start as u64, size_bytes: room as u64 };
            let disk = Disk::open(&path, Access::Read).unwrap();
            let target = Target::open(&common, &disk, place, Access::Write).unwrap();
            let size_bytes = (image.len() as u64).saturating_add_signed(wanted);
            let mut source = Dripping { left: &image, lengths: lengths.into_iter().cycle() };
            let copied = copy(&mut source, &target, size_bytes, |_| {});
            if wanted != 0 {
                prop_assert_eq!(Exit::of(&copied.unwrap_err()), Exit::Data);
                return Ok(());
            }
            let mut copied = copied.unwrap();
            prop_assert_eq!(copied.sha256, <[u8; 32]>::from(Sha256::digest(&image)));
            let there = fs::read(&path).unwrap();
            let head = image.len().min(HEAD_BYTES as usize);
            prop_assert!(there[start..start + head].iter().all(|byte| *byte == 0xff), "the head is not written yet");
            prop_assert!(there[start + head..start + image.len()] == image[head..]);
            prop_assert!(there[..start].iter().chain(&there[start + room..]).all(|byte| *byte == 0xff));
            let end = start + image.len().next_multiple_of(ALIGNMENT);
            prop_assert!(there[end..].iter().all(|byte| *byte == 0xff), "what lies behind it stays");
            prop_assert!(copied.head.bytes()[..head] == image[..head]);
            let mut back = Vec::new();
            read_back(&disk, start as u64, size_bytes, |offset, piece| {
                assert_eq!(offset as usize, back.len());
                back.extend_from_slice(piece);
            }).unwrap();
            prop_assert!(back == there[start..start + image.len()]);
        }
    }

    #[test]
    fn a_run_of_zeros_is_one_only_when_it_is_worth_it() {
        let mut bytes = vec![0; 4 * RUN_BYTES + 9];
        assert_eq!(run(&bytes, 0), (true, 4 * RUN_BYTES));
        assert_eq!(
            run(&bytes, 4 * RUN_BYTES),
            (false, 4 * RUN_BYTES + 9),
            "too short"
        );
        bytes[RUN_BYTES] = 1;
        bytes[3 * RUN_BYTES - 1] = 1;
        assert_eq!(run(&bytes, 0), (true, RUN_BYTES));
        assert_eq!(run(&bytes, RUN_BYTES), (false, 3 * RUN_BYTES));
        assert_eq!(run(&bytes, 3 * RUN_BYTES), (true, 4 * RUN_BYTES));
    }
}
