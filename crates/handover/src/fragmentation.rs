//! How fragmented the free memory is.

use std::fs;

use jsonpipe::Common;

/// Free blocks by order, a line for each zone (proc_buddyinfo(5)).
const BUDDYINFO: &str = "/proc/buddyinfo";
const SMALL_PAGE_BYTES: u64 = 4096;

/// The share of the free memory that is in blocks smaller than a page of `page_bytes`, from 0 to 1:
/// the kernel's *unusable free space index*. `None` without free memory, or where the kernel does
/// not show its blocks.
pub(crate) fn index(common: &Common, page_bytes: u64) -> Option<f64> {
    let text = fs::read_to_string(common.path(BUDDYINFO)).ok()?;
    let order = (page_bytes / SMALL_PAGE_BYTES).checked_ilog2()?;
    let (mut free, mut usable) = (0_u64, 0_u64);
    for line in text.lines() {
        // Node 0, zone   Normal   216    55   189 …
        let counts = line.split_whitespace().skip(4);
        for (block_order, count) in (0u32..).zip(counts) {
            let block = 1_u64.checked_shl(block_order)?;
            let pages = count.parse::<u64>().ok()?.checked_mul(block)?;
            free = free.checked_add(pages)?;
            usable += if block_order >= order { pages } else { 0 };
        }
    }
    (free > 0).then(|| ((1.0 - usable as f64 / free as f64) * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_the_share_of_free_memory_in_small_blocks() {
        let root = tempfile::tempdir().unwrap();
        let common = jsonpipe::testkit::common(root.path());
        let index = |text: &str| {
            fs::create_dir_all(root.path().join("proc")).unwrap();
            fs::write(root.path().join("proc/buddyinfo"), text).unwrap();
            index(&common, 2 << 20)
        };
        let zone = "Node 0, zone   Normal ";
        assert_eq!(index(""), None);
        assert_eq!(index(&format!("{zone} 0 0 0 0 0 0 0 0 0 2 1\n")), Some(0.0));
        // 1024 pages in the smallest blocks, 1024 in one of 4 MiB.
        assert_eq!(
            index(&format!("{zone} 1024 0 0 0 0 0 0 0 0 0 1\n")),
            Some(0.5)
        );
        assert_eq!(
            index(&format!("{zone} 1024 0 0 0 0 0 0 0 0 0 0\n")),
            Some(1.0)
        );
        assert_eq!(index(&format!("{zone} many\n")), None);
        let most = u64::MAX;
        assert_eq!(index(&format!("{zone} 0 {most}\n")), None);
        assert_eq!(index(&format!("{zone} {most}\n{zone} {most}\n")), None);
    }
}
