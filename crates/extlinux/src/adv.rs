//! extlinux's auxiliary data vector: 512 bytes, twice, at the end of ldlinux.sys, which can hold a
//! label to start once.
//!
//! The content follows libinstaller/setadv.c of Syslinux 6.04: a magic number, a checksum, items of
//! a tag, a length and as many bytes, another magic number. extlinux takes the first consistent
//! copy, and removes the label from both before it starts it.

/// The length of a copy.
pub const BYTES: usize = 512;
const HEAD: u32 = 0x5a2d_2fa5;
const SUM: u32 = 0xa304_1767;
const TAIL: u32 = 0xdd28_bf64;
const SUM_AT: usize = 4;
const ITEMS_AT: usize = 8;
const TAIL_AT: usize = BYTES - 4;
/// The item that holds the label to start once.
const BOOT_ONCE: u8 = 1;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Whether this is a copy, with any content: anything else must not be overwritten.
pub fn is_copy(copy: &[u8]) -> bool {
    copy.len() == BYTES && word(copy, 0) == HEAD && word(copy, TAIL_AT) == TAIL
}

/// Whether extlinux would accept this copy.
pub fn is_consistent(copy: &[u8]) -> bool {
    is_copy(copy)
        && (SUM_AT..TAIL_AT)
            .step_by(4)
            .fold(0u32, |sum, at| sum.wrapping_add(word(copy, at)))
            == SUM
}

/// The items of a consistent copy: tag and content, up to the end or the first invalid one.
fn items(copy: &[u8]) -> Vec<(u8, &[u8])> {
    let mut rest = &copy[ITEMS_AT..TAIL_AT];
    let mut items = Vec::new();
    while let [tag, length, behind @ ..] = rest
        && *tag != 0
        && let Some((content, behind)) = behind.split_at_checked(usize::from(*length))
    {
        items.push((*tag, content));
        rest = behind;
    }
    items
}

/// The label that is started once, if there is one.
pub fn boot_once(copy: &[u8]) -> Option<&[u8]> {
    items(copy)
        .into_iter()
        .find_map(|(tag, content)| (tag == BOOT_ONCE).then_some(content))
}

/// The copy with this label to start once, or without one; other items stay. `None` when there is
/// no room.
pub fn with_boot_once(copy: &[u8], label: Option<&str>) -> Option<Vec<u8>> {
    let others = items(copy).into_iter().filter(|(tag, _)| *tag != BOOT_ONCE);
    let ours = label.map(|label| (BOOT_ONCE, label.as_bytes()));
    let mut changed = vec![0; ITEMS_AT];
    for (tag, content) in others.chain(ours) {
        changed.push(tag);
        changed.push(u8::try_from(content.len()).ok()?);
        changed.extend(content);
    }
    if changed.len() > TAIL_AT {
        return None;
    }
    changed.resize(TAIL_AT, 0);
    let sum = (ITEMS_AT..TAIL_AT)
        .step_by(4)
        .fold(SUM, |sum, at| sum.wrapping_sub(word(&changed, at)));
    changed[..4].copy_from_slice(&HEAD.to_le_bytes());
    changed[SUM_AT..ITEMS_AT].copy_from_slice(&sum.to_le_bytes());
    changed.extend(TAIL.to_le_bytes());
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state that extlinux --install leaves.
    fn empty() -> Vec<u8> {
        let mut copy = vec![0; BYTES];
        copy[..8].copy_from_slice(&[0xa5, 0x2f, 0x2d, 0x5a, 0x67, 0x17, 0x04, 0xa3]);
        copy[508..].copy_from_slice(&[0x64, 0xbf, 0x28, 0xdd]);
        copy
    }

    #[test]
    fn a_label_comes_and_goes_and_leaves_the_rest() {
        assert!(is_consistent(&empty()));
        assert_eq!(boot_once(&empty()), None);
        assert_eq!(
            with_boot_once(&empty(), None).as_deref(),
            Some(&empty()[..])
        );
        // The result of extlinux --once=try-b, with the label of a menu beside it (tag 2).
        let once = with_boot_once(&empty(), Some("try-b")).unwrap();
        assert_eq!(&once[8..16], b"\x01\x05try-b\0");
        assert_eq!(
            word(&once, 4),
            0xa304_1767u32
                .wrapping_sub(0x7274_0501)
                .wrapping_sub(0x0062_2d79)
        );
        assert!(is_consistent(&once));
        let mut menu = empty();
        menu[8..13].copy_from_slice(b"\x02\x03xyz");
        let both = with_boot_once(&menu, Some("try-a")).unwrap();
        assert_eq!(&both[8..20], b"\x02\x03xyz\x01\x05try-a");
        let other = with_boot_once(&both, Some("try-b")).unwrap();
        assert_eq!(
            (boot_once(&other), &other[8..13]),
            (Some(&b"try-b"[..]), &b"\x02\x03xyz"[..])
        );
        assert_eq!(
            &with_boot_once(&other, None).unwrap()[8..20],
            b"\x02\x03xyz\0\0\0\0\0\0\0"
        );
    }

    #[test]
    fn damaged_areas_are_inconsistent() {
        let once = with_boot_once(&empty(), Some("try-b")).unwrap();
        for at in [0, 5, 8, 300, 507, 511] {
            let mut torn = once.clone();
            torn[at] ^= 0x10;
            assert!(!is_consistent(&torn), "{at}");
        }
        // A copy that is torn in its middle still counts as a copy.
        for (at, is_one) in [
            (0, false),
            (3, false),
            (4, true),
            (507, true),
            (508, false),
            (511, false),
        ] {
            let mut torn = once.clone();
            torn[at] ^= 0x10;
            assert_eq!(is_copy(&torn), is_one, "{at}");
        }
        assert!(!is_consistent(&once[..511]));
        // An item longer than the rest is invalid.
        let mut long = empty();
        long[8..10].copy_from_slice(&[1, 255]);
        long[265..267].copy_from_slice(&[1, 255]);
        assert_eq!(items(&long).len(), 1);
        let full = with_boot_once(&empty(), Some(&"x".repeat(255))).unwrap();
        assert!(with_boot_once(&full, Some(&"x".repeat(256))).is_none());
        long[8] = 2;
        assert!(with_boot_once(&long, Some(&"x".repeat(255))).is_none());
    }
}
