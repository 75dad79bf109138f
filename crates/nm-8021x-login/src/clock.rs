//! The clock since the boot, which nobody sets.

use jsonpipe::{Exit, ExitContext};
use nix::time::{ClockId, clock_gettime};

/// Seconds since the machine was started, those in which it slept included.
pub fn boot_seconds() -> anyhow::Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .exit(Exit::Software, || "reading the clock since the boot")?;
    Ok(now.tv_sec().cast_unsigned())
}
