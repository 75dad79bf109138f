//! wpa_supplicant: the one that knows how the authentication went. (Its doc/dbus.doxygen.)

use zbus::OwnedObjectPath;

use super::bus::{Bus, Target};

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

/// How far the supplicant is: `associated`, `completed`.
pub fn state(bus: &Bus, path: &str) -> zbus::Result<String> {
    bus.property(interface(path), "State")
}

/// The EAP method that is in use, as `EAP-TTLS`.
pub fn auth_mode(bus: &Bus, path: &str) -> zbus::Result<String> {
    bus.property(interface(path), "CurrentAuthMode")
}

/// Has the supplicant ask the switch to begin. By itself it does so only after two seconds.
pub fn log_on(bus: &Bus, path: &str) -> zbus::Result<()> {
    bus.call(interface(path), "EAPLogon", &())
}

/// Has the supplicant take leave of the switch, and answer no more until it is to log on.
pub fn log_off(bus: &Bus, path: &str) -> zbus::Result<()> {
    bus.call(interface(path), "EAPLogoff", &())
}

/// Has the supplicant leave a link: nobody answers the switch there any more.
pub fn leave(bus: &Bus, path: &str) -> zbus::Result<()> {
    bus.call(ROOT, "RemoveInterface", &zbus::ObjectPath::try_from(path)?)
}
