//! Names for the numbers of SMBIOS and JEDEC.

/// DSP0134, table 17; those of lab PCs.
pub fn chassis(kind: u8) -> Option<&'static str> {
    Some(match kind {
        3 => "Desktop",
        4 => "Low Profile Desktop",
        6 => "Mini Tower",
        7 => "Tower",
        8 => "Portable",
        9 => "Laptop",
        10 => "Notebook",
        13 => "All in One",
        15 => "Space-saving",
        23 => "Rack Mount Chassis",
        35 => "Mini PC",
        36 => "Stick PC",
        _ => return None,
    })
}

/// DSP0134, table 77; those of this century.
pub fn memory(kind: u8) -> Option<&'static str> {
    Some(match kind {
        18 => "DDR",
        19 => "DDR2",
        20 => "DDR2 FB-DIMM",
        24 => "DDR3",
        26 => "DDR4",
        27 => "LPDDR",
        28 => "LPDDR2",
        29 => "LPDDR3",
        30 => "LPDDR4",
        34 => "DDR5",
        35 => "LPDDR5",
        _ => return None,
    })
}

/// Makers of memory by their JEDEC JEP106 number, the bank from 0 and the number without its
/// parity; those of PC modules.
const MAKERS: &[(u8, u8, &str)] = &[
    (0, 0x18, "Toshiba"),
    (0, 0x2c, "Micron"),
    (0, 0x2d, "SK hynix"),
    (0, 0x41, "Infineon"),
    (0, 0x4e, "Samsung"),
    (1, 0x14, "Smart Modular"),
    (1, 0x18, "Kingston"),
    (1, 0x3a, "PNY"),
    (1, 0x4f, "Transcend"),
    (1, 0x7a, "Apacer"),
    (2, 0x1e, "Corsair"),
    (2, 0x7e, "Elpida"),
    (3, 0x0b, "Nanya"),
    (4, 0x43, "Ramaxel"),
    (4, 0x4b, "A-DATA"),
    (4, 0x4d, "G.Skill"),
    (4, 0x6f, "Team Group"),
    (5, 0x02, "Patriot"),
    (5, 0x1b, "Crucial"),
];

/// The maker for a number in the spellings of firmware: `80AD000080AD` and `AD00000000000000` are
/// SK hynix, `859B` and `7F7F7F7F7F9B0000` Crucial. `None` for names and unknown makers.
pub fn maker(text: &str) -> Option<&'static str> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() < 4 || digits.len() % 2 == 1 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2);
    let bytes: Vec<u8> = pairs
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let named = |bank: u8, number: u8| {
        MAKERS
            .iter()
            .find(|maker| (maker.0, maker.1) == (bank, number & 0x7f))
            .map(|(.., name)| *name)
    };
    match bytes[..] {
        // Continued in the next bank, and so on.
        [0x7f, ..] => {
            let bank = bytes.iter().take_while(|byte| **byte == 0x7f).count();
            named(u8::try_from(bank).ok()?, *bytes.get(bank)?)
        }
        [number, 0, ..] if number & 0x7f != 0 => named(0, number),
        [bank, number, ..] => named(bank & 0x7f, number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makers_of_memory_have_names() {
        for (text, name) in [
            ("80AD000080AD", Some("SK hynix")),
            ("002C00B3002C", Some("Micron")),
            ("80CE", Some("Samsung")),
            ("CE00000000000000", Some("Samsung")),
            ("0x2C00000000000000", Some("Micron")),
            ("859B", Some("Crucial")),
            ("7F7F7F7F7F9B0000", Some("Crucial")),
            ("0198", Some("Kingston")),
            ("7F98000000000000", Some("Kingston")),
            ("04CD", Some("G.Skill")),
            ("Hynix", None),
            ("FACE", None),
            ("80", None),
            ("7F7F", None),
            ("", None),
        ] {
            assert_eq!(maker(text), name, "{text}");
        }
    }
}
