//! The system bus: calls, properties, and the events that a login waits for.

use std::collections::HashMap;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use futures_lite::StreamExt;
use jsonpipe::{Exit, ExitContext};
use serde::Serialize;
use zbus::connection::Builder;
use zbus::message::Type;
use zbus::object_server::Interface;
use zbus::wire::DynamicDeserialize;
use zbus::{
    Connection, DynamicType, Message, MessageStream, OwnedObjectPath, OwnedVariant, Variant,
};

use super::{network_manager, supplicant};

/// A service that does not answer for this long is as good as absent.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// An object of a service, addressed as D-Bus does.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The service's well-known name.
    pub service: &'a str,
    /// The object's path.
    pub path: &'a str,
    /// The interface that is spoken.
    pub interface: &'a str,
}

/// Something that happened on the bus.
#[derive(Debug)]
pub enum Event {
    /// wpa_supplicant's signal `InterfaceAdded`: its object for a network interface.
    Supplicant { path: String, interface: String },
    /// wpa_supplicant's property `State` of an interface became `associated`: it is on the link, and
    /// waits for the switch.
    Associated { path: String },
    /// wpa_supplicant's signal `EAP`: the step and how it went.
    Eap {
        path: String,
        status: String,
        parameter: String,
    },
    /// wpa_supplicant's signal `Certification`: a certificate of the server's chain, 0 is the
    /// server's own.
    Certificate {
        path: String,
        depth: u32,
        subject: String,
    },
    /// NetworkManager's signal `StateChanged` of a device: its new state, and the
    /// NMDeviceStateReason.
    Device {
        path: String,
        state: u32,
        reason: u32,
    },
    /// NetworkManager's or the supplicant's name on the bus has another owner, or none.
    Owner { service: &'static str, there: bool },
    /// The addresses of a connection changed.
    Addresses,
    /// NetworkManager or the supplicant changed something else; look again.
    Changed,
    /// There is no bus any more.
    Closed,
}

/// The owners of the two services, as the bus tells them: a signal of anybody else is not believed,
/// and no other process gets the password.
#[derive(Clone, Debug, Default)]
pub struct Owners(Arc<Mutex<HashMap<&'static str, String>>>);

impl Owners {
    /// Whether the unique name `sender` is the service's.
    pub fn is(&self, service: &str, sender: Option<&str>) -> bool {
        let owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.is_some() && owners.get(service).map(String::as_str) == sender
    }

    /// Whether the service is on the bus.
    pub fn has(&self, service: &str) -> bool {
        let owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        owners.contains_key(service)
    }

    fn set(&self, service: &'static str, owner: &str) {
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match owner {
            "" => owners.remove(service),
            owner => owners.insert(service, owner.to_owned()),
        };
    }
}

/// A connection to the system bus.
#[derive(Debug, Clone)]
pub struct Bus {
    connection: Connection,
}

impl Bus {
    /// Status 69 when there is no bus, or one that does not answer.
    pub fn connect() -> anyhow::Result<Bus> {
        Bus::build(Builder::system())
    }

    /// A connection that answers for an object from its first message on.
    ///
    /// An object that comes later, by `Connection::object_server().at()`, does not hear what
    /// arrives before a task of zbus has run; the task that reads the socket runs first for as long
    /// as there is something to read, and drops those calls.
    pub fn serving(path: &'static str, object: impl Interface) -> anyhow::Result<Bus> {
        Bus::build(Builder::system().serve_at(path, object))
    }

    fn build(builder: Builder<'static>) -> anyhow::Result<Bus> {
        // zbus times calls out, but not the connection itself.
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let _ = sender.send(zbus::block_on(builder.method_timeout(CALL_TIMEOUT).build())); // too late: nobody waits any more
        });
        let doing = "connecting to the system bus; is dbus-daemon running?";
        let connection = receiver
            .recv_timeout(CALL_TIMEOUT)
            .exit(Exit::Unavailable, || doing)?;
        let connection = connection
            .map_err(|error| Exit::Unavailable.error(format_args!("{doing}: {error}")))?;
        Ok(Bus { connection })
    }

    /// Calls a method.
    pub fn call<B, R>(&self, target: Target<'_>, method: &str, body: &B) -> zbus::Result<R>
    where
        B: Serialize + DynamicType,
        R: for<'d> DynamicDeserialize<'d>,
    {
        let Target {
            service,
            path,
            interface,
        } = target;
        let reply = zbus::block_on(self.connection.call_method(
            Some(service),
            path,
            Some(interface),
            method,
            body,
        ))?;
        reply.body().deserialize()
    }

    /// Reads a property.
    pub fn property<T>(&self, target: Target<'_>, name: &str) -> zbus::Result<T>
    where
        T: TryFrom<OwnedVariant>,
        T::Error: Into<zbus::Error>,
    {
        let properties = Target {
            interface: PROPERTIES,
            ..target
        };
        let value: OwnedVariant = self.call(properties, "Get", &(target.interface, name))?;
        T::try_from(value).map_err(Into::into)
    }

    /// Writes a property.
    pub fn set_property(
        &self,
        target: Target<'_>,
        name: &str,
        value: Variant<'_>,
    ) -> zbus::Result<()> {
        let properties = Target {
            interface: PROPERTIES,
            ..target
        };
        self.call(properties, "Set", &(target.interface, name, value))
    }

    /// Starts a service that the bus knows how to start. Whether it did is seen by looking for its
    /// owner.
    pub fn start(&self, service: &str) {
        let _ = self.call::<_, u32>(DBUS, "StartServiceByName", &(service, 0u32));
    }

    /// The unique name of a service's owner. Status 69 when nobody owns it.
    pub fn owner(&self, service: &str, way_out: &str) -> anyhow::Result<String> {
        self.call(DBUS, "GetNameOwner", &service).map_err(|error| {
            failed_call(
                error,
                &format!("looking for {service} on the bus; {way_out}"),
            )
        })
    }

    /// Whether somebody owns a service's name.
    pub fn is_owned(&self, service: &str) -> zbus::Result<bool> {
        self.call(DBUS, "NameHasOwner", &service)
    }

    /// Starts listening to services, whoever owns their names then, until `hear` says that nobody
    /// waits for an event any more.
    ///
    /// The order of the signals is that of the bus: those of a service after it has another owner
    /// come after [`Event::Owner`].
    pub fn listen(
        &self,
        services: &'static [&'static str],
        owners: &Owners,
        hear: impl Fn(Event) -> bool + Send + 'static,
    ) -> anyhow::Result<()> {
        let mut stream = MessageStream::from(&self.connection);
        let known = owners.clone();
        thread::spawn(move || {
            zbus::block_on(async {
                while let Some(message) = stream.next().await {
                    let Ok(message) = message else { continue };
                    // The replies to our own calls pass here as well.
                    if message.message_type() == Type::Signal
                        && let Some(event) = from_bus(&message, services, &known)
                        && !hear(event)
                    {
                        return;
                    }
                }
                hear(Event::Closed);
            });
        });
        // Now that somebody empties the stream's queue: a full one keeps zbus from reading anything
        // else, replies too.
        for service in services {
            for rule in [
                format!(
                    "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{service}'"
                ),
                format!("type='signal',sender='{service}'"),
            ] {
                self.call::<_, ()>(DBUS, "AddMatch", &rule.as_str())
                    .map_err(|error| failed_call(error, &format!("listening for {rule}")))?;
            }
            // After the rule: an owner that comes in between is heard of.
            if let Ok(owner) = self.call::<_, String>(DBUS, "GetNameOwner", service) {
                owners.set(service, &owner);
            }
        }
        Ok(())
    }
}

/// What a signal means, if it is one of ours.
fn from_bus(message: &Message, services: &[&'static str], owners: &Owners) -> Option<Event> {
    let header = message.header();
    let sender = header.sender().map(|sender| sender.as_str());
    if sender == Some(DBUS.service) {
        let (name, _, owner): (String, String, String) = message.body().deserialize().ok()?;
        let service = services.iter().find(|service| **service == name)?;
        owners.set(service, &owner);
        return Some(Event::Owner {
            service,
            there: !owner.is_empty(),
        });
    }
    if owners.is(supplicant::SERVICE, sender) {
        return from_supplicant(message);
    }
    if owners.is(network_manager::SERVICE, sender) {
        return from_network_manager(message);
    }
    None
}

const DBUS: Target<'_> = Target {
    service: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// wpa_supplicant's signals: its doc/dbus.doxygen, interfaces fi.w1.wpa_supplicant1 and
/// fi.w1.wpa_supplicant1.Interface.
fn from_supplicant(message: &Message) -> Option<Event> {
    let header = message.header();
    let path = header.path()?.to_string();
    let body = message.body();
    match header.member().map(|member| member.as_str()) {
        Some("InterfaceAdded") => {
            let (path, properties): (OwnedObjectPath, HashMap<String, OwnedVariant>) =
                body.deserialize().ok()?;
            let interface = <&str>::try_from(properties.get("Ifname")?).ok()?.to_owned();
            Some(Event::Supplicant {
                path: path.to_string(),
                interface,
            })
        }
        Some("EAP") => {
            let (status, parameter): (String, String) = body.deserialize().ok()?;
            Some(Event::Eap {
                path,
                status,
                parameter,
            })
        }
        Some("Certification") => {
            let certificate: HashMap<String, OwnedVariant> = body.deserialize().ok()?;
            let depth = u32::try_from(certificate.get("depth")?).ok()?;
            let subject = <&str>::try_from(certificate.get("subject")?)
                .ok()?
                .to_owned();
            Some(Event::Certificate {
                path,
                depth,
                subject,
            })
        }
        Some("PropertiesChanged") => {
            // Of org.freedesktop.DBus.Properties; the supplicant's own signal of this name has
            // another form.
            let state = body
                .deserialize::<(String, HashMap<String, OwnedVariant>, Vec<String>)>()
                .ok()
                .and_then(|(_, mut changed, _)| changed.remove("State"));
            match state.as_ref().map(<&str>::try_from) {
                Some(Ok("associated")) => Some(Event::Associated { path }),
                _ => Some(Event::Changed),
            }
        }
        _ => Some(Event::Changed),
    }
}

/// NetworkManager's signals: its D-Bus reference, interface org.freedesktop.NetworkManager.Device.
fn from_network_manager(message: &Message) -> Option<Event> {
    let header = message.header();
    let path = header.path()?.to_string();
    let interface = header.interface().map(|interface| interface.as_str());
    let member = header.member().map(|member| member.as_str());
    if path.contains("/IP4Config/") || path.contains("/IP6Config/") {
        return Some(Event::Addresses);
    }
    if interface != Some("org.freedesktop.NetworkManager.Device") || member != Some("StateChanged")
    {
        return Some(Event::Changed);
    }
    let (state, _, reason): (u32, u32, u32) = message.body().deserialize().ok()?;
    Some(Event::Device {
        path,
        state,
        reason,
    })
}

/// What a refused call means: no permission is 77, an absent service 69, anything else 69 too, with
/// its own words.
pub fn failed_call(error: zbus::Error, doing: &str) -> anyhow::Error {
    let denied = match &error {
        zbus::Error::MethodError(name, ..) => {
            name.as_str().ends_with("PermissionDenied") || name.as_str().ends_with("NotAuthorized")
        }
        zbus::Error::FDO(error) => matches!(**error, zbus::fdo::Error::AccessDenied(_)),
        _ => false,
    };
    let exit = if denied {
        Exit::NoPermission
    } else {
        Exit::Unavailable
    };
    exit.error(format_args!("{doing}: {error}")) // zbus says the cause itself
}
