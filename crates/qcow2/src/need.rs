//! The room of an overlay that its guest has filled.

use crate::format::{BYTES_PER_L1_ENTRY, CLUSTER_BYTES, REFCOUNTS_PER_BLOCK};

/// The size of an overlay whose every cluster has been written, for a disk of `virtual_bytes`: the
/// header, data, L2 tables, the L1 table, refcount blocks and the refcount table. The last two count
/// themselves as well, so it is a fixed point. Equal to "fully allocated size" of
/// `qemu-img measure`.
pub fn full_bytes(virtual_bytes: u64) -> u64 {
    let l2_tables = virtual_bytes.div_ceil(BYTES_PER_L1_ENTRY);
    let l1_clusters = (l2_tables * 8).div_ceil(CLUSTER_BYTES);
    let counted = 1 + virtual_bytes.div_ceil(CLUSTER_BYTES) + l2_tables + l1_clusters;
    let mut clusters = counted;
    loop {
        let blocks = clusters.div_ceil(REFCOUNTS_PER_BLOCK);
        let table = (blocks * 8).div_ceil(CLUSTER_BYTES);
        let all = counted + blocks + table;
        if all == clusters {
            return clusters * CLUSTER_BYTES;
        }
        clusters = all;
    }
}

/// The room to reserve for such an overlay: [`full_bytes`], and a slack of 1 MiB and a 1024th of the
/// disk, for clusters that a killed QEMU leaves allocated and unused, and for the file system's own
/// records, which take about a 5000th when every cluster is an extent.
pub fn need_bytes(virtual_bytes: u64) -> u64 {
    full_bytes(virtual_bytes) + slack_bytes(virtual_bytes)
}

/// The room to reserve for an overlay that can come to so many clusters without its refcount blocks,
/// with the same slack.
pub fn room_bytes(clusters: u64) -> u64 {
    let blocks = clusters.div_ceil(REFCOUNTS_PER_BLOCK) + 1;
    let table = (blocks * 8).div_ceil(CLUSTER_BYTES);
    let bytes = (clusters + blocks + table) * CLUSTER_BYTES;
    bytes + slack_bytes(bytes)
}

fn slack_bytes(bytes: u64) -> u64 {
    (1 << 20) + bytes.div_ceil(1024).next_multiple_of(CLUSTER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::OVERLAY_MAX_BYTES;
    use proptest::prelude::*;

    #[test]
    fn the_room_of_80_gib_has_13_mb_more() {
        assert_eq!(full_bytes(80 << 30), (80 << 30) + 13_369_344);
        assert_eq!(
            need_bytes(80 << 30),
            (80 << 30) + 13_369_344 + (81 << 20),
            "81 MiB of slack"
        );
    }

    proptest! {
        #[test]
        fn room_grows_with_the_disk(sectors in 1..OVERLAY_MAX_BYTES / 512) {
            let (bytes, next) = (sectors * 512, (sectors + 1) * 512);
            prop_assert!(full_bytes(bytes) > bytes && full_bytes(next) >= full_bytes(bytes));
            prop_assert!(full_bytes(bytes) <= bytes + bytes / 4000 + 6 * CLUSTER_BYTES);
            prop_assert!(need_bytes(bytes).is_multiple_of(CLUSTER_BYTES));
        }
    }
}
