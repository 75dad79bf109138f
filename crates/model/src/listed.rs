//! A device in models.ini.

use std::collections::HashSet;
use std::str::FromStr;

use pci::{Id, PciAddress};
use serde::Deserialize;

const EXPECTED: &str = "expected a PCI address and ids such as 00:02.0 8086:0152/8086:0162";

/// A device that machines of a model have: `00:02.0 8086:0152/8086:0162`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Listed {
    /// Its address.
    pub address: PciAddress,
    /// Its possible ids, at least one: a model is sold with several processors.
    pub ids: Vec<Id>,
}

impl FromStr for Listed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, ids) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let address = address.parse()?;
        let ids = ids.trim();
        if ids.is_empty() {
            return Err("the ids are missing; add them, as lspci -n shows them: 00:02.0 8086:0152");
        }
        let ids: Vec<Id> = ids
            .split('/')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| EXPECTED)?;
        if ids.iter().collect::<HashSet<_>>().len() < ids.len() {
            return Err("an id is given twice");
        }
        Ok(Listed { address, ids })
    }
}

impl TryFrom<String> for Listed {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_an_address_and_ids() {
        for (text, ids) in [
            (
                "00:02.0 8086:0152/8086:0162",
                &["8086:0152", "8086:0162"][..],
            ),
            ("0000:00:02.0 \t 8086:0152", &["8086:0152"]),
        ] {
            let listed: Listed = text.parse().unwrap();
            assert_eq!(listed.address.to_string(), "0000:00:02.0");
            let shown: Vec<String> = listed.ids.iter().map(ToString::to_string).collect();
            assert_eq!(shown, ids);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for (text, message) in [
            ("14", "expected a PCI address such as 00:02.0"),
            (
                "8086:0152 00:02.0",
                "expected a PCI address such as 00:02.0",
            ),
            (
                "00:02.0",
                "the ids are missing; add them, as lspci -n shows them: 00:02.0 8086:0152",
            ),
            (
                "00:02.0/8086:0152",
                "expected a PCI address such as 00:02.0",
            ),
            (
                "00:02.0 ",
                "the ids are missing; add them, as lspci -n shows them: 00:02.0 8086:0152",
            ),
            ("00:02.0 8086:0152/", EXPECTED),
            ("00:02.0 8086:0152 8086:0162", EXPECTED),
            ("00:02.0 8086:0152/ 8086:0162", EXPECTED),
            ("00:02.0 0152", EXPECTED),
            ("00:02.0 8086:0152/8086:0152", "an id is given twice"),
        ] {
            assert_eq!(text.parse::<Listed>(), Err(message), "{text:?}");
        }
    }
}
