//! The header of a qcow2 image: how large its disk is, and whether it can be a base. Bytes in, no files.
//!
//! The specification is docs/interop/qcow2.rst of QEMU. What cannot stand alone and unchanged on another machine is refused: a
//! backing file, data in another file, encryption, internal snapshots, and what was not closed cleanly.

/// What is looked at is in so many bytes.
pub const HEADER_MAX_BYTES: usize = 4096;

const MAGIC: &[u8] = b"QFI\xfb";

// Incompatible features.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// Whether it says that it is one.
pub fn is_qcow2(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// The size of the disk, from the first [`HEADER_MAX_BYTES`] of a file of `file_bytes`, or all of a shorter one.
pub fn virtual_bytes(start: &[u8], file_bytes: u64) -> Result<u64, String> {
    if !is_qcow2(start) {
        return Err("not a qcow2 image; if it is a raw disk, say format=raw".into());
    }
    let short = || format!("its header ends after {} bytes", start.len());
    let u32_at = |at: usize| start.get(at..).and_then(<[u8]>::first_chunk).map(|b| u32::from_be_bytes(*b)).ok_or_else(short);
    let u64_at = |at: usize| start.get(at..).and_then(<[u8]>::first_chunk).map(|b| u64::from_be_bytes(*b)).ok_or_else(short);

    let incompatible = match u32_at(4)? {
        2 => 0,
        3 => u64_at(72)?,
        version => return Err(format!("qcow2 version {version}; versions 2 and 3 are known")),
    };
    for (feature, message) in [
        (CORRUPT, "marked corrupt; repair it with qemu-img check -r all"),
        (DIRTY, "marked dirty, not closed cleanly; repair it with qemu-img check -r all"),
        (EXTERNAL_DATA, "keeps its data in another file"),
        (!(CORRUPT | DIRTY | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2), "features that this release does not know"),
    ] {
        if incompatible & feature != 0 {
            return Err(message.into());
        }
    }
    if u64_at(8)? != 0 {
        return Err("has a backing file; convert it into an image that stands alone, with qemu-img convert".into());
    }
    if u32_at(32)? != 0 {
        return Err("encrypted".into());
    }
    if u32_at(60)? != 0 {
        return Err("holds internal snapshots".into());
    }
    let cluster_bits = u32_at(20)?;
    if !(9..=21).contains(&cluster_bits) {
        return Err(format!("cluster_bits is {cluster_bits}, not 9 to 21"));
    }
    let virtual_bytes = u64_at(24)?;
    if virtual_bytes == 0 || !virtual_bytes.is_multiple_of(512) {
        return Err(format!("a disk of {virtual_bytes} bytes"));
    }
    let l1_bytes = u64::from(u32_at(36)?) * 8;
    let reftable_bytes = u64::from(u32_at(56)?) << cluster_bits;
    for (table, offset, length) in [("L1", u64_at(40)?, l1_bytes), ("refcount", u64_at(48)?, reftable_bytes)] {
        if length == 0 || offset == 0 || offset.checked_add(length).is_none_or(|end| end > file_bytes) {
            return Err(format!("its {table} table does not lie within the file; was it cut short?"));
        }
    }
    Ok(virtual_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE_BYTES: u64 = 4 << 16;

    /// As `qemu-img create -f qcow2 x 80G` writes it.
    fn header() -> Vec<u8> {
        let mut header = [MAGIC, &[0, 0, 0, 3]].concat();
        header.extend([0; 12]); // no backing file
        header.extend(16u32.to_be_bytes());
        header.extend((80u64 << 30).to_be_bytes());
        header.extend([0; 4]);
        header.extend(160u32.to_be_bytes());
        header.extend(0x30000u64.to_be_bytes());
        header.extend(0x10000u64.to_be_bytes());
        header.extend(1u32.to_be_bytes());
        header.extend([0; 12 + 24]);
        header.extend(4u32.to_be_bytes());
        header.extend(104u32.to_be_bytes());
        header
    }

    fn with(at: usize, byte: u8) -> String {
        let mut header = header();
        header[at] = byte;
        virtual_bytes(&header, FILE_BYTES).unwrap_err()
    }

    #[test]
    fn what_can_be_a_base_and_what_cannot() {
        assert_eq!(virtual_bytes(&header(), FILE_BYTES), Ok(80 << 30));
        for (at, byte, message) in [
            (3, 0, "not a qcow2 image; if it is a raw disk, say format=raw"),
            (7, 1, "qcow2 version 1; versions 2 and 3 are known"),
            (14, 1, "has a backing file; convert it into an image that stands alone, with qemu-img convert"),
            (23, 8, "cluster_bits is 8, not 9 to 21"),
            (20, 1, "cluster_bits is 16777232, not 9 to 21"),
            (27, 0, "a disk of 0 bytes"),
            (31, 1, "a disk of 85899345921 bytes"),
            (35, 2, "encrypted"),
            (39, 0, "its L1 table does not lie within the file; was it cut short?"),
            (36, 0xff, "its L1 table does not lie within the file; was it cut short?"),
            (40, 0xff, "its L1 table does not lie within the file; was it cut short?"),
            (56, 0xff, "its refcount table does not lie within the file; was it cut short?"),
            (63, 1, "holds internal snapshots"),
            (72, 0x80, "features that this release does not know"),
            (79, 1, "marked dirty, not closed cleanly; repair it with qemu-img check -r all"),
            (79, 2, "marked corrupt; repair it with qemu-img check -r all"),
            (79, 4, "keeps its data in another file"),
        ] {
            // 80 GiB stand in one byte of its size; without it there is no disk.
            let found = if at == 27 { with(27, 0) } else { with(at, byte) };
            assert_eq!(found, message, "{at}");
        }
        assert_eq!(virtual_bytes(&header()[..40], FILE_BYTES).unwrap_err(), "its header ends after 40 bytes");
        assert!(virtual_bytes(&header(), FILE_BYTES - 65536).unwrap_err().contains("cut short"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), file_bytes: u64) {
            let _ = virtual_bytes(&[MAGIC, &[0, 0, 0, 3], &bytes].concat(), file_bytes);
        }

        #[test]
        fn any_mutation_is_read_or_refused(changes in proptest::collection::vec((0usize..104, any::<u8>()), 1..6)) {
            let mut header = header();
            changes.into_iter().for_each(|(at, byte)| header[at] = byte);
            let _ = virtual_bytes(&header, FILE_BYTES);
        }
    }
}
