//! The fields of an ext2, ext3 or ext4 superblock that decide whether an image can be patched for a
//! slot.
//!
//! Places and values follow Documentation/filesystems/ext4/super.rst of Linux. The few fields are
//! parsed here: a crate for files would refuse images because of irrelevant features.

/// The offset of the superblock.
pub const OFFSET: u64 = 1024;
/// Its length.
pub const BYTES: usize = 1024;

const BLOCKS_COUNT_LO: usize = 0x04;
const LOG_BLOCK_SIZE: usize = 0x18;
const MAGIC: usize = 0x38;
const STATE: usize = 0x3a;
const FEATURE_INCOMPAT: usize = 0x60;
const FEATURE_RO_COMPAT: usize = 0x64;
const BLOCKS_COUNT_HI: usize = 0x150;

/// Blocks of 64 KiB, the largest.
const LOG_BLOCK_SIZE_MAX: u32 = 6;
/// The state bit of a clean unmount. Any other bit means errors, or files that remain to be
/// removed.
const VALID_FS: u16 = 1;
const ERROR_FS: u16 = 2;
/// Incompatible features.
const RECOVER: u32 = 0x4;
const JOURNAL_DEV: u32 = 0x8;
const IS_64BIT: u32 = 0x80;
/// Read-compatible features: checksums over the UUID and the label.
const GDT_CSUM: u32 = 0x10;
const METADATA_CSUM: u32 = 0x400;

/// The offset of the UUID.
pub const UUID_OFFSET: u64 = OFFSET + 0x68;
/// The offset of the label.
pub const LABEL_OFFSET: u64 = OFFSET + 0x78;

/// Why the file system with this superblock, in an image of this size, cannot be a slot's, with the
/// way out, in which `image` is the name.
pub fn check(superblock: &[u8; BYTES], size_bytes: u64, image: &str) -> Result<(), String> {
    let half = |at: usize| u16::from_le_bytes([superblock[at], superblock[at + 1]]);
    let word = |at: usize| {
        u32::from_le_bytes([
            superblock[at],
            superblock[at + 1],
            superblock[at + 2],
            superblock[at + 3],
        ])
    };
    let (incompatible, readable) = (word(FEATURE_INCOMPAT), word(FEATURE_RO_COMPAT));
    if half(MAGIC) != 0xef53 || incompatible & JOURNAL_DEV != 0 {
        return Err("not an ext2, ext3 or ext4 file system".into());
    }
    if half(STATE) & ERROR_FS != 0 {
        return Err(format!(
            "its file system has errors; e2fsck -f {image} repairs it"
        ));
    }
    if incompatible & RECOVER != 0 || half(STATE) != VALID_FS {
        return Err(
            "it is mounted, or was not unmounted cleanly; unmount it, or mount and unmount it once"
                .into(),
        );
    }
    for (feature, name) in [(METADATA_CSUM, "metadata_csum"), (GDT_CSUM, "uninit_bg")] {
        if readable & feature != 0 {
            return Err(format!(
                "it has the feature {name}; tune2fs -O ^{name} {image} takes it away"
            ));
        }
    }
    let high = if incompatible & IS_64BIT != 0 {
        u64::from(word(BLOCKS_COUNT_HI)) << 32
    } else {
        0
    };
    let blocks = high | u64::from(word(BLOCKS_COUNT_LO));
    let shift = word(LOG_BLOCK_SIZE);
    let bytes = (shift <= LOG_BLOCK_SIZE_MAX)
        .then(|| 1024u64 << shift)
        .and_then(|block| block.checked_mul(blocks));
    if bytes.is_none_or(|bytes| bytes > size_bytes) {
        return Err("it is shorter than its file system".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn superblock(changes: &[(usize, &[u8])]) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let mut put =
            |at: usize, content: &[u8]| bytes[at..at + content.len()].copy_from_slice(content);
        put(BLOCKS_COUNT_LO, &[16, 0, 0, 0]);
        put(LOG_BLOCK_SIZE, &[2]);
        put(MAGIC, &[0x53, 0xef]);
        put(STATE, &[1, 0]);
        put(FEATURE_INCOMPAT, &[0xc2, 2]);
        for (at, content) in changes {
            put(*at, content);
        }
        bytes
    }

    #[test]
    fn check_takes_a_clean_file_system_without_checksums() {
        const CLEAN: &str =
            "it is mounted, or was not unmounted cleanly; unmount it, or mount and unmount it once";
        let check = |changes: &[(usize, &[u8])], size| check(&superblock(changes), size, "lab.img");
        assert_eq!(check(&[], 65536), Ok(()));
        for (changes, why) in [
            (
                &[(MAGIC, &[0, 0][..])][..],
                "not an ext2, ext3 or ext4 file system",
            ),
            (
                &[(FEATURE_INCOMPAT, &[8])],
                "not an ext2, ext3 or ext4 file system",
            ),
            (&[(STATE, &[0])], CLEAN),
            (&[(STATE, &[5])], CLEAN),
            (&[(FEATURE_INCOMPAT, &[4])], CLEAN),
            (
                &[(STATE, &[2])],
                "its file system has errors; e2fsck -f lab.img repairs it",
            ),
            (
                &[(STATE, &[3])],
                "its file system has errors; e2fsck -f lab.img repairs it",
            ),
            (
                &[(FEATURE_RO_COMPAT, &[0, 4])],
                "it has the feature metadata_csum; tune2fs -O ^metadata_csum lab.img takes it away",
            ),
            (
                &[(FEATURE_RO_COMPAT, &[0x10])],
                "it has the feature uninit_bg; tune2fs -O ^uninit_bg lab.img takes it away",
            ),
            (
                &[(BLOCKS_COUNT_LO, &[17])],
                "it is shorter than its file system",
            ),
            (
                &[(BLOCKS_COUNT_HI, &[1])],
                "it is shorter than its file system",
            ),
            (
                &[(LOG_BLOCK_SIZE, &[64])],
                "it is shorter than its file system",
            ),
            (
                &[(LOG_BLOCK_SIZE, &[60])],
                "it is shorter than its file system",
            ),
        ] {
            assert_eq!(check(changes, 65536).unwrap_err(), why, "{changes:?}");
        }
        // Without the feature the upper half is not used.
        assert_eq!(
            check(
                &[(FEATURE_INCOMPAT, &[0x42]), (BLOCKS_COUNT_HI, &[1])],
                65536
            ),
            Ok(())
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_superblock_or_none(bytes in any::<[u8; BYTES]>(), size in any::<u64>()) {
            let _ = check(&bytes, size, "x");
        }
    }
}
