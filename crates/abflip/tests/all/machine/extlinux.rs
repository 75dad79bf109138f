//! An extlinux, as far as it is read: a boot sector that points to a loader that points to its
//! boot-once area. The real one is in lab/test-update.

/// Where the loader is, in sectors of the partition.
const LOADER: u64 = 64;
const LOADER_SECTORS: usize = 4;
/// Where its boot-once area is: not in one piece, which is fine.
pub const AREA: [u64; 2] = [80, 91];
/// Where the boot sector says where the loader is.
pub const POINTER_AT: usize = 282;

/// A boot-once sector that is empty.
pub fn empty() -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[..8].copy_from_slice(&[0xa5, 0x2f, 0x2d, 0x5a, 0x67, 0x17, 0x04, 0xa3]);
    sector[508..].copy_from_slice(&[0x64, 0xbf, 0x28, 0xdd]);
    sector
}

/// Its bytes, with their place in the partition.
pub fn parts() -> Vec<(u64, Vec<u8>)> {
    let mut loader = vec![0; LOADER_SECTORS * 512];
    let mut put = |at: usize, bytes: &[u8]| loader[at..at + bytes.len()].copy_from_slice(bytes);
    let halves = |values: &[u16]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    put(24, &0x3eb2_02fe_u32.to_le_bytes());
    put(24 + 8, &halves(&[LOADER_SECTORS as u16, 2]));
    put(24 + 12, &(LOADER_SECTORS as u32 * 128).to_le_bytes());
    put(24 + 22, &halves(&[1100])); // the extended area
    put(
        1100,
        &halves(&[
            1200,
            1300,
            256,
            1600,
            256,
            494,
            192,
            POINTER_AT as u16,
            288,
            458,
        ]),
    );
    put(1200, &AREA.map(u64::to_le_bytes).concat());
    put(1300, b"/boot/extlinux\0");
    let words = loader
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let sum = words.fold(0x3eb2_02fe_u32, u32::wrapping_sub);
    loader[24 + 16..24 + 20].copy_from_slice(&sum.to_le_bytes());
    let mut parts = vec![
        (0, vec![0xeb, 0x58, 0x90]),
        (510, vec![0x55, 0xaa]),
        // Another loader, which nobody points to any more, and something that looks like a pointer
        // to it.
        (300 * 512, loader.clone()),
        (20, 300u32.to_le_bytes().into()),
        (LOADER * 512, loader),
        (POINTER_AT as u64, (LOADER as u32).to_le_bytes().into()),
    ];
    parts.extend(AREA.map(|sector| (sector * 512, empty())));
    parts
}
