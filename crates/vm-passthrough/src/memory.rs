//! Ordinary memory: checks that the host has as much as the guest will get.
//!
//! QEMU always starts, because the kernel overcommits memory. The guest is killed later, during the
//! user's work.

use std::fs;

use jsonpipe::{Common, Exit};

use model::Memory;

/// The kernel's figures, in kB (proc_meminfo(5)).
const MEMINFO: &str = "/proc/meminfo";

/// Checks that a guest's memory is available: status 78 when this machine never has as much, 75
/// when it does not have it now. A missing figure counts as enough.
pub fn check(common: &Common, memory: Memory) -> anyhow::Result<()> {
    let Ok(text) = fs::read_to_string(common.path(MEMINFO)) else {
        return Ok(());
    };
    let is_short = |bytes: Option<u64>| {
        bytes
            .filter(|bytes| *bytes < memory.bytes())
            .map(|bytes| bytes >> 20)
    };
    let way_out = "give the guest less, in profiles.ini or for this model in models.ini";
    if let Some(mebibytes) = is_short(field(&text, "MemTotal")) {
        return Err(Exit::Config.error(format_args!(
            "finding memory for the guest: it needs {memory}, and this machine has {mebibytes}M; {way_out}"
        )));
    }
    if let Some(mebibytes) = is_short(field(&text, "MemAvailable")) {
        return Err(Exit::TemporaryFailure.error(format_args!(
            "finding memory for the guest: it needs {memory}, and {mebibytes}M are available; end other programs and try again, or {way_out}"
        )));
    }
    Ok(())
}

/// The value of a line, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim()
        .strip_suffix(" kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_the_machine_never_has_is_78_and_that_it_has_not_now_75() {
        let root = tempfile::tempdir().unwrap();
        let common = Common {
            verbose: false,
            log: false,
            root: root.path().to_owned(),
            config: None,
        };
        let check = |memory: &str| {
            check(&common, Memory::try_from(memory.to_owned()).unwrap())
                .map_err(|error| (Exit::of(&error), error.to_string()))
        };
        assert_eq!(check("6910M"), Ok(()), "nothing is known");
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(
            root.path().join("proc/meminfo"),
            "MemTotal:        8054740 kB\nMemFree:  1 kB\nMemAvailable:    7075840 kB\n",
        )
        .unwrap();
        assert_eq!(check("6910M"), Ok(()), "exactly as much");
        let (exit, message) = check("6911M").unwrap_err();
        assert_eq!(exit, Exit::TemporaryFailure);
        assert!(
            message.starts_with(
                "finding memory for the guest: it needs 6911M, and 6910M are available; end"
            ),
            "{message}"
        );
        let (exit, message) = check("8G").unwrap_err();
        assert_eq!(exit, Exit::Config);
        assert!(
            message.starts_with(
                "finding memory for the guest: it needs 8192M, and this machine has 7865M; give"
            ),
            "{message}"
        );
        fs::write(root.path().join("proc/meminfo"), "MemTotal: many\n").unwrap();
        assert_eq!(check("8G"), Ok(()));
    }
}
