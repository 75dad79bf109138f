//! The kernel's tables: small files, and the devices that are below a PCI device.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jsonpipe::{Common, Exit, ExitContext};
use model::Model;
use pci::{Device, PciAddress};

/// The devices of a hand-over, as they are now. Those that are not there are left out.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The devices that the guest gets.
    pub devices: Vec<Device>,
    /// The members of their groups that lose their drivers.
    pub parked: Vec<Device>,
    /// The directory of each of them, in the kernel's tree of devices.
    places: Vec<(PciAddress, PathBuf)>,
}

impl Taken {
    /// Reads the devices of a model.
    pub fn read(common: &Common, model: Option<&Model>) -> anyhow::Result<Taken> {
        let mut taken = Taken {
            devices: Vec::new(),
            parked: Vec::new(),
            places: Vec::new(),
        };
        let Some(model) = model else {
            return Ok(taken);
        };
        for (listed, found) in [
            (&model.devices, &mut taken.devices),
            (&model.parked, &mut taken.parked),
        ] {
            for listed in listed {
                let Some(device) = pci::device(common, listed.address)? else {
                    continue;
                };
                let path = pci::path(common, device.address);
                let place = fs::canonicalize(&path).exit(Exit::Io, || at(&path))?;
                taken.places.push((device.address, place));
                found.push(device);
            }
        }
        Ok(taken)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().chain(&self.parked)
    }

    /// The device that the directory `place` belongs to.
    fn owner(&self, place: &Path) -> Option<PciAddress> {
        self.places
            .iter()
            .find_map(|(device, directory)| place.starts_with(directory).then_some(*device))
    }

    /// The entries of a class, such as `block`, that belong to one of the devices, by name.
    pub fn below(&self, common: &Common, class: &str) -> anyhow::Result<Vec<Entry>> {
        let directory = common.path("/sys/class").join(class);
        let mut entries = Vec::new();
        for name in names(&directory)? {
            // An entry may go away with its device.
            let Ok(place) = fs::canonicalize(directory.join(&name)) else {
                continue;
            };
            if let Some(device) = self.owner(&place) {
                let name = name.to_string_lossy().into_owned();
                entries.push(Entry { device, name });
            }
        }
        Ok(entries)
    }
}

/// An entry of a class.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The PCI device that it belongs to.
    pub device: PciAddress,
    /// Its name.
    pub name: String,
}

/// The names in a directory, sorted; none when it is not there. Status 74 when it cannot be read.
pub(crate) fn names(directory: &Path) -> anyhow::Result<Vec<OsString>> {
    let listed = || -> io::Result<Vec<OsString>> {
        let mut names = fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<OsString>>>()?;
        names.sort_unstable();
        Ok(names)
    };
    match listed() {
        Err(error) if is_absence(&error) => Ok(Vec::new()),
        names => names.exit(Exit::Io, || format!("listing {}", directory.display())),
    }
}

/// The text of one of the kernel's files, in which names may contain any bytes; `None` when it is
/// not there. Status 74 when it cannot be read.
pub(crate) fn text(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error).exit(Exit::Io, || at(path)),
    }
}

/// The same, trimmed, where a value that cannot be read is as good as none.
pub(crate) fn value(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The kernel's spelling of a path in its tables: octal escapes for blanks, newlines and
/// backslashes (fstab(5)).
pub(crate) fn unescaped(field: &str) -> String {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4).filter(|digits| {
            bytes[at] == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
        });
        match digits.map(|digits| {
            digits
                .iter()
                .fold(0, |value, digit| value * 8 + u32::from(digit - b'0'))
        }) {
            Some(value) if value <= 0xff => {
                plain.push(value as u8);
                at += 4;
            }
            _ => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn at(path: &Path) -> String {
    format!("reading {}", path.display())
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_the_kernels_tables_is_read_back() {
        for (field, plain) in [
            (r"/mnt/a\040b", "/mnt/a b"),
            (r"/mnt/a\134040", r"/mnt/a\040"),
            (r"/mnt/\012", "/mnt/\n"),
            (r"/mnt/\04", r"/mnt/\04"),
            (r"/mnt/\777", r"/mnt/\777"),
            (r"/mnt/\", r"/mnt/\"),
            ("", ""),
        ] {
            assert_eq!(unescaped(field), plain, "{field}");
        }
    }
}
