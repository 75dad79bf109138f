//! The memory: the modules, from the firmware's tables, and the kernel's view.

use crate::read::machine::Machine;
use crate::read::smbios::Slots;
use crate::report::Memory;

const MEMINFO: &str = "/proc/meminfo";

/// `slots` is from the firmware's tables, if they could be read (otherwise the reason is recorded);
/// `expected_bytes` is the factory memory of the model.
pub fn read(machine: &Machine, slots: Option<Slots>, expected_bytes: Option<u64>) -> Memory {
    let text = machine.text(MEMINFO).unwrap_or_else(|error| {
        machine.unreadable("memory.usable_bytes", MEMINFO, &error);
        String::new()
    });
    let kib = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()?
            .checked_mul(1 << 10)
    };
    let count = slots.as_ref().map(|slots| slots.count);
    let modules = slots.map(|slots| slots.modules).unwrap_or_default();
    let mut installed = count.map(|_| 0u64);
    for module in &modules {
        installed = installed
            .zip(module.bytes)
            .map(|(sum, bytes)| sum.saturating_add(bytes));
    }
    if count.is_some() && installed.is_none() {
        machine.missing(
            "memory.installed_bytes",
            "the firmware does not know the size of every module",
        );
    }
    Memory {
        installed_bytes: installed,
        expected_bytes,
        accepted_bytes: None,
        usable_bytes: kib("MemTotal"),
        available_bytes: kib("MemAvailable"),
        slots: count,
        modules,
    }
}
