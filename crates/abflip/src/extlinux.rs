//! The extlinux in a slot: whether it is whole, where its boot-once area is, what that says, and what makes it say something else.
//!
//! It is found the way the machine finds it: gptmbr starts the slot's first sector, which points to ldlinux.sys, which points to its
//! two boot-once sectors (libinstaller/syslxint.h of Syslinux 6.04). So these are the sectors that extlinux is going to read, wherever in the
//! file system ldlinux.sys has its name, and whether that is mounted or not. FIEMAP would need a mount and the name, and tells
//! what the file system has, which an extlinux that was copied there without being installed does not.

use std::path::PathBuf;

use crate::adv;
use crate::disk::Disk;
use crate::target::Place;
use crate::writes::Change;

/// Pointers are in sectors of 512 bytes, from the start of the partition, whatever the disk has.
const SECTOR: u64 = 512;
/// What a patch area begins with.
const PATCH_MAGIC: u32 = 0x3eb2_02fe;
/// More sectors than any ldlinux.sys has.
const SECTORS_MAX: u16 = 512;
/// A directory's name is not longer.
const DIRECTORY_MAX: usize = 256;

/// An extlinux that is whole.
#[derive(Debug)]
pub struct Extlinux {
    partition: Place,
    /// The sectors of its boot-once area, counted within the partition.
    area: [u64; 2],
    /// The directory that it was installed in, as seen below the slot's root.
    pub directory: PathBuf,
}

impl Extlinux {
    /// Finds the one of a partition. The inner error says, in words, why gptmbr could not start it; status 74 when the disk cannot be
    /// read.
    pub fn find(disk: &Disk, partition: Place) -> anyhow::Result<Result<Extlinux, String>> {
        let Place { start_bytes: start, size_bytes: length, .. } = partition;
        let boot_sector = disk.read(start, SECTOR as usize)?;
        let ends = if is_program(&boot_sector) { boot_sector.len() - 4 } else { 0 };
        for at in 0..ends {
            let sector = u64::from(word(&boot_sector, at));
            if sector == 0 || sector >= length / SECTOR {
                continue;
            }
            let first = disk.read(start + sector * SECTOR, SECTOR as usize)?;
            let Some(patch) = (0..first.len() - 24).step_by(4).find(|&at| word(&first, at) == PATCH_MAGIC) else { continue };
            let sectors = half(&first, patch + 8);
            if !(1..=SECTORS_MAX).contains(&sectors) || (sector + u64::from(sectors)) * SECTOR > length {
                continue;
            }
            let loader = disk.read(start + sector * SECTOR, usize::from(sectors) * SECTOR as usize)?;
            if let Some((area, directory)) = pointed_to(&loader, patch, at) {
                return Ok(Ok(Extlinux { partition, area, directory }));
            }
        }
        Ok(Err("no extlinux is installed in it, in one piece; see extlinux(1), --install".into()))
    }

    /// Its boot-once area. The inner error says, in words, why it cannot be used; status 74 when the disk cannot be read.
    pub fn boot_once(&self, disk: &Disk) -> anyhow::Result<Result<BootOnce, String>> {
        let Place { start_bytes: start, size_bytes: length, .. } = self.partition;
        let sectors = self.area;
        if sectors[0] == sectors[1] || sectors.iter().any(|&sector| sector == 0 || sector >= length / SECTOR) {
            return Ok(Err("its extlinux has no boot-once area; install it again".into()));
        }
        let copies = sectors.map(|sector| start + sector * SECTOR);
        let first = disk.read(copies[0], adv::BYTES)?;
        let second = disk.read(copies[1], adv::BYTES)?;
        let agree = first == second;
        let Some(content) = [first, second].into_iter().find(|copy| adv::is_consistent(copy)) else {
            return Ok(Err("its extlinux has no valid boot-once area; see extlinux(1), --reset-adv".into()));
        };
        Ok(Ok(BootOnce { copies, content, agree }))
    }
}

/// Whether a boot sector is one that gptmbr starts, and that begins with a jump, as those of Syslinux do: not what is left of one.
fn is_program(boot_sector: &[u8]) -> bool {
    boot_sector[0] == 0xeb && boot_sector.ends_with(&[0x55, 0xaa])
}

/// The boot-once area of an extlinux.
#[derive(Debug)]
pub struct BootOnce {
    /// Where its two copies are, in bytes, on the disk.
    copies: [u64; 2],
    /// The copy that counts.
    content: Vec<u8>,
    /// Whether the other one says the same.
    agree: bool,
}

impl BootOnce {
    /// The label that is started once.
    pub fn label(&self) -> Option<&[u8]> {
        adv::boot_once(&self.content)
    }

    /// What makes both copies have this label, or none; nothing when that is so. `None` when there is no room.
    ///
    /// extlinux takes the first copy unless it is torn, and then the second: at any instant it finds the old label or the new one.
    pub fn changes(&self, label: Option<&str>) -> Option<Vec<Change>> {
        let wanted = adv::with_boot_once(&self.content, label)?;
        if self.agree && wanted == self.content {
            return Some(Vec::new());
        }
        let change = |offset| Change { what: "a boot-once sector", offset, bytes: wanted.clone() };
        Some(self.copies.map(change).into())
    }
}

/// The sectors of the boot-once area, and the directory, of a loader whose patch area is at `patch` and to which the boot sector
/// points at `pointed_from`; `None` when it is not whole, or not the one that is pointed to.
fn pointed_to(loader: &[u8], patch: usize, pointed_from: usize) -> Option<([u64; 2], PathBuf)> {
    // Its words, the checksum among them, are the magic number together: so the loader lies in one piece, and is whole.
    let words = usize::try_from(word(loader, patch + 12)).ok()?;
    let summed = loader.get(..words.checked_mul(4)?)?;
    let sum = summed.chunks_exact(4).fold(0u32, |sum, bytes| sum.wrapping_add(word(bytes, 0)));
    let area = usize::from(half(loader, patch + 22));
    let fields = loader.get(area..area + 20)?;
    let field = |number: usize| usize::from(half(fields, 2 * number));
    // Of two pointers to the loader, the lower half.
    if sum != PATCH_MAGIC || field(7) != pointed_from {
        return None;
    }
    let pointers = loader.get(field(0)..field(0) + 16)?;
    let sectors = [0, 8].map(|at| u64::from(word(pointers, at)) | u64::from(word(pointers, at + 4)) << 32);
    let directory = loader.get(field(1)..field(1) + field(2).min(DIRECTORY_MAX))?;
    let directory = directory.split(|&byte| byte == 0).next()?;
    Some((sectors, PathBuf::from(String::from_utf8_lossy(directory).into_owned())))
}

/// What is said against a configuration of extlinux that has no such label with the partition of that name, or `None`.
pub fn label_fault(configuration: &str, label: &str, partuuid: uuid::Uuid) -> Option<String> {
    let words = |line: &str| line.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>();
    let is_label = |line: &str| words(line).first().is_some_and(|word| word == "label");
    let mut lines = configuration.lines().skip_while(|line| words(line) != ["label", label]);
    if lines.next().is_none() {
        return Some(format!("it has no label {label}"));
    }
    let guid = format!("guid={partuuid}");
    let mut within = lines.take_while(|line| !is_label(line));
    (!within.any(|line| words(line).contains(&guid))).then(|| format!("its label {label} does not say {guid}"))
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
    use uuid::Uuid;

    #[test]
    fn a_label_chains_to_its_slot() {
        let (b, a) = (Uuid::from_u128(0xb), Uuid::from_u128(0xa));
        let text =
            format!("default linux\nlabel linux\n  kernel vmlinuz\nLABEL try-b\n  com32 chain.c32\n  append guid={b}\nlabel x\n");
        assert_eq!(label_fault(&text, "try-b", b), None);
        assert_eq!(label_fault(&text, "try-a", a), Some("it has no label try-a".into()));
        assert_eq!(label_fault(&text, "try-b", a), Some(format!("its label try-b does not say guid={a}")));
        assert_eq!(label_fault(&text, "linux", b), Some(format!("its label linux does not say guid={b}")));
    }
}
