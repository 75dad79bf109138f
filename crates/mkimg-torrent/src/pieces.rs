//! The pieces of a torrent, BEP 3: their length, and their SHA-1 digests, with precomputed ones for
//! zeros.

use sha1::{Digest, Sha1};

use block_map::BLOCK_BYTES;

/// The digest of a piece.
pub type Piece = [u8; 20];

/// The minimum length of a piece: a block of the map. The maximum is the amount that a machine may
/// have to fetch again for one wrong bit.
pub const MIN_BYTES: u64 = BLOCK_BYTES as u64;
/// See [`MIN_BYTES`].
pub const MAX_BYTES: u64 = 64 << 20;

/// This many pieces make a torrent of 5 MiB, which still fits into a document.
pub const MAX_PIECES: u64 = 1 << 18;

/// The rule of [`suit`], in words.
pub const RULE: &str =
    "not a power of two from 65536 to 67108864 that cuts the image into at most 262144 pieces";

/// The default length by image size: 1 MiB to 20 GiB, 2 MiB to 40 GiB, 4 MiB to 80 GiB and so on.
///
/// With at most 20480 pieces the torrent stays below half a MiB; larger pieces are passed on later,
/// which costs time at the end.
pub fn length_for(image_bytes: u64) -> u64 {
    let mut length = 1 << 20;
    while length < MAX_BYTES && image_bytes.div_ceil(length) > 20480 {
        length *= 2;
    }
    length
}

/// Whether an image can be cut into pieces of this length.
pub fn suit(piece_bytes: u64, image_bytes: u64) -> bool {
    piece_bytes.is_power_of_two()
        && (MIN_BYTES..=MAX_BYTES).contains(&piece_bytes)
        && image_bytes.div_ceil(piece_bytes) <= MAX_PIECES
}

/// The zeros that are fed at a time.
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// Feeds `count` zeros to something that takes bytes.
pub(crate) fn feed_zeros(mut count: u64, mut feed: impl FnMut(&[u8])) {
    while count > 0 {
        let part = count.min(BLOCK_BYTES as u64);
        feed(&ZEROS[..part as usize]);
        count -= part;
    }
}

/// Digests a file piece by piece, in the order of its bytes.
#[derive(Debug)]
pub struct PieceHasher {
    piece_bytes: u64,
    current: Sha1,
    /// The bytes of the current piece, below `piece_bytes`.
    filled: u64,
    digests: Vec<Piece>,
    /// The digest of a piece of zeros, once it is needed.
    zero_piece: Option<Piece>,
}

impl PieceHasher {
    /// For pieces of this length, above 0.
    pub fn new(piece_bytes: u64) -> PieceHasher {
        PieceHasher {
            piece_bytes,
            current: Sha1::new(),
            filled: 0,
            digests: Vec::new(),
            zero_piece: None,
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = (self.piece_bytes - self.filled).min(bytes.len() as u64);
            let (now, later) = bytes.split_at(room as usize);
            self.current.update(now);
            self.filled += room;
            bytes = later;
            if self.filled == self.piece_bytes {
                self.end_piece();
            }
        }
    }

    /// Takes `count` zeros. Whole pieces of them take no time.
    pub fn zeros(&mut self, mut count: u64) {
        if self.filled > 0 {
            let rest = (self.piece_bytes - self.filled).min(count);
            feed_zeros(rest, |zeros| self.update(zeros));
            count -= rest;
        }
        let whole = count / self.piece_bytes;
        if whole > 0 {
            let zero_piece = *self.zero_piece.get_or_insert_with(|| {
                let mut piece = Sha1::new();
                feed_zeros(self.piece_bytes, |zeros| piece.update(zeros));
                piece.finalize().into()
            });
            self.digests
                .extend(std::iter::repeat_n(zero_piece, whole as usize));
        }
        feed_zeros(count % self.piece_bytes, |zeros| self.update(zeros));
    }

    /// All digests; the last piece is the rest.
    pub fn finish(mut self) -> Vec<Piece> {
        if self.filled > 0 {
            self.end_piece();
        }
        self.digests
    }

    fn end_piece(&mut self) {
        self.digests.push(self.current.finalize_reset().into());
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_length_grows_with_the_image() {
        let mib = |image| length_for(image) >> 20;
        assert_eq!(
            [1, GIB, 20 * GIB, 20 * GIB + 1, 40 * GIB, 60 * GIB, 80 * GIB].map(mib),
            [1, 1, 1, 2, 2, 4, 4]
        );
        assert_eq!(mib(1 << 40), 64);
        assert!(suit(length_for(1 << 40), 1 << 40));
    }

    #[test]
    fn piece_lengths_suit_the_image() {
        assert!(suit(1 << 16, GIB) && suit(1 << 26, 1 << 40));
        assert!(!suit(0, GIB) && !suit(3 << 20, GIB) && !suit(1 << 15, GIB) && !suit(1 << 27, GIB));
        assert!(suit(1 << 16, 16 * GIB) && !suit(1 << 16, 16 * GIB + 1));
    }

    /// A direct implementation of the definition.
    fn plain(bytes: &[u8], piece_bytes: usize) -> Vec<Piece> {
        bytes
            .chunks(piece_bytes)
            .map(|piece| Sha1::digest(piece).into())
            .collect()
    }

    proptest! {
        #[test]
        fn any_mixture_of_bytes_and_zeros_is_cut_right(
            parts in proptest::collection::vec((any::<bool>(), 0usize..500), 0..12),
            piece_bytes in 1usize..130,
        ) {
            let mut hasher = PieceHasher::new(piece_bytes as u64);
            let mut all = Vec::new();
            for (data, length) in parts {
                let part: Vec<u8> = (0..length).map(|i| if data { i as u8 } else { 0 }).collect();
                if data { hasher.update(&part) } else { hasher.zeros(length as u64) }
                all.extend(part);
            }
            prop_assert_eq!(hasher.finish(), plain(&all, piece_bytes));
        }
    }
}
