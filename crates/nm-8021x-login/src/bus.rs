//! The system bus: calls, properties, and the events that a login waits for.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use futures_lite::StreamExt;
use jsonpipe::{Exit, ExitContext, signals};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use zbus::connection::Builder;
use zbus::message::Type;
use zbus::names::BusName;
use zbus::object_server::Interface;
use zbus::wire::DynamicDeserialize;
use zbus::{Connection, DynamicType, Message, MessageStream, OwnedObjectPath, OwnedVariant};

/// A service that does not answer for this long is as good as absent.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Something that happened while we wait.
#[derive(Debug)]
pub enum Event {
    /// wpa_supplicant's signal `InterfaceAdded`: its object for a network interface.
    Supplicant { path: String, interface: String },
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
    /// NetworkManager or the supplicant changed something; look again.
    Changed,
    /// This process was asked to end.
    Ending,
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
            interface: "org.freedesktop.DBus.Properties",
            ..target
        };
        let value: OwnedVariant = self.call(properties, "Get", &(target.interface, name))?;
        T::try_from(value).map_err(Into::into)
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

    /// Starts listening to two services, by their unique names, and to the signals that end this
    /// process.
    ///
    /// A signal of anybody else is not believed: on the bus, everybody may send us one.
    pub fn listen(
        &self,
        network_manager: &str,
        supplicant: &str,
        ending: &signals::Deferred,
    ) -> anyhow::Result<Receiver<Event>> {
        let (events, receiver) = mpsc::channel();
        let mut stream = MessageStream::from(&self.connection);
        let rules =
            [network_manager, supplicant].map(|sender| format!("type='signal',sender='{sender}'"));
        let (network_manager, supplicant) = (
            BusName::try_from(network_manager.to_owned())?,
            BusName::try_from(supplicant.to_owned())?,
        );
        let from_bus = events.clone();
        thread::spawn(move || {
            zbus::block_on(async {
                while let Some(message) = stream.next().await {
                    let Ok(message) = message else { continue };
                    if message.message_type() != Type::Signal {
                        continue; // the replies to our own calls pass here, too
                    }
                    let event = match message.header().sender() {
                        Some(sender) if supplicant == sender.as_str() => from_supplicant(&message),
                        Some(sender) if network_manager == sender.as_str() => {
                            from_network_manager(&message)
                        }
                        _ => None,
                    };
                    if let Some(event) = event
                        && from_bus.send(event).is_err()
                    {
                        break; // nobody waits any more
                    }
                }
            });
        });
        // Now that somebody empties the stream's queue: a full one keeps zbus from reading anything
        // else, replies too.
        for rule in &rules {
            self.call::<_, ()>(DBUS, "AddMatch", &rule.as_str())
                .map_err(|error| failed_call(error, &format!("listening for {rule}")))?;
        }
        report_ending(ending, events)?;
        Ok(receiver)
    }
}

/// Sends [`Event::Ending`] once a signal that ends this process has arrived.
fn report_ending(ending: &signals::Deferred, events: Sender<Event>) -> anyhow::Result<()> {
    use std::os::fd::AsFd;
    let arrived = ending.as_fd().try_clone_to_owned()?;
    thread::spawn(move || {
        let mut fds = [PollFd::new(arrived.as_fd(), PollFlags::POLLIN)];
        while poll(&mut fds, PollTimeout::NONE).is_err() {} // EINTR
        let _ = events.send(Event::Ending); // nobody may be waiting any more
    });
    Ok(())
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
        _ => Some(Event::Changed),
    }
}

/// NetworkManager's signals: its D-Bus reference, interface org.freedesktop.NetworkManager.Device.
fn from_network_manager(message: &Message) -> Option<Event> {
    let header = message.header();
    let interface = header
        .interface()
        .is_some_and(|interface| interface.as_str() == "org.freedesktop.NetworkManager.Device");
    if !interface
        || header
            .member()
            .is_none_or(|member| member.as_str() != "StateChanged")
    {
        return Some(Event::Changed);
    }
    let (state, _, reason): (u32, u32, u32) = message.body().deserialize().ok()?;
    Some(Event::Device {
        path: header.path()?.to_string(),
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
