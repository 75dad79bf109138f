//! The firmware's variables: the boot entry of a trial, and `BootNext`, which selects that entry
//! for the next boot.
//!
//! Some firmware drops entries that the boot order does not contain, and `BootNext` with them. So
//! the entry is appended to the order, but only behind an entry that starts the same partition's
//! own loader. If the order names no partition of ours, the firmware reaches its own search for
//! loaders only after the whole order, and would start the trial first, at every boot.
//!
//! See the UEFI specification 2.10, sections 3.1.3 (load options), 3.3 (`BootNext`, which the
//! firmware removes before it starts the entry) and 10.3 (device paths), and the kernel's efivarfs:
//! a file per variable, four bytes of attributes before the content, written by one call, some
//! files immutable.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use jsonpipe::{Common, Exit, io_error};
use uuid::Uuid;

const DIRECTORY: &str = "/sys/firmware/efi/efivars";
/// EFI_GLOBAL_VARIABLE.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Non-volatile, for boot services and at run time.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];
/// LOAD_OPTION_ACTIVE.
const ACTIVE: u32 = 1;
/// The name of our entry in the firmware's menu.
const DESCRIPTION: &str = "labtools trial";
/// The file that it starts.
const FILE: &str = "\\EFI\\labtools\\try.efi";

/// The partition that holds an entry's file, by the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemPartition {
    /// Its number, from 1.
    pub number: u32,
    /// Its first sector.
    pub first_lba: u64,
    /// Its length.
    pub sectors: u64,
    /// Its PARTUUID.
    pub guid: Uuid,
}

/// The variables, as the kernel shows them.
#[derive(Clone, Debug)]
pub struct Variables {
    directory: PathBuf,
}

impl Variables {
    /// Those of this machine.
    pub fn of(common: &Common) -> Variables {
        Variables {
            directory: common.path(DIRECTORY),
        }
    }

    /// Status 69 when the firmware offers none.
    pub fn require(&self) -> anyhow::Result<()> {
        if self.all()?.is_empty() {
            let way_out = "boot by UEFI, and mount efivarfs there";
            return Err(Exit::Unavailable.error(format_args!(
                "finding the firmware's variables in {}: there are none; {way_out}",
                self.directory.display()
            )));
        }
        Ok(())
    }

    /// Whether the next boot starts a trial.
    pub fn is_armed(&self, from: &SystemPartition) -> anyhow::Result<bool> {
        let Some(next) = self.boot_next()? else {
            return Ok(false);
        };
        Ok(self.read(&entry_name(next))?.as_deref() == Some(&load_option(from)[..]))
    }

    /// Makes the next boot a trial: writes the entry, appends it to the order, then sets
    /// `BootNext`, which is the commit point.
    pub fn arm(&self, from: &SystemPartition) -> anyhow::Result<()> {
        let wanted = load_option(from);
        let (number, found) = match self.ours()? {
            Some((number, found)) => (number, Some(found)),
            None => (self.free_number()?, None),
        };
        if found.as_deref() != Some(&wanted[..]) {
            self.write(&entry_name(number), &wanted)?;
        }
        let order = self.order()?;
        if order.last() != Some(&number) && self.ordered_partitions()?.contains(&from.guid) {
            let others = order.into_iter().filter(|other| *other != number);
            self.set_order(&others.chain([number]).collect::<Vec<_>>())?;
        }
        self.write("BootNext", &number.to_le_bytes())?;
        if self.is_armed(from)? {
            return Ok(());
        }
        Err(Exit::Io.error("setting the firmware's variable BootNext: the firmware does not keep it; see the machine's setup"))
    }

    /// Undoes [`Variables::arm`] without touching other entries. Returns whether there was anything
    /// to undo.
    pub fn disarm(&self) -> anyhow::Result<bool> {
        let Some((number, _)) = self.ours()? else {
            return Ok(false);
        };
        if self.boot_next()? == Some(number) {
            self.remove("BootNext")?;
        }
        let order = self.order()?;
        let others: Vec<u16> = order
            .iter()
            .copied()
            .filter(|other| *other != number)
            .collect();
        match others.is_empty() {
            _ if others == order => {}
            true => self.remove("BootOrder")?,
            false => self.set_order(&others)?,
        }
        self.remove(&entry_name(number))?;
        Ok(true)
    }

    fn boot_next(&self) -> anyhow::Result<Option<u16>> {
        let content = self.read("BootNext")?;
        Ok(content
            .and_then(|content| content.try_into().ok())
            .map(u16::from_le_bytes))
    }

    /// Our entry's number and content.
    fn ours(&self) -> anyhow::Result<Option<(u16, Vec<u8>)>> {
        for number in self.entries()? {
            if let Some(content) = self.read(&entry_name(number))?
                && content.get(6..6 + 2 * (DESCRIPTION.len() + 1)) == Some(&utf16(DESCRIPTION)[..])
            {
                return Ok(Some((number, content)));
            }
        }
        Ok(None)
    }

    fn free_number(&self) -> anyhow::Result<u16> {
        // The order may name an entry that does not exist; reusing its number would start ours at
        // every boot.
        let taken = [self.entries()?, self.order()?].concat();
        // Some firmware reserves Boot0000.
        let free = (1..=u16::MAX).find(|number| !taken.contains(number));
        free.ok_or_else(|| {
            Exit::CantCreate.error(
                "adding a boot entry to the firmware: it already has 65535; remove some with efibootmgr",
            )
        })
    }

    /// The PARTUUIDs of the partitions that active entries of the boot order name, without the
    /// trial's entry.
    pub fn ordered_partitions(&self) -> anyhow::Result<Vec<Uuid>> {
        let ours = self.ours()?.map(|(number, _)| number);
        let mut partitions = Vec::new();
        for number in self
            .order()?
            .into_iter()
            .filter(|number| Some(*number) != ours)
        {
            partitions.extend(
                self.read(&entry_name(number))?
                    .and_then(|option| partition(&option)),
            );
        }
        Ok(partitions)
    }

    /// The numbers in the boot order.
    fn order(&self) -> anyhow::Result<Vec<u16>> {
        let content = self.read("BootOrder")?.unwrap_or_default();
        Ok(content
            .chunks_exact(2)
            .map(|number| u16::from_le_bytes([number[0], number[1]]))
            .collect())
    }

    fn set_order(&self, numbers: &[u16]) -> anyhow::Result<()> {
        let content: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        self.write("BootOrder", &content)
    }

    /// The numbers of all entries.
    fn entries(&self) -> anyhow::Result<Vec<u16>> {
        let suffix = format!("-{GLOBAL}");
        let mut numbers: Vec<u16> = (self.all()?.iter())
            .filter_map(|name| name.strip_prefix("Boot")?.strip_suffix(&suffix))
            .filter(|digits| digits.len() == 4)
            .filter_map(|digits| u16::from_str_radix(digits, 16).ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// All file names; empty where efivarfs is not mounted.
    fn all(&self) -> anyhow::Result<Vec<String>> {
        let failed = |error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", self.directory.display()),
            )
        };
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        entries
            .map(|entry| {
                Ok(entry
                    .map_err(failed)?
                    .file_name()
                    .to_string_lossy()
                    .into_owned())
            })
            .collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}-{GLOBAL}"))
    }

    /// The content of a variable; `None` where it does not exist.
    fn read(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        match fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(
                bytes.get(ATTRIBUTES.len()..).unwrap_or_default().to_vec(),
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(
                error,
                Exit::of_read,
                format_args!("reading the firmware's variable {name}"),
            )),
        }
    }

    /// Sets a variable by one call, which the firmware does completely or not at all.
    fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let failed = |error| {
            io_error(
                error,
                Exit::of_write,
                format_args!("setting the firmware's variable {name}"),
            )
        };
        let path = self.path(name);
        make_mutable(&path).map_err(failed)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let bytes = [&ATTRIBUTES[..], content].concat();
        let written = file.write(&bytes).map_err(failed)?;
        if written != bytes.len() {
            return Err(failed(io::ErrorKind::WriteZero.into()));
        }
        // A directory in the place of efivarfs does not truncate the old content.
        let length = file.metadata().map_err(failed)?.len();
        if length > bytes.len() as u64 {
            file.set_len(bytes.len() as u64).map_err(failed)
        } else {
            Ok(())
        }
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.path(name);
        let removed = make_mutable(&path).and_then(|()| match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        });
        removed.map_err(|error| {
            io_error(
                error,
                Exit::of_write,
                format_args!("removing the firmware's variable {name}"),
            )
        })
    }
}

fn entry_name(number: u16) -> String {
    format!("Boot{number:04X}")
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

/// An EFI_LOAD_OPTION: attributes, the length of the path, a description, the path to the file.
fn load_option(from: &SystemPartition) -> Vec<u8> {
    let node = |kind: u8, sub: u8, content: &[u8]| {
        let length = (content.len() + 4) as u16;
        [&[kind, sub][..], &length.to_le_bytes(), content].concat()
    };
    let partition = [
        &from.number.to_le_bytes()[..],
        &from.first_lba.to_le_bytes(),
        &from.sectors.to_le_bytes(),
        &from.guid.to_bytes_le(),
        &[2, 2], // of a GPT, by its GUID
    ];
    let path = [
        node(4, 1, &partition.concat()),
        node(4, 4, &utf16(FILE)),
        node(0x7f, 0xff, &[]),
    ]
    .concat();
    [
        &ACTIVE.to_le_bytes()[..],
        &(path.len() as u16).to_le_bytes(),
        &utf16(DESCRIPTION),
        &path,
    ]
    .concat()
}

/// The partition of a GPT that an active EFI_LOAD_OPTION names. Firmware wrote the option, so no
/// length is trusted.
fn partition(option: &[u8]) -> Option<Uuid> {
    let (head, rest) = option.split_at_checked(6)?;
    if u32::from_le_bytes(head[..4].try_into().ok()?) & ACTIVE == 0 {
        return None;
    }
    let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
    let description = rest.chunks_exact(2).position(|unit| unit == [0, 0])?;
    let mut path = rest.get(2 * (description + 1)..)?.get(..length)?;
    while let [kind, sub, low, high, ..] = *path {
        let (node, behind) = path.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        match (kind, sub, node) {
            // A hard drive: number, start, size, signature, format and kind of signature (section
            // 10.3.5.1).
            (4, 1, [.., 2, 2]) if node.len() == 42 => {
                return Uuid::from_slice_le(&node[24..40]).ok();
            }
            (0x7f, ..) | (.., [] | [_] | [_, _] | [_, _, _]) => return None,
            _ => path = behind,
        }
    }
    None
}

/// Removes the immutable flag of a file, if it is set.
fn make_mutable(path: &std::path::Path) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    // A directory in the place of efivarfs has no such flags.
    match flags::get(&file) {
        Ok(found) if found & flags::IMMUTABLE != 0 => {
            Ok(flags::set(&file, found & !flags::IMMUTABLE)?)
        }
        _ => Ok(()),
    }
}

/// File flags (ioctl_iflags(2)), for which there is no safe wrapper.
#[allow(unsafe_code, reason = "the ioctls of file flags")]
mod flags {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use nix::libc;

    pub const IMMUTABLE: libc::c_int = 0x10;

    nix::ioctl_read_bad!(
        getflags,
        nix::request_code_read!(b'f', 1, size_of::<libc::c_long>()),
        libc::c_int
    );
    nix::ioctl_write_ptr_bad!(
        setflags,
        nix::request_code_write!(b'f', 2, size_of::<libc::c_long>()),
        libc::c_int
    );

    pub fn get(file: &File) -> nix::Result<libc::c_int> {
        let mut flags = 0;
        // SAFETY: the descriptor is open, and the call fills one integer.
        unsafe { getflags(file.as_raw_fd(), &mut flags) }.map(|_| flags)
    }

    pub fn set(file: &File, flags: libc::c_int) -> nix::Result<()> {
        // SAFETY: the descriptor is open, and the call reads one integer.
        unsafe { setflags(file.as_raw_fd(), &flags) }.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESP: SystemPartition = SystemPartition {
        number: 1,
        first_lba: 2048,
        sectors: 73728,
        guid: Uuid::from_u128(0xa2),
    };

    fn variables(directory: &tempfile::TempDir) -> Variables {
        Variables {
            directory: directory.path().to_owned(),
        }
    }

    #[test]
    fn an_entry_is_what_efibootmgr_makes() {
        // efibootmgr --create-only --disk D --part 1 --label 'labtools trial' --loader
        // '\EFI\labtools\try.efi', of the laboratory's disk.
        let expected = "01000000 5e00 6c006100620074006f006f006c007300200074007200690061006c000000 \
            0401 2a00 01000000 0008000000000000 0020010000000000 000000000000000000000000000000a2 02 02 \
            0404 3000 5c004500460049005c006c006100620074006f006f006c0073005c007400720079002e006500660069000000 7fff0400";
        let found: String = load_option(&ESP)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(found, expected.replace([' ', '\n'], ""));
    }

    #[test]
    fn arming_takes_a_free_number_and_disarming_leaves_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let ours = variables(&directory);
        assert_eq!(Exit::of(&ours.require().unwrap_err()), Exit::Unavailable);
        let others = [
            ("Boot0000", &b"a disk"[..]),
            ("Boot0002", b""),
            ("BootOrder", b"\0\0\x02\0"),
            ("BootNext", b"\x02\0"),
        ];
        for (name, content) in others {
            ours.write(name, content).unwrap();
        }
        ours.require().unwrap();
        assert!(!ours.is_armed(&ESP).unwrap());
        // There is no entry of ours, so nothing is removed: the BootNext is another's.
        assert!(!ours.disarm().unwrap());
        assert_eq!(ours.boot_next().unwrap(), Some(2));
        ours.arm(&ESP).unwrap();
        ours.arm(&ESP).unwrap();
        assert!(ours.is_armed(&ESP).unwrap());
        assert_eq!(
            (ours.boot_next().unwrap(), ours.entries().unwrap()),
            (Some(1), vec![0, 1, 2])
        );
        // The partition has moved, as after a flip: the entry is not the trial of the new one, and
        // its number is reused.
        let moved = SystemPartition { number: 2, ..ESP };
        assert!(!ours.is_armed(&moved).unwrap());
        ours.arm(&moved).unwrap();
        assert_eq!(ours.entries().unwrap(), [0, 1, 2]);
        assert!(ours.disarm().unwrap());
        assert_eq!(
            (ours.boot_next().unwrap(), ours.entries().unwrap()),
            (None, vec![0, 2])
        );
        assert_eq!(
            ours.read("BootOrder").unwrap().as_deref(),
            Some(&b"\0\0\x02\0"[..])
        );
    }

    #[test]
    fn the_entry_is_in_the_order_only_behind_one_that_starts_the_active_slot() {
        let directory = tempfile::tempdir().unwrap();
        let ours = variables(&directory);
        ours.write("Boot0003", b"a disk").unwrap();
        ours.write("BootOrder", b"\x03\0\x07\0").unwrap();
        // No entry of the order starts the partition: the firmware finds it after the end of the
        // order.
        ours.arm(&ESP).unwrap();
        // Not Boot0000, which some firmware reserves.
        assert_eq!(
            (ours.boot_next().unwrap(), ours.order().unwrap()),
            (Some(1), vec![3, 7])
        );
        let mut own = load_option(&ESP);
        own[6..8].copy_from_slice(b"L\0");
        ours.write("Boot0003", &own).unwrap();
        ours.arm(&ESP).unwrap();
        ours.arm(&ESP).unwrap();
        assert_eq!(
            (ours.boot_next().unwrap(), ours.order().unwrap()),
            (Some(1), vec![3, 7, 1])
        );
        // The trial's own entry does not count for the slots.
        assert_eq!(ours.ordered_partitions().unwrap(), [ESP.guid]);
        // Wherever the entry was moved, arming puts it last again.
        ours.set_order(&[1, 3]).unwrap();
        ours.arm(&ESP).unwrap();
        assert_eq!(ours.order().unwrap(), [3, 1]);
        // The firmware has consumed BootNext; the rest is still removed.
        ours.remove("BootNext").unwrap();
        assert!(ours.disarm().unwrap());
        assert_eq!(
            (ours.order().unwrap(), ours.entries().unwrap()),
            (vec![3], vec![3])
        );
        // An order without other entries is removed.
        ours.remove("BootOrder").unwrap();
        ours.arm(&ESP).unwrap();
        assert_eq!(
            (ours.boot_next().unwrap(), ours.order().unwrap()),
            (Some(1), vec![])
        );
        ours.set_order(&[1]).unwrap();
        assert!(ours.disarm().unwrap());
        assert_eq!(ours.read("BootOrder").unwrap(), None);
    }

    #[test]
    fn a_number_of_the_boot_order_is_not_free_though_its_entry_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let ours = variables(&directory);
        ours.write("Boot0002", b"a disk").unwrap();
        ours.write("BootOrder", b"\0\0\x02\0\x01\0").unwrap();
        ours.arm(&ESP).unwrap();
        assert_eq!(ours.boot_next().unwrap(), Some(3));
    }

    #[test]
    fn entries_are_read_only_if_whole() {
        let ours = load_option(&ESP);
        assert_eq!(partition(&ours), Some(ESP.guid));
        let node = 6 + 2 * (DESCRIPTION.len() + 1);
        for length in 0..node + 42 {
            assert_eq!(partition(&ours[..length]), None, "{length}");
        }
        // Not active; no room for its path; a node of no length, of another kind, of a disk without
        // a GPT.
        for (at, byte) in [(0, 0), (4, 41), (node + 2, 0), (node, 3), (node + 41, 1)] {
            let mut other = ours.clone();
            other[at] = byte;
            assert_eq!(partition(&other), None, "{at}");
        }
        // Behind the controller's nodes, as efibootmgr also writes it.
        let mut long = ours[..node].to_vec();
        long.extend([1, 1, 6, 0, 0, 2]);
        long.extend(&ours[node..]);
        let length = u16::from_le_bytes([ours[4], ours[5]]) + 6;
        long[4..6].copy_from_slice(&length.to_le_bytes());
        assert_eq!(partition(&long), Some(ESP.guid));
    }

    /// A fake of firmware that refuses BootNext: a directory stands in its place.
    #[test]
    fn arming_that_fails_is_undone() {
        let directory = tempfile::tempdir().unwrap();
        let ours = variables(&directory);
        ours.write("Boot0000", b"a disk").unwrap();
        fs::create_dir(ours.path("BootNext")).unwrap();
        assert_eq!(Exit::of(&ours.arm(&ESP).unwrap_err()), Exit::Io);
        assert_eq!(ours.entries().unwrap(), [0, 1]);
        fs::remove_dir(ours.path("BootNext")).unwrap();
        assert!(ours.disarm().unwrap() && !ours.disarm().unwrap());
        assert_eq!(ours.entries().unwrap(), [0]);
    }
}
