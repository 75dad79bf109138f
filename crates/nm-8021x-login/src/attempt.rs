//! The login itself: every link that the machine has is asked at once, until one lets the user in.
//!
//! It says what an answer of the network means. It knows the network, and nothing of the processes
//! that hold a session; they call it.

mod exchange;
pub mod link;
pub mod retry;

use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jsonpipe::{Exit, Missing, Pipe};
use link::{Context, Link, Phase};

use crate::network::bus;
use crate::network::network_manager;
use crate::network::secret_agent::Access;
use crate::network::wireless::Search;
use crate::report::{self, Reason};

/// For a verdict. A switch that has just refused somebody ignores the port for its quiet period, so
/// a silent port is asked again.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(40);
/// A link that says nothing for this long keeps the password from the others no longer. A little
/// more than the quiet period that switches should have.
const SILENCE: Duration = Duration::from_secs(6);
/// An address, and the route that makes the connection primary: DHCP's first three tries.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(15);
/// More events than a login has; there may be no end of those of others.
pub const BURST: usize = 1000;
/// Every change is signalled; this is for the one that is not.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Something that happened while we wait.
#[derive(Debug)]
pub enum Event {
    /// On the bus.
    Bus(bus::Event),
    /// This process is to end, and why.
    Ending(&'static str),
    /// The process that began the login has delivered its answer (true), or has ended (false).
    Delivered(bool),
    /// Somebody asks for the end of the session, and waits for an answer on this connection.
    Logout(UnixStream),
}

/// A login that is under way, and later the session that it began.
pub struct Attempt {
    /// What all links use.
    pub context: Context,
    /// The links that were tried, the cable first.
    pub links: Vec<Link>,
    /// For wireless networks; the cable may be up before one is found.
    pub search: Search,
    /// What happens.
    pub events: Receiver<Event>,
    /// Who asked for the end while the login was under way, and waits for it.
    pub waiting: Vec<UnixStream>,
    /// Whether NetworkManager knows our agent.
    pub is_registered: bool,
    /// Whether the university has refused the password during the session.
    pub is_rejected: bool,
    /// What a session has heard of, and not looked at yet.
    pub news: News,
}

/// What may have changed.
#[derive(Debug, Default)]
pub struct News {
    /// The addresses of a link.
    pub addresses: bool,
    /// The cables of this machine.
    pub cables: bool,
}

/// What came of it.
pub enum Verdict {
    /// The user is in; what is not known yet.
    Accepted(Vec<Missing>),
    /// Why not.
    Refused(Reason, Option<String>),
}

/// Whether the others need not wait for a link: it has its verdict, or says nothing.
pub fn is_settled(link: &Link) -> bool {
    !matches!(link.phase, Phase::Coming) || (link.quiet() > SILENCE && !link.heard.is_in_tunnel())
}

impl Attempt {
    /// Asks the network. `record` is called with the links before each new one is activated, and
    /// when one has let the user in.
    pub fn run(
        &mut self,
        pipe: &Pipe,
        mut record: impl FnMut(&[Link]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Verdict> {
        let realm = &self.context.realm;
        let devices = network_manager::devices(&self.context.bus)?;
        self.search = Search::begin(&self.context.bus, devices.wireless, &realm.ssids);
        if realm.wired {
            self.add(devices.wired, &mut record, pipe)?;
        }
        let deadline = Instant::now() + VERDICT_TIMEOUT;
        loop {
            let found = self.search.found(&self.context.bus);
            self.add(found, &mut record, pipe)?;
            self.look()?;
            if self.links.iter().any(Link::is_up) {
                record(&self.links)?; // from now on there is a session, even if we are killed
                self.release_all();
                if let Some(missing) = self.wait_for_addresses()? {
                    return Ok(Verdict::Accepted(missing));
                }
                continue;
            }
            let is_coming = |link: &Link| matches!(link.phase, Phase::Coming);
            let is_rejected =
                |link: &Link| matches!(link.phase, Phase::Refused((Reason::Rejected, _)));
            let is_over = self.search.is_over() && !self.links.iter().any(is_coming);
            if Instant::now() > deadline {
                self.give_up();
            }
            if is_over || self.links.iter().any(is_rejected) || Instant::now() > deadline {
                return self.refusal();
            }
            self.release();
            self.hear(deadline)?;
        }
    }

    /// Activates devices. The first of all links has the password at once, the others wait.
    fn add(
        &mut self,
        devices: Vec<network_manager::Device>,
        record: &mut impl FnMut(&[Link]) -> anyhow::Result<()>,
        pipe: &Pipe,
    ) -> anyhow::Result<()> {
        let known = self.links.len();
        for device in devices {
            let rank = u32::try_from(self.links.len()).unwrap_or(u32::MAX);
            self.links.push(Link::new(&self.context.bus, device, rank)?);
        }
        if self.links.len() == known {
            return Ok(());
        }
        record(&self.links)?; // before the call: even one that times out may have been carried out
        for link in &mut self.links[known..] {
            let access = if link.rank == 0 {
                Access::Given
            } else {
                Access::Withheld
            };
            link.activate(&self.context, access);
            pipe.note(format_args!(
                "asking the network on {} by {}",
                link.device.interface,
                self.context.realm.eap.auth_mode()
            ));
        }
        Ok(())
    }

    fn look(&mut self) -> anyhow::Result<()> {
        for link in &mut self.links {
            link.ask(&self.context.bus);
            link.look(&self.context)?;
        }
        Ok(())
    }

    /// Waits for an event, and learns what else was said meanwhile: a slow machine would otherwise
    /// ask the switch again amid an exchange that it has not heard of yet.
    fn hear(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let mut until = deadline;
        for _ in 0..BURST {
            let Some(event) = self.next_event(until)? else {
                break;
            };
            self.learn(&event);
            until = Instant::now(); // no more waiting
        }
        Ok(())
    }

    fn learn(&mut self, event: &bus::Event) {
        for link in &mut self.links {
            link.learn(&self.context.bus, event);
        }
    }

    /// Gives the password to a link once those before it have their verdict, or say nothing.
    fn release(&self) {
        for (number, link) in self.links.iter().enumerate().skip(1) {
            if !self.links[..number].iter().all(is_settled) {
                break;
            }
            self.context.agent.set(&link.profile, Access::Given);
        }
    }

    fn release_all(&self) {
        for link in &self.links {
            self.context.agent.set(&link.profile, Access::Given);
        }
    }

    /// Waits until a link that has let the user in carries traffic; what does not come is missing.
    /// `None` when the network has taken its word back.
    fn wait_for_addresses(&mut self) -> anyhow::Result<Option<Vec<Missing>>> {
        let deadline = Instant::now() + ADDRESS_TIMEOUT;
        loop {
            for link in &mut self.links {
                if link.is_up() {
                    link.look_at_addresses(&self.context.bus);
                    link.look_again(&self.context);
                }
            }
            self.look()?;
            let proven = || self.links.iter().filter(|link| link.is_up());
            if proven().next().is_none() {
                return Ok(None);
            }
            let is_online = proven().any(|link| !link.addresses.is_empty() && link.primary);
            if is_online || Instant::now() > deadline {
                break;
            }
            self.hear(deadline)?;
        }
        Ok(Some(self.missing()))
    }

    /// What the links that let the user in lack.
    fn missing(&self) -> Vec<Missing> {
        let waited = format!("within {} seconds", ADDRESS_TIMEOUT.as_secs());
        let mut missing = Vec::new();
        let is_online = self.links.iter().any(|link| link.primary);
        for (number, link) in self.links.iter().enumerate() {
            if !link.is_up() || is_online {
                continue;
            }
            if link.addresses.is_empty() {
                missing.push(Missing {
                    key: format!("links[{number}].addresses"),
                    reason: format!("no address {waited}"),
                });
            }
            missing.push(Missing {
                key: format!("links[{number}].primary"),
                reason: format!("no default route {waited}"),
            });
        }
        missing
    }

    /// No verdict came.
    fn give_up(&mut self) {
        for link in &mut self.links {
            if matches!(link.phase, Phase::Coming) {
                link.phase = Phase::Refused((link.silence(), None));
            }
        }
    }

    /// The reason that counts, of all links. An error when every link failed on this machine.
    fn refusal(&mut self) -> anyhow::Result<Verdict> {
        let refusals = self.links.iter().filter_map(|link| match &link.phase {
            Phase::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        });
        if let Some((reason, detail)) = refusals.min_by_key(|(reason, _)| *reason) {
            return Ok(Verdict::Refused(reason, detail));
        }
        for link in &mut self.links {
            if let Phase::Failed(error) = std::mem::replace(&mut link.phase, Phase::Down) {
                return Err(error);
            }
        }
        Ok(Verdict::Refused(Reason::NoCarrier, None))
    }

    /// The next event; `None` when it is time to look. An error when this login is to end.
    fn next_event(&mut self, deadline: Instant) -> anyhow::Result<Option<bus::Event>> {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = self.links.iter().filter_map(Link::patience).min();
        let wait = left.min(LOOK_AGAIN).min(patience.unwrap_or(LOOK_AGAIN));
        match self.events.recv_timeout(wait) {
            Ok(Event::Ending(why)) => Err(Exit::TemporaryFailure.error(why)),
            Ok(Event::Delivered(_)) => Err(Exit::TemporaryFailure.error("interrupted")),
            Ok(Event::Bus(bus::Event::Owner {
                service,
                there: false,
            })) => {
                Err(Exit::Unavailable
                    .error(format_args!("{service} ended; start it, and try again")))
            }
            Ok(Event::Logout(stream)) => {
                self.waiting.push(stream);
                Err(Exit::TemporaryFailure.error("another program ended the login; try again"))
            }
            Ok(Event::Bus(bus::Event::Closed)) | Err(RecvTimeoutError::Disconnected) => {
                Err(Exit::Unavailable.error("listening to the system bus: it went away"))
            }
            Ok(Event::Bus(event)) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
        }
    }

    /// What the answer says of the links.
    pub fn report(&self) -> Vec<report::Link> {
        let links = self.links.iter();
        links.map(|link| link.report(&self.context.realm)).collect()
    }
}
