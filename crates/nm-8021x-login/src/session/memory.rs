//! What keeps the password in the memory of the process that has it, and that memory small.

#![allow(unsafe_code, reason = "advice on memory is given by its address")]

use std::ffi::c_void;
use std::fs;
use std::ptr::NonNull;

use jsonpipe::{Exit, ExitContext};
use nix::libc;
use nix::sys::mman::{MlockAllFlags, MmapAdvise, madvise, mlockall, munlock};
use nix::sys::prctl;

/// Only who may trace every process reads it through /proc, no core holds it (`jsonpipe` forbids
/// those of every tool), and it never gets into swap. Pages are locked as they are touched, so the
/// size stays what is used.
pub fn protect() -> anyhow::Result<()> {
    prctl::set_dumpable(false)?;
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault)
        .exit(Exit::NoPermission, || "locking the password in memory")
}

/// Gives the pages of code back that are not in use now. Code is in its file, and holds no secret;
/// most of it is for what happens once.
pub fn release_code() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(code) {
        let Some(start) = NonNull::new(start as *mut c_void) else {
            continue;
        };
        // SAFETY: the pages are mapped, are only read and executed, and were never written: what is
        // dropped is read from the file again.
        unsafe {
            let _ = munlock(start, length); // the next line fails as well
            let _ = madvise(start, length, MmapAdvise::MADV_DONTNEED); // they stay: nothing is lost
        }
    }
}

/// The address and the length of a mapping of code, from a line of /proc/self/maps.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let is_code = words.next()? == "r-xp" && words.last()?.starts_with('/');
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    is_code.then_some((start, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn code_is_what_is_only_read_and_executed_from_a_file() {
        let line = "564961fd7000-564961fd9000 r-xp 0010f000 fe:00 1234    /usr/bin/nm-8021x-login";
        assert_eq!(code(line), Some((0x5649_61fd_7000, 0x2000)));
        for other in [
            "564962229000-564962245000 r--p 00361000 fe:00 1234   /usr/bin/nm-8021x-login",
            "7ffd26fa4000-7ffd26fc5000 rw-p 00000000 00:00 0      [stack]",
            "7ffd26fc5000-7ffd26fc7000 r-xp 00000000 00:00 0      [vdso]",
            "7fe50e128000-7fe50e328000 r-xp 00000000 00:00 0",
            "",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }

    /// How much of this process's code is in memory, in bytes: `Rss` of proc_pid_smaps(5).
    fn code_in_memory() -> u64 {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut is_code, mut bytes) = (false, 0);
        for line in smaps.lines() {
            if let Some(kib) = line.strip_prefix("Rss:").filter(|_| is_code) {
                bytes += 1024 * kib.trim_end_matches("kB").trim().parse::<u64>().unwrap();
            } else if line
                .split_whitespace()
                .next()
                .is_some_and(|word| word.contains('-'))
            {
                is_code = code(line).is_some();
            }
        }
        bytes
    }

    #[test]
    fn code_that_was_given_back_is_not_in_memory_and_still_runs() {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let memory = fs::File::open("/proc/self/mem").unwrap();
        for (start, length) in maps.lines().filter_map(code) {
            let mut all = vec![0; length]; // brings every page into memory
            memory.read_exact_at(&mut all, start as u64).unwrap();
        }
        let before = code_in_memory();
        release_code();
        let after = code_in_memory();
        assert!(after + (1 << 20) < before, "{after} of {before}");
    }
}
