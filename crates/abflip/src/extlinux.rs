//! The extlinux in a slot: its boot-once area and how to change it, and the configuration by which
//! it starts the other slot.

use std::path::Path;

use extlinux::{SECTOR, adv};

use crate::disk::Disk;
use crate::gpt::Place;
use crate::writes::Change;

/// A complete extlinux.
#[derive(Debug)]
pub struct Extlinux {
    partition: Place,
    found: extlinux::Extlinux,
}

impl Extlinux {
    /// Finds the extlinux of a partition. The inner error states why gptmbr could not start it;
    /// status 74 when the disk cannot be read.
    pub fn find(disk: &Disk, partition: Place) -> anyhow::Result<Result<Extlinux, String>> {
        let found = extlinux::Extlinux::find(partition.size_bytes, |at, length| {
            disk.read(partition.start_bytes + at, length)
        })?;
        let why = || {
            "no extlinux is installed in it, in one piece; see extlinux(1), --install".to_owned()
        };
        Ok(found
            .map(|found| Extlinux { partition, found })
            .ok_or_else(why))
    }

    /// The directory in which it was installed, relative to the slot's root.
    pub fn directory(&self) -> &Path {
        &self.found.directory
    }

    /// Its boot-once area. The inner error states why the area cannot be used; status 74 when the
    /// disk cannot be read.
    pub fn boot_once(&self, disk: &Disk) -> anyhow::Result<Result<BootOnce, String>> {
        let start = self.partition.start_bytes;
        // A write covers the whole physical block, so a part of it must not belong to something
        // else.
        let block = disk.block_bytes();
        if !start.is_multiple_of(block) {
            return Ok(Err(format!(
                "it does not begin at a physical block of the disk, of {block} bytes; partition it anew"
            )));
        }
        let Some(sectors) = self.found.area() else {
            return Ok(Err(
                "its extlinux has no boot-once area; install it again".into()
            ));
        };
        let copies = sectors.map(|sector| start + sector * SECTOR);
        let first = disk.read(copies[0], adv::BYTES)?;
        let second = disk.read(copies[1], adv::BYTES)?;
        let agree = first == second;
        let are_copies = adv::is_copy(&first) && adv::is_copy(&second);
        let content = [first, second]
            .into_iter()
            .find(|copy| are_copies && adv::is_consistent(copy));
        let why =
            || "its extlinux has no valid boot-once area; see extlinux(1), --reset-adv".to_owned();
        Ok(content
            .map(|content| BootOnce {
                copies,
                content,
                agree,
            })
            .ok_or_else(why))
    }
}

/// The boot-once area of an extlinux.
#[derive(Debug)]
pub struct BootOnce {
    /// The offsets of its two copies on the disk, in bytes.
    copies: [u64; 2],
    /// The valid copy.
    content: Vec<u8>,
    /// Whether both copies agree.
    agree: bool,
}

impl BootOnce {
    /// The label that is started once.
    pub fn label(&self) -> Option<&[u8]> {
        adv::boot_once(&self.content)
    }

    /// The changes that give both copies this label, or none; empty when they have it. `None` when
    /// there is no room.
    ///
    /// extlinux takes the first copy unless it is torn, then the second: at any instant it finds
    /// the old label or the new one.
    pub fn changes(&self, label: Option<&str>) -> Option<Vec<Change>> {
        let wanted = adv::with_boot_once(&self.content, label)?;
        if self.agree && wanted == self.content {
            return Some(Vec::new());
        }
        let change = |offset| Change {
            what: "a boot-once sector",
            offset,
            bytes: wanted.clone(),
        };
        Some(self.copies.map(change).into())
    }
}

/// The keywords that make a label start something (syslinux.cfg of Syslinux 6.04); the last one in
/// the label counts.
const STARTS: [&str; 10] = [
    "kernel",
    "linux",
    "boot",
    "bss",
    "pxe",
    "fdimage",
    "comboot",
    "com32",
    "config",
    "localboot",
];

/// The module that starts a partition by its name, and the libraries that it needs; extlinux loads
/// them from the directory of its installation.
pub const MODULES: [&str; 3] = ["chain.c32", "libcom32.c32", "libutil.c32"];

/// The fault of an extlinux configuration whose label is missing or does not chain to the partition
/// of that name, or `None`.
pub fn label_fault(configuration: &str, label: &str, partuuid: uuid::Uuid) -> Option<String> {
    let lines = configuration
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'));
    let statements = lines.map(|line| {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        (word.to_lowercase(), rest.trim())
    });
    let mut within = statements.skip_while(|(word, rest)| word != "label" || *rest != label);
    if within.next().is_none() {
        return Some(format!("it has no label {label}"));
    }
    let (mut started, mut appended) = (None, "");
    for (word, rest) in within.take_while(|(word, _)| word != "label") {
        if STARTS.contains(&word.as_str()) {
            started = Some((word, rest));
        } else if word == "append" {
            appended = rest;
        }
    }
    if started.is_none_or(|(word, rest)| (word.as_str(), rest) != ("com32", MODULES[0])) {
        return Some(format!(
            "its label {label} does not start com32 {}",
            MODULES[0]
        ));
    }
    let guid = format!("guid={partuuid}");
    let is_said = appended
        .split_whitespace()
        .any(|word| word.eq_ignore_ascii_case(&guid));
    (!is_said).then(|| format!("its label {label} does not append {guid}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Access;
    use proptest::prelude::*;
    use tempfile::TempDir;
    use uuid::Uuid;

    /// The partition's offset and length in bytes; the disk has as much before it and after it.
    const PARTITION: u64 = 64 << 10;
    const PLACE: Place = Place {
        number: 1,
        start_bytes: PARTITION,
        size_bytes: PARTITION,
    };
    const LOADER: u64 = 8;
    /// The magic number of a patch area.
    const PATCH_MAGIC: u32 = 0x3eb2_02fe;
    const LOADER_SECTORS: u16 = 4;

    /// The fields of an extlinux.
    #[derive(Clone, Debug)]
    struct Made {
        /// The loader's first sector, and the boot sector's offset that names it.
        pointer: (usize, u32),
        sectors: u16,
        words: u32,
        /// The offset of the extended area in the loader, and its content.
        extended_at: u16,
        extended: [u16; 10],
        area: [u64; 2],
        noise: Vec<(u16, u8)>,
    }

    fn whole() -> Made {
        Made {
            pointer: (282, LOADER as u32),
            sectors: LOADER_SECTORS,
            words: u32::from(LOADER_SECTORS) * 128,
            extended_at: 1100,
            extended: [1200, 1300, 256, 1600, 256, 494, 192, 282, 288, 458],
            area: [20, 33],
            noise: Vec::new(),
        }
    }

    /// A disk whose every sector, inside and outside of the partition, looks like a boot-once area:
    /// only the pointers identify the real one.
    fn disk(made: &Made) -> (TempDir, Disk) {
        let empty = adv::with_boot_once(&[0; adv::BYTES], None).unwrap();
        let mut bytes: Vec<u8> = empty
            .iter()
            .copied()
            .cycle()
            .take(3 * PARTITION as usize)
            .collect();
        let mut put =
            |at: usize, content: &[u8]| bytes[at..at + content.len()].copy_from_slice(content);
        let boot_sector = PARTITION as usize;
        put(boot_sector, &[0; 512]);
        put(boot_sector, &[0xeb]);
        put(boot_sector + 510, &[0x55, 0xaa]);
        put(boot_sector + made.pointer.0, &made.pointer.1.to_le_bytes());
        let mut loader = vec![0; usize::from(LOADER_SECTORS) * 512];
        let mut put_loader = |at: usize, content: &[u8]| {
            for (place, byte) in loader.iter_mut().skip(at).zip(content) {
                *place = *byte;
            }
        };
        put_loader(1300, b"/boot/extlinux\0");
        for (at, byte) in &made.noise {
            put_loader(usize::from(*at), &[*byte]);
        }
        put_loader(24, &PATCH_MAGIC.to_le_bytes());
        put_loader(24 + 8, &made.sectors.to_le_bytes());
        put_loader(24 + 12, &made.words.to_le_bytes());
        put_loader(24 + 16, &[0; 4]);
        put_loader(24 + 22, &made.extended_at.to_le_bytes());
        put_loader(
            usize::from(made.extended_at),
            &made.extended.map(u16::to_le_bytes).concat(),
        );
        put_loader(
            usize::from(made.extended[0]),
            &made.area.map(u64::to_le_bytes).concat(),
        );
        let words = loader.as_chunks::<4>().0.iter().take(made.words as usize);
        let sum = words.fold(PATCH_MAGIC, |sum, word| {
            sum.wrapping_sub(u32::from_le_bytes(*word))
        });
        loader[24 + 16..24 + 20].copy_from_slice(&sum.to_le_bytes());
        put(boot_sector + LOADER as usize * 512, &loader);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        std::fs::write(&path, bytes).unwrap();
        let disk = Disk::open(&path, Access::Read).unwrap();
        (directory, disk)
    }

    fn boot_once(disk: &Disk) -> Result<BootOnce, String> {
        Extlinux::find(disk, PLACE)
            .unwrap()
            .and_then(|extlinux| extlinux.boot_once(disk).unwrap())
    }

    #[test]
    fn boot_once_finds_only_a_whole_area() {
        let sectors = |changes: Vec<Change>| {
            changes
                .into_iter()
                .map(|change| change.offset)
                .collect::<Vec<_>>()
        };
        let (_directory, found) = disk(&whole());
        let changes = boot_once(&found).unwrap().changes(Some("try-b")).unwrap();
        assert_eq!(
            sectors(changes),
            [PARTITION + 20 * 512, PARTITION + 33 * 512]
        );
        for area in [
            [20, 20],
            [0, 20],
            [20, 128],
            [20, u64::MAX],
            [u64::MAX / 512, 20],
            [LOADER, 20],
            [20, LOADER + 3],
        ] {
            let (_directory, found) = disk(&Made { area, ..whole() });
            assert_eq!(
                boot_once(&found).unwrap_err(),
                "its extlinux has no boot-once area; install it again",
                "{area:?}"
            );
        }
        // If a pointer leads to anything but a copy, that must not be overwritten, whatever the
        // other copy is.
        for (sector, at) in [(20, 0), (20, 508), (33, 3), (33, 511)] {
            let (directory, _) = disk(&whole());
            let path = directory.path().join("disk");
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[PARTITION as usize + sector * 512 + at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let found = Disk::open(&path, Access::Read).unwrap();
            let why = "its extlinux has no valid boot-once area; see extlinux(1), --reset-adv";
            assert_eq!(boot_once(&found).unwrap_err(), why, "{sector} {at}");
        }
    }

    #[test]
    fn a_partition_that_shares_a_physical_block_with_another_one_is_refused() {
        let (_directory, found) = disk(&whole());
        let found = found.with_blocks(2 * PARTITION);
        assert!(
            boot_once(&found)
                .unwrap_err()
                .starts_with("it does not begin at a physical block of the disk, of 131072 bytes")
        );
        assert!(
            Extlinux::find(&found, PLACE).unwrap().is_ok(),
            "it starts nevertheless"
        );
        assert!(boot_once(&found.with_blocks(4096)).is_ok());
    }

    /// Numbers close to the right one, and others.
    fn number(right: u64, all: u64) -> impl Strategy<Value = u64> {
        prop_oneof![4 => Just(right), 2 => 0..2048u64, 1 => (all - 64)..=all, 1 => 0..=all]
    }

    prop_compose! {
        fn hostile()(
            at in prop_oneof![3 => Just(282usize), 1 => 3usize..506],
            pointer in number(LOADER, u32::MAX.into()),
            sectors in number(LOADER_SECTORS.into(), u16::MAX.into()),
            words in number(u64::from(LOADER_SECTORS) * 128, u32::MAX.into()),
            extended_at in number(1100, u16::MAX.into()),
            mut extended in proptest::collection::vec(number(0, u16::MAX.into()), 10),
            is_pointed_back in proptest::bool::weighted(0.8),
            area in [prop_oneof![number(20, u64::MAX), 0..400u64], prop_oneof![number(33, u64::MAX), 0..400u64]],
            noise in proptest::collection::vec((0..2048u16, any::<u8>()), 0..8),
        ) -> Made {
            let right = whole().extended;
            for (found, right) in extended.iter_mut().zip(right) {
                if *found == 0 {
                    *found = right.into();
                }
            }
            if is_pointed_back {
                extended[7] = at as u64;
            }
            let extended = std::array::from_fn(|number| extended[number] as u16);
            let (sectors, words, extended_at) = (sectors as u16, words as u32, extended_at as u16);
            Made { pointer: (at, pointer as u32), sectors, words, extended_at, extended, area, noise }
        }
    }

    proptest! {
        #[test]
        fn whatever_a_loader_says_nothing_outside_of_its_partition_is_pointed_to(made in hostile()) {
            let (_directory, found) = disk(&made);
            if let Ok(found) = boot_once(&found) {
                let changes = found.changes(Some("try-b")).unwrap();
                prop_assert_eq!(changes.len(), 2);
                prop_assert_ne!(changes[0].offset, changes[1].offset);
                for change in changes {
                    let sector = (change.offset - PARTITION) / SECTOR;
                    prop_assert!((PARTITION + SECTOR..=2 * PARTITION - SECTOR).contains(&change.offset), "{}", sector);
                    prop_assert!(!(LOADER..LOADER + u64::from(made.sectors)).contains(&sector), "{}", sector);
                    prop_assert_eq!(change.bytes.len(), adv::BYTES);
                }
            }
        }
    }

    #[test]
    fn a_label_chains_to_its_slot() {
        let (b, a) = (Uuid::from_u128(0xb), Uuid::from_u128(0xa));
        let text = format!(
            "default linux\nlabel linux\n  kernel vmlinuz\nLABEL try-b\n # a comment\n\n  COM32 chain.c32\n  append hd0 GUID={b}\nlabel x\n"
        );
        assert_eq!(label_fault(&text, "try-b", b), None);
        assert_eq!(
            label_fault(&text, "try-a", a),
            Some("it has no label try-a".into())
        );
        assert_eq!(
            label_fault(&text, "try-b", a),
            Some(format!("its label try-b does not append guid={a}"))
        );
        assert_eq!(
            label_fault(&text, "linux", b),
            Some("its label linux does not start com32 chain.c32".into())
        );
        let no_start = Some("its label try-b does not start com32 chain.c32".to_owned());
        let no_guid = Some(format!("its label try-b does not append guid={b}"));
        for (lines, fault) in [
            (format!("com32 chain.c32\nappend guid={b}"), None),
            // The word alone appears in a comment, in a menu, or as another keyword's value.
            (
                format!("# com32 chain.c32\nappend guid={b}"),
                no_start.clone(),
            ),
            (
                format!("com32 chain.c32\n# append guid={b}"),
                no_guid.clone(),
            ),
            (
                format!("com32 chain.c32\nmenu label guid={b}"),
                no_guid.clone(),
            ),
            (format!("linux vmlinuz\nappend guid={b}"), no_start.clone()),
            (format!("com32 menu.c32\nappend guid={b}"), no_start.clone()),
            // The last one counts.
            (
                format!("com32 chain.c32\nappend guid={b}\nappend guid={a}"),
                no_guid.clone(),
            ),
            (
                format!("com32 chain.c32\nappend guid={b}\nkernel vmlinuz"),
                no_start.clone(),
            ),
            (
                format!("kernel vmlinuz\ncom32 chain.c32\nappend guid={a}\nappend guid={b}"),
                None,
            ),
            // The line belongs to another label.
            (
                format!("com32 chain.c32\nlabel other\nappend guid={b}"),
                no_guid,
            ),
            (
                format!("label other\ncom32 chain.c32\nappend guid={b}"),
                no_start,
            ),
        ] {
            assert_eq!(
                label_fault(&format!("label try-b\n{lines}\n"), "try-b", b),
                fault,
                "{lines}"
            );
        }
    }
}
