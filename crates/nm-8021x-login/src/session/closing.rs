//! Closing ports: at the end of a session, and of what a session left whose processes were killed.
//!
//! The order matters. NetworkManager activates nothing by itself any more: behind a port that is
//! open still, a profile of this machine would ask for an address of the users' network. It gives
//! the login's profile up. The supplicant leaves the link, so that nobody answers the switch. Then
//! goes the EAPOL-Logoff, and what was there before comes back. Leaving and the Logoff need no
//! NetworkManager: one that ended meanwhile leaves a supplicant behind that goes on with the login.

use std::time::{Duration, Instant, SystemTime};

use jsonpipe::{Common, Exit, ExitContext, timestamp};

use super::state::{self, Link, Session, Status};
use crate::clock;
use crate::network::bus::{Bus, failed_call};
use crate::network::network_manager::{self, Kind};
use crate::network::{eapol, supplicant};

/// How long wpa_supplicant may keep a link that it was told to leave.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(8);

/// The services that can be spoken with.
#[derive(Debug)]
pub struct Services {
    bus: Option<Bus>,
    /// Why NetworkManager cannot.
    absence: Option<anyhow::Error>,
}

impl Services {
    /// Looks for them.
    pub fn find() -> Services {
        match Bus::connect() {
            Ok(bus) => Services::on(bus),
            Err(error) => Services {
                bus: None,
                absence: Some(error),
            },
        }
    }

    /// The same, on a bus that we have.
    pub fn on(bus: Bus) -> Services {
        let absence = bus
            .owner(network_manager::SERVICE, "start NetworkManager")
            .err();
        Services {
            bus: Some(bus),
            absence,
        }
    }

    /// Why NetworkManager cannot be spoken with, if it cannot.
    pub fn absence(self) -> Option<anyhow::Error> {
        self.absence
    }

    fn network_manager(&self) -> Option<&Bus> {
        self.bus.as_ref().filter(|_| self.absence.is_none())
    }

    /// Closes the port of a link. An error says what may still be open.
    fn close(&self, link: &Link) -> anyhow::Result<()> {
        let interface = &link.interface;
        let mut taken = Ok(());
        if let Some(bus) = self.network_manager() {
            taken = self.take_away(bus, link);
            // Another program's login is another's port.
            if taken.is_ok() && network_manager::carries_login(bus, interface).unwrap_or(false) {
                return Ok(());
            }
        }
        let is_wired = link.kind == Kind::Ethernet.name();
        let mut left = Ok(());
        if is_wired || self.network_manager().is_none() {
            left = self.leave(interface);
        }
        let mut sent = Ok(());
        if is_wired {
            sent = eapol::logoff(interface).exit(Exit::Io, || {
                format!("sending an EAPOL-Logoff on {interface}; the port may still be open")
            });
        }
        sent.and(left).and(taken)
    }

    fn take_away(&self, bus: &Bus, link: &Link) -> anyhow::Result<()> {
        // Where that fails, what comes too early is activated again.
        let _ = set_autoconnect(bus, link, false);
        // After a restart of NetworkManager there may be two for a while.
        let mut uuids: Vec<String> = network_manager::open_profiles(bus)?
            .into_iter()
            .filter(|open| open.interface == link.interface)
            .map(|open| open.uuid)
            .collect();
        if !uuids.contains(&link.profile) {
            uuids.push(link.profile.clone());
        }
        network_manager::take_away(bus, &link.interface, &uuids)
    }

    /// Has the supplicant leave the link, as NetworkManager does a little later, or never when it
    /// was started anew meanwhile.
    fn leave(&self, interface: &str) -> anyhow::Result<()> {
        let Some(bus) = &self.bus else {
            return Ok(());
        };
        let deadline = Instant::now() + LEAVING_TIMEOUT;
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

    /// Brings back the profile that was there before, once, and lets NetworkManager activate what it
    /// will. An error says that it activates nothing there by itself still.
    fn restore(&self, link: &mut Link, warnings: &mut Vec<anyhow::Error>) -> anyhow::Result<()> {
        let Some(bus) = self.network_manager() else {
            return self.has_forgotten(&link.interface);
        };
        // Another program's login stays.
        let is_taken = network_manager::carries_login(bus, &link.interface).unwrap_or(false);
        if !is_taken && let Some(uuid) = &link.confined {
            match activate_again(bus, link, uuid) {
                // Whatever is active there at the next try, a person may have chosen.
                Ok(()) => link.confined = None,
                Err(why) => warnings.push(why),
            }
        }
        // After it: by itself NetworkManager would activate something else first.
        set_autoconnect(bus, link, !link.no_autoconnect).map_err(|why| tried_again(&why))
    }

    /// A NetworkManager that is started anew knows nothing of what it was told. An error where the
    /// bus does not say that it has ended: it may run on.
    fn has_forgotten(&self, interface: &str) -> anyhow::Result<()> {
        let is_owned = |bus: &Bus| bus.is_owned(network_manager::SERVICE).unwrap_or(true);
        if self.bus.as_ref().is_none_or(is_owned) {
            let doing = setting_autoconnect(interface);
            let why =
                Exit::Unavailable.error(format_args!("{doing}: NetworkManager cannot be asked"));
            return Err(tried_again(&why));
        }
        Ok(())
    }
}

fn tried_again(why: &anyhow::Error) -> anyhow::Error {
    Exit::of(why).error(format_args!(
        "{why:#}; the next login or logout tries again"
    ))
}

fn setting_autoconnect(interface: &str) -> String {
    format!("setting whether {interface} autoconnects")
}

fn set_autoconnect(bus: &Bus, link: &Link, may: bool) -> anyhow::Result<()> {
    on_device(bus, link, &setting_autoconnect(&link.interface), |device| {
        network_manager::let_autoconnect(bus, device, may)
    })
}

fn activate_again(bus: &Bus, link: &Link, uuid: &str) -> anyhow::Result<()> {
    let doing = format!("activating {uuid} on {} again", link.interface);
    on_device(bus, link, &doing, |device| {
        network_manager::activate_again(bus, uuid, device)
    })
}

/// Calls NetworkManager about the device of a link, if it has not gone.
fn on_device(
    bus: &Bus,
    link: &Link,
    doing: &str,
    call: impl FnOnce(&str) -> zbus::Result<()>,
) -> anyhow::Result<()> {
    network_manager::device_of(bus, &link.interface)
        .and_then(|device| device.map_or(Ok(()), |device| call(&device)))
        .map_err(|error| failed_call(error, doing))
}

/// What a closing did.
#[derive(Debug, Default)]
pub struct Closed {
    /// Whether a port may have been open, and is closed now, or a device is as it was before.
    pub changed: bool,
    /// What may still be open, and why.
    pub kept: Vec<anyhow::Error>,
    /// What is closed, but not as it was before, and why.
    pub unrestored: Vec<anyhow::Error>,
    /// What else a person should know.
    pub warnings: Vec<anyhow::Error>,
    /// Why NetworkManager was not asked. A profile that it has kept goes with the next login or
    /// logout.
    pub unasked: Option<anyhow::Error>,
}

impl Closed {
    /// Whether nothing is left for the next login or logout to do.
    pub fn is_clean(&self) -> bool {
        self.kept.is_empty() && self.unrestored.is_empty()
    }

    /// All that a person should read of it.
    pub fn complaints(&self) -> impl Iterator<Item = &anyhow::Error> {
        let left = self.kept.iter().chain(&self.unrestored);
        left.chain(&self.warnings).chain(&self.unasked)
    }
}

/// Closes all that is open of a session, and brings back what was there before. It has ended when
/// nothing is open.
pub fn close(session: &mut Session, services: &Services) -> Closed {
    let mut closed = Closed::default();
    for link in &mut session.links {
        close_link(link, services, &mut closed);
    }
    if session.links.iter().all(|link| !link.open) && session.status != Status::Ended {
        session.status = Status::Ended;
        session.ended_at = Some(timestamp::rfc3339(SystemTime::now()));
        session.duration_seconds = clock::boot_seconds()
            .ok()
            .map(|now| now.saturating_sub(session.started_boot_seconds));
    }
    closed
}

/// Closes a port, and brings back what was there before, as far as neither is done yet.
fn close_link(link: &mut Link, services: &Services, closed: &mut Closed) {
    if link.open {
        match services.close(link) {
            Ok(()) => (link.open, link.unrestored, closed.changed) = (false, true, true),
            Err(why) => closed.kept.push(why),
        }
    }
    if link.unrestored {
        match services.restore(link, &mut closed.warnings) {
            Ok(()) => (link.unrestored, closed.changed) = (false, true),
            Err(why) => closed.unrestored.push(why),
        }
    }
}

/// Closes what a session left that nobody holds any more, and profiles of logins that no session
/// knows. Where the state file cannot be read, that is every device. The caller has the lock.
pub fn close_remains(common: &Common) -> anyhow::Result<(Option<Session>, Closed)> {
    let services = Services::find();
    let mut closed = Closed::default();
    let (mut session, unread) = match state::load(common) {
        Ok(session) => (session, None),
        Err(why) => (None, Some(why)),
    };
    if let Some(left) = &mut session {
        let was_up = left.session.is_some();
        closed = close(left, &services);
        if was_up || !closed.is_clean() {
            // Where there is no room, the next one closes it once more.
            closed.warnings.extend(state::save(common, left).err());
        } else {
            state::remove(common)?; // nobody was in
            session = None;
        }
    }
    if let Some(bus) = services.network_manager() {
        let profiles = network_manager::open_profiles(bus)?;
        let mut links: Vec<Link> = profiles
            .into_iter()
            .map(|open| cable(open.interface, open.uuid))
            .collect();
        if unread.is_some() {
            links.extend(every_device(bus)?);
        }
        for link in &mut links {
            close_link(link, &services, &mut closed);
        }
    }
    closed.warnings.extend(unread);
    closed.unasked = services.absence();
    Ok((session, closed))
}

/// All devices, as links of an unknown session: each may have an open port, and be kept from
/// activating anything by itself, one without a cable or a network as well.
fn every_device(bus: &Bus) -> anyhow::Result<impl Iterator<Item = Link>> {
    let devices = network_manager::devices(bus)?;
    let cables = devices.wired.into_iter().chain(devices.unplugged);
    let cables = cables.map(|device| cable(device.interface, String::new()));
    let wireless = devices.wireless.into_iter().map(|(_, interface)| Link {
        kind: network_manager::WIFI.into(),
        ..cable(interface, String::new())
    });
    Ok(cables.chain(wireless))
}

/// A cable of which nothing else is known.
fn cable(interface: String, profile: String) -> Link {
    Link {
        interface,
        kind: Kind::Ethernet.name().into(),
        profile,
        open: true,
        ..Link::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a bus: the frame alone can fail.
    fn closed(interface: &str) -> (Session, Closed) {
        let mut session = Session {
            schema: 1,
            session: Some("5c".into()),
            user: "alice@uni-a.example".into(),
            realm: "uni-a.example".into(),
            status: Status::Up,
            started_at: "2026-11-20T08:00:00Z".into(),
            started_boot_seconds: 0,
            ended_at: None,
            duration_seconds: None,
            links: vec![Link {
                interface: interface.into(),
                kind: Kind::Ethernet.name().into(),
                open: true,
                ..Link::default()
            }],
        };
        let services = Services {
            bus: None,
            absence: None,
        };
        let closed = close(&mut session, &services);
        (session, closed)
    }

    #[test]
    fn a_session_whose_port_may_be_open_has_not_ended() {
        let (session, gone) = closed("nosuchlink");
        assert!(gone.kept.is_empty() && session.ended_at.is_some());
        assert_eq!(session.status, Status::Ended);
        // NetworkManager may run on.
        assert!(session.links[0].unrestored && !gone.is_clean());
        let (session, kept) = closed("no\0name"); // which the kernel is not even asked for
        assert_eq!(kept.kept.len(), 1);
        assert_eq!(session.status, Status::Up);
        assert!(session.ended_at.is_none() && session.duration_seconds.is_none());
    }
}
