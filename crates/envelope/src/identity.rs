//! Serial numbers and UUIDs of single machines, distinguished from makers' placeholders.
//!
//! A lab machine reports no placeholders, and a server accepts none: an older release on the
//! machine knows fewer of them.

/// The known texts, with their sources.
const OF_MANY: &str = include_str!("of_many.txt");
/// Field names that makers leave as the value, followed at most by the number of a slot: "OEM
/// Chassis Serial Number", "Type2 - Board Serial Number", "A1_AssetTagNum0". Only letters and
/// digits count.
const PHRASES: &[&str] = &[
    "serialn",
    "sernum",
    "chassisserial",
    "boardserial",
    "assettag",
    "partnum",
    "manufacturer",
    "filledby",
    "definedby",
];
/// A text of only these words means that there is no value: "NotSpecified", "No Enclosure",
/// "(none)", "Default_String".
const WORDS: &str = "all applicable asset available base be blank board by chassis copy default define defined dimm dummy empty \
                     enclosure eval evaluation fill filled in information insert installed invalid lot manufacturer module name nil \
                     no none not null number odm oem please present product provided reserved sample serial series set sn specified \
                     string system tag tba tbd test to undefined unknown unspecified void";
/// Longer than any such text.
const WORDS_MAX_BYTES: usize = 64;
/// A longer sequence of counting digits is never a real number.
const LONG_COUNT: usize = 8;
/// A shorter one may be a real number.
const SHORT_COUNT: usize = 5;

/// The significant characters of a text: separators between words vary. Bytes that are not UTF-8
/// are significant, otherwise 12?345 would be 12345.
fn plain(text: &str) -> String {
    let counts = |c: &char| c.is_alphanumeric() || *c == char::REPLACEMENT_CHARACTER;
    text.chars()
        .filter(counts)
        .flat_map(char::to_lowercase)
        .collect()
}

/// Whether the list contains it in this case: "N/A" is a placeholder, "Na" is not.
fn is_listed(kind: &str, plain_text: &str) -> bool {
    let listed = |line: &str| {
        line.strip_prefix(kind)
            .and_then(|rest| rest.strip_prefix(' '))
            .is_some_and(|rest| plain(rest) == plain_text)
    };
    OF_MANY.lines().any(listed)
}

/// Whether it consists of makers' placeholder words.
fn is_of_words(plain_text: &str) -> bool {
    let rest = |word| plain_text.strip_prefix(word);
    plain_text.len() <= WORDS_MAX_BYTES
        && (plain_text.is_empty() || WORDS.split(' ').filter_map(rest).any(is_of_words))
}

/// Whether this can be a serial number, not a maker's placeholder.
pub fn is_serial(text: &str) -> bool {
    let lower = text.trim().to_ascii_lowercase();
    let plain = plain(text);
    // 1.0, 10, 0101: versions and bits, not numbers of things; 12345; SN-00000.
    let is_version = lower.len() >= 3
        && lower
            .split('.')
            .all(|part| part.len() == 1 && part.as_bytes()[0].is_ascii_digit());
    let number = plain.trim_start_matches(char::is_alphabetic);
    is_name(text)
        && !is_version
        && !plain.chars().all(|c| "01".contains(c))
        && count(&plain).is_none_or(|count| count < SHORT_COUNT)
        && (number.len() < SHORT_COUNT || number.bytes().any(|digit| digit != b'0'))
        && !is_listed("uuid", &plain)
}

/// The same for an owner's text, such as an asset tag, or a name, which may be short and only
/// digits.
pub fn is_name(text: &str) -> bool {
    let text = plain(text);
    let text = text.strip_prefix("0x").unwrap_or(&text);
    let mut signs = text.chars().filter(|c| c.is_alphanumeric());
    let Some(first) = signs.next() else {
        return false;
    };
    // 00000000, FFFFFFFF, 0000-0000, XXXXXXXX, 0x00000000, and a single letter or digit.
    !signs.all(|c| c == first)
        && (text.bytes().filter(u8::is_ascii_digit).count() > 3
            || !PHRASES.iter().any(|phrase| text.contains(phrase)))
        && !is_listed("serial", text)
        && !is_of_words(text)
        && count(text.trim_start_matches(|c: char| !c.is_ascii_digit()))
            .is_none_or(|count| count < LONG_COUNT)
}

/// The number of digits, if they count up or down from either end or to one, as 1234567890 and
/// 87654321 do: "SYS-9876543210", "BSN12345678901234567".
fn count(plain_text: &str) -> Option<usize> {
    let digits = plain_text.as_bytes();
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let zeros = digits
        .iter()
        .rev()
        .take_while(|digit| **digit == b'0')
        .count(); // 123456789000
    let counted = &digits[..digits.len() - zeros];
    let counts = |step: u8| {
        counted
            .windows(2)
            .all(|pair| (pair[0] - b'0' + step) % 10 == pair[1] - b'0')
    };
    let is_count = match (counted.first()?, counted.last()?) {
        (b'0' | b'1', _) if counts(1) => true,
        (b'9', _) | (_, b'1') => counts(9),
        _ => false,
    };
    is_count
        .then_some(digits.len())
        .filter(|_| counted.len() >= SHORT_COUNT)
}

/// Whether a UUID can be unique to a machine: not all bytes equal, and not a value that boards are
/// shipped with, in either byte order.
pub fn is_uuid_of_one(uuid: &str) -> bool {
    let uuid = uuid.to_ascii_lowercase();
    let digits: Vec<&[u8]> = uuid.as_bytes().split(|byte| *byte == b'-').collect();
    let pairs: Vec<&[u8]> = digits.iter().flat_map(|group| group.chunks(2)).collect();
    pairs.len() == 16
        && pairs.iter().any(|pair| *pair != pairs[0])
        && !is_listed("uuid", &plain(&uuid))
        && !is_listed("uuid", &plain(&swapped(&uuid)))
}

/// Swaps the bytes of the first three fields; empty for another format.
fn swapped(uuid: &str) -> String {
    let field = |field: &str| {
        field
            .as_bytes()
            .chunks(2)
            .rev()
            .flatten()
            .map(|byte| char::from(*byte))
            .collect::<String>()
    };
    match uuid.split('-').collect::<Vec<_>>()[..] {
        [a, b, c, d, e] => [&field(a), &field(b), &field(c), d, e].join("-"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The placeholders that GLPI refuses by default, with examples of its three patterns; those of
    /// fwts; and those of real tables.
    #[test]
    fn placeholders_are_no_serial_numbers() {
        for text in [
            "N/A",
            "(null string)",
            "INVALID",
            "SYS-1234567890",
            "SYS-9876543210",
            "SN-12345",
            "SN-1234567890",
            "0000",
            "1111111",
            "1.0",
            "1.0.0",
            "0101",
            "1000",
            "0123456789",
            "12345",
            "123456",
            "1234567",
            "12345678",
            "123456789",
            "1234567890",
            "123456789000",
            "12345678901234567",
            "NNNNNNN",
            "xxxxxxxxxxx",
            "EVAL",
            "IATPASS",
            "none",
            "To Be Filled By O.E.M.",
            "Tulip Computers",
            "Serial Number xxxxxx",
            "SN-123456fvgv3i0b8o5n6n7k",
            "Unknow",
            "System Serial Number",
            "MB-1234567890",
            "empty",
            "Not Specified",
            "OEM_Serial",
            "SystemSerialNumb",
            "012345678900",
            "0x00000000",
            "0x0000000000000000",
            "0000-0000-0000",
            "........",
            "XX-XX",
            "<cut out>",
            "Base Board Serial Number",
            "NB-0123456789",
            "Not Supported by CPU",
            "OEM_Define1",
            "SerNum03",
            "TBD by ODM",
            "To Be Defined By O.E.M",
            "[Empty]",
            "A1_AssetTagNum2",
            "A1_Manufacturer0",
            "ABCDEFGHIJKLM",
            "ATN12345678901234567",
            "OEM Chassis Serial Number",
            "Type2 - Board Serial Number",
            "1234567890.",
            "BSN12345678901234567",
            "Default string",
            "Serial",
            "S/N",
            "Serial No",
            "(none)",
            "nil",
            "(unknown)",
            "Unspecified",
            "Not Set",
            "Not Installed",
            "No Enclosure",
            "Chassis Serial",
            "Product Name",
            "All Series",
            "87654321",
            "7654321",
            "1234-5678-9012-3456",
            "12:34:56:78",
            "0x1234567890",
            "SN-0000000000",
            "SYS-00000",
            "03000200-0400-0500-0006-000700080009",
        ] {
            let upper = text.to_uppercase();
            let (dotted, blanks, lines) = (
                format!("{text}."),
                upper.replace(' ', "  "),
                text.replace([' ', '.'], "_"),
            );
            for text in [
                text,
                &format!(" {upper} "),
                &dotted,
                &blanks,
                &lines,
                &text.replace(' ', ""),
            ] {
                assert!(!is_serial(text), "{text}");
            }
        }
    }

    #[test]
    fn serial_numbers_are_serial_numbers() {
        for text in [
            "ABC1234",
            "0A00B001",
            "859B0E12",
            "160412A2",
            "WD-WCC2EKP12345",
            "S64ANX0R123456",
            "CN7220021B",
            "/ABC1234/CN7220021B/",
            "PF0ABCDE",
            "MJ01234",
            "5CG1234XYZ",
            "10234",
            "23456789",
            "2C4E8A10",
            "QM00001",
            "VM-7",
            "12340000",
            "01200000",
            "98700000",
            "1234",
            "CZC0123456",
            "8CC9876543",
            "OEM12345",
            "NA123456",
            "TBD0001",
            "EVAL0001",
            "00000002",
            "X1-00003",
            "76543219",
            "12\u{fffd}345",
            "0\u{fffd}101",
        ] {
            assert!(is_serial(text), "{text}");
        }
        for tag in [
            "No. 17",
            "1001",
            "12345",
            "10",
            "LAB3-07",
            "0815",
            "Asset Tag 4711",
        ] {
            assert!(is_name(tag), "{tag}");
        }
    }

    #[test]
    fn uuids_of_many_are_known_in_either_order() {
        for uuid in [
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "03000200-0400-0500-0006-000700080009",
            "00020003-0004-0005-0006-000700080009",
            "6AB5B300-538D-1014-9FB5-B0684D007B53",
            "00b3b56a-8d53-1410-9fb5-b0684d007b53",
            "01010101-0101-0101-0101-010101010101",
            "2",
            "",
            "00010203-0405-0607-0809-0a0b0c0d0e0f",
        ] {
            assert!(!is_uuid_of_one(uuid), "{uuid}");
        }
        assert!(is_uuid_of_one("4c4c4544-0042-4310-8031-b1c04f333232"));
    }

    #[test]
    fn the_list_is_in_lower_case() {
        for line in OF_MANY
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            assert!(
                line == line.to_lowercase()
                    && ["serial ", "uuid "]
                        .iter()
                        .any(|kind| line.starts_with(kind)),
                "{line}"
            );
        }
    }
}
