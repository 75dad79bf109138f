//! The extlinux installed in a file system: whether it is complete, and its boot-once area.
//!
//! Belongs here: reading the bytes that Syslinux 6.04 installs, because the signed image
//! (`mkimg-torrent host`) and the booted slot (`abflip`) must agree on them. Not: disks,
//! configuration files, or the decision to write.
//!
//! An extlinux is found the way the machine finds it: gptmbr starts the file system's first sector,
//! which points to ldlinux.sys, which points to its two boot-once sectors
//! (libinstaller/syslxint.h). So these are the sectors that extlinux will read, wherever
//! ldlinux.sys is in the file system, mounted or not. FIEMAP would need a mount and the name, and
//! shows only the layout of the file system, which is the same for an extlinux that was copied
//! without being installed.

pub mod adv;

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Pointers are in sectors of 512 bytes, from the start of the file system, for every disk.
pub const SECTOR: u64 = 512;
/// The magic number of a patch area.
const PATCH_MAGIC: u32 = 0x3eb2_02fe;
/// Above the sectors of any ldlinux.sys.
const SECTORS_MAX: u16 = 512;
/// The maximum length of a directory's name.
const DIRECTORY_MAX: usize = 256;

/// A complete extlinux.
#[derive(Debug)]
pub struct Extlinux {
    /// The number of sectors of the file system.
    sectors: u64,
    /// The sectors of ldlinux.sys that its checksum covers.
    loader: Range<u64>,
    /// The sectors of its boot-once area, as it points to them.
    area: [u64; 2],
    /// The directory in which it was installed, within the file system.
    pub directory: PathBuf,
}

impl Extlinux {
    /// Finds the extlinux in a file system of this many bytes; `read` reads a length at an offset.
    /// `None` when gptmbr could not start it, or its loader is not contiguous.
    pub fn find(
        size_bytes: u64,
        read: impl Fn(u64, usize) -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<Option<Extlinux>> {
        let within = size_bytes / SECTOR;
        if within == 0 {
            return Ok(None);
        }
        let boot_sector = read(0, SECTOR as usize)?;
        let ends = if is_program(&boot_sector) {
            boot_sector.len() - 4
        } else {
            0
        };
        for at in 0..ends {
            let sector = u64::from(word(&boot_sector, at));
            if sector == 0 || sector >= within {
                continue;
            }
            let first = read(sector * SECTOR, SECTOR as usize)?;
            let Some(patch) = (0..first.len() - 24)
                .step_by(4)
                .find(|&at| word(&first, at) == PATCH_MAGIC)
            else {
                continue;
            };
            let count = half(&first, patch + 8);
            if !(1..=SECTORS_MAX).contains(&count) || sector + u64::from(count) > within {
                continue;
            }
            let loader = read(sector * SECTOR, usize::from(count) * SECTOR as usize)?;
            if let Some((area, directory)) = pointed_to(&loader, patch, at) {
                let loader = sector..sector + u64::from(count);
                return Ok(Some(Extlinux {
                    sectors: within,
                    loader,
                    area,
                    directory,
                }));
            }
        }
        Ok(None)
    }

    /// The two sectors of its boot-once area; `None` when the pointers are invalid.
    pub fn area(&self) -> Option<[u64; 2]> {
        let is_wrong =
            |sector: &u64| *sector == 0 || *sector >= self.sectors || self.loader.contains(sector);
        let [first, second] = self.area;
        (first != second && !self.area.iter().any(is_wrong)).then_some(self.area)
    }
}

/// Whether gptmbr would start this boot sector, and it begins with a jump, as those of Syslinux do;
/// otherwise it may be a remnant.
fn is_program(boot_sector: &[u8]) -> bool {
    boot_sector[0] == 0xeb && boot_sector.ends_with(&[0x55, 0xaa])
}

/// The sectors of the boot-once area, and the directory, of a loader with its patch area at
/// `patch`, to which the boot sector points at `pointed_from`; `None` when the loader is
/// incomplete, or not the one pointed to.
fn pointed_to(loader: &[u8], patch: usize, pointed_from: usize) -> Option<([u64; 2], PathBuf)> {
    // The sum of its words, including the checksum, is the magic number: so the loader is
    // contiguous and complete.
    let words = usize::try_from(word(loader, patch + 12)).ok()?;
    let summed = loader.get(..words.checked_mul(4)?)?;
    let sum = summed
        .chunks_exact(4)
        .fold(0u32, |sum, bytes| sum.wrapping_add(word(bytes, 0)));
    let area = usize::from(half(loader, patch + 22));
    let fields = loader.get(area..area + 20)?;
    let field = |number: usize| usize::from(half(fields, 2 * number));
    // The lower halves of two pointers to the loader.
    if sum != PATCH_MAGIC || field(7) != pointed_from {
        return None;
    }
    let pointers = loader.get(field(0)..field(0) + 16)?;
    let sectors =
        [0, 8].map(|at| u64::from(word(pointers, at)) | u64::from(word(pointers, at + 4)) << 32);
    let directory = loader.get(field(1)..field(1) + field(2).min(DIRECTORY_MAX))?;
    let directory = directory.split(|&byte| byte == 0).next()?;
    Some((sectors, PathBuf::from(OsStr::from_bytes(directory))))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn find_reads_nothing_of_what_has_no_sector() {
        assert!(
            Extlinux::find(511, |_, _| panic!("it reads"))
                .unwrap()
                .is_none()
        );
        assert!(
            Extlinux::find(512, |_, length| Ok(vec![0; length]))
                .unwrap()
                .is_none()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_loader_or_none(
            loader in proptest::collection::vec(any::<u8>(), 512..2048), patch in 0..488usize, at in 0..508usize,
        ) {
            let _ = pointed_to(&loader, patch, at);
        }
    }
}
