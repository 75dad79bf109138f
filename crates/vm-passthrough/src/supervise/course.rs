//! The course of a running guest: its events, and the orders that answer them.

use std::io;
use std::time::{Duration, Instant};

use jsonpipe::Pipe;

use super::{Guest, Next};
use crate::virtualizer::{Event, Message, Order, Shutdown, Status};

/// The limit from the order to quit to the end, during which the disk is flushed.
const QUIT_LIMIT: Duration = Duration::from_secs(10);
/// The interval between attempts to continue a guest whose disk has no room; a failed attempt costs
/// nothing. Also the interval between presses of the power button: a guest ignores it while it
/// boots or wakes up, and takes the first press for a wake-up while its screen is dark.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);

/// The message when a guest that stood still continues.
const GOES_ON: &str = "the guest goes on";

/// A running guest, and its observed state.
#[derive(Debug)]
pub(super) struct Course<'a, 'g> {
    guest: &'a mut Guest<'g>,
    pipe: &'a Pipe,
    /// The time that a shutdown may take.
    patience: Duration,
    /// The end of that time; later that of [`QUIT_LIMIT`].
    deadline: Option<Instant>,
    /// When the power button is pressed again.
    button: Option<Instant>,
    standstill: Option<Standstill>,
    asleep: bool,
    /// The messages that are reported once, of those that were.
    reported: Vec<&'static str>,
    end: End,
}

/// The end of a guest, as far as it was announced.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The program's announcement.
    pub shutdown: Option<Shutdown>,
    /// Why the guest was ended from outside.
    pub forced: Option<String>,
}

/// The guest stands still, because there is no space left for its disk.
#[derive(Debug)]
struct Standstill {
    /// The time of the next action.
    due: Instant,
    /// An attempt to continue was made; it succeeded unless it fails again before `due`.
    tried: bool,
}

impl Standstill {
    fn now(tried: bool) -> Standstill {
        Standstill {
            due: Instant::now() + RETRY_INTERVAL,
            tried,
        }
    }
}

impl<'a, 'g> Course<'a, 'g> {
    pub fn new(guest: &'a mut Guest<'g>, patience: Duration, pipe: &'a Pipe) -> Course<'a, 'g> {
        Course {
            guest,
            pipe,
            patience,
            deadline: None,
            button: None,
            standstill: None,
            asleep: false,
            reported: Vec::new(),
            end: End::default(),
        }
    }

    /// Follows it until the program closes its monitor. An error means that the program no longer
    /// obeys.
    pub fn follow(&mut self) -> io::Result<()> {
        loop {
            let due = self.standstill.as_ref().map(|standstill| standstill.due);
            let times = [self.deadline, due, self.button];
            match self.guest.next(times.into_iter().flatten().min())? {
                Next::Said(Message::Event(event)) => self.event(event)?,
                Next::Said(Message::Status(status)) => self.status(status)?,
                // A refused command has no effect; the time limit handles that.
                Next::Said(_) => {}
                Next::Gone => return Ok(()),
                Next::Signal => self.ask_to_shut_down()?,
                Next::TimeUp => self.time_is_up()?,
            }
        }
    }

    /// The announced end.
    pub fn end(self) -> End {
        self.end
    }

    fn send(&mut self, order: Order) -> io::Result<()> {
        self.guest.monitor.send(order)
    }

    fn warn_once(&mut self, message: &'static str) {
        if !self.reported.contains(&message) {
            self.reported.push(message);
            self.pipe.warn(message);
        }
    }

    fn event(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Shutdown(shutdown) => {
                // A guest that stands still could not have ended by itself.
                let went_on = self.standstill.take_if(|_| shutdown.by_guest);
                if went_on.is_some_and(|standstill| standstill.tried) {
                    self.pipe.warn(GOES_ON);
                }
                self.end.shutdown = Some(shutdown);
            }
            Event::DiskFailed { stopped: true } => self.no_room(),
            Event::DiskFailed { stopped: false } => self.warn_once(
                "the guest's disk could not be read or written, and the guest received the error; see the kernel's log",
            ),
            // The program reports a disk without room before this event or, if it just reported
            // another failure, a second later.
            Event::Stopped => self.send(Order::Status)?,
            Event::Asleep => {
                self.asleep = true;
                self.warn_once("the guest went to sleep and was woken, because the user cannot; switch sleep off in it");
                self.send(Order::Wake)?;
            }
            Event::Awake => self.asleep = false,
            Event::Hibernates => self.warn_once(
                "the guest went into hibernation, and its next start goes on there; switch hibernation off in it",
            ),
            Event::Crashed => self.warn_once("the guest's system crashed"),
            Event::Other => {}
        }
        Ok(())
    }

    fn status(&mut self, status: Status) -> io::Result<()> {
        match status {
            Status::NoRoom if self.standstill.is_none() => self.no_room(),
            Status::Broken(status) if self.end.forced.is_none() => {
                self.pipe.warn(format_args!(
                    "the guest stands still for good ({status}) and is switched off"
                ));
                self.switch_off(format!("the guest stood still for good ({status})"))?;
            }
            Status::NoRoom | Status::Well | Status::Broken(_) => {}
        }
        Ok(())
    }

    /// The guest stands still, because there is no space left for its disk.
    fn no_room(&mut self) {
        if self.standstill.is_none() {
            self.pipe.warn("the guest stands still: no space left for its disk; it goes on by itself when there is room");
        }
        self.standstill = Some(Standstill::now(false));
    }

    /// A signal has come.
    fn ask_to_shut_down(&mut self) -> io::Result<()> {
        if self.end.forced.is_some() {
            return Ok(()); // it is already being switched off
        }
        self.pipe.note("asking the guest to shut down");
        if self.asleep {
            self.send(Order::Wake)?;
        }
        self.send(Order::PressPowerButton)?;
        self.deadline = Some(Instant::now() + self.patience);
        self.button = Some(Instant::now() + RETRY_INTERVAL);
        Ok(())
    }

    /// One of the times has come: to try something again, to switch the guest off, or to give up.
    fn time_is_up(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return self.try_again(now);
        }
        if self.end.forced.is_none() {
            let why = match self.standstill.take() {
                Some(_) => ": it stood still: no space was left for its disk",
                None => "",
            };
            let seconds = self.patience.as_secs();
            return self.switch_off(format!("it did not shut down within {seconds} s{why}"));
        }
        let what = format!(
            "{} did not quit within {} s and was killed",
            self.guest.virtualizer.name(),
            QUIT_LIMIT.as_secs()
        );
        Err(io::Error::new(io::ErrorKind::TimedOut, what))
    }

    fn try_again(&mut self, now: Instant) -> io::Result<()> {
        if self.button.is_some_and(|due| due <= now) {
            self.send(Order::PressPowerButton)?;
            self.button = Some(now + RETRY_INTERVAL);
        }
        match self.standstill.take_if(|standstill| standstill.due <= now) {
            Some(Standstill { tried: false, .. }) => {
                self.send(Order::Run)?;
                self.standstill = Some(Standstill::now(true));
            }
            Some(_) => self.pipe.warn(GOES_ON),
            None => {}
        }
        Ok(())
    }

    fn switch_off(&mut self, why: String) -> io::Result<()> {
        self.end.forced = Some(why);
        self.button = None;
        self.send(Order::Quit)?;
        self.deadline = Some(Instant::now() + QUIT_LIMIT);
        Ok(())
    }
}
