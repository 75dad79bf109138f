//! `login`: from a name and a password to a proof.

use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use jsonpipe::{
    Answer, Common, Document, Exit, ExitContext, Missing, Pipe, lock, signals, timestamp,
};
use realms::{Realm, UserName, VALUE_MAX_BYTES};
use secrecy::{ExposeSecret, SecretString};

use crate::bus::{Bus, Event, failed_call};
use crate::network_manager::{self, Activation, Device, OpenProfile};
use crate::report::{Link, Login, Reason};
use crate::request::Credentials;
use crate::{TOOL, eapol, profile, secret_agent, supplicant};

/// Two logins at once would close each other's port.
const LOCK: &str = "/run/labtools/login.lock";

/// For a verdict. A switch that has just refused somebody ignores the port for its quiet period, so
/// a silent port is asked again.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(40);
/// The supplicant's first EAPOL-Start comes after two seconds, its second 30 seconds later; a
/// switch that is there answers at once.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// An address, and the route that makes the connection primary: DHCP's first three tries.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(15);
/// Every change is signalled; this is for the one that is not.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Answers the login of the document on standard input.
pub fn login(common: &Common, pipe: &Pipe, dry_run: bool) -> anyhow::Result<Answer> {
    // The password is in our memory: no core holds it, and only who may trace every process can
    // read it through /proc.
    nix::sys::prctl::set_dumpable(false)?;
    let mut document = pipe.document("a document with the section login (username, password)")?;
    let Credentials { username, password } = document.consume(TOOL.section)?;
    if password.expose_secret().contains('\0') {
        return Err(
            Exit::Data.error("login.password: holds a NUL character, which no login can carry")
        );
    }
    if password.expose_secret().len() > VALUE_MAX_BYTES {
        let limit = format_args!(
            "login.password: longer than {VALUE_MAX_BYTES} bytes, which no login can carry"
        );
        return Err(Exit::Data.error(limit));
    }
    let mut report = Login {
        started_at: Some(timestamp::rfc3339(SystemTime::now())),
        ..Login::default()
    };
    let Some(name) = UserName::parse(&username) else {
        return refuse(document, report, Reason::BadUserName);
    };
    report.user = Some(name.user.clone());
    report.realm = Some(name.realm.clone());
    let Some(realm) = realms::find(common, &name)? else {
        return refuse(document, report, Reason::UnknownRealm);
    };
    report.user = Some(realm.user.clone());
    report.realm = Some(realm.realm.clone());
    if !realm.admitted {
        return refuse(document, report, Reason::NotAllowed);
    }
    if password.expose_secret().is_empty() {
        return refuse(document, report, Reason::Rejected); // NetworkManager would take it for no answer and ask again
    }
    let deferred = signals::defer()?;
    let bus = Bus::connect()?;
    let network_manager = bus.owner(network_manager::SERVICE, "start NetworkManager")?;
    bus.start(supplicant::SERVICE); // it is only started when it is needed
    let supplicant = bus.owner(supplicant::SERVICE, "start wpa_supplicant")?;
    // Before looking: another login may be about to open what is not open yet.
    let lock = if dry_run {
        None
    } else {
        Some(lock::take(
            common,
            LOCK,
            "another login is under way; try again when it has ended",
        )?)
    };
    if let Some(open) = network_manager::open_profiles(&bus)?.first() {
        let way_out = "close it first: nm-8021x-login logout";
        return Err(Exit::TemporaryFailure.error(format_args!(
            "{}: a user is logged in; {way_out}",
            open.interface
        )));
    }
    let device = network_manager::wired_device(&bus)?;
    report.method = Some("8021x");
    if dry_run {
        report
            .links
            .push(Link::tried(&device.interface, None, &realm));
        document.set(TOOL.section, &report)?;
        return Ok(Answer::yes(document));
    }
    if !device.carrier {
        return refuse(document, report, Reason::NoCarrier);
    }
    let events = bus.listen(&network_manager, &supplicant, &deferred)?;
    let attempt = Attempt::start(
        &bus,
        pipe,
        &network_manager,
        events,
        device,
        &name,
        &realm,
        password,
    )?;
    pipe.note(format_args!(
        "asking the network on {} by {}",
        attempt.device.interface,
        realm.eap.auth_mode()
    ));
    match attempt.verdict(&realm)? {
        Verdict::Refused(reason, detail) => {
            attempt.guard.close()?;
            refuse(document, Login { detail, ..report }, reason)
        }
        Verdict::Accepted { .. } if deferred.pending() => {
            Err(Exit::TemporaryFailure.error("interrupted"))
        }
        Verdict::Accepted { link, missing } => {
            report.changed = true;
            report.authenticated = true;
            report.session = link.profile.clone();
            report.links.push(link);
            report.missing = missing;
            document.set(TOOL.section, &report)?;
            let mut guard = attempt.guard;
            guard.armed = false;
            let undo = move || {
                let mut guard = guard;
                guard.armed = true;
            };
            Ok(Answer::yes(document)
                .or_undo(undo)
                .holding(lock)
                .holding(deferred))
        }
    }
}

fn refuse(mut document: Document, report: Login, reason: Reason) -> anyhow::Result<Answer> {
    document.set(
        TOOL.section,
        &Login {
            reason: Some(reason),
            ..report
        },
    )?;
    Ok(Answer::no(document))
}

/// What came of it.
enum Verdict {
    Accepted { link: Link, missing: Vec<Missing> },
    Refused(Reason, Option<String>),
}

/// Closes what was opened, on every way out but one: when the answer was delivered that the user is
/// in.
struct Guard {
    bus: Bus,
    pipe: Pipe,
    open: OpenProfile,
    armed: bool,
}

impl Guard {
    fn close(mut self) -> anyhow::Result<()> {
        self.armed = false;
        network_manager::close(&self.bus, &self.open)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = network_manager::close(&self.bus, &self.open)
        {
            self.pipe.warn(format_args!("{error:#}"));
        }
    }
}

/// A profile that is being activated.
struct Attempt {
    bus: Bus,
    events: Receiver<Event>,
    device: Device,
    guard: Guard,
    /// Answers NetworkManager for as long as it is held.
    _agent: Bus,
    /// The unique name of the NetworkManager that was asked: of another one, the same objects are
    /// others.
    network_manager: String,
    activation: Activation,
    started: Instant,
}

impl Attempt {
    /// Activates the profile and makes sure that NetworkManager took it as it was meant.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is another part of the attempt"
    )]
    fn start(
        bus: &Bus,
        pipe: &Pipe,
        network_manager: &str,
        events: Receiver<Event>,
        device: Device,
        name: &UserName,
        realm: &Realm,
        password: SecretString,
    ) -> anyhow::Result<Attempt> {
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")
            .exit(Exit::Io, || "reading a random uuid from the kernel")?;
        let uuid = uuid.trim_end().to_owned();
        let agent = secret_agent::register(network_manager, &uuid, password)?;
        let sent = profile::settings(&uuid, &device.interface, &name.identity, realm);
        // Before the call: even one that times out may have been carried out.
        let open = OpenProfile {
            uuid: uuid.clone(),
            interface: device.interface.clone(),
        };
        let guard = Guard {
            bus: bus.clone(),
            pipe: pipe.clone(),
            open,
            armed: true,
        };
        let started = Instant::now();
        let activation = network_manager::activate(bus, &sent, &device)?;
        let different = match network_manager::settings(bus, &activation.profile) {
            Ok(held) => profile::differences(&sent, &held),
            Err(error) => vec![error.to_string()],
        };
        if !different.is_empty() {
            let keys = different.join(", ");
            return Err(Exit::Unavailable.error(format_args!(
                "NetworkManager did not take the profile as it was sent: {keys}"
            )));
        }
        Ok(Attempt {
            bus: bus.clone(),
            events,
            device,
            guard,
            _agent: agent,
            network_manager: network_manager.to_owned(),
            activation,
            started,
        })
    }

    /// Waits for the supplicant's verdict, and after a yes for an address.
    fn verdict(&self, realm: &Realm) -> anyhow::Result<Verdict> {
        let mut seen = Seen::default();
        let deadline = self.started + VERDICT_TIMEOUT;
        let mut asked = self.started;
        while !self.proven(realm) {
            if seen.exchange.is_none() && asked.elapsed() > ASK_AGAIN {
                asked = Instant::now();
                eapol::start(&self.device.interface).exit(Exit::Io, || "sending an EAPOL-Start")?;
                seen.asked_again = seen.turned_away;
            }
            match self.next_event(deadline)? {
                None => return Ok(Verdict::Refused(Reason::Timeout, None)),
                Some(event) => self.learn(event, &mut seen),
            }
            if let Some((reason, detail)) = seen.refused {
                return Ok(Verdict::Refused(reason, detail));
            }
            if self.given_up()? {
                return self.why_given_up(seen, deadline);
            }
        }
        // What the supplicant said before it was done has been sent, but on a busy machine not been
        // read yet.
        while seen.completed.is_none()
            && let Some(event) = self.next_event(deadline)?
        {
            self.learn(event, &mut seen);
        }
        let verdict_seconds =
            (seen.completed.unwrap_or_else(Instant::now) - self.started).as_secs_f64();
        let deadline = Instant::now() + ADDRESS_TIMEOUT;
        let (mut addresses, mut primary) = self.connectivity();
        while (addresses.is_empty() || !primary)
            && let Some(event) = self.next_event(deadline)?
        {
            self.learn(event, &mut seen);
            if self.given_up()? {
                return self.why_given_up(seen, deadline);
            }
            if !self.proven(realm) {
                return Ok(Verdict::Refused(Reason::Timeout, None));
            }
            (addresses, primary) = self.connectivity();
        }
        let mut missing = Vec::new();
        let waited = format!("within {} seconds", ADDRESS_TIMEOUT.as_secs());
        if addresses.is_empty() {
            missing.push(Missing {
                key: "links[0].addresses".into(),
                reason: format!("no address {waited}"),
            });
        }
        if !primary {
            missing.push(Missing {
                key: "links[0].primary".into(),
                reason: format!("no default route {waited}"),
            });
        }
        let link = Link {
            server_subject: seen.server_subject,
            addresses,
            primary: primary.then_some(true),
            verdict_seconds: Some((verdict_seconds * 1000.0).round() / 1000.0),
            ..Link::tried(
                &self.device.interface,
                Some(self.guard.open.uuid.clone()),
                realm,
            )
        };
        Ok(Verdict::Accepted { link, missing })
    }

    /// Authenticated means all of it: the device is ours and past its link stage, the supplicant is
    /// done, and it used the method of the realm. NetworkManager's word alone would also cover a
    /// profile without 802.1X.
    fn proven(&self, realm: &Realm) -> bool {
        let past_link_stage = network_manager::DEVICE_IP_CONFIG..=network_manager::DEVICE_ACTIVATED;
        let device = network_manager::device_state(&self.bus, &self.device.path);
        self.require_networkmanager().is_ok()
            && device.is_ok_and(|state| state.is_some_and(|state| past_link_stage.contains(&state)))
            && network_manager::is_on_device(&self.bus, &self.activation.active, &self.device.path)
            && self
                .supplicant()
                .and_then(|path| supplicant::state(&self.bus, &path).ok())
                .is_some_and(|(state, mode)| state == "completed" && mode == realm.eap.auth_mode())
    }

    /// The supplicant's object for our interface, once it has one.
    fn supplicant(&self) -> Option<String> {
        supplicant::find(&self.bus, &self.device.interface)
            .ok()
            .flatten()
    }

    /// Status 69 when NetworkManager is not there any more, or is another.
    fn require_networkmanager(&self) -> anyhow::Result<()> {
        if self
            .bus
            .owner(network_manager::SERVICE, "start NetworkManager")?
            == self.network_manager
        {
            return Ok(());
        }
        Err(Exit::Unavailable
            .error("asking NetworkManager how the login goes: it was started anew; try again"))
    }

    /// Whether NetworkManager has stopped trying. Status 69 when it no longer answers, or is
    /// another.
    fn given_up(&self) -> anyhow::Result<bool> {
        self.require_networkmanager()?;
        let failed = |error| failed_call(error, "asking NetworkManager how the login goes");
        let state = network_manager::device_state(&self.bus, &self.device.path).map_err(failed)?;
        Ok(state.is_none_or(network_manager::is_down)
            || !network_manager::is_active(&self.bus, &self.activation.active).map_err(failed)?)
    }

    /// Why NetworkManager has stopped: its signal was sent before it could be seen to have stopped,
    /// but may not have been read yet.
    fn why_given_up(&self, mut seen: Seen, deadline: Instant) -> anyhow::Result<Verdict> {
        while seen.stopped.is_none()
            && seen.refused.is_none()
            && let Some(event) = self.next_event(deadline)?
        {
            self.learn(event, &mut seen);
            self.require_networkmanager()?; // one that ends lets go without a word
        }
        match (seen.refused, seen.stopped) {
            (Some((reason, detail)), _) => Ok(Verdict::Refused(reason, detail)),
            (None, Some(stopped)) => Ok(Verdict::Refused(
                network_manager::stopped(stopped, &self.device.interface)?,
                None,
            )),
            (None, None) => Ok(Verdict::Refused(Reason::Timeout, None)),
        }
    }

    fn connectivity(&self) -> (Vec<String>, bool) {
        let active = &self.activation.active;
        (
            network_manager::addresses(&self.bus, active),
            network_manager::is_primary(&self.bus, active),
        )
    }

    /// The next event, or a reason to look again; `None` at the deadline. An error when this
    /// process was asked to end.
    fn next_event(&self, deadline: Instant) -> anyhow::Result<Option<Event>> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None); // however much there still is to hear
        }
        match self.events.recv_timeout(left.min(LOOK_AGAIN)) {
            Ok(Event::Ending) => Err(Exit::TemporaryFailure.error("interrupted")),
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(Some(Event::Changed)),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Exit::Unavailable.error("listening to the system bus: it went away"))
            }
        }
    }

    fn learn(&self, event: Event, seen: &mut Seen) {
        // The object may have gone by the time its last words are read.
        if seen.supplicant.is_none()
            && matches!(event, Event::Eap { .. } | Event::Certificate { .. })
        {
            seen.supplicant = self.supplicant();
        }
        let ours = seen.supplicant.clone();
        let ours = |path: &str| ours.as_deref() == Some(path);
        match event {
            Event::Supplicant { path, interface } if interface == self.device.interface => {
                seen.supplicant = Some(path)
            }
            Event::Certificate {
                path,
                depth: 0,
                subject,
            } if ours(&path) => seen.server_subject = Some(subject),
            Event::Eap {
                path,
                status,
                parameter,
            } if ours(&path) => seen.eap(&status, &parameter),
            Event::Device {
                path,
                state,
                reason,
            } if path == self.device.path => {
                let coming_up = (network_manager::DEVICE_PREPARE
                    ..=network_manager::DEVICE_ACTIVATED)
                    .contains(&state);
                // What comes after the first stop has no reason, or the reason of the first.
                seen.stopped = if coming_up {
                    None
                } else {
                    seen.stopped.or(Some(reason))
                };
            }
            _ => {}
        }
    }
}

/// What the supplicant and NetworkManager have told so far.
#[derive(Default)]
struct Seen {
    /// The supplicant's object for our interface.
    supplicant: Option<String>,
    /// The exchange that is under way; `None` before the supplicant has begun one.
    exchange: Option<Exchange>,
    /// An exchange ended with nothing but a failure.
    turned_away: bool,
    /// The switch was asked again after that.
    asked_again: bool,
    server_subject: Option<String>,
    completed: Option<Instant>,
    refused: Option<(Reason, Option<String>)>,
    /// The NMDeviceStateReason for which the device stopped, while it has.
    stopped: Option<u32>,
}

/// One EAP exchange, as the supplicant tells of it.
#[derive(Default)]
struct Exchange {
    /// The server proposed a method.
    proposed: bool,
    /// The server's certificate is the realm's: what follows is inside the tunnel.
    trusted: bool,
    /// Why the server's certificate is not.
    distrusted: Option<String>,
    /// A TLS alert, of either side, that ended the tunnel.
    alert: Option<String>,
}

impl Seen {
    /// wpa_supplicant's signal `EAP`, its src/eap_peer. A failure counts only for what was asked
    /// before it.
    fn eap(&mut self, status: &str, parameter: &str) {
        if status == "started" {
            self.exchange = Some(Exchange::default());
        }
        // A switch also sends a failure to a port that is silent, and after our own EAPOL-Logoff:
        // it is the answer to nothing.
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        match (status, parameter) {
            ("accept proposed method" | "refuse proposed method", _) => exchange.proposed = true,
            ("remote certificate verification", "success") => exchange.trusted = true,
            ("remote certificate verification", why) => exchange.distrusted = Some(why.to_owned()),
            ("local TLS alert" | "remote TLS alert", alert) if alert != "close notify" => {
                exchange.alert = Some(alert.to_owned())
            }
            ("completion", "success") => self.completed = Some(Instant::now()),
            ("completion", _) => {
                let ended = std::mem::take(&mut self.exchange).unwrap_or_default();
                self.refused = match ended {
                    Exchange {
                        distrusted: Some(why),
                        ..
                    } => Some((Reason::ServerNotTrusted, Some(why))),
                    Exchange {
                        alert: Some(alert), ..
                    } => Some((Reason::NoAgreement, Some(alert))),
                    Exchange { trusted: true, .. } => Some((Reason::Rejected, None)),
                    Exchange { proposed: true, .. } => Some((Reason::NoAgreement, None)),
                    // Leftovers of what was before, or nobody knows the realm: asked again, it does
                    // not come again, or does.
                    _ if self.asked_again => Some((Reason::NoAgreement, None)),
                    _ => None,
                };
                self.turned_away = true;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the supplicant was seen to say, and what it means.
    fn refused(said: &[(&str, &str)]) -> Option<(Reason, Option<String>)> {
        let mut seen = Seen::default();
        said.iter()
            .for_each(|(status, parameter)| seen.eap(status, parameter));
        seen.refused
    }

    const STARTED: (&str, &str) = ("started", "");
    const ACCEPTED: (&str, &str) = ("accept proposed method", "TTLS");
    const TRUSTED: (&str, &str) = ("remote certificate verification", "success");
    const FAILED: (&str, &str) = ("completion", "failure");

    #[test]
    fn rejected_is_what_was_asked_for_in_the_tunnel_and_nothing_else() {
        let detail = |words: &str| Some(words.to_owned());
        let verified = |words| ("remote certificate verification", words);
        let local = |alert| ("local TLS alert", alert);
        assert_eq!(
            refused(&[STARTED, ACCEPTED, TRUSTED, FAILED]),
            Some((Reason::Rejected, None))
        );
        assert_eq!(
            refused(&[STARTED, ACCEPTED, TRUSTED, local("close notify"), FAILED]),
            Some((Reason::Rejected, None))
        );
        assert_eq!(
            refused(&[STARTED, ACCEPTED, FAILED]),
            Some((Reason::NoAgreement, None))
        );
        assert_eq!(
            refused(&[STARTED, ("refuse proposed method", "MD5"), FAILED]),
            Some((Reason::NoAgreement, None))
        );
        assert_eq!(
            refused(&[STARTED, ACCEPTED, local("protocol version"), FAILED]),
            Some((Reason::NoAgreement, detail("protocol version")))
        );
        // A server that wants a certificate of ours says so only after it has shown its own.
        assert_eq!(
            refused(&[
                STARTED,
                ACCEPTED,
                TRUSTED,
                ("remote TLS alert", "handshake failure"),
                FAILED
            ]),
            Some((Reason::NoAgreement, detail("handshake failure")))
        );
        let expired = "certificate has expired";
        assert_eq!(
            refused(&[
                STARTED,
                ACCEPTED,
                verified(expired),
                local("certificate expired"),
                FAILED
            ]),
            Some((Reason::ServerNotTrusted, detail(expired)))
        );
    }

    #[test]
    fn a_failure_counts_for_its_own_exchange() {
        assert_eq!(refused(&[FAILED, FAILED, FAILED]), None);
        assert_eq!(refused(&[FAILED, STARTED, ACCEPTED, TRUSTED]), None);
        assert_eq!(refused(&[STARTED, FAILED]), None, "a leftover, perhaps");
        assert_eq!(
            refused(&[STARTED, FAILED, STARTED, FAILED, STARTED, FAILED]),
            None,
            "more leftovers; nobody asked for them"
        );
        assert_eq!(
            refused(&[STARTED, FAILED, STARTED, ACCEPTED, TRUSTED, FAILED]),
            Some((Reason::Rejected, None))
        );
        let mut asked_again = Seen {
            turned_away: true,
            asked_again: true,
            ..Seen::default()
        };
        [STARTED, FAILED]
            .iter()
            .for_each(|(status, parameter)| asked_again.eap(status, parameter));
        assert_eq!(asked_again.refused, Some((Reason::NoAgreement, None)));
        // The certificate of an exchange that was broken off says nothing of the next one.
        assert_eq!(
            refused(&[STARTED, ACCEPTED, TRUSTED, STARTED, ACCEPTED, FAILED]),
            Some((Reason::NoAgreement, None))
        );
    }
}
