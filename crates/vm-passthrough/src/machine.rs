//! The lab machine as the guest's host: its model, the address of its network card, and the devices
//! that a guest may get.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use jsonpipe::{Common, Exit, ExitContext, io_error};
use pci::{Device, PciAddress};
use serde::Deserialize;

/// The properties of the host that a guest needs.
#[derive(Debug)]
pub struct Machine {
    /// The product name in its firmware, or why it is unknown.
    pub model: Result<String, String>,
    /// The address of its network card, which the guest's card takes over.
    pub mac: Option<Mac>,
    /// The devices that the model lists for the guest.
    pub devices: Vec<PciAddress>,
    /// Those of them that are not there.
    pub absent: Vec<PciAddress>,
    /// The one among them that is the processor's graphics.
    pub integrated_graphics: Option<PciAddress>,
    /// Their IOMMU groups, in ascending order.
    pub groups: Vec<u32>,
}

impl Machine {
    /// Reads the rest from sysfs.
    pub fn read(
        common: &Common,
        model: Result<String, String>,
        devices: Vec<PciAddress>,
        interface: Option<&str>,
    ) -> anyhow::Result<Machine> {
        let mut groups = Vec::new();
        let mut absent = Vec::new();
        let mut integrated_graphics = None;
        for address in &devices {
            let Some(device) = pci::device(common, *address)? else {
                absent.push(*address);
                continue;
            };
            groups.extend(device.group);
            if is_integrated_graphics(&device) {
                integrated_graphics = Some(*address);
            }
        }
        groups.sort_unstable();
        groups.dedup();
        Ok(Machine {
            model,
            mac: mac(&common.path("/sys/class/net"), interface)?,
            devices,
            absent,
            integrated_graphics,
            groups,
        })
    }

    /// Checks that all devices are there; status 66 names the first that is not.
    pub fn complete(&self) -> anyhow::Result<()> {
        let Some(address) = self.absent.first() else {
            return Ok(());
        };
        let model = self.model.as_deref().unwrap_or_default(); // without one no device is listed
        Err(Exit::NoInput.error(format_args!(
            "PCI device {address}: not there, but [model.{model}] lists it"
        )))
    }
}

/// Intel's graphics has its fixed place on the bus; a card has another.
fn is_integrated_graphics(device: &Device) -> bool {
    const INTEL: u16 = 0x8086;
    device.id.vendor == INTEL && device.is_display() && device.address.is_integrated_graphics()
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The address of the guest's network card (`mac` of a profile).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacSource {
    /// The host's, as software licences expect it.
    #[default]
    Host,
    /// One derived from it, the same on every start.
    Derived,
}

impl Mac {
    /// That of the guest's card.
    pub fn of_guest(self, source: MacSource) -> Mac {
        match source {
            MacSource::Host => self,
            MacSource::Derived => self.locally_administered(0x2),
        }
    }

    /// That of the guest's card on the room's network segment, where it differs from all others.
    pub fn on_segment(self) -> Mac {
        self.locally_administered(0x6)
    }

    /// The same with another low half of the first byte: 2, 6, a or e mean an address that no maker
    /// assigns (IEEE 802, U/L bit).
    fn locally_administered(self, half: u8) -> Mac {
        let Mac([first, rest @ ..]) = self;
        let [a, b, c, d, e] = rest;
        Mac([first & 0xf0 | half, a, b, c, d, e])
    }

    /// Parses sysfs's form; `None` for an address that no card can have.
    fn parse(text: &str) -> Option<Mac> {
        let mut bytes = [0; 6];
        let mut parts = text.trim().split(':');
        for byte in &mut bytes {
            *byte = parts
                .next()
                .filter(|part| part.len() == 2)
                .and_then(|part| u8::from_str_radix(part, 16).ok())?;
        }
        let group_address = bytes[0] & 1 != 0;
        (parts.next().is_none() && bytes != [0; 6] && !group_address).then_some(Mac(bytes))
    }
}

/// The address of `interface`, otherwise of the first physical Ethernet card by name.
fn mac(class: &Path, interface: Option<&str>) -> anyhow::Result<Option<Mac>> {
    if let Some(interface) = interface {
        if interface.is_empty()
            || interface.starts_with('.')
            || interface.contains(|c: char| c == '/' || c.is_control())
        {
            return Err(
                Exit::Data.error("login.links[0].interface: not the name of a network interface")
            );
        }
        let path = class.join(interface).join("address");
        let bytes = fs::read(&path).map_err(|error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", path.display()),
            )
        })?;
        return Ok(Mac::parse(&String::from_utf8_lossy(&bytes)));
    }
    let mut cards = Vec::new();
    match fs::read_dir(class) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        listing => {
            for entry in listing.exit(Exit::Io, || format!("listing {}", class.display()))? {
                cards.push(
                    entry
                        .exit(Exit::Io, || format!("listing {}", class.display()))?
                        .path(),
                );
            }
        }
    }
    cards.sort();
    for card in cards {
        // Virtual interfaces have no device; wireless ones also have the type Ethernet.
        let is_ethernet = read_if_there(&card.join("type"))?.is_some_and(|kind| kind.trim() == "1");
        if is_ethernet && card.join("device").exists() && !card.join("phy80211").exists() {
            return Ok(read_if_there(&card.join("address"))?
                .as_deref()
                .and_then(Mac::parse));
        }
    }
    Ok(None)
}

/// A small file of sysfs, which may be missing: entries come and go with the hardware.
fn read_if_there(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error).exit(Exit::Io, || format!("reading {}", path.display())),
    }
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
    fn only_an_address_that_a_card_can_have_is_taken_over() {
        let mac = Mac::parse("74:86:7A:fd:de:36\n").unwrap();
        assert_eq!(mac.to_string(), "74:86:7a:fd:de:36");
        assert_eq!(mac.of_guest(MacSource::Host), mac);
        assert_eq!(
            mac.of_guest(MacSource::Derived).to_string(),
            "72:86:7a:fd:de:36"
        );
        assert_eq!(mac.on_segment().to_string(), "76:86:7a:fd:de:36");
        for text in [
            "",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "74:86:7a:fd:de",
            "74:86:7a:fd:de:36:00",
            "x",
        ] {
            assert_eq!(Mac::parse(text), None, "{text:?}");
        }
    }
}
