//! The best speed that both ends of a link offer, from ethtool's netlink
//! (Documentation/networking/ethtool-netlink.rst, LINKMODES_GET).
//!
//! With a broken pair in the cable, both ends agree on 1000 Mb/s and then run at 100: the actual
//! speed alone does not show that it could be better.

use std::collections::HashMap;
use std::io;

use crate::read::netlink::{Family, attribute, find, nest};

const LINKMODES_GET: u8 = 4;
const LINKMODES_HEADER: u16 = 1;
const LINKMODES_OURS: u16 = 3;
const LINKMODES_PEER: u16 = 4;
const HEADER_DEV_NAME: u16 = 2;
const HEADER_FLAGS: u16 = 3;
const FLAG_COMPACT_BITSETS: u32 = 1;
const BITSET_VALUE: u16 = 4;

/// In bits per second, for each interface whose other end reports its modes.
pub fn best_speeds(interfaces: &[String]) -> io::Result<HashMap<String, u64>> {
    let mut ethtool = Family::find("ethtool")?;
    let mut speeds = HashMap::new();
    for name in interfaces {
        let about = [
            attribute(HEADER_DEV_NAME, &[name.as_bytes(), b"\0"].concat()),
            attribute(HEADER_FLAGS, &FLAG_COMPACT_BITSETS.to_ne_bytes()),
        ];
        // An interface that just disappeared, or has no link modes (wireless), has no answer.
        let Ok(answers) = ethtool.ask(
            LINKMODES_GET,
            false,
            &nest(LINKMODES_HEADER, &about.concat()),
        ) else {
            continue;
        };
        if let Some(speed) = answers.first().and_then(|answer| best_speed(answer)) {
            speeds.insert(name.clone(), speed);
        }
    }
    Ok(speeds)
}

/// The highest speed among the modes that both ends advertise.
fn best_speed(answer: &[u8]) -> Option<u64> {
    let modes = |kind| find(find(answer, kind)?, BITSET_VALUE);
    let (ours, peer) = (modes(LINKMODES_OURS)?, modes(LINKMODES_PEER)?);
    // Words of 32 bits in the processor's order, which is little-endian here: the same as bytes.
    let both = ours.iter().zip(peer).map(|(ours, peer)| ours & peer);
    let set = both.enumerate().flat_map(|(at, byte)| {
        (0..8)
            .filter(move |bit| byte >> bit & 1 == 1)
            .map(move |bit| at * 8 + bit)
    });
    set.filter_map(megabits)
        .max()
        .map(|megabits| megabits * 1_000_000)
}

/// The speed of a link mode, by its bit (ETHTOOL_LINK_MODE_* of linux/ethtool.h); `None` for other
/// bits.
fn megabits(bit: usize) -> Option<u64> {
    Some(match bit {
        0 | 1 | 92 | 99 => 10,
        2 | 3 | 67 | 90 | 91 => 100,
        4 | 5 | 17 | 41 | 68 => 1000,
        15 | 47 => 2500,
        48 => 5000,
        12 | 18..=20 | 42..=46 => 10_000,
        21 | 22 => 20_000,
        31..=33 => 25_000,
        23..=26 => 40_000,
        34 | 35 | 40 | 52..=56 => 50_000,
        27..=30 => 56_000,
        36..=39 | 57..=61 | 75..=79 => 100_000,
        62..=66 | 80..=84 => 200_000,
        69..=73 | 85..=89 => 400_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ours: &[u8], peer: Option<&[u8]>) -> Vec<u8> {
        let bitset = |kind, bits: &[u8]| nest(kind, &attribute(BITSET_VALUE, bits));
        [
            bitset(LINKMODES_OURS, ours),
            peer.map(|peer| bitset(LINKMODES_PEER, peer))
                .unwrap_or_default(),
        ]
        .concat()
    }

    #[test]
    fn the_best_of_both_counts() {
        const MODES_10_100_1000: &[u8] = &[0x2f, 0, 0, 0]; // without 1000 half, as most hardware
        for (ours, peer, speed) in [
            (
                MODES_10_100_1000,
                Some(MODES_10_100_1000),
                Some(1_000_000_000),
            ),
            (
                MODES_10_100_1000,
                Some(&[0x4f, 0, 0, 0][..]),
                Some(100_000_000),
            ), // 0x40 is autonegotiation
            (
                &[0x2f, 0x10, 0, 0, 0, 0x80, 0, 0],
                Some(&[0x20, 0, 0, 0, 0, 0x80, 0, 0]),
                Some(2_500_000_000),
            ),
            (MODES_10_100_1000, Some(&[0, 0, 0, 0]), None),
            (MODES_10_100_1000, None, None),
        ] {
            assert_eq!(best_speed(&answer(ours, peer)), speed, "{ours:?} {peer:?}");
        }
    }

    #[test]
    fn an_answer_that_was_cut_off_tells_nothing() {
        let whole = answer(&[0x20, 0, 0, 0], Some(&[0x20, 0, 0, 0]));
        assert_eq!(best_speed(&whole), Some(1_000_000_000));
        for length in 0..whole.len() {
            assert_eq!(best_speed(&whole[..length]), None, "{length}");
        }
    }
}
