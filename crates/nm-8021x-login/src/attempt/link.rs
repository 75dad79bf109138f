//! One link of a session: a device, the profile that is active there, and what was heard of it.

use std::fs;
use std::time::{Duration, Instant};

use jsonpipe::{Exit, ExitContext};
use realms::Realm;

use super::exchange::{self, Heard, Refusal};
use super::retry::Retry;
use crate::network::bus::{Bus, Event, Owners, failed_call};
use crate::network::network_manager::{self, Activation, Device, Kind};
use crate::network::secret_agent::{Access, Agent};
use crate::network::{eapol, profile, supplicant};
use crate::report::{self, Reason};

/// A switch that has just refused somebody ignores the port for its quiet period. It is asked again
/// by a frame of our own: asked this often, wpa_supplicant would give up for a minute.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A reason of NetworkManager that was not heard by then was not given.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);

/// What every link of a session uses.
pub struct Context {
    /// Our voice on the bus; what is activated by it ends with it.
    pub bus: Bus,
    /// Whom we believe.
    pub owners: Owners,
    /// The one who knows the password.
    pub agent: Agent,
    /// What the RADIUS server is told.
    pub identity: String,
    /// Whom to trust.
    pub realm: Realm,
}

/// How far a link is.
#[derive(Debug)]
pub enum Phase {
    /// Not activated: no cable, or it went down.
    Down,
    /// Activated; no verdict yet.
    Coming,
    /// The network let the user in.
    Proven,
    /// The network refused him.
    Refused(Refusal),
    /// Something of this machine failed.
    Failed(anyhow::Error),
}

/// One link.
#[derive(Debug)]
pub struct Link {
    /// Where it is.
    pub device: Device,
    /// Its place among the links.
    pub rank: u32,
    /// The UUID of its profile.
    pub profile: String,
    /// How far it is.
    pub phase: Phase,
    /// What was heard of it.
    pub heard: Heard,
    /// The NMDeviceStateReason for which the device stopped, while it has.
    pub stopped: Option<u32>,
    /// The same, since the network let the user in, though something may be active there again.
    pub fell: Option<u32>,
    /// All addresses that it ever had.
    pub addresses: Vec<String>,
    /// Whether traffic leaves by it.
    pub primary: bool,
    /// It stays down: another program ended it, or the password is no longer good.
    pub is_stopped: bool,
    /// What is active there is bound to nobody, because NetworkManager was started anew.
    pub is_unbound: bool,
    /// When it is tried again.
    pub retry: Retry,
    activation: Option<Activation>,
    /// The supplicant's object for it.
    supplicant: Option<String>,
    activated: Instant,
    /// When the switch was asked last to begin.
    asked: Option<Instant>,
    given_up: Option<Instant>,
    verdict_seconds: Option<f64>,
    /// The UUID of the profile that its device carried before, and comes back.
    pub confined: Option<String>,
    /// Whether NetworkManager had been told before not to activate anything there by itself.
    pub no_autoconnect: bool,
}

impl Link {
    /// A link that is down. What the device carries now comes back after the session.
    pub fn new(bus: &Bus, device: Device, rank: u32) -> anyhow::Result<Link> {
        Ok(Link {
            confined: network_manager::carried(bus, &device.path).unwrap_or(None),
            no_autoconnect: !network_manager::autoconnects(bus, &device.path).unwrap_or(true),
            device,
            rank,
            profile: new_uuid()?,
            phase: Phase::Down,
            heard: Heard::default(),
            stopped: None,
            fell: None,
            addresses: Vec::new(),
            primary: false,
            is_stopped: false,
            is_unbound: false,
            retry: Retry::default(),
            activation: None,
            supplicant: None,
            activated: Instant::now(),
            asked: None,
            given_up: None,
            verdict_seconds: None,
        })
    }

    /// Activates the profile and makes sure that NetworkManager took it as it was meant. How that
    /// went is its phase.
    pub fn activate(&mut self, context: &Context, access: Access) {
        self.heard = Heard::default();
        (self.supplicant, self.asked, self.given_up) = (None, None, None);
        (self.stopped, self.verdict_seconds, self.primary) = (None, None, false);
        self.activated = Instant::now();
        context.agent.set(&self.profile, access);
        self.phase = match self.begin(context) {
            Ok(()) => Phase::Coming,
            Err(error) => Phase::Failed(error),
        };
    }

    /// The same, with a new profile: one that NetworkManager still has cannot be added again.
    pub fn activate_anew(&mut self, context: &Context) -> anyhow::Result<()> {
        context.agent.forget(&self.profile);
        self.profile = new_uuid()?;
        self.activate(context, Access::Given);
        Ok(())
    }

    fn begin(&mut self, context: &Context) -> anyhow::Result<()> {
        let sent = profile::settings(
            &self.profile,
            &self.device,
            self.rank,
            &context.identity,
            &context.realm,
        );
        // However the login's profile ends, nothing takes its place while the port is open: that
        // would ask for an address of the users' network.
        network_manager::let_autoconnect(&context.bus, &self.device.path, false).map_err(
            |error| {
                let device = &self.device.interface;
                failed_call(error, &format!("keeping other profiles from {device}"))
            },
        )?;
        let activation = network_manager::activate(&context.bus, &sent, &self.device)?;
        let different = match network_manager::settings(&context.bus, &activation.profile) {
            Ok(held) => profile::differences(&sent, &held),
            Err(error) => vec![error.to_string()],
        };
        self.activation = Some(activation);
        if different.is_empty() {
            return Ok(());
        }
        let keys = different.join(", ");
        Err(Exit::Unavailable.error(format_args!(
            "NetworkManager did not take the profile as it was sent: {keys}"
        )))
    }

    /// Takes in what happened.
    pub fn learn(&mut self, bus: &Bus, event: &Event) {
        // The object may have gone by the time its last words are read.
        if self.supplicant.is_none()
            && matches!(
                event,
                Event::Eap { .. } | Event::Certificate { .. } | Event::Associated { .. }
            )
        {
            self.supplicant = supplicant::find(bus, &self.device.interface).ok().flatten();
        }
        let ours = |path: &str| self.supplicant.as_deref() == Some(path);
        match event {
            Event::Owner { service, .. } if *service == supplicant::SERVICE => {
                self.supplicant = None // another one gives the same names anew
            }
            Event::Supplicant { path, interface } if *interface == self.device.interface => {
                self.supplicant = Some(path.clone())
            }
            Event::Associated { path } if ours(path) => self.associated(bus),
            Event::Certificate {
                path,
                depth: 0,
                subject,
            } if ours(path) => self.heard.server_subject = Some(subject.clone()),
            Event::Eap {
                path,
                status,
                parameter,
            } if ours(path) => self.heard.eap(status, parameter),
            Event::Device {
                path,
                state,
                reason,
            } if *path == self.device.path => {
                let coming_up = (network_manager::DEVICE_PREPARE
                    ..=network_manager::DEVICE_ACTIVATED)
                    .contains(state);
                // What comes after the first stop has no reason, or the reason of the first.
                self.stopped = if coming_up {
                    None
                } else {
                    self.stopped.or(Some(*reason))
                };
                self.fell = self.fell.or(self.stopped);
            }
            _ => {}
        }
    }

    /// The supplicant is on the link. By itself it would wait two seconds for the switch to begin.
    fn associated(&mut self, bus: &Bus) {
        if self.device.kind == Kind::Ethernet
            && self.asked.is_none()
            && let Some(path) = &self.supplicant
        {
            self.asked = Some(Instant::now());
            let _ = supplicant::log_on(bus, path); // it asks by itself a little later
        }
    }

    /// Asks a switch that does not begin once more.
    pub fn ask(&mut self, bus: &Bus) {
        if !self.is_asking() {
            return;
        }
        let Some(asked) = self.asked else {
            // A signal that was lost, or came before we knew whose it was.
            if self.supplicant.is_none() {
                self.supplicant = supplicant::find(bus, &self.device.interface).ok().flatten();
            }
            if let Some(path) = &self.supplicant
                && supplicant::state(bus, path).is_ok_and(|state| state == "associated")
            {
                self.associated(bus);
            }
            return;
        };
        if asked.elapsed() < ASK_AGAIN {
            return;
        }
        self.asked = Some(Instant::now());
        let _ = eapol::start(&self.device.interface); // the next one follows
        self.heard.asking_again();
    }

    /// Whether the switch has to begin: an exchange that is under way would break off.
    fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Coming)
            && self.device.kind == Kind::Ethernet
            && !self.heard.in_exchange()
    }

    /// How long to wait at most before [`Link::ask`] has something to do. A server may be silent in
    /// an exchange for long: then there is nothing to do.
    pub fn patience(&self) -> Option<Duration> {
        let asked = self.asked.filter(|_| self.is_asking())?;
        Some(ASK_AGAIN.saturating_sub(asked.elapsed()))
    }

    /// How long nothing has been heard of it.
    pub fn quiet(&self) -> Duration {
        let last = self.heard.last_word.unwrap_or(self.activated);
        last.max(self.activated).elapsed()
    }

    /// Looks whether a link that is coming has arrived. Status 69 when NetworkManager is gone.
    pub fn look(&mut self, context: &Context) -> anyhow::Result<()> {
        if !matches!(self.phase, Phase::Coming) {
            return Ok(());
        }
        if let Some(refusal) = self.heard.refused.clone() {
            self.set_verdict_seconds();
            self.phase = Phase::Refused(refusal);
        } else if self.proof_holds(context) {
            // What the supplicant said before it was done has been sent, but on a busy machine not
            // been read yet.
            if self.heard.verdict.is_some() {
                self.set_verdict_seconds();
                self.phase = Phase::Proven;
                (self.is_unbound, self.fell) = (false, None);
            }
        } else if self.has_given_up(context)? {
            self.why_given_up();
        }
        Ok(())
    }

    fn set_verdict_seconds(&mut self) {
        let verdict = self.heard.verdict.unwrap_or_else(Instant::now);
        let seconds = (verdict - self.activated).as_secs_f64();
        self.verdict_seconds = Some((seconds * 1000.0).round() / 1000.0);
    }

    /// Authenticated means all of it: the device is ours and past its link stage, the supplicant is
    /// done, and it used the method of the realm. NetworkManager's word alone would also cover a
    /// profile without 802.1X.
    fn proof_holds(&self, context: &Context) -> bool {
        let (bus, device) = (&context.bus, &self.device.path);
        let past_link_stage = network_manager::DEVICE_IP_CONFIG..=network_manager::DEVICE_ACTIVATED;
        let (Some(activation), Some(supplicant)) = (&self.activation, &self.supplicant) else {
            return false;
        };
        context.owners.has(network_manager::SERVICE)
            && network_manager::device_state(bus, device)
                .is_ok_and(|state| state.is_some_and(|state| past_link_stage.contains(&state)))
            && network_manager::is_on_device(bus, &activation.active, device)
            && supplicant::state(bus, supplicant).is_ok_and(|state| state == "completed")
            && supplicant::auth_mode(bus, supplicant)
                .is_ok_and(|mode| mode == context.realm.eap.auth_mode())
    }

    fn has_given_up(&self, context: &Context) -> anyhow::Result<bool> {
        let failed = |error| failed_call(error, "asking NetworkManager how the login goes");
        let Some(activation) = &self.activation else {
            return Ok(true);
        };
        if !context.owners.has(network_manager::SERVICE) {
            return Err(Exit::Unavailable.error("NetworkManager ended; start it, and try again"));
        }
        let state =
            network_manager::device_state(&context.bus, &self.device.path).map_err(failed)?;
        Ok(state.is_none_or(network_manager::is_down)
            || !network_manager::is_active(&context.bus, &activation.active).map_err(failed)?)
    }

    /// Why NetworkManager has stopped: its signal was sent before it could be seen to have stopped,
    /// but may not have been read yet.
    fn why_given_up(&mut self) {
        let since = *self.given_up.get_or_insert_with(Instant::now);
        if self.stopped.is_none() && since.elapsed() < REASON_TIMEOUT {
            return;
        }
        self.phase = match exchange::stopped(self.stopped.unwrap_or_default()) {
            Ok(reason) => Phase::Refused((reason.unwrap_or(self.silence()), None)),
            Err((exit, cause)) => Phase::Failed(exit.error(format_args!(
                "logging in on {}: {cause}",
                self.device.interface
            ))),
        };
    }

    /// What it means that there is no verdict.
    pub fn silence(&self) -> Reason {
        match self.device.kind {
            Kind::Ethernet if !self.heard.asked => Reason::No8021x,
            _ => Reason::ServerSilent,
        }
    }

    /// Whether the network has let the user in on it.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Proven)
    }

    /// Takes that back where it no longer holds.
    pub fn look_again(&mut self, context: &Context) {
        if !self.proof_holds(context) {
            self.phase = Phase::Coming;
        }
    }

    /// Whether another program ended it.
    pub fn was_ended_by_another(&self) -> bool {
        matches!(
            self.fell,
            Some(network_manager::ENDED_BY_USER | network_manager::ENDED_BY_OTHER)
        )
    }

    /// Whether its device can be activated: it is free, or NetworkManager has put another profile
    /// there since it was left to others. After a restart of NetworkManager it has another object,
    /// and what was found active there has to be taken over first.
    pub fn is_ready(&mut self, bus: &Bus) -> bool {
        let Ok(Some(path)) = network_manager::device_of(bus, &self.device.interface) else {
            return false;
        };
        let state = network_manager::device_state(bus, &path).ok().flatten();
        self.device.path = path;
        let is_free = state == Some(network_manager::DEVICE_DISCONNECTED);
        let is_in_use = state.is_some_and(|state| {
            (network_manager::DEVICE_PREPARE..=network_manager::DEVICE_ACTIVATED).contains(&state)
        });
        let is_settled = state == Some(network_manager::DEVICE_ACTIVATED) || !self.is_unbound;
        is_free || (is_in_use && is_settled)
    }

    /// Reads its addresses again. Whether there is a new one.
    pub fn look_at_addresses(&mut self, bus: &Bus) -> bool {
        let Some(activation) = &self.activation else {
            return false;
        };
        self.primary = network_manager::is_primary(bus, &activation.active);
        let known = self.addresses.len();
        for address in network_manager::addresses(bus, &activation.active) {
            if !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
        self.addresses.len() > known
    }

    /// Ends it after the university has refused the password: the supplicant would try it every
    /// minute, until the account is locked.
    pub fn stop(&mut self, context: &Context) {
        context.agent.forget(&self.profile);
        if let Some(path) = &self.supplicant {
            let _ = supplicant::log_off(&context.bus, path); // the deactivation takes it along
        }
        if let Some(activation) = &self.activation {
            let _ = network_manager::deactivate(&context.bus, &activation.active);
        }
        self.leave_to_others(context);
    }

    /// Lets NetworkManager activate there what it would without a login, until the login is tried
    /// again: administrators reach this machine. What fails, the end of the session does again.
    pub fn leave_to_others(&self, context: &Context) {
        if self.device.kind == Kind::Ethernet && matches!(self.phase, Phase::Failed(_)) {
            // The switch has refused nobody: where the supplicant died, the port is open.
            let _ = eapol::logoff(&self.device.interface);
        }
        let (bus, path) = (&context.bus, &self.device.path);
        let _ = network_manager::let_autoconnect(bus, path, !self.no_autoconnect);
    }

    /// What the answer says of it.
    pub fn report(&self, realm: &Realm) -> report::Link {
        let (reason, detail) = match &self.phase {
            Phase::Refused((reason, detail)) => (Some(*reason), detail.clone()),
            _ => (None, None),
        };
        report::Link {
            interface: self.device.interface.clone(),
            kind: self.device.kind.name().to_owned(),
            ssid: self.ssid(),
            profile: Some(self.profile.clone()),
            authenticated: Some(matches!(self.phase, Phase::Proven)),
            reason,
            detail,
            eap: Some(realm.eap.name()),
            server_subject: self.heard.server_subject.clone(),
            addresses: self.addresses.clone(),
            primary: self.primary.then_some(true),
            unrestored: None,
            verdict_seconds: self.verdict_seconds,
        }
    }

    /// The name of the wireless network.
    pub fn ssid(&self) -> Option<String> {
        match &self.device.kind {
            Kind::Wifi { ssid } => Some(ssid.clone()),
            Kind::Ethernet => None,
        }
    }
}

fn new_uuid() -> anyhow::Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")
        .exit(Exit::Io, || "reading a random uuid from the kernel")?;
    Ok(uuid.trim_end().to_owned())
}
