//! An extlinux in a slot, as far as it is read: a boot sector that points to a loader that points to its boot-once area. The real
//! one is in lab/test-update.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use super::{A, B, Machine, PARTITION};

/// Where the loader is, in sectors of the partition, and where its boot-once area is: not in one piece, which is fine.
const LOADER: u64 = 64;
const LOADER_SECTORS: usize = 4;
const AREA: [u64; 2] = [80, 91];
/// Where the boot sector says where the loader is.
pub const POINTER_AT: usize = 282;

/// A boot-once sector that is empty.
pub fn empty() -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[..8].copy_from_slice(&[0xa5, 0x2f, 0x2d, 0x5a, 0x67, 0x17, 0x04, 0xa3]);
    sector[508..].copy_from_slice(&[0x64, 0xbf, 0x28, 0xdd]);
    sector
}

impl Machine {
    /// Puts one into the partition that begins there.
    pub fn put_extlinux(&self, start: u64) {
        let mut loader = vec![0; LOADER_SECTORS * 512];
        let put = |loader: &mut Vec<u8>, at: usize, bytes: &[u8]| loader[at..at + bytes.len()].copy_from_slice(bytes);
        let halves = |values: &[u16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        put(&mut loader, 24, &0x3eb2_02fe_u32.to_le_bytes());
        put(&mut loader, 24 + 8, &halves(&[LOADER_SECTORS as u16, 2]));
        put(&mut loader, 24 + 12, &(LOADER_SECTORS as u32 * 128).to_le_bytes());
        put(&mut loader, 24 + 22, &halves(&[1100])); // the extended area
        put(&mut loader, 1100, &halves(&[1200, 1300, 256, 1600, 256, 494, 192, POINTER_AT as u16, 288, 458]));
        put(&mut loader, 1200, &AREA.map(u64::to_le_bytes).concat());
        put(&mut loader, 1300, b"/boot/extlinux\0");
        let words = loader.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        let sum = words.fold(0x3eb2_02fe_u32, u32::wrapping_sub);
        put(&mut loader, 24 + 16, &sum.to_le_bytes());
        // Another loader, which nobody points to any more, and something that looks like a pointer to it.
        self.poke(start + 300 * 512, &loader);
        self.poke(start, &[0xeb, 0x58, 0x90]);
        self.poke(start + 510, &[0x55, 0xaa]);
        self.poke(start + 20, &300u32.to_le_bytes());
        self.poke(start + LOADER * 512, &loader);
        self.poke(start + POINTER_AT as u64, &(LOADER as u32).to_le_bytes());
        for sector in AREA {
            self.poke(start + sector * 512, &empty());
        }
    }

    /// Puts the extlinux.conf into the root of slot a, and what stands for the modules that it needs.
    pub fn configure_extlinux(&self) {
        let directory = self.root().join("boot/extlinux");
        fs::create_dir_all(&directory).unwrap();
        for module in ["chain.c32", "libcom32.c32", "libutil.c32"] {
            fs::write(directory.join(module), "\x7fELF").unwrap();
        }
        let label = |name: &str, guid: &str| format!("label try-{name}\n    com32 chain.c32\n    append guid={guid}\n");
        fs::write(directory.join("extlinux.conf"), format!("default linux\n{}{}", label("a", A), label("b", B))).unwrap();
    }

    /// What is in its boot-once area.
    pub fn boot_once(&self) -> [Vec<u8>; 2] {
        let disk = File::open(self.disk()).unwrap();
        self.boot_once_places().map(|at| {
            let mut sector = vec![0; 512];
            disk.read_exact_at(&mut sector, at).unwrap();
            sector
        })
    }

    /// What extlinux does before it starts the label, or what became of it otherwise.
    pub fn set_boot_once(&self, copies: &[Vec<u8>; 2]) {
        for (at, copy) in self.boot_once_places().into_iter().zip(copies) {
            self.poke(at, copy);
        }
    }

    /// The sectors of both tables.
    pub fn tables(&self) -> [Vec<u8>; 2] {
        let disk = File::open(self.disk()).unwrap();
        [0, (self.last() - 32) * 512].map(|at| {
            let mut sectors = vec![0; if at == 0 { 34 } else { 33 } * 512];
            disk.read_exact_at(&mut sectors, at).unwrap();
            sectors
        })
    }

    /// Where it is on the disk.
    pub fn boot_once_places(&self) -> [u64; 2] {
        AREA.map(|sector| PARTITION + sector * 512)
    }
}
