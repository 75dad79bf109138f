//! The qcow2 format: parses the header, and lays out a blank overlay.
//!
//! The specification is docs/interop/qcow2.rst of QEMU. Images that QEMU would not open are
//! refused, and so are features that this suite never uses: encryption, external data files, more than
//! one internal snapshot, dirty bitmaps.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// The limit of the header with its extensions; those that QEMU writes take some 600 bytes.
pub const HEADER_MAX_BYTES: usize = 4096;

/// The cluster size of our overlays: QEMU's default.
pub const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;
const CLUSTER_BITS: u32 = 16;
/// 16-bit reference counts, also QEMU's default.
const REFCOUNT_ORDER: u32 = 4;

const MAGIC: [u8; 4] = *b"QFI\xfb";
const V2_HEADER_BYTES: u32 = 72;
const V3_HEADER_BYTES: u32 = 104;
/// Including the compression type and its padding.
const OUR_HEADER_BYTES: u32 = 112;

/// QEMU's limits for the tables that it reads whole.
const L1_MAX_BYTES: u64 = 32 << 20;
const REFTABLE_MAX_BYTES: u64 = 8 << 20;
/// The largest disk of our overlays: a full L1 table, whose entries each represent 512 MiB.
pub const OVERLAY_MAX_BYTES: u64 = L1_MAX_BYTES / 8 * BYTES_PER_L1_ENTRY;
/// The part of the disk that one L2 table maps.
pub const BYTES_PER_L1_ENTRY: u64 = CLUSTER_BYTES * (CLUSTER_BYTES / 8);
/// The clusters that one refcount block counts.
pub const REFCOUNTS_PER_BLOCK: u64 = (CLUSTER_BYTES * 8) >> REFCOUNT_ORDER;
const BACKING_NAME_MAX_BYTES: usize = 1023;

// Incompatible features.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
// Autoclear features.
const BITMAPS: u64 = 1 << 0;
const RAW_EXTERNAL_DATA: u64 = 1 << 1;

// Header extensions.
const EXT_END: u32 = 0;
const EXT_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXT_CRYPTO: u32 = 0x0537_be77;
const EXT_BITMAPS: u32 = 0x2385_2875;
/// The length that QEMU requires, even where the feature bit marks the extension as outdated.
const EXT_BITMAPS_BYTES: usize = 24;
/// Our extension: the identity of the base of an overlay, as JSON. QEMU keeps unknown extensions.
const EXT_IDENTITY: u32 = u32::from_be_bytes(*b"ltcv");

/// Whether a file with this beginning claims to be qcow2.
pub fn is_qcow2(start: &[u8]) -> bool {
    start.starts_with(&MAGIC)
}

/// The content of an image's first cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// The size of a cluster as a power of two, 9 to 21.
    pub cluster_bits: u32,
    /// The size of the guest's disk: above zero, in whole sectors.
    pub virtual_bytes: u64,
    /// The entries of the L1 table: enough for the disk.
    pub l1_entries: u64,
    /// Where the L1 table starts.
    pub l1_offset: u64,
    /// Where the refcount table starts.
    pub reftable_offset: u64,
    /// The entries of the refcount table.
    pub reftable_entries: u64,
    /// The width of a reference count in bits as a power of two, 0 to 6.
    pub refcount_order: u32,
    /// Where the snapshot table starts, of one snapshot; `None` without one.
    pub snapshots_offset: Option<u64>,
    /// Whether no feature changes the reading of data: no zstd in compressed clusters, no
    /// subclusters in L2 entries.
    pub plain: bool,
    /// The name of the backing file, as it is recorded.
    pub backing_name: Option<String>,
    /// The format of the backing file.
    pub backing_format: Option<String>,
    /// Our own extension.
    pub identity: Option<Vec<u8>>,
}

impl Header {
    /// The size of a cluster.
    pub fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The bytes that the L1 table takes.
    pub fn l1(&self) -> Range<u64> {
        self.l1_offset..self.l1_offset + self.l1_entries * 8
    }

    /// The bytes that the refcount table takes.
    pub fn reftable(&self) -> Range<u64> {
        self.reftable_offset..self.reftable_offset + self.reftable_entries * 8
    }

    /// Parses the first [`HEADER_MAX_BYTES`] of an image, or all of a shorter one. The error
    /// describes the fault.
    pub fn parse(start: &[u8]) -> Result<Header, String> {
        if !start.starts_with(&MAGIC) {
            return Err("not a qcow2 image".into());
        }
        let start = Bytes(start);
        let version = start.u32(4)?;
        let (incompatible, autoclear, refcount_order, header_bytes) = match version {
            2 => (0, 0, REFCOUNT_ORDER, V2_HEADER_BYTES),
            3 => (
                start.u64(72)?,
                start.u64(88)?,
                start.u32(96)?,
                start.u32(100)?,
            ),
            _ => {
                return Err(format!(
                    "qcow2 version {version}; versions 2 and 3 are known"
                ));
            }
        };
        let cluster_bits = start.u32(20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(format!("cluster_bits is {cluster_bits}, not 9 to 21"));
        }
        let cluster_bytes = 1u64 << cluster_bits;

        if start.u32(32)? != 0 {
            return Err("encrypted".into());
        }
        if incompatible & CORRUPT != 0 {
            return Err("marked corrupt; repair it with qemu-img check -r all".into());
        }
        if incompatible & DIRTY != 0 {
            return Err(
                "marked dirty, not closed cleanly; repair it with qemu-img check -r all".into(),
            );
        }
        if incompatible & EXTERNAL_DATA != 0 || autoclear & RAW_EXTERNAL_DATA != 0 {
            return Err("keeps its data in another file".into());
        }
        let unknown = incompatible & !(COMPRESSION_TYPE | EXTENDED_L2);
        if unknown != 0 {
            return Err(format!("unknown incompatible features {unknown:#x}"));
        }
        if refcount_order > 6 {
            return Err(format!("refcount_order is {refcount_order}, not 0 to 6"));
        }
        let extended_l2 = incompatible & EXTENDED_L2 != 0;
        if extended_l2 && cluster_bits < 14 {
            return Err("subclusters in clusters below 16 KiB".into());
        }

        let length_fits = (version == 2 || header_bytes >= V3_HEADER_BYTES)
            && u64::from(header_bytes) <= cluster_bytes;
        if !length_fits || !header_bytes.is_multiple_of(8) {
            return Err(format!("header_length is {header_bytes}"));
        }
        let zstd = header_bytes > V3_HEADER_BYTES && start.array::<1>(104)? != [0];
        if zstd && start.array(104)? != [1] || zstd != (incompatible & COMPRESSION_TYPE != 0) {
            return Err("an unknown compression type".into());
        }

        let virtual_bytes = start.u64(24)?;
        if virtual_bytes == 0 || !virtual_bytes.is_multiple_of(512) {
            return Err(format!("a disk of {virtual_bytes} bytes"));
        }
        let (l1_offset, l1_entries) = (start.u64(40)?, u64::from(start.u32(36)?));
        let l2_entry_bytes = if extended_l2 { 16 } else { 8 };
        let bytes_per_l1_entry = cluster_bytes * (cluster_bytes / l2_entry_bytes);
        let enough = virtual_bytes.div_ceil(bytes_per_l1_entry) <= l1_entries;
        if !enough || !table_fits(l1_offset, l1_entries * 8, cluster_bytes, L1_MAX_BYTES) {
            return Err(format!(
                "an L1 table of {l1_entries} entries at {l1_offset:#x}"
            ));
        }
        let (reftable_offset, reftable_clusters) = (start.u64(48)?, u64::from(start.u32(56)?));
        let reftable_bytes = reftable_clusters * cluster_bytes;
        if !table_fits(
            reftable_offset,
            reftable_bytes,
            cluster_bytes,
            REFTABLE_MAX_BYTES,
        ) {
            return Err(format!(
                "a refcount table of {reftable_clusters} clusters at {reftable_offset:#x}"
            ));
        }
        if l1_offset < reftable_offset + reftable_bytes
            && reftable_offset < l1_offset + l1_entries * 8
        {
            return Err("the L1 table and the refcount table overlap".into());
        }

        let snapshots_offset = match (start.u32(60)?, start.u64(64)?) {
            (0, 0) => None,
            (0, _) => return Err("a snapshot table but no snapshot".into()),
            (1, offset) if table_fits(offset, 1, cluster_bytes, 1) => Some(offset),
            _ => return Err("holds internal snapshots".into()),
        };

        let (name_offset, name_bytes) = (start.u64(8)?, start.u32(16)? as usize);
        let backing_name = match name_offset {
            0 => None,
            _ if name_bytes == 0
                || name_bytes > BACKING_NAME_MAX_BYTES
                || name_offset >= cluster_bytes =>
            {
                return Err(format!(
                    "a backing file name of {name_bytes} bytes at {name_offset:#x}"
                ));
            }
            _ => Some(start.text(name_offset as usize, name_bytes)?),
        };
        let extensions_end = if name_offset == 0 {
            cluster_bytes
        } else {
            name_offset
        };
        let (backing_format, identity) = extensions(
            &start,
            header_bytes as usize,
            extensions_end as usize,
            autoclear,
        )?;

        Ok(Header {
            version,
            cluster_bits,
            virtual_bytes,
            l1_entries,
            l1_offset,
            reftable_offset,
            reftable_entries: reftable_bytes / 8,
            refcount_order,
            snapshots_offset,
            plain: !zstd && !extended_l2,
            backing_name,
            backing_format,
            identity,
        })
    }

    /// Whether an image has the layout of [`blank_overlay`], which QEMU keeps while it writes to
    /// it. Its tables move when it gets a restore point.
    pub fn is_laid_out_as_ours(&self) -> bool {
        self.version == 3
            && self.plain
            && self.cluster_bits == CLUSTER_BITS
            && self.refcount_order == REFCOUNT_ORDER
            && self.l1_entries == self.virtual_bytes.div_ceil(BYTES_PER_L1_ENTRY)
    }

    /// Whether its L1 table is where [`blank_overlay`] puts it: it never had a restore point.
    pub fn is_as_created(&self) -> bool {
        self.l1_offset == L1_OFFSET
    }
}

/// Checks that a table starts at a cluster other than the first, and has a size that QEMU accepts.
pub(crate) fn table_fits(offset: u64, bytes: u64, cluster_bytes: u64, max_bytes: u64) -> bool {
    let past_header = offset >= cluster_bytes && offset.is_multiple_of(cluster_bytes);
    past_header && (1..=max_bytes).contains(&bytes) && offset <= i64::MAX as u64 - max_bytes
}

/// The two relevant extensions: the backing format and ours.
fn extensions(
    start: &Bytes<'_>,
    mut at: usize,
    end: usize,
    autoclear: u64,
) -> Result<(Option<String>, Option<Vec<u8>>), String> {
    let (mut backing_format, mut identity) = (None, None);
    while at < end {
        let (magic, length) = (start.u32(at)?, start.u32(at + 4)? as usize);
        at += 8;
        if at > end || length > end - at {
            return Err(format!(
                "header extension {magic:#010x} is larger than its place"
            ));
        }
        if magic == EXT_END {
            break;
        }
        match magic {
            // QEMU has 16 bytes for it.
            EXT_BACKING_FORMAT if length < 16 => backing_format = Some(start.text(at, length)?),
            EXT_BACKING_FORMAT => return Err("a backing format of more than 15 bytes".into()),
            EXT_CRYPTO => return Err("encrypted".into()),
            EXT_BITMAPS if length != EXT_BITMAPS_BYTES => {
                return Err(format!("a bitmaps extension of {length} bytes"));
            }
            // QEMU reads all of them, and refuses an image with an invalid one.
            EXT_BITMAPS if autoclear & BITMAPS != 0 => {
                return Err(
                    "holds dirty bitmaps; remove them with qemu-img bitmap --remove".into(),
                );
            }
            EXT_IDENTITY => identity = Some(start.slice(at, length)?.to_vec()),
            _ => {}
        }
        at += length.next_multiple_of(8);
    }
    Ok((backing_format, identity))
}

/// Numbers and texts in the first bytes of an image.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn slice(&self, at: usize, length: usize) -> Result<&'a [u8], String> {
        let place = at.checked_add(length).and_then(|end| self.0.get(at..end));
        place.ok_or_else(|| format!("its header ends after {} bytes", self.0.len()))
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(at, N)?);
        Ok(array)
    }

    fn u32(&self, at: usize) -> Result<u32, String> {
        self.array(at).map(u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, String> {
        self.array(at).map(u64::from_be_bytes)
    }

    fn text(&self, at: usize, length: usize) -> Result<String, String> {
        let bytes = self.slice(at, length)?;
        String::from_utf8(bytes.to_vec())
            .map_err(|_| format!("a text at {at:#x} that is not UTF-8"))
    }
}

/// The layout of a new overlay: the bytes to write, and the length of the file. The rest is holes,
/// which read as zeros.
#[derive(Debug)]
pub struct Layout {
    /// Offset and bytes.
    pub pieces: Vec<(u64, Vec<u8>)>,
    /// The length of the file.
    pub length: u64,
}

impl Layout {
    /// Writes it to an empty file.
    pub fn write_to(&self, file: &File) -> io::Result<()> {
        for (offset, bytes) in &self.pieces {
            file.write_all_at(bytes, *offset)?;
        }
        file.set_len(self.length)
    }
}

// One cluster each for header, refcount table and refcount block; then the L1 table.
pub const REFTABLE_OFFSET: u64 = CLUSTER_BYTES;
pub const REFBLOCK_OFFSET: u64 = 2 * CLUSTER_BYTES;
pub const L1_OFFSET: u64 = 3 * CLUSTER_BYTES;

/// Lays out an empty overlay of a disk with `virtual_bytes`, at most [`OVERLAY_MAX_BYTES`].
///
/// The L1 table is all zeros: everything is read from the backing file. The header of 112 bytes is
/// followed by the backing format, the identity and the backing file's name.
pub fn blank_overlay(virtual_bytes: u64, backing_name: &str, identity: &[u8]) -> Layout {
    let l1_entries = virtual_bytes.div_ceil(BYTES_PER_L1_ENTRY);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER_BYTES);

    let mut extensions = Vec::new();
    for (magic, data) in [
        (EXT_BACKING_FORMAT, &b"qcow2"[..]),
        (EXT_IDENTITY, identity),
        (EXT_END, &[]),
    ] {
        extensions.extend(magic.to_be_bytes());
        extensions.extend((data.len() as u32).to_be_bytes());
        extensions.extend(data);
        extensions.resize(extensions.len().next_multiple_of(8), 0);
    }
    let backing_name_offset = u64::from(OUR_HEADER_BYTES) + extensions.len() as u64;

    let mut header = Vec::with_capacity(HEADER_MAX_BYTES);
    header.extend(MAGIC);
    header.extend(3u32.to_be_bytes());
    header.extend(backing_name_offset.to_be_bytes());
    header.extend((backing_name.len() as u32).to_be_bytes());
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(virtual_bytes.to_be_bytes());
    header.extend(0u32.to_be_bytes()); // not encrypted
    header.extend((l1_entries as u32).to_be_bytes());
    header.extend(L1_OFFSET.to_be_bytes());
    header.extend(REFTABLE_OFFSET.to_be_bytes());
    header.extend(1u32.to_be_bytes()); // clusters of the refcount table
    header.extend(0u32.to_be_bytes()); // snapshots
    header.extend(0u64.to_be_bytes()); // where they would be
    header.extend([0; 24]); // incompatible, compatible and autoclear features
    header.extend(REFCOUNT_ORDER.to_be_bytes());
    header.extend(OUR_HEADER_BYTES.to_be_bytes());
    header.extend([0; 8]); // compression type zlib, and padding
    header.extend(extensions);
    header.extend(backing_name.as_bytes());

    // One block counts 32768 clusters; the largest L1 table takes 512.
    let refcounts = 1u16.to_be_bytes().repeat((3 + l1_clusters) as usize);
    Layout {
        pieces: vec![
            (0, header),
            (REFTABLE_OFFSET, REFBLOCK_OFFSET.to_be_bytes().to_vec()),
            (REFBLOCK_OFFSET, refcounts),
        ],
        length: L1_OFFSET + l1_clusters * CLUSTER_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn blank(virtual_bytes: u64) -> Vec<u8> {
        blank_overlay(
            virtual_bytes,
            "../../backing/windows/7.qcow2",
            br#"{"schema":1}"#,
        )
        .pieces
        .swap_remove(0)
        .1
    }

    #[test]
    fn written_headers_are_read() {
        let header = Header::parse(&blank(80 * GIB)).unwrap();
        assert_eq!(
            header,
            Header {
                version: 3,
                cluster_bits: 16,
                virtual_bytes: 80 * GIB,
                l1_entries: 160,
                l1_offset: 0x30000,
                reftable_offset: 0x10000,
                reftable_entries: 8192,
                refcount_order: 4,
                snapshots_offset: None,
                plain: true,
                backing_name: Some("../../backing/windows/7.qcow2".into()),
                backing_format: Some("qcow2".into()),
                identity: Some(br#"{"schema":1}"#.to_vec()),
            }
        );
        assert!(header.is_laid_out_as_ours());
    }

    #[test]
    fn four_clusters_and_more_above_4_tib() {
        let clusters =
            |virtual_bytes| blank_overlay(virtual_bytes, "b", b"").length / CLUSTER_BYTES;
        assert_eq!(clusters(512), 4);
        assert_eq!(clusters(4096 * GIB), 4);
        assert_eq!(clusters(4096 * GIB + 512), 5);
        assert_eq!(clusters(5 * 1024 * GIB), 5);
        assert_eq!(clusters(OVERLAY_MAX_BYTES), 3 + 512);
    }

    /// A header with the bytes from `at` replaced.
    fn with(at: usize, bytes: &[u8]) -> Result<Header, String> {
        let mut header = blank(80 * GIB);
        header[at..at + bytes.len()].copy_from_slice(bytes);
        Header::parse(&header)
    }

    #[test]
    fn bad_headers_are_refused() {
        for (at, bytes, message) in [
            (0, &b"QFI\0"[..], "not a qcow2 image"),
            (7, &[1], "qcow2 version 1; versions 2 and 3 are known"),
            (23, &[8], "cluster_bits is 8, not 9 to 21"),
            (23, &[22], "cluster_bits is 22, not 9 to 21"),
            (20, &[0xff; 4], "cluster_bits is 4294967295, not 9 to 21"),
            (24, &[0; 8], "a disk of 0 bytes"),
            (31, &[1], "a disk of 85899345921 bytes"),
            (
                24,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0],
                "an L1 table of 160 entries at 0x30000",
            ),
            (35, &[1], "encrypted"),
            (39, &[0x9f], "an L1 table of 159 entries at 0x30000"),
            (
                36,
                &[0xff; 4],
                "an L1 table of 4294967295 entries at 0x30000",
            ),
            (40, &[0; 8], "an L1 table of 160 entries at 0x0"),
            (46, &[1], "an L1 table of 160 entries at 0x30100"),
            (
                40,
                &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
                "an L1 table of 160 entries at 0x7fffffffffff0000",
            ),
            (48, &[0; 8], "a refcount table of 1 clusters at 0x0"),
            (56, &[0; 4], "a refcount table of 0 clusters at 0x10000"),
            (
                56,
                &[0xff; 4],
                "a refcount table of 4294967295 clusters at 0x10000",
            ),
            (59, &[3], "the L1 table and the refcount table overlap"),
            (63, &[1], "holds internal snapshots"),
            (71, &[1], "a snapshot table but no snapshot"),
            (
                79,
                &[1],
                "marked dirty, not closed cleanly; repair it with qemu-img check -r all",
            ),
            (
                79,
                &[2],
                "marked corrupt; repair it with qemu-img check -r all",
            ),
            (79, &[4], "keeps its data in another file"),
            (79, &[8], "an unknown compression type"),
            (79, &[0x20], "unknown incompatible features 0x20"),
            (
                72,
                &[0x80],
                "unknown incompatible features 0x8000000000000000",
            ),
            (95, &[2], "keeps its data in another file"),
            (99, &[7], "refcount_order is 7, not 0 to 6"),
            (103, &[96], "header_length is 96"),
            (103, &[113], "header_length is 113"),
            (100, &[1], "header_length is 16777328"),
            (104, &[1], "an unknown compression type"),
            (104, &[2], "an unknown compression type"),
            (19, &[0], "a backing file name of 0 bytes at 0xa0"),
            (
                16,
                &[0xff; 4],
                "a backing file name of 4294967295 bytes at 0xa0",
            ),
            (
                8,
                &[0xff; 8],
                "a backing file name of 29 bytes at 0xffffffffffffffff",
            ),
            (
                116,
                &[0xff; 4],
                "header extension 0xe2792aca is larger than its place",
            ),
            (119, &[16], "a backing format of more than 15 bytes"),
            (120, &[0xff], "a text at 0x78 that is not UTF-8"),
            (112, &[0x05, 0x37, 0xbe, 0x77], "encrypted"),
            (
                112,
                &[0x23, 0x85, 0x28, 0x75],
                "a bitmaps extension of 5 bytes",
            ),
        ] {
            assert_eq!(with(at, bytes).unwrap_err(), message, "{at} {bytes:x?}");
        }
        assert_eq!(
            Header::parse(&blank(GIB)[..50]).unwrap_err(),
            "its header ends after 50 bytes"
        );
        assert_eq!(Header::parse(b"").unwrap_err(), "not a qcow2 image");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Header::parse(&[&MAGIC[..], &[0, 0, 0, 3], &bytes].concat());
        }

        #[test]
        fn any_mutation_is_read_or_refused(
            changes in proptest::collection::vec((0usize..200, any::<u8>()), 1..6),
            length in 0usize..300,
        ) {
            let mut header = blank(80 * GIB);
            for (at, byte) in changes {
                if let Some(place) = header.get_mut(at) {
                    *place = byte;
                }
            }
            let _ = Header::parse(&header);
            header.truncate(length);
            let _ = Header::parse(&header);
        }

        #[test]
        fn any_size_comes_back(sectors in 1..=OVERLAY_MAX_BYTES / 512, name in "[a-z./]{1,200}", identity in "\\PC{0,200}") {
            let layout = blank_overlay(sectors * 512, &name, identity.as_bytes());
            let header = Header::parse(&layout.pieces[0].1).unwrap();
            prop_assert_eq!(header.virtual_bytes, sectors * 512);
            prop_assert_eq!(header.backing_name.as_deref(), Some(name.as_str()));
            prop_assert_eq!(header.identity.as_deref(), Some(identity.as_bytes()));
            prop_assert!(header.is_laid_out_as_ours());
            prop_assert!(header.l1().end <= layout.length);
        }
    }
}
