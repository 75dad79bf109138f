//! The guest's memory: as much as the host can spare.
//!
//! QEMU always starts, because the kernel overcommits memory. The guest is killed later, during the
//! user's work. So the amount is computed, and checked before the start.

use jsonpipe::{Common, Exit};

use model::Memory;

/// The smallest guest that the thesis measured. A machine of 4 GB has less to give.
const SMALLEST: Memory = Memory::of_mebibytes(3354);

/// The memory of a guest: the machine's usable memory less `reserve` for the host, at most
/// `bound`; in whole huge pages of 2 MiB, unless it is `bound`.
///
/// Status 78 when that leaves a guest without `bound` less than the smallest that was measured, or
/// one with `bound` nothing. Without a figure of the kernel it is `bound`.
pub fn of_guest(common: &Common, bound: Option<Memory>, reserve: Memory) -> anyhow::Result<Memory> {
    let usable = match meminfo::total(common) {
        Ok(usable) => usable,
        Err(reason) => {
            return bound.ok_or_else(|| {
                Exit::Config.error(format_args!(
                    "finding memory for the guest: {reason}; set memory in profiles.ini"
                ))
            });
        }
    };
    let least = least(bound);
    let spared = usable.saturating_sub(reserve.bytes());
    if spared < least.bytes() {
        return Err(Exit::Config.error(format_args!(
            "finding memory for the guest: of this machine's {}M, {reserve} are the host's, and {}M remain; a guest needs {least}: add memory, or set less host_memory in vm-passthrough.ini",
            usable >> 20,
            spared >> 20
        )));
    }
    Ok(match bound {
        Some(bound) if bound.bytes() <= spared => bound,
        _ => Memory::of_mebibytes(u32::try_from(spared >> 20).unwrap_or(u32::MAX) & !1),
    })
}

/// The memory without which a guest is refused.
pub fn least(bound: Option<Memory>) -> Memory {
    match bound {
        Some(bound) if bound.bytes() < SMALLEST.bytes() => bound,
        _ => SMALLEST,
    }
}

/// Checks that the memory of a guest is available: status 75 when the machine does not have it now.
/// A missing figure counts as enough.
pub fn check(common: &Common, memory: Memory) -> anyhow::Result<()> {
    match meminfo::available(common) {
        Ok(available) if available < memory.bytes() => {
            Err(Exit::TemporaryFailure.error(format_args!(
                "finding memory for the guest: it needs {memory}, and {}M are available; end other programs and try again, or set more host_memory in vm-passthrough.ini",
                available >> 20
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A machine with this text in its /proc/meminfo.
    fn machine(meminfo: &str) -> (tempfile::TempDir, Common) {
        let root = tempfile::tempdir().unwrap();
        let common = jsonpipe::testkit::common(root.path());
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/meminfo"), meminfo).unwrap();
        (root, common)
    }

    fn memory(text: &str) -> Memory {
        Memory::try_from(text.to_owned()).unwrap()
    }

    /// The memory of a guest on a machine with `usable` MiB, or the message of status 78.
    fn guest(usable: u64, bound: Option<&str>, reserve: &str) -> Result<String, String> {
        let (_root, common) = machine(&format!("MemTotal: {} kB\n", usable * 1024));
        of_guest(&common, bound.map(memory), memory(reserve))
            .map(|memory| memory.to_string())
            .map_err(|error| {
                assert_eq!(Exit::of(&error), Exit::Config);
                error.to_string()
            })
    }

    #[test]
    fn the_splits_of_the_thesis_come_out() {
        for (host, expected) in [
            ("768M", "6682M"),
            ("1024M", "6426M"),
            ("2048M", "5402M"),
            ("3072M", "4378M"),
            ("4096M", "3354M"),
        ] {
            assert_eq!(guest(7450, None, host).unwrap(), expected);
        }
        // Its Figure 4.
        assert_eq!(guest(7450, Some("6910M"), "540M").unwrap(), "6910M");
    }

    #[test]
    fn a_bound_is_an_upper_bound() {
        assert_eq!(guest(7450, Some("64M"), "1G").unwrap(), "64M");
        assert_eq!(guest(7451, Some("8G"), "1G").unwrap(), "6426M");
    }

    #[test]
    fn a_machine_with_4_gb_is_refused_with_the_numbers() {
        let message = guest(3800, None, "1G").unwrap_err();
        assert!(
            message.starts_with(
                "finding memory for the guest: of this machine's 3800M, 1024M are the host's, and 2776M remain; a guest needs 3354M"
            ),
            "{message}"
        );
        assert!(guest(1100, Some("100M"), "1G").is_err());
        assert!(guest(100, Some("100M"), "1G").is_err());
    }

    #[test]
    fn memory_without_a_figure_is_the_bound() {
        let (_root, common) = machine("MemTotal: many\n");
        let reserve = memory("1G");
        let bound = Some(memory("2G"));
        assert_eq!(of_guest(&common, bound, reserve).unwrap(), memory("2G"));
        let error = of_guest(&common, None, reserve).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Config);
    }

    #[test]
    fn memory_that_the_machine_has_not_now_is_75() {
        let (_root, common) = machine("MemFree:  1 kB\nMemAvailable:    7075840 kB\n");
        check(&common, memory("6910M")).unwrap();
        let error = check(&common, memory("6911M")).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::TemporaryFailure);
        let message = error.to_string();
        assert!(
            message.starts_with(
                "finding memory for the guest: it needs 6911M, and 6910M are available; end"
            ),
            "{message}"
        );
        let (_root, common) = machine("MemTotal: many\n");
        check(&common, memory("8G")).unwrap();
    }
}
