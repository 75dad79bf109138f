//! A session that is up: what happens to its links, and what brings them back.

use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::attempt::{Attempt, BURST, is_settled};
use crate::bus::Event;
use crate::link::{Context, Link, Phase};
use crate::memory;
use crate::network_manager;
use crate::report::Reason;

/// For what is not signalled, while something is under way.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The same, while a link waits for its cable.
const LOOK_AT_CABLE: Duration = Duration::from_secs(10);
/// Nothing happens for so long: the session is at rest.
const IDLE: Duration = Duration::from_secs(2);
/// A link that failed is tried again after this long, then after twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How a session ends.
pub enum End {
    /// By a logout, that waits for an answer.
    Logout(UnixStream),
    /// By a signal, or because the process that it was for has ended.
    Asked,
    /// The answer that the user is in reached nobody.
    Undelivered,
}

/// What happened.
pub enum Next {
    /// The session ends.
    End(End),
    /// The answer reached its reader.
    Delivered,
    /// What is known of the links changed.
    Changed,
    /// The university refuses the password, on this interface.
    Rejected(String),
}

/// When a link that is down is tried again.
#[derive(Debug, Default)]
pub struct Retry {
    at: Option<Instant>,
    pause: Option<Duration>,
}

impl Retry {
    fn is_due(&self) -> bool {
        self.left().is_zero()
    }

    fn left(&self) -> Duration {
        let left = |at: Instant| at.saturating_duration_since(Instant::now());
        self.at.map_or(Duration::ZERO, left)
    }

    /// It failed once more.
    fn put_off(&mut self) {
        let pause = self
            .pause
            .map_or(FIRST_PAUSE, |pause| LONGEST_PAUSE.min(2 * pause));
        (self.pause, self.at) = (Some(pause), Some(Instant::now() + pause));
    }
}

/// Waits for what the holder has to do something about.
pub fn next(attempt: &mut Attempt) -> Next {
    loop {
        let mut event = match patience(attempt) {
            None => rest(&attempt.events),
            Some(wait) => attempt.events.recv_timeout(wait),
        };
        let mut addresses = false;
        for left in (0..BURST).rev() {
            match event {
                Ok(event) => {
                    addresses |= matches!(event, Event::Addresses | Event::Device { .. });
                    if let Some(next) = hear(attempt, event) {
                        return next;
                    }
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Next::End(End::Asked),
            }
            if left == 0 {
                break; // the next one waits: it may be a logout
            }
            event = attempt.events.recv_timeout(Duration::ZERO); // what else was said meanwhile
        }
        if let Some(next) = tend(attempt, addresses) {
            return next;
        }
    }
}

fn hear(attempt: &mut Attempt, event: Event) -> Option<Next> {
    match event {
        Event::Ending => return Some(Next::End(End::Asked)),
        Event::Logout(stream) => return Some(Next::End(End::Logout(stream))),
        Event::Delivered(false) => return Some(Next::End(End::Undelivered)),
        Event::Delivered(true) => return Some(Next::Delivered),
        Event::Owner { service, there } if service == network_manager::SERVICE => {
            restarted(attempt, there)
        }
        event => {
            // A supplicant that is back may be asked at once.
            let is_back = matches!(event, Event::Owner { there: true, .. });
            for link in &mut attempt.links {
                link.learn(&attempt.context.bus, &event);
                if is_back {
                    link.retry = Retry::default();
                }
            }
        }
    }
    None
}

/// Waits for an event that may take hours, and uses little memory meanwhile.
fn rest(events: &Receiver<Event>) -> Result<Event, RecvTimeoutError> {
    match events.recv_timeout(IDLE) {
        Err(RecvTimeoutError::Timeout) => {
            memory::release_code();
            events.recv().map_err(|_| RecvTimeoutError::Disconnected)
        }
        event => event,
    }
}

/// How long to wait for an event; for ever, when every link is up or stays down.
fn patience(attempt: &Attempt) -> Option<Duration> {
    let of_link = |link: &Link| match link.phase {
        _ if link.is_stopped || link.is_up() => None,
        Phase::Coming => Some(link.patience().unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)),
        _ if link.retry.is_due() && !link.is_unbound => Some(LOOK_AT_CABLE),
        _ => Some(link.retry.left().max(LOOK_AGAIN)),
    };
    let is_waiting = !attempt.is_registered || !attempt.search.is_over();
    let looking = is_waiting.then_some(LOOK_AGAIN);
    attempt
        .links
        .iter()
        .filter_map(of_link)
        .chain(looking)
        .min()
}

/// NetworkManager ended, or was started anew: then it knows no agent, and what was activated is
/// bound to nobody any more.
fn restarted(attempt: &mut Attempt, there: bool) {
    for link in &mut attempt.links {
        if !link.is_stopped {
            link.phase = Phase::Down;
            link.is_unbound = true;
        }
    }
    attempt.is_registered = false;
    if there {
        attempt.is_registered = attempt.context.agent.register().is_ok();
    }
}

fn tend(attempt: &mut Attempt, addresses: bool) -> Option<Next> {
    let mut changed = false;
    let mut rejected: Option<String> = None;
    let context = &attempt.context;
    if !context.owners.has(network_manager::SERVICE) {
        return None; // until it is back
    }
    if !attempt.is_registered {
        attempt.is_registered = context.agent.register().is_ok();
    }
    for link in &mut attempt.links {
        link.ask(&context.bus);
        let was_coming = matches!(link.phase, Phase::Coming);
        let _ = link.look(context); // NetworkManager went: it comes back
        match &link.phase {
            Phase::Proven if was_coming => {
                link.retry = Retry::default();
                changed = true;
            }
            Phase::Refused(_) | Phase::Failed(_) if was_coming => link.retry.put_off(),
            _ => {}
        }
        let refusal = link.heard.refused.take();
        if matches!(refusal, Some((Reason::Rejected, _))) {
            rejected = Some(link.device.interface.clone());
            link.stop(context);
        }
        if link.is_up() && link.fell.is_some() {
            if link.was_ended_by_another() {
                link.is_stopped = true;
            }
            link.phase = Phase::Down;
        }
        if link.is_up() && (addresses || changed) {
            changed |= link.look_at_addresses(&context.bus);
        }
    }
    if let Some(interface) = rejected {
        // The password is no longer good: what is up stays up, and nothing is tried with it again.
        for link in attempt.links.iter_mut().filter(|link| !link.is_up()) {
            if matches!(link.phase, Phase::Coming) {
                link.stop(context);
            }
            link.is_stopped = true;
        }
        attempt.is_rejected = true;
        return Some(Next::Rejected(interface));
    }
    for device in attempt.search.found(&attempt.context.bus) {
        let rank = u32::try_from(attempt.links.len()).unwrap_or(u32::MAX);
        attempt
            .links
            .extend(Link::new(&attempt.context.bus, device, rank));
    }
    for number in 0..attempt.links.len() {
        // One after the other: a password that was changed is refused once, not on every link.
        if attempt.links.iter().all(is_settled) {
            let link = &mut attempt.links[number];
            changed |= bring_back(link, &attempt.context, attempt.is_rejected);
        }
    }
    changed.then_some(Next::Changed)
}

/// Activates a link that is down and can come up. Whether it did.
fn bring_back(link: &mut Link, context: &Context, is_rejected: bool) -> bool {
    if link.is_up() || matches!(link.phase, Phase::Coming) || link.is_stopped {
        return false;
    }
    if is_rejected {
        link.is_stopped = true;
        return false;
    }
    if !link.retry.is_due() || !link.is_ready(&context.bus) {
        return false;
    }
    if link.activate_anew(context).is_err() || matches!(link.phase, Phase::Failed(_)) {
        link.retry.put_off();
    }
    true
}
