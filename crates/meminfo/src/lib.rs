//! The memory of a machine, as the kernel counts it (proc_meminfo(5)).
//!
//! **Admission rule.** Belongs here: the figures that decide what a guest gets. Not: the inventory of
//! all figures (`invcollect`), nor a decision.

use std::fs;
use std::path::Path;

use jsonpipe::Common;
use nix::sys::statfs::{HUGETLBFS_MAGIC, statfs};

const PATH: &str = "/proc/meminfo";

/// The bytes that the kernel can use: less than is installed. The error is the reason why they are
/// unknown.
pub fn total(common: &Common) -> Result<u64, String> {
    bytes(common, "MemTotal")
}

/// The bytes that programs can get without swapping, as the kernel estimates it; an error as for
/// [`total`].
pub fn available(common: &Common) -> Result<u64, String> {
    bytes(common, "MemAvailable")
}

/// The size in bytes of the huge pages that are mounted at `mount`; `None` where no hugetlbfs is.
pub fn huge_page_bytes(common: &Common, mount: &Path) -> Option<u64> {
    let found = statfs(&common.path(mount)).ok()?;
    (found.filesystem_type() == HUGETLBFS_MAGIC).then(|| found.block_size() as u64)
}

/// The line `MemTotal:        8054740 kB`.
fn bytes(common: &Common, key: &str) -> Result<u64, String> {
    let text = fs::read(common.path(PATH)).map_err(|error| format!("{PATH}: {error}"))?;
    let text = String::from_utf8_lossy(&text);
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .ok_or_else(|| format!("{PATH}: no {key}"))?;
    let bytes = || {
        let number = value.trim().strip_suffix("kB")?.trim_end();
        number.parse::<u64>().ok()?.checked_mul(1 << 10)
    };
    bytes().ok_or_else(|| format!("{PATH}: {key}: no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_read_or_the_reason_given() {
        let root = tempfile::tempdir().unwrap();
        let common = jsonpipe::testkit::common(root.path());
        let reason = total(&common).unwrap_err();
        assert!(
            reason.starts_with("/proc/meminfo: No such file"),
            "{reason}"
        );
        fs::create_dir(root.path().join("proc")).unwrap();
        for (text, expected) in [
            ("MemTotal:  8 kB\n", Ok(8192)),
            ("MemTotalX: 1 kB\nMemTotal: 0 kB", Ok(0)),
            ("MemFree: 8 kB\n\u{1b}", Err("no MemTotal")),
            ("MemTotal: many\n", Err("MemTotal: no number")),
            ("MemTotal: 8 MB\n", Err("MemTotal: no number")),
            (
                "MemTotal: 18446744073709551615 kB\n",
                Err("MemTotal: no number"),
            ),
        ] {
            fs::write(root.path().join("proc/meminfo"), text).unwrap();
            let expected = expected.map_err(|reason| format!("/proc/meminfo: {reason}"));
            assert_eq!(total(&common), expected, "{text}");
        }
        fs::write(root.path().join("proc/meminfo"), "MemAvailable: 4 kB\n").unwrap();
        assert_eq!(available(&common), Ok(4096));
    }
}
