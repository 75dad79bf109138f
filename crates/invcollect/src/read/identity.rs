//! The machine's id and its name in the network.

use envelope::HOST_ID;

use crate::read::machine::Machine;

/// The file with the name that the kernel has.
pub const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// The kernel reports `(none)` before a name is set.
pub fn hostname(machine: &Machine) -> Option<String> {
    let given = machine.value(HOSTNAME).filter(|name| name != "(none)");
    given.or_else(|| machine.value("/etc/hostname"))
}

/// The id of the machine. The firmware's values are no substitute: boards are exchanged, and some
/// all have the same.
pub fn id(machine: &Machine) -> Option<String> {
    match machine.text(HOST_ID) {
        Ok(text) => match envelope::host_id(&text) {
            Ok(id) => return Some(id.to_owned()),
            Err(reason) => machine.missing("id", format_args!("{HOST_ID}: {reason}")),
        },
        Err(error) => machine.unreadable("id", HOST_ID, &error),
    }
    None
}
