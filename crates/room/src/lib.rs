//! The room of users' volumes: how much one needs, whether that is free, and which others go for it.
//!
//! **Admission rule.** Belongs here: decisions, as functions of numbers. Not: a file, a clock, a
//! lock, or the mechanism that keeps the volumes (qcow2, ZFS).

mod order;
mod plan;

pub use order::{Candidate, Kind};
pub use plan::{Plan, Short, Step, What, plan};

/// The room that a volume still needs: the whole of what it can come to hold, less what it holds.
/// It can hold more than that, as a filled clone on ZFS does, and then needs nothing.
pub fn need_bytes(whole_bytes: u64, held_bytes: u64) -> u64 {
    let missing = i128::from(whole_bytes) - i128::from(held_bytes);
    u64::try_from(missing).unwrap_or(0)
}

/// Whether the room that is free is enough. Equation 3.1 of the thesis says that occupation is high
/// when `volsize - usedds >= available`: equality is not enough. What needs nothing fits anywhere.
pub fn is_enough(need_bytes: u64, free_bytes: u64) -> bool {
    need_bytes == 0 || need_bytes < free_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn the_examples_of_the_thesis() {
        // A volume of 50 GB at the first login, then with 1 GB in it.
        assert_eq!(need_bytes(50 * GB, 0), 50 * GB);
        assert_eq!(need_bytes(50 * GB, GB), 49 * GB);
        for need in [50 * GB, 49 * GB] {
            assert!(is_enough(need, need + 1));
            assert!(!is_enough(need, need), "equality evicts");
            assert!(!is_enough(need, need - 1));
        }
    }

    #[test]
    fn a_volume_that_holds_more_than_its_size_needs_nothing() {
        assert_eq!(need_bytes(100 * GB, 101 * GB), 0);
        assert_eq!(need_bytes(0, u64::MAX), 0);
        assert_eq!(need_bytes(u64::MAX, 0), u64::MAX);
        assert!(is_enough(0, 0));
    }
}
