//! NetworkManager: devices, activations, profiles. (NetworkManager's D-Bus reference, version
//! 1.42.)

use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use jsonpipe::{Exit, ExitContext};
use zbus::{ObjectPath, OwnedObjectPath, OwnedVariant, Variant};

use crate::bus::{Bus, Target, failed_call};
use crate::profile::{OwnedSettings, PROFILE_ID, Settings};
use crate::report::Reason;
use crate::{eapol, supplicant};

/// The service's name on the bus.
pub const SERVICE: &str = "org.freedesktop.NetworkManager";
const ROOT: Target<'_> = Target {
    service: SERVICE,
    path: "/org/freedesktop/NetworkManager",
    interface: SERVICE,
};
const SETTINGS: Target<'_> = Target {
    service: SERVICE,
    path: "/org/freedesktop/NetworkManager/Settings",
    interface: "org.freedesktop.NetworkManager.Settings",
};

/// NMDeviceType: Ethernet, and veth, which is Ethernet between two network namespaces.
const WIRED_TYPES: [u32; 2] = [1, 20];
/// NMDeviceState: the link is up and authenticated, addresses are being configured.
pub const DEVICE_IP_CONFIG: u32 = 70;
/// NMDeviceState: all is done.
pub const DEVICE_ACTIVATED: u32 = 100;
/// NMDeviceState: an activation has begun.
pub const DEVICE_PREPARE: u32 = 40;

/// How long a profile may take to go away after it was told to.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(8);

fn object<'a>(path: &'a str, interface: &'a str) -> Target<'a> {
    Target {
        service: SERVICE,
        path,
        interface,
    }
}

fn device(path: &str) -> Target<'_> {
    object(path, "org.freedesktop.NetworkManager.Device")
}

fn active(path: &str) -> Target<'_> {
    object(path, "org.freedesktop.NetworkManager.Connection.Active")
}

fn profile(path: &str) -> Target<'_> {
    object(path, "org.freedesktop.NetworkManager.Settings.Connection")
}

/// A wired device.
#[derive(Debug)]
pub struct Device {
    /// Its object.
    pub path: String,
    /// Its network interface.
    pub interface: String,
    /// Whether a cable with something at its end is plugged in.
    pub carrier: bool,
}

/// The wired device to log in on: the first by name with a carrier, otherwise the first by name.
///
/// Status 78 when NetworkManager manages none.
pub fn wired_device(bus: &Bus) -> anyhow::Result<Device> {
    let paths: Vec<OwnedObjectPath> = bus
        .call(ROOT, "GetDevices", &())
        .map_err(|error| failed_call(error, "asking NetworkManager for its devices"))?;
    let mut devices = Vec::new();
    for path in paths {
        // A device may go away while we ask.
        if let Ok(Some(device)) = wired(bus, path.as_str()) {
            devices.push(device);
        }
    }
    devices.sort_by(|a, b| (!a.carrier, &a.interface).cmp(&(!b.carrier, &b.interface)));
    let found = devices.into_iter().next();
    found.ok_or_else(|| {
        Exit::Config.error("NetworkManager manages no wired device; see nmcli device")
    })
}

fn wired(bus: &Bus, path: &str) -> zbus::Result<Option<Device>> {
    if !WIRED_TYPES.contains(&bus.property(device(path), "DeviceType")?)
        || !bus.property::<bool>(device(path), "Managed")?
    {
        return Ok(None);
    }
    let carrier = bus.property(
        object(path, "org.freedesktop.NetworkManager.Device.Wired"),
        "Carrier",
    )?;
    Ok(Some(Device {
        path: path.to_owned(),
        interface: bus.property(device(path), "Interface")?,
        carrier,
    }))
}

/// What an activation is known by.
#[derive(Debug)]
pub struct Activation {
    /// The profile's object.
    pub profile: String,
    /// The active connection's object.
    pub active: String,
}

/// Adds a profile that NetworkManager forgets when it is deactivated, and activates it.
pub fn activate(bus: &Bus, settings: &Settings<'_>, on: &Device) -> anyhow::Result<Activation> {
    let options: BTreeMap<&str, Variant<'_>> =
        BTreeMap::from([("persist", Variant::from("volatile"))]);
    let (profile, active, _): (
        OwnedObjectPath,
        OwnedObjectPath,
        HashMap<String, OwnedVariant>,
    ) = object_path(on.path.as_str())
        .and_then(|device| {
            bus.call(
                ROOT,
                "AddAndActivateConnection2",
                &(settings, device, object_path("/")?, options),
            )
        })
        .map_err(|error| {
            failed_call(error, &format!("activating a profile on {}", on.interface))
        })?;
    Ok(Activation {
        profile: profile.to_string(),
        active: active.to_string(),
    })
}

/// A profile as NetworkManager holds it, without its secrets.
pub fn settings(bus: &Bus, path: &str) -> zbus::Result<OwnedSettings> {
    bus.call(profile(path), "GetSettings", &())
}

/// NMDeviceState of a device; `None` when it is gone.
pub fn device_state(bus: &Bus, path: &str) -> zbus::Result<Option<u32>> {
    unless_gone(bus.property(device(path), "State"))
}

/// What it means for a login that its device stopped for this NMDeviceStateReason: why it is
/// refused, or the status it ends with.
pub fn stopped(reason: u32, interface: &str) -> anyhow::Result<Reason> {
    let (exit, cause) = match reason {
        36 | 40 => return Ok(Reason::NoCarrier), // the device is gone, or its cable
        7 => (
            Exit::Unavailable,
            "NetworkManager took no password from its secret agent",
        ),
        9 => (
            Exit::Unavailable,
            "wpa_supplicant did not take the profile; its log says why",
        ),
        10 => (
            Exit::Unavailable,
            "wpa_supplicant ended; start it, and try again",
        ),
        3 => (
            Exit::TemporaryFailure,
            "NetworkManager no longer manages the device; see nmcli device",
        ),
        37 => (
            Exit::TemporaryFailure,
            "the machine went to sleep; try again",
        ),
        38 | 39 | 60 => (
            Exit::TemporaryFailure,
            "another program ended the login; try again",
        ),
        // 8 and 11, of the supplicant: no answer in NetworkManager's time. The others come after
        // the verdict.
        _ => return Ok(Reason::Timeout),
    };
    Err(exit.error(format_args!("logging in on {interface}: {cause}")))
}

/// Whether NMDeviceState is one of a device that cannot come up, 20 and below (no cable), or that
/// has just failed.
pub fn is_down(state: u32) -> bool {
    state <= 20 || state == 120
}

/// Whether the active connection is what the device carries.
pub fn is_on_device(bus: &Bus, active: &str, device_path: &str) -> bool {
    bus.property::<OwnedObjectPath>(device(device_path), "ActiveConnection")
        .is_ok_and(|found| found.as_str() == active)
}

/// Whether the active connection still is one, or becomes one (NMActiveConnectionState 1 and 2).
pub fn is_active(bus: &Bus, path: &str) -> zbus::Result<bool> {
    Ok(unless_gone(bus.property::<u32>(active(path), "State"))?
        .is_some_and(|state| matches!(state, 1 | 2)))
}

/// Whether the active connection is the one that traffic leaves by.
pub fn is_primary(bus: &Bus, active: &str) -> bool {
    bus.property::<OwnedObjectPath>(ROOT, "PrimaryConnection")
        .is_ok_and(|primary| primary.as_str() == active)
}

/// The addresses of an active connection that other machines can answer to: link-local ones are
/// left out.
pub fn addresses(bus: &Bus, path: &str) -> Vec<String> {
    let configs = [
        ("Ip4Config", "org.freedesktop.NetworkManager.IP4Config"),
        ("Ip6Config", "org.freedesktop.NetworkManager.IP6Config"),
    ];
    let mut addresses = Vec::new();
    for (property, interface) in configs {
        // Not there yet, or not there at all: no addresses either way.
        let Ok(config) = bus.property::<OwnedObjectPath>(active(path), property) else {
            continue;
        };
        let Ok(data) = bus.property::<Vec<HashMap<String, OwnedVariant>>>(
            object(config.as_str(), interface),
            "AddressData",
        ) else {
            continue;
        };
        let texts = data
            .iter()
            .filter_map(|entry| <&str>::try_from(entry.get("address")?).ok());
        addresses.extend(
            texts
                .filter(|text| !text.starts_with("fe80:") && !text.starts_with("169.254."))
                .map(str::to_owned),
        );
    }
    addresses
}

/// A profile that a login made.
#[derive(Clone, Debug)]
pub struct OpenProfile {
    /// Its UUID.
    pub uuid: String,
    /// The interface that it is for.
    pub interface: String,
}

/// The profiles of logins on this machine, with their objects.
fn profiles(bus: &Bus) -> zbus::Result<Vec<(String, OpenProfile)>> {
    let mut profiles = Vec::new();
    for path in bus.call::<_, Vec<OwnedObjectPath>>(SETTINGS, "ListConnections", &())? {
        let Some(settings) = unless_gone(settings(bus, path.as_str()))? else {
            continue;
        };
        let text = |key: &str| {
            settings
                .get("connection")?
                .get(key)
                .and_then(|value| <&str>::try_from(value).ok())
        };
        if text("id") == Some(PROFILE_ID)
            && let (Some(uuid), Some(interface)) = (text("uuid"), text("interface-name"))
        {
            let open = OpenProfile {
                uuid: uuid.to_owned(),
                interface: interface.to_owned(),
            };
            profiles.push((path.to_string(), open));
        }
    }
    Ok(profiles)
}

/// The profiles of logins on this machine.
pub fn open_profiles(bus: &Bus) -> anyhow::Result<Vec<OpenProfile>> {
    let profiles = profiles(bus)
        .map_err(|error| failed_call(error, "asking NetworkManager for its profiles"))?;
    Ok(profiles.into_iter().map(|(_, open)| open).collect())
}

/// Takes the profile away and closes the port. An error says what could not be done, or not be
/// seen.
///
/// The order matters: first the supplicant leaves the link, so that nobody answers the switch any
/// more, then the EAPOL-Logoff. Neither needs NetworkManager: one that ended meanwhile leaves a
/// supplicant behind that goes on with the login.
pub fn close(bus: &Bus, open: &OpenProfile) -> anyhow::Result<()> {
    let interface = &open.interface;
    let taken = take_away(bus, open);
    if matches!(taken, Ok(Left::OtherLogin)) {
        return Ok(()); // somebody else's port, now
    }
    let left = leave_link(bus, interface);
    eapol::logoff(interface)
        .exit(Exit::Io, || {
            format!("sending an EAPOL-Logoff on {interface}; the port may still be open")
        })
        .and(left)
        .and(taken.map(drop))
}

/// What is left on the interface once the profile is gone.
enum Left {
    Nothing,
    OtherLogin,
}

/// Has NetworkManager give the profile up, and waits until it has.
fn take_away(bus: &Bus, open: &OpenProfile) -> anyhow::Result<Left> {
    let OpenProfile { uuid, interface } = open;
    let failed = |error| failed_call(error, &format!("closing the login on {interface}"));
    if let Some(active) = active_of(bus, uuid).map_err(failed)? {
        unless_gone(bus.call::<_, ()>(
            ROOT,
            "DeactivateConnection",
            &object_path(&active).map_err(failed)?,
        ))
        .map_err(failed)?;
    }
    let deadline = Instant::now() + CLOSING_TIMEOUT;
    loop {
        let active = active_of(bus, uuid).map_err(failed)?;
        let left = profiles(bus)
            .map_err(failed)?
            .into_iter()
            .find(|(_, found)| found.uuid == *uuid);
        match (left, active) {
            (None, None) if carries_login(bus, interface).map_err(failed)? => {
                return Ok(Left::OtherLogin);
            }
            (None, None) => return Ok(Left::Nothing),
            // A volatile profile goes with its deactivation; one whose activation never began is
            // taken away here.
            (Some((path, _)), None) => drop(
                unless_gone(bus.call::<_, ()>(profile(&path), "Delete", &())).map_err(failed)?,
            ),
            (_, Some(_)) => {}
        }
        if Instant::now() > deadline {
            return Err(Exit::Unavailable.error(format_args!(
                "closing the login on {interface}: NetworkManager keeps its profile"
            )));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Has the supplicant leave the link, as NetworkManager does a little later, or never when it was
/// started anew meanwhile.
fn leave_link(bus: &Bus, interface: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + CLOSING_TIMEOUT;
    // A supplicant that does not answer is on no link.
    while let Some(path) = supplicant::find(bus, interface).ok().flatten() {
        if Instant::now() > deadline {
            return Err(Exit::Unavailable.error(format_args!(
                "closing the login on {interface}: wpa_supplicant keeps the link"
            )));
        }
        let _ = supplicant::leave(bus, &path); // NetworkManager may have been quicker
    }
    Ok(())
}

/// Whether an interface carries, or is about to carry, a connection with an 802.1X login. One
/// without needs no supplicant, and a NetworkManager that was started anew makes one of the
/// addresses that it finds.
fn carries_login(bus: &Bus, interface: &str) -> zbus::Result<bool> {
    let Some(path) =
        unless_gone(bus.call::<_, OwnedObjectPath>(ROOT, "GetDeviceByIpIface", &interface))?
    else {
        return Ok(false);
    };
    let Some(carried) =
        unless_gone(bus.property::<OwnedObjectPath>(device(path.as_str()), "ActiveConnection"))?
    else {
        return Ok(false);
    };
    if carried.as_str() == "/" {
        return Ok(false);
    }
    let Some(path) =
        unless_gone(bus.property::<OwnedObjectPath>(active(carried.as_str()), "Connection"))?
    else {
        return Ok(false);
    };
    Ok(unless_gone(settings(bus, path.as_str()))?
        .is_some_and(|settings| settings.contains_key("802-1x")))
}

/// The active connection of a profile.
fn active_of(bus: &Bus, uuid: &str) -> zbus::Result<Option<String>> {
    for path in bus.property::<Vec<OwnedObjectPath>>(ROOT, "ActiveConnections")? {
        if unless_gone(bus.property::<String>(active(path.as_str()), "Uuid"))?
            .is_some_and(|found| found == uuid)
        {
            return Ok(Some(path.to_string()));
        }
    }
    Ok(None)
}

fn object_path(path: &str) -> zbus::Result<ObjectPath<'_>> {
    ObjectPath::try_from(path)
}

/// `None` when the object went away while it was asked. Any other error, a timeout above all, says
/// nothing of the object.
fn unless_gone<T>(result: zbus::Result<T>) -> zbus::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(zbus::Error::FDO(error)) if is_absence(&error) => Ok(None),
        Err(zbus::Error::MethodError(name, ..))
            if name.as_str().ends_with("ConnectionNotActive") =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_absence(error: &zbus::fdo::Error) -> bool {
    use zbus::fdo::Error::{UnknownInterface, UnknownMethod, UnknownObject};
    matches!(
        error,
        UnknownInterface(_) | UnknownMethod(_) | UnknownObject(_)
    )
}
