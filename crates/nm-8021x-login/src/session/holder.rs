//! The holder: the process that logs in, and then stays for as long as the session.
//!
//! It has the password, in locked memory, and the binding: what it activated ends when it leaves
//! the bus, however it ends. While it stays it brings back a link that went down, and hears which
//! addresses the session has.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::SystemTime;

use jsonpipe::{Common, Exit, ExitContext, Pipe, event_log, signals, timestamp};
use secrecy::SecretString;

use super::closing::{self, Closed, Services};
use super::memory;
use super::order::{Order, Outcome};
use super::outside::{self, Outside};
use super::resident::{self, End};
use super::state::{self, Session, Status};
use crate::attempt::link::{Context, Link};
use crate::attempt::{Attempt, Event, News, Verdict};
use crate::network::bus::{Bus, Owners};
use crate::network::secret_agent::Agent;
use crate::network::wireless::Search;
use crate::network::{network_manager, supplicant};
use crate::report::Login;
use crate::{TOOL, clock};

/// The services that are listened to.
const SERVICES: &[&str] = &[network_manager::SERVICE, supplicant::SERVICE];

/// Logs in by the order on standard input, and holds the session. Standard output is the reading
/// end of a pipe whose other end is the keeper's. False: something is left to do.
pub fn hold(pipe: &Pipe) -> anyhow::Result<bool> {
    let ending = signals::defer()?;
    nix::sys::prctl::set_name(c"nm-8021x-holder")?; // that of the link by which it was started says nothing
    let mut front = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let begun = memory::protect()
        .and_then(|()| Order::read(&mut front))
        .and_then(|(order, password)| {
            memory::release_code();
            begin(&order, password, &ending, &front)
        });
    let mut held = match begun {
        Ok(held) => held,
        Err(error) => {
            let _ = Outcome::failure(&error).write(&mut front); // it has gone: nobody waits
            return Ok(true);
        }
    };
    held.run(pipe, front)
}

/// Everything that a login needs, before its first packet.
fn begin(
    order: &Order,
    password: SecretString,
    ending: &signals::Deferred,
    front: &UnixStream,
) -> anyhow::Result<Held> {
    let common = &order.common();
    let (sender, events) = mpsc::channel();
    let outside = Outside {
        ending: ending.as_fd().try_clone_to_owned()?,
        keeper: io::stdout().as_fd().try_clone_to_owned()?.into(),
        front: front.try_clone()?,
        door: outside::bind(common)?,
    };
    let bus = Bus::connect()?;
    bus.owner(network_manager::SERVICE, "start NetworkManager")?;
    bus.start(supplicant::SERVICE); // it is only started when it is needed
    bus.owner(supplicant::SERVICE, "start wpa_supplicant")?;
    let owners = Owners::default();
    let hearing = sender.clone();
    bus.listen(SERVICES, &owners, move |event| {
        hearing.send(Event::Bus(event)).is_ok()
    })?;
    outside.listen(sender);
    let (_, closed) = closing::close_remains(common)?;
    if let Some(why) = closed.kept.into_iter().chain(closed.unrestored).next() {
        return Err(why);
    }
    let id = format!("{}.{}", std::process::id(), clock::boot_seconds()?);
    let agent = Agent::new(&owners, &id, password)?;
    agent.register()?;
    let session = Session {
        schema: state::SCHEMA,
        session: None,
        user: order.realm.user.clone(),
        realm: order.realm.realm.clone(),
        status: Status::Starting,
        started_at: order.started_at.clone(),
        started_boot_seconds: clock::boot_seconds()?,
        ended_at: None,
        duration_seconds: None,
        links: Vec::new(),
    };
    Ok(Held {
        common: common.clone(),
        session,
        attempt: Attempt {
            context: Context {
                bus,
                owners,
                agent,
                identity: order.identity.clone(),
                realm: order.realm.clone(),
            },
            links: Vec::new(),
            search: Search::none(),
            events,
            waiting: Vec::new(),
            is_registered: true,
            is_rejected: false,
            // One that was plugged in during the login is also looked for.
            news: News {
                cables: true,
                ..News::default()
            },
        },
    })
}

/// A session, and the state file that names it.
pub struct Held {
    common: Common,
    session: Session,
    attempt: Attempt,
}

impl Held {
    fn run(&mut self, pipe: &Pipe, mut front: UnixStream) -> anyhow::Result<bool> {
        let (common, session) = (self.common.clone(), &mut self.session);
        let verdict = self.attempt.run(pipe, |links| {
            if let Some(first) = links.first().filter(|_| links.iter().any(Link::is_up)) {
                session.session = Some(first.profile.clone());
            }
            session.links = links.iter().map(state::Link::from).collect();
            state::save(&common, session)
        });
        let mut login = Login {
            user: Some(self.session.user.clone()),
            realm: Some(self.session.realm.clone()),
            method: Some("8021x"),
            started_at: Some(self.session.started_at.clone()),
            links: self.attempt.report(),
            ..Login::default()
        };
        match verdict {
            Ok(Verdict::Accepted(missing)) => {
                login.changed = true;
                login.authenticated = true;
                login.session.clone_from(&self.session.session);
                login.missing = missing;
                self.session.status = Status::Up;
                self.take_links();
                if let Err(error) = self.save() {
                    return Ok(self.give_up(&mut front, Err(error)));
                }
                let outcome = Outcome::answer(Exit::Done, &login)?;
                let _ = outcome.write(&mut front); // its end is an event
                drop(front);
                let end = self.reside();
                Ok(self.end(end))
            }
            Ok(Verdict::Refused(reason, detail)) => {
                (login.reason, login.detail) = (Some(reason), detail);
                let outcome = Outcome::answer(Exit::No, &login);
                Ok(self.give_up(&mut front, outcome))
            }
            Err(error) => Ok(self.give_up(&mut front, Err(error))),
        }
    }

    /// Closes what a login opened that did not succeed, and says so.
    fn give_up(&mut self, front: &mut UnixStream, outcome: anyhow::Result<Outcome>) -> bool {
        let closed = self.close();
        let is_clean = closed.is_clean();
        let mut outcome = match (outcome, closed.kept.first()) {
            (_, Some(error)) => Outcome::failure(error),
            (Err(error), None) => Outcome::failure(&error),
            (Ok(outcome), None) => outcome,
        };
        outcome.complain(closed.unrestored.iter());
        // Of a user who was in, the register wants to know: the next `logout` says it.
        self.leave(is_clean && self.session.session.is_none());
        for mut stream in std::mem::take(&mut self.attempt.waiting) {
            let _ = reply(&self.session, &closed).write(&mut stream); // it has gone
        }
        let _ = outcome.write(front); // it has gone: nobody waits
        is_clean
    }

    fn take_links(&mut self) {
        self.session.links = self.attempt.links.iter().map(state::Link::from).collect();
    }

    /// Closes everything.
    fn close(&mut self) -> Closed {
        self.take_links();
        let services = Services::on(self.attempt.context.bus.clone());
        let mut closed = closing::close(&mut self.session, &services);
        closed.unasked = services.absence();
        closed
    }

    /// Stays until the session ends.
    fn reside(&mut self) -> End {
        loop {
            match resident::next(&mut self.attempt) {
                resident::Next::End(end) => return end,
                resident::Next::Delivered => quiet(),
                resident::Next::Changed => {
                    self.take_links();
                }
                resident::Next::Rejected(interface) => {
                    self.session.status = Status::Rejected;
                    let _ = self.log_rejected(&interface); // the state file says it as well
                }
            }
            let _ = self.save(); // the next change is another chance
        }
    }

    /// Ends it. Whether nothing is left to do.
    fn end(&mut self, end: End) -> bool {
        let closed = self.close();
        let is_clean = closed.is_clean();
        match end {
            // Who asked removes it, once its own answer has arrived.
            End::Logout(mut stream) => {
                self.leave(false);
                let _ = reply(&self.session, &closed).write(&mut stream);
            }
            // What the session had is for the next `logout` to say.
            End::Asked => self.leave(false),
        }
        is_clean
    }

    /// Leaves the state file, or none.
    fn leave(&self, is_forgotten: bool) {
        let _ = std::fs::remove_file(self.common.path(state::SOCKET)); // the next one replaces it
        let _ = if is_forgotten {
            state::remove(&self.common)
        } else {
            self.save()
        }; // the keeper looks at it next
    }

    fn save(&self) -> anyhow::Result<()> {
        state::save(&self.common, &self.session)
    }

    fn log_rejected(&self, interface: &str) -> anyhow::Result<()> {
        #[derive(serde::Serialize)]
        struct Rejected<'a> {
            at: String,
            event: &'static str,
            tool: &'static str,
            session: Option<&'a str>,
            interface: &'a str,
        }
        let line = serde_json::to_string(&Rejected {
            at: timestamp::rfc3339(SystemTime::now()),
            event: "rejected",
            tool: TOOL.name,
            session: self.session.session.as_deref(),
            interface,
        })?;
        event_log::open(&self.common)?.append(&format!("{line}\n"))
    }
}

/// The answer to one who asked for the end: no, where something is left to do.
fn reply(session: &Session, closed: &Closed) -> Outcome {
    let login = serde_json::value::to_raw_value(&session.report(closed.changed));
    let exit = if closed.is_clean() {
        Exit::Done
    } else {
        Exit::No
    };
    let mut outcome = Outcome {
        status: exit as u8,
        error: String::new(),
        login: login.ok(),
    };
    outcome.complain(closed.complaints());
    outcome
}

/// The process that was called has gone: nobody is at the other end of standard error any more, and
/// no pipe waits for its end.
fn quiet() {
    let silent = || -> anyhow::Result<()> {
        let null = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .exit(Exit::Io, || "opening /dev/null")?;
        nix::unistd::dup2_stdin(&null)?;
        nix::unistd::dup2_stderr(&null)?;
        Ok(())
    };
    let _ = silent(); // it stays as it was
}
