//! The abflip.ini of a lab machine.

use super::document::Wanted;
use super::part::Part;

/// The section `slots` without `firmware`: one file serves machines with BIOS and with UEFI.
pub fn slots(wanted: &Wanted) -> String {
    let mut lines = "[slots]\n".to_owned();
    for (key, part) in [
        ("a", Part::RootA),
        ("b", Part::RootB),
        ("esp_a", Part::EspA),
        ("esp_b", Part::EspB),
    ] {
        if let Some(wanted) = wanted.of(part) {
            lines += &format!("{key}={}\n", wanted.partuuid);
        }
    }
    lines
}
