//! The machine's id and its name in the network.

use crate::read::machine::Machine;

/// A UUID, which the installer makes.
pub const ID: &str = "/persistent/inventory/uuid";

/// Before somebody gives it a name, the kernel says `(none)`.
pub fn hostname(machine: &Machine) -> Option<String> {
    let given = machine
        .value("/proc/sys/kernel/hostname")
        .filter(|name| name != "(none)");
    given.or_else(|| machine.value("/etc/hostname"))
}

/// The id of the machine. What the firmware says of itself is no substitute: boards are exchanged,
/// and some say all the same.
pub fn id(machine: &Machine) -> Option<String> {
    match machine.text(ID) {
        Ok(text) => match envelope::host_id(&text) {
            Ok(id) => return Some(id.to_owned()),
            Err(reason) => machine.missing("id", format_args!("{ID}: {reason}")),
        },
        Err(error) => machine.unreadable("id", ID, &error),
    }
    None
}
