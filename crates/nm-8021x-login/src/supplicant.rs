//! wpa_supplicant: the one that knows how the authentication went. (Its doc/dbus.doxygen.)

use zbus::OwnedObjectPath;

use crate::bus::{Bus, Target};

/// The service's name on the bus.
pub const SERVICE: &str = "fi.w1.wpa_supplicant1";
const ROOT: Target<'_> = Target {
    service: SERVICE,
    path: "/fi/w1/wpa_supplicant1",
    interface: SERVICE,
};

fn interface(path: &str) -> Target<'_> {
    Target {
        service: SERVICE,
        path,
        interface: "fi.w1.wpa_supplicant1.Interface",
    }
}

/// The supplicant's object for a network interface; `None` while it has none.
pub fn find(bus: &Bus, name: &str) -> zbus::Result<Option<String>> {
    match bus.call::<_, OwnedObjectPath>(ROOT, "GetInterface", &name) {
        Ok(path) => Ok(Some(path.to_string())),
        Err(zbus::Error::MethodError(error, ..))
            if error.as_str() == "fi.w1.wpa_supplicant1.InterfaceUnknown" =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether the supplicant is done, and by which method: `("completed", "EAP-TTLS")`.
pub fn state(bus: &Bus, path: &str) -> zbus::Result<(String, String)> {
    Ok((
        bus.property(interface(path), "State")?,
        bus.property(interface(path), "CurrentAuthMode")?,
    ))
}

/// Has the supplicant leave a link: nobody answers the switch there any more.
pub fn leave(bus: &Bus, path: &str) -> zbus::Result<()> {
    bus.call(ROOT, "RemoveInterface", &zbus::ObjectPath::try_from(path)?)
}
