//! A session that is up: what happens to its links, and what brings them back.

use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::memory;
use crate::attempt::link::{Link, Phase};
use crate::attempt::retry::Retry;
use crate::attempt::{Attempt, BURST, Event, is_settled};
use crate::network::bus;
use crate::network::network_manager;
use crate::report::Reason;

/// For what is not signalled, while something is under way.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The same, while a link waits for its cable.
const LOOK_AT_CABLE: Duration = Duration::from_secs(10);
/// Nothing happens for so long: the session is at rest.
const IDLE: Duration = Duration::from_secs(2);

/// How a session ends.
pub enum End {
    /// By a logout, that waits for an answer.
    Logout(UnixStream),
    /// By a signal, because a process has ended, or because the answer that the user is in reached
    /// nobody.
    Asked,
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

/// Waits for what the holder has to do something about.
pub fn next(attempt: &mut Attempt) -> Next {
    loop {
        if let Some(next) = tend(attempt) {
            return next;
        }
        let mut event = match patience(attempt) {
            None => rest(&attempt.events),
            Some(wait) => attempt.events.recv_timeout(wait),
        };
        for left in (0..BURST).rev() {
            match event {
                Ok(event) => {
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
    }
}

fn hear(attempt: &mut Attempt, event: Event) -> Option<Next> {
    match event {
        Event::Ending(_) | Event::Delivered(false) => return Some(Next::End(End::Asked)),
        Event::Logout(stream) => return Some(Next::End(End::Logout(stream))),
        Event::Delivered(true) => return Some(Next::Delivered),
        Event::Bus(bus::Event::Closed) => return Some(Next::End(End::Asked)),
        Event::Bus(event) => learn(attempt, &event),
    }
    None
}

fn learn(attempt: &mut Attempt, event: &bus::Event) {
    match event {
        bus::Event::Addresses => attempt.news.addresses = true,
        bus::Event::Device { path, state, .. } => {
            attempt.news.addresses = true;
            attempt.news.cables |= *state >= network_manager::DEVICE_DISCONNECTED
                && attempt.links.iter().all(|link| link.device.path != *path);
        }
        bus::Event::Owner { service, there } if *service == network_manager::SERVICE => {
            return restarted(attempt, *there);
        }
        _ => {}
    }
    // A supplicant that is back may be asked at once.
    let is_back = matches!(event, bus::Event::Owner { there: true, .. });
    for link in &mut attempt.links {
        link.learn(&attempt.context.bus, event);
        if is_back {
            link.retry = Retry::default();
        }
    }
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

fn tend(attempt: &mut Attempt) -> Option<Next> {
    let mut changed = false;
    let mut rejected: Option<String> = None;
    let context = &attempt.context;
    if !context.owners.has(network_manager::SERVICE) {
        return None; // until it is back
    }
    let addresses = std::mem::take(&mut attempt.news.addresses);
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
            Phase::Refused(_) | Phase::Failed(_) if was_coming => {
                link.retry.put_off();
                link.leave_to_others(context);
            }
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
    if take_in(attempt) {
        return Some(Next::Changed); // on record before it is activated
    }
    for number in 0..attempt.links.len() {
        changed |= bring_back(attempt, number);
    }
    changed.then_some(Next::Changed)
}

/// Adds the links that the session did not have yet: a wireless network that is found later, a
/// cable that is plugged in for the first time. Whether there are any.
fn take_in(attempt: &mut Attempt) -> bool {
    let bus = &attempt.context.bus;
    let mut devices = attempt.search.found(bus);
    if std::mem::take(&mut attempt.news.cables) && attempt.context.realm.wired {
        devices.extend(network_manager::devices(bus).unwrap_or_default().wired); // none, perhaps
    }
    let known = attempt.links.len();
    for device in devices {
        let is_new = |link: &Link| link.device.interface != device.interface;
        if attempt.links.iter().all(is_new) {
            let rank = u32::try_from(attempt.links.len()).unwrap_or(u32::MAX);
            attempt.links.extend(Link::new(bus, device, rank));
        }
    }
    attempt.links.len() > known
}

/// Activates a link that is down and can come up. Whether it did.
///
/// One after the other: a password that was changed is refused once, not on every link. So one that
/// says nothing is taken down before the next is tried: it could begin to speak meanwhile.
fn bring_back(attempt: &mut Attempt, number: usize) -> bool {
    let context = &attempt.context;
    let link = &mut attempt.links[number];
    if link.is_up() || matches!(link.phase, Phase::Coming) || link.is_stopped {
        return false;
    }
    if attempt.is_rejected {
        link.is_stopped = true;
        return false;
    }
    if !link.retry.is_due() || !link.is_ready(&context.bus) {
        return false;
    }
    if !attempt.links.iter().all(is_settled) {
        return false;
    }
    for silent in &mut attempt.links {
        if matches!(silent.phase, Phase::Coming) {
            silent.stop(context);
            silent.phase = Phase::Down;
            silent.retry.put_off();
        }
    }
    let link = &mut attempt.links[number];
    if link.activate_anew(context).is_err() || matches!(link.phase, Phase::Failed(_)) {
        link.retry.put_off();
        link.leave_to_others(context);
    }
    true
}
