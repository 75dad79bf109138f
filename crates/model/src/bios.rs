//! Versions of the BIOS.

use std::cmp::Ordering;
use std::fmt;

use serde::Deserialize;

/// The version of a BIOS as its maker writes it: `A07` or `1.14.0`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Bios(String);

/// A scheme that orders its versions. Dell used the first one until about 2015, and the second one
/// since.
#[derive(Debug, PartialEq, Eq)]
enum Scheme {
    /// `A07`: the letter and two digits.
    Letter(u8),
    /// `1.14.0`: three numbers.
    Dotted([u16; 3]),
}

impl Bios {
    /// Whether this version is older than `other`, the same or newer; `None` where the versions
    /// have no common order: another scheme, or one that is unknown here.
    pub fn compare(&self, other: &Bios) -> Option<Ordering> {
        match (self.scheme(), other.scheme()) {
            (Some(Scheme::Letter(mine)), Some(Scheme::Letter(other))) => Some(mine.cmp(&other)),
            (Some(Scheme::Dotted(mine)), Some(Scheme::Dotted(other))) => Some(mine.cmp(&other)),
            _ => (self == other).then_some(Ordering::Equal),
        }
    }

    fn scheme(&self) -> Option<Scheme> {
        if let Some(digits) = self.0.strip_prefix('A') {
            let is_valid = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            return digits.parse().ok().filter(|_| is_valid).map(Scheme::Letter);
        }
        // Only one spelling: no sign, and no leading zero.
        let number = |part: &str| {
            part.parse()
                .ok()
                .filter(|number: &u16| number.to_string() == part)
        };
        let numbers: Option<Vec<u16>> = self.0.split('.').map(number).collect();
        numbers?.try_into().ok().map(Scheme::Dotted)
    }
}

impl fmt::Display for Bios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Bios {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if crate::is_plain(&text) {
            Ok(Bios(text))
        } else {
            Err("expected the version of a BIOS such as A16 or 1.14.0")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(mine: &str, other: &str) -> Option<Ordering> {
        let bios = |text: &str| Bios::try_from(text.to_owned()).unwrap();
        bios(mine).compare(&bios(other))
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (older, newer) in [
            ("A07", "A16"),
            ("A09", "A10"),
            ("1.9.0", "1.14.0"),
            ("1.14.0", "1.14.1"),
            ("1.24.0", "2.1.0"),
        ] {
            assert_eq!(compare(older, newer), Some(Ordering::Less), "{older}");
            assert_eq!(compare(newer, older), Some(Ordering::Greater), "{newer}");
            assert_eq!(compare(newer, newer), Some(Ordering::Equal));
        }
    }

    #[test]
    fn other_schemes_have_no_order() {
        for other in [
            "A7",
            "A160",
            "A1x",
            "A+7",
            "a16",
            "X16",
            "1.14",
            "1.14.0.0",
            "1.+14.0",
            "1.014.0",
            "1..0",
            "99999.0.0",
            "K01 v02.90",
            "M1AKT4BA",
            "rel-1.16.0-0-gd239552",
        ] {
            for known in ["A16", "1.14.0"] {
                assert_eq!(compare(other, known), None, "{other}");
                assert_eq!(compare(known, other), None, "{other}");
            }
            assert_eq!(compare(other, other), Some(Ordering::Equal), "{other}");
        }
        assert_eq!(compare("A16", "1.14.0"), None);
    }

    #[test]
    fn hidden_text_is_no_version() {
        for text in ["", " ", " A16", "A\u{1b}16", "A16\n", "A\u{200b}16"] {
            assert!(Bios::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
