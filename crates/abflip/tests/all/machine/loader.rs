//! What starts a machine in a directory, by BIOS.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use super::extlinux::{AREA, parts};
use super::{A, B, Machine, PARTITION};

impl Machine {
    /// Puts an extlinux into the partition that begins there.
    pub fn put_extlinux(&self, start: u64) {
        for (at, bytes) in parts() {
            self.poke(start + at, &bytes);
        }
    }

    /// Puts the extlinux.conf into the root of slot a, and what stands for the modules that it
    /// needs.
    pub fn configure_extlinux(&self) {
        let directory = self.root().join("boot/extlinux");
        fs::create_dir_all(&directory).unwrap();
        for module in ["chain.c32", "libcom32.c32", "libutil.c32"] {
            fs::write(directory.join(module), "\x7fELF").unwrap();
        }
        let label = |name: &str, guid: &str| {
            format!("label try-{name}\n    com32 chain.c32\n    append guid={guid}\n")
        };
        fs::write(
            directory.join("extlinux.conf"),
            format!("default linux\n{}{}", label("a", A), label("b", B)),
        )
        .unwrap();
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
