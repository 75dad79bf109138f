//! The block map, `GENERATION.blocks`: a digest of every 64 KiB of an image, with which a machine
//! finds the unchanged blocks in its old image, at any position.
//!
//! The file is the sequence of digests, 16 bytes each (XXH3, 128 bits, big-endian), the last one of
//! the rest. They need not withstand an attacker: `blocks_sha256` in the manifest signs the map,
//! and a wrongly reused block fails the torrent's piece hash and is fetched. So speed decides; 64
//! KiB is the cluster size of a qcow2 image.
//!
//! **Admission rule.** Belongs here: the map's format, and whether a map is the signed one. Not:
//! code that fetches or publishes an image.

mod beside;

pub use beside::beside;

/// The digest of a block.
pub type BlockDigest = [u8; DIGEST_BYTES];

/// The length of a block, except the last one.
pub const BLOCK_BYTES: usize = 64 << 10;

/// The length of a digest.
pub const DIGEST_BYTES: usize = 16;

/// The digest of one block, which is [`BLOCK_BYTES`] long or the rest of the image.
pub fn digest(block: &[u8]) -> BlockDigest {
    xxhash_rust::xxh3::xxh3_128(block).to_be_bytes()
}

/// The digest of a block of zeros of this length, at most [`BLOCK_BYTES`].
pub fn of_zeros(length: usize) -> BlockDigest {
    static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    digest(&ZEROS[..length])
}

/// The length of the map of an image.
pub fn map_bytes(image_bytes: u64) -> u64 {
    image_bytes.div_ceil(BLOCK_BYTES as u64) * DIGEST_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_what_xxh128sum_prints() {
        // printf '' | xxh128sum; head -c 65536 /dev/zero | xxh128sum
        let hex = |bytes: &[u8]| {
            digest(bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        assert_eq!(hex(b""), "99aa06d3014798d86001c324468d497f");
        assert_eq!(hex(&[0; BLOCK_BYTES]), "fd5ee061c8433a0f33b202d302b65caa");
    }

    #[test]
    fn the_map_has_a_digest_for_every_block_begun() {
        assert_eq!(
            [0, 1, 65536, 65537, 60 << 30].map(map_bytes),
            [0, 16, 16, 32, 983_040 * 16]
        );
    }
}
