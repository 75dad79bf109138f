//! NetworkManager: devices, activations, profiles. (NetworkManager's D-Bus reference, version
//! 1.42.)

use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use jsonpipe::Exit;
use zbus::{ObjectPath, OwnedObjectPath, OwnedVariant, Variant};

use super::bus::{Bus, Target, failed_call};
use super::profile::{OwnedSettings, PROFILE_ID, Settings};

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
/// NMDeviceType: 802.11.
const WIRELESS_TYPE: u32 = 2;
/// NMDeviceState: ready for an activation.
pub const DEVICE_DISCONNECTED: u32 = 30;
/// NMDeviceState: the link is up and authenticated, addresses are being configured.
pub const DEVICE_IP_CONFIG: u32 = 70;
/// NMDeviceState: all is done.
pub const DEVICE_ACTIVATED: u32 = 100;
/// NMDeviceState: an activation has begun.
pub const DEVICE_PREPARE: u32 = 40;

const AUTOCONNECT: &str = "Autoconnect";

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

/// What a device is, and what it is to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A cable.
    Ethernet,
    /// A wireless network.
    Wifi {
        /// Its name.
        ssid: String,
    },
}

/// The name of a wireless link in our documents.
pub const WIFI: &str = "wifi";

impl Kind {
    /// As our documents spell it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Ethernet => "ethernet",
            Kind::Wifi { .. } => WIFI,
        }
    }

    /// As NetworkManager calls the setting.
    pub fn setting(&self) -> &'static str {
        match self {
            Kind::Ethernet => "802-3-ethernet",
            Kind::Wifi { .. } => "802-11-wireless",
        }
    }
}

/// A device to log in on.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its object.
    pub path: String,
    /// Its network interface.
    pub interface: String,
    /// What it is.
    pub kind: Kind,
}

/// The devices that NetworkManager manages, by the name of their interface.
#[derive(Debug, Default)]
pub struct Devices {
    /// Those with a cable that has something at its other end.
    pub wired: Vec<Device>,
    /// Those whose cable has not.
    pub unplugged: Vec<Device>,
    /// The objects of wireless ones, with their interfaces.
    pub wireless: Vec<(String, String)>,
}

/// Looks for devices. Status 78 when there is none of any kind.
pub fn devices(bus: &Bus) -> anyhow::Result<Devices> {
    let paths: Vec<OwnedObjectPath> = bus
        .call(ROOT, "GetDevices", &())
        .map_err(|error| failed_call(error, "asking NetworkManager for its devices"))?;
    let mut devices = Devices::default();
    for path in paths {
        // A device may go away while we ask.
        let _ = sort_in(bus, path.as_str(), &mut devices);
    }
    let Devices {
        wired,
        unplugged,
        wireless,
    } = &mut devices;
    if wired.is_empty() && unplugged.is_empty() && wireless.is_empty() {
        return Err(Exit::Config
            .error("NetworkManager manages no wired and no wireless device; see nmcli device"));
    }
    wired.sort_by(|a, b| a.interface.cmp(&b.interface));
    unplugged.sort_by(|a, b| a.interface.cmp(&b.interface));
    wireless.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(devices)
}

fn sort_in(bus: &Bus, path: &str, devices: &mut Devices) -> zbus::Result<()> {
    let kind: u32 = bus.property(device(path), "DeviceType")?;
    if !bus.property::<bool>(device(path), "Managed")? {
        return Ok(());
    }
    let interface: String = bus.property(device(path), "Interface")?;
    if kind == WIRELESS_TYPE {
        devices.wireless.push((path.to_owned(), interface));
    } else if WIRED_TYPES.contains(&kind) {
        let found = Device {
            path: path.to_owned(),
            interface,
            kind: Kind::Ethernet,
        };
        if has_carrier(bus, path)? {
            devices.wired.push(found);
        } else {
            devices.unplugged.push(found);
        }
    }
    Ok(())
}

fn has_carrier(bus: &Bus, path: &str) -> zbus::Result<bool> {
    bus.property(
        object(path, "org.freedesktop.NetworkManager.Device.Wired"),
        "Carrier",
    )
}

/// The object of the device of an interface.
pub fn device_of(bus: &Bus, interface: &str) -> zbus::Result<Option<String>> {
    let path = unless_gone(bus.call::<_, OwnedObjectPath>(ROOT, "GetDeviceByIpIface", &interface))?;
    Ok(path.map(|path| path.to_string()))
}

/// Whether NetworkManager may activate a profile on a device by itself.
pub fn autoconnects(bus: &Bus, path: &str) -> zbus::Result<bool> {
    bus.property(device(path), AUTOCONNECT)
}

/// Says whether it may, whichever profile that would be. An activation that somebody asks for does
/// not change it; a NetworkManager that is started anew has forgotten it.
pub fn let_autoconnect(bus: &Bus, path: &str, may: bool) -> zbus::Result<()> {
    unless_gone(bus.set_property(device(path), AUTOCONNECT, may.into())).map(drop)
}

/// What an activation is known by.
#[derive(Debug)]
pub struct Activation {
    /// The profile's object.
    pub profile: String,
    /// The active connection's object.
    pub active: String,
}

/// Adds a profile and activates it. NetworkManager forgets the profile when it is deactivated, and
/// deactivates it when this process leaves the bus, however that came.
pub fn activate(bus: &Bus, settings: &Settings<'_>, on: &Device) -> anyhow::Result<Activation> {
    let options: BTreeMap<&str, Variant<'_>> = BTreeMap::from([
        ("persist", Variant::from("volatile")),
        ("bind-activation", Variant::from("dbus-client")),
    ]);
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

/// NMDeviceStateReason: somebody asked for it.
pub const ENDED_BY_USER: u32 = 39;
/// NMDeviceStateReason: another profile was activated there.
pub const ENDED_BY_OTHER: u32 = 60;

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

/// The profile that a device carries, by its UUID, if it is none of a login.
pub fn carried(bus: &Bus, device_path: &str) -> zbus::Result<Option<String>> {
    let carried: OwnedObjectPath = bus.property(device(device_path), "ActiveConnection")?;
    if carried.as_str() == "/" {
        return Ok(None);
    }
    if bus.property::<String>(active(carried.as_str()), "Id")? == PROFILE_ID {
        return Ok(None);
    }
    bus.property(active(carried.as_str()), "Uuid").map(Some)
}

/// Activates a profile of this machine on a device again, also where it is active: a NetworkManager
/// that was started anew may have done so by itself before the port closed, with an address of the
/// network behind it. A profile that is no more is not missed.
pub fn activate_again(bus: &Bus, uuid: &str, device_path: &str) -> zbus::Result<()> {
    let profile = match bus.call::<_, OwnedObjectPath>(SETTINGS, "GetConnectionByUuid", &uuid) {
        Err(zbus::Error::MethodError(name, ..)) if name.as_str().ends_with("InvalidConnection") => {
            return Ok(());
        }
        profile => profile?,
    };
    let _: OwnedObjectPath = bus.call(
        ROOT,
        "ActivateConnection",
        &(&profile, object_path(device_path)?, object_path("/")?),
    )?;
    Ok(())
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

/// Has NetworkManager deactivate an active connection, if it still is one.
pub fn deactivate(bus: &Bus, active: &str) -> zbus::Result<()> {
    unless_gone(bus.call::<_, ()>(ROOT, "DeactivateConnection", &object_path(active)?)).map(drop)
}

/// Has NetworkManager give profiles of one interface up, and waits until it has.
pub fn take_away(bus: &Bus, interface: &str, uuids: &[String]) -> anyhow::Result<()> {
    let failed = |error| failed_call(error, &format!("closing the login on {interface}"));
    for uuid in uuids {
        if let Some(active) = active_of(bus, uuid).map_err(failed)? {
            deactivate(bus, &active).map_err(failed)?;
        }
    }
    let deadline = Instant::now() + CLOSING_TIMEOUT;
    loop {
        let mut gone = true;
        for uuid in uuids {
            gone &= active_of(bus, uuid).map_err(failed)?.is_none();
        }
        if gone {
            // A volatile profile goes with its deactivation; one whose activation never began is
            // taken away here.
            let left: Vec<_> = profiles(bus)
                .map_err(failed)?
                .into_iter()
                .filter(|(_, found)| uuids.contains(&found.uuid))
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            for (path, _) in left {
                unless_gone(bus.call::<_, ()>(profile(&path), "Delete", &())).map_err(failed)?;
            }
        }
        if Instant::now() > deadline {
            return Err(Exit::Unavailable.error(format_args!(
                "closing the login on {interface}: NetworkManager keeps its profile"
            )));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether an interface carries, or is about to carry, a connection with an 802.1X login. One
/// without needs no supplicant, and a NetworkManager that was started anew makes one of the
/// addresses that it finds.
pub fn carries_login(bus: &Bus, interface: &str) -> zbus::Result<bool> {
    let Some(path) = device_of(bus, interface)? else {
        return Ok(false);
    };
    let Some(carried) =
        unless_gone(bus.property::<OwnedObjectPath>(device(&path), "ActiveConnection"))?
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
            if ["ConnectionNotActive", "UnknownDevice"]
                .iter()
                .any(|absence| name.as_str().ends_with(absence)) =>
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
