//! The kernel's own log, /dev/kmsg (Documentation/ABI/testing/dev-kmsg).

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::libc::O_NONBLOCK;

use crate::read::machine::Machine;

const LOG: &str = "/dev/kmsg";
/// Longer than the kernel's longest record.
const RECORD_BYTES: usize = 8 << 10;
/// By then, after the boot, the kernel has read the hardware clock. Each record takes a system
/// call.
const CLOCK_IS_SET: Duration = Duration::from_secs(120);

/// The log's content about this boot.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The hardware clock when the kernel booted, in seconds since 1970.
    pub clock_at_boot: Option<u64>,
    /// The last time that the kernel killed a QEMU for lack of memory, in seconds since boot.
    pub qemu_killed: Option<u64>,
    /// The end of the read part, in microseconds since boot.
    read_to: u64,
}

/// Reads the log; only its beginning, unless the kernel has killed something.
pub fn read(machine: &Machine) -> io::Result<Said> {
    let vmstat = machine.text("/proc/vmstat").unwrap_or_default();
    let killed = vmstat
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok());
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(machine.path(LOG))?;
    let mut said = Said::default();
    let mut buffer = vec![0; RECORD_BYTES];
    // The device returns one record per read; a file in its place, in a directory, returns many.
    let mut rest = String::new();
    while said.may_say_more() || killed.is_none_or(|killed| killed > 0) {
        match log.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                rest.push_str(&String::from_utf8_lossy(&buffer[..read]));
                let whole = rest.rfind('\n').map_or(0, |at| at + 1);
                rest.drain(..whole)
                    .as_str()
                    .lines()
                    .for_each(|line| said.take(line));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // The next record has been overwritten by newer ones.
            Err(error)
                if error.raw_os_error() == Some(nix::libc::EPIPE)
                    || error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(said)
}

impl Said {
    /// Whether the clock may still follow: clock drivers load early.
    fn may_say_more(&self) -> bool {
        self.clock_at_boot.is_none() && self.read_to < CLOCK_IS_SET.as_micros() as u64
    }

    /// `6,812,1234567,-;rtc_cmos 00:05: setting system clock to 2026-11-23T14:20:01 UTC
    /// (1795443601)`
    fn take(&mut self, line: &str) {
        let Some((prefix, text)) = line.split_once(';') else {
            return;
        };
        let mut fields = prefix.split(',');
        let facility = fields.next().and_then(|field| field.parse::<u32>().ok());
        // Root may write to the log; such records have another facility than the kernel's.
        let (Some(0..8), Some(at)) = (
            facility,
            fields.nth(1).and_then(|field| field.parse::<u64>().ok()),
        ) else {
            return;
        };
        self.read_to = at;
        if self.clock_at_boot.is_none()
            && let Some((_, clock)) = text.split_once("setting system clock to ")
        {
            let seconds = clock
                .split_once('(')
                .and_then(|(_, rest)| rest.split_once(')')?.0.parse().ok());
            self.clock_at_boot = seconds;
        }
        let of_memory = [
            "Out of memory: Killed process ",
            "Memory cgroup out of memory: Killed process ",
        ];
        let killed = of_memory.iter().find_map(|start| text.strip_prefix(start));
        if killed
            .and_then(|rest| rest.split_once('('))
            .is_some_and(|(_, name)| name.starts_with("qemu"))
        {
            self.qemu_killed = Some(at / 1_000_000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernel_alone_is_believed() {
        let mut said = Said::default();
        said.take("6,812,1234567,-;rtc_cmos 00:05: setting system clock to 2002-01-01T00:00:07 UTC (1009843207)");
        said.take("3,2000,99000000,-;Out of memory: Killed process 812 (qemu-system-x86) total-vm:6291456kB, anon-rss:1kB");
        said.take("3,2001,100000000,-;Out of memory: Killed process 813 (firefox) total-vm:1kB");
        said.take(
            "12,2002,101000000,-;Out of memory: Killed process 814 (qemu-system-x86) total-vm:1kB",
        );
        said.take(" SUBSYSTEM=acpi");
        assert_eq!(
            (said.clock_at_boot, said.qemu_killed),
            (Some(1009843207), Some(99))
        );
        assert!(!said.may_say_more());
    }

    proptest! {
        #[test]
        fn any_record_is_read_or_not(record in "[0-9]{0,3},[0-9]{0,22},[0-9]{0,22},-;(setting system clock to |Out of memory: Killed process |[(]|[)]|qemu|\\PC){0,12}") {
            Said::default().take(&record);
        }
    }
}
