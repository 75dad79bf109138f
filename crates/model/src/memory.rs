//! Amounts of memory.

use std::fmt;

use serde::Deserialize;

/// An amount of memory in MiB, `6910M` or `4G` in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Memory {
    mebibytes: u32,
}

impl Memory {
    /// This many MiB.
    pub const fn of_mebibytes(mebibytes: u32) -> Memory {
        Memory { mebibytes }
    }

    /// The same in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.mebibytes) << 20
    }
}

/// The form of QEMU's `-m`.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}M", self.mebibytes)
    }
}

impl TryFrom<String> for Memory {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parse = || {
            let number = text.strip_suffix(['M', 'G'])?;
            let factor = if text.ends_with('G') { 1024 } else { 1 };
            // Only one spelling: no sign, and no leading zero, which others read as octal.
            let number = number
                .parse::<u32>()
                .ok()
                .filter(|parsed| parsed.to_string() == number)?;
            number
                .checked_mul(factor)
                .filter(|mebibytes| *mebibytes > 0)
        };
        parse()
            .map(|mebibytes| Memory { mebibytes })
            .ok_or("expected an amount of memory such as 6910M or 4G")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_said_as_qemu_takes_it() {
        for (text, shown) in [("6910M", "6910M"), ("4G", "4096M")] {
            assert_eq!(
                Memory::try_from(text.to_owned()).unwrap().to_string(),
                shown
            );
        }
        for text in [
            "", "6910", "0M", "M", "-1M", "4g", "1.5G", "5000000G", "+4G", "010M", "4 G",
        ] {
            assert!(Memory::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
