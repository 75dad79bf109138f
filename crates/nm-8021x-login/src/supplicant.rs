//! wpa_supplicant: the one that knows how the authentication went. (Its doc/dbus.doxygen.)

use zbus::OwnedObjectPath;

use crate::bus::{Bus, Target};

/// The service's name on the bus.
pub const SERVICE: &str = "fi.w1.wpa_supplicant1";
const ROOT: Target<'_> = Target { service: SERVICE, path: "/fi/w1/wpa_supplicant1", interface: SERVICE };

fn interface(path: &str) -> Target<'_> {
    Target { service: SERVICE, path, interface: "fi.w1.wpa_supplicant1.Interface" }
}

/// The supplicant's object for a network interface; `None` while it has none.
pub fn find(bus: &Bus, name: &str) -> zbus::Result<Option<String>> {
    match bus.call::<_, OwnedObjectPath>(ROOT, "GetInterface", &name) {
        Ok(path) => Ok(Some(path.to_string())),
        Err(zbus::Error::MethodError(error, ..)) if error.as_str() == "fi.w1.wpa_supplicant1.InterfaceUnknown" => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the supplicant is done, and by which method: `("completed", "EAP-TTLS")`.
pub fn state(bus: &Bus, path: &str) -> zbus::Result<(String, String)> {
    Ok((bus.property(interface(path), "State")?, bus.property(interface(path), "CurrentAuthMode")?))
}

/// Sends an EAPOL-Logoff. Without it the switch keeps the port open after the profile is gone.
pub fn logoff(bus: &Bus, path: &str) -> zbus::Result<()> {
    bus.call(interface(path), "EAPLogoff", &())
}

/// Makes the supplicant ask again: an EAPOL-Logoff, then a logon, which sends an EAPOL-Start two seconds later.
///
/// By itself it repeats an unanswered EAPOL-Start after 30 seconds (IEEE 802.1X startPeriod).
pub fn ask_again(bus: &Bus, path: &str) -> zbus::Result<()> {
    logoff(bus, path)?;
    bus.call(interface(path), "EAPLogon", &())
}
