//! Addresses on the PCI bus.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The address of a PCI device: domain, bus, slot and function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    domain: u16,
    bus: u8,
    slot: u8,
    function: u8,
}

impl PciAddress {
    /// Its bus: 0 for what is part of the processor or the chipset.
    pub fn bus(self) -> u8 {
        self.bus
    }

    /// Its slot, which is also its slot in the guest: the firmware of graphics cards expects a
    /// fixed address.
    pub fn slot(self) -> u8 {
        self.slot
    }

    /// Whether it is 0000:00:02.0, where Intel's processors have their graphics.
    pub fn is_integrated_graphics(self) -> bool {
        (self.domain, self.bus, self.slot, self.function) == (0, 0, 2, 0)
    }
}

/// `0000:00:02.0`, as in /sys/bus/pci/devices.
impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{:x}",
            self.domain, self.bus, self.slot, self.function
        )
    }
}

/// `0000:00:02.0`, or `00:02.0` in domain 0.
impl FromStr for PciAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        fn hex(digits: &str, width: usize, max: u16) -> Option<u16> {
            let valid =
                digits.len() == width && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            valid
                .then(|| u16::from_str_radix(digits, 16).ok())
                .flatten()
                .filter(|number| *number <= max)
        }
        let parse = || {
            let (rest, function) = text.rsplit_once('.')?;
            let (rest, slot) = rest.rsplit_once(':')?;
            let (domain, bus) = rest.split_once(':').unwrap_or(("0000", rest));
            Some(PciAddress {
                domain: hex(domain, 4, u16::MAX)?,
                bus: hex(bus, 2, 0xff)? as u8,
                slot: hex(slot, 2, 0x1f)? as u8,
                function: hex(function, 1, 7)? as u8,
            })
        };
        parse().ok_or("expected a PCI address such as 00:02.0")
    }
}

impl TryFrom<String> for PciAddress {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_the_same_address() {
        for text in ["00:1f.3", "0000:00:1f.3", "0000:00:1F.3"] {
            assert_eq!(
                text.parse::<PciAddress>().unwrap().to_string(),
                "0000:00:1f.3"
            );
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "1f.3",
            "00:20.0",
            "00:02.8",
            "0:02.0",
            "00:02",
            "00:+2.0",
            "000:00:02.0",
            "0000:0000:00:02.0",
            "00:02.0 ",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text:?}");
        }
    }
}
