//! The ids of PCI devices.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The vendor and the device, `8086:0152`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Id {
    /// The vendor.
    pub vendor: u16,
    /// The vendor's number of the device.
    pub device: u16,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl FromStr for Id {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = |digits: &str| {
            let valid = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            valid
                .then(|| u16::from_str_radix(digits, 16).ok())
                .flatten()
        };
        text.split_once(':')
            .and_then(|(vendor, device)| {
                Some(Id {
                    vendor: hex(vendor)?,
                    device: hex(device)?,
                })
            })
            .ok_or("expected the ids of a PCI device such as 8086:0152")
    }
}

impl TryFrom<String> for Id {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_is_an_id() {
        assert_eq!("8086:A170".parse::<Id>().unwrap().to_string(), "8086:a170");
        for text in [
            "",
            "8086",
            "8086:170",
            "8086:0152 ",
            "8086:0x52",
            "+086:0152",
            "8086:0152:",
        ] {
            assert!(text.parse::<Id>().is_err(), "{text:?}");
        }
    }
}
