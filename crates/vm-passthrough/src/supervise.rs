//! Supervises a guest from the start of its program to its end.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use jsonpipe::signals::Deferred;
use jsonpipe::{Exit, ExitContext, Pipe};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::child::Running;
use crate::report::Ended;
use crate::tail::Tail;
use crate::virtualizer::{Control, Event, Message, Order, Shutdown, Status, Virtualizer};

/// The limit from the program's start to its first answer, including the clearing of gigabytes of huge
/// pages.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The limit from the order to quit to the end, during which the disk is flushed.
const QUIT_LIMIT: Duration = Duration::from_secs(10);
/// The limit from the end of the monitor to that of the process.
const EXIT_LIMIT: Duration = Duration::from_secs(5);
/// The interval between attempts to continue a guest whose disk has no room; a failed attempt costs
/// nothing. Also the interval between presses of the power button: a guest ignores it while it
/// boots or wakes up, and takes the first press for a wake-up while its screen is dark.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);

/// A guest's program and its three sources of events.
#[derive(Debug)]
pub struct Guest<'a> {
    program: Running,
    virtualizer: &'a dyn Virtualizer,
    monitor: Box<dyn Control>,
    stderr: Tail,
    ending: &'a Deferred,
    /// The signal was seen; it stays pending until we end by it.
    stopping: bool,
}

/// How a guest ended, with details if it did not simply shut down.
#[derive(Debug)]
pub struct Outcome {
    pub ended: Ended,
    pub reason: Option<String>,
}

/// The source that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Monitor,
    Ending,
    Stderr,
}

/// The observed state of a guest.
#[derive(Debug, Default)]
struct Life {
    /// It sleeps.
    asleep: bool,
    /// The announcement of the end.
    shutdown: Option<Shutdown>,
    /// Why the guest was ended from outside.
    forced: Option<String>,
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

/// The message when it continues.
const GOES_ON: &str = "the guest goes on";

/// Records that the guest stands still.
fn no_room(standstill: &mut Option<Standstill>, pipe: &Pipe) {
    if standstill.is_none() {
        pipe.warn("the guest stands still: no space left for its disk; it goes on by itself when there is room");
    }
    *standstill = Some(Standstill::now(false));
}

/// The next event.
enum Next {
    Said(Message),
    /// The program closed its monitor: it ends.
    Gone,
    /// A signal asks us to end.
    Signal,
    TimeUp,
}

impl<'a> Guest<'a> {
    pub fn new(
        program: Running,
        virtualizer: &'a dyn Virtualizer,
        monitor: UnixStream,
        stderr: Tail,
        ending: &'a Deferred,
    ) -> Guest<'a> {
        Guest {
            program,
            virtualizer,
            monitor: virtualizer.control(monitor),
            stderr,
            ending,
            stopping: false,
        }
    }

    /// Waits until the program reports the guest's status, when all its devices exist, and starts the
    /// guest.
    ///
    /// A program that ends first is status 69, one that takes too long 75, and one whose messages are
    /// a refusal 78.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.start_within(START_LIMIT)
    }

    fn start_within(&mut self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        self.obey(Order::Greet, deadline, limit)?;
        self.obey(Order::Status, deadline, limit)?;
        // The devices exist, and all that was to be said about them is in the pipe.
        self.drain().exit(Exit::Software, || {
            format!("reading {}'s messages", self.virtualizer.name())
        })?;
        if let Some(words) = self.virtualizer.refusal(&self.stderr.all()) {
            return Err(Exit::Config.error(format_args!(
                "handing the integrated graphics over: {}; it would show no picture",
                words.replace(jsonpipe::is_hidden, "?")
            )));
        }
        self.obey(Order::Run, deadline, limit)
    }

    /// Sends an order and waits until it is done.
    fn obey(&mut self, order: Order, deadline: Instant, limit: Duration) -> anyhow::Result<()> {
        self.monitor
            .send(order)
            .exit(Exit::Unavailable, || "starting the guest")?;
        loop {
            match self
                .next(Some(deadline))
                .exit(Exit::Unavailable, || "starting the guest")?
            {
                Next::Said(Message::Done | Message::Status(_)) => return Ok(()),
                Next::Said(Message::Refused(why)) => {
                    return Err(Exit::Unavailable.error(format_args!(
                        "starting the guest: {} refuses: {why}",
                        self.virtualizer.name()
                    )));
                }
                Next::Said(Message::Greeting | Message::Event(_)) => {}
                Next::Gone => {
                    let status = self.reap()?;
                    let said = self.stderr.text();
                    return Err(Exit::Unavailable.error(format_args!(
                        "{} ended before it was ready: {status}: {said}",
                        self.virtualizer.name()
                    )));
                }
                Next::Signal => {
                    return Err(Exit::TemporaryFailure
                        .error("starting the guest: ended by a signal before it was ready"));
                }
                Next::TimeUp => {
                    let said = self.stderr.text();
                    return Err(Exit::TemporaryFailure.error(format_args!(
                        "starting the guest: {} is not ready after {} s: {said}",
                        self.virtualizer.name(),
                        limit.as_secs()
                    )));
                }
            }
        }
    }

    /// Reads what has been printed so far.
    fn drain(&mut self) -> io::Result<()> {
        while let Some(fd) = self.stderr.pipe() {
            match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO) {
                Err(Errno::EINTR) => {}
                Ok(0) => return Ok(()),
                ready => {
                    ready?;
                    self.stderr.fill()?;
                }
            }
        }
        Ok(())
    }

    /// Waits until the guest has ended. After a signal, asks the guest to shut down, after
    /// `patience` asks the program to quit, and finally kills it.
    pub fn watch(mut self, patience: Duration, pipe: &Pipe) -> anyhow::Result<Outcome> {
        let mut life = Life::default();
        if let Err(error) = self.live(patience, pipe, &mut life) {
            life.forced = Some(error.to_string());
            self.program.kill().exit(Exit::Software, || {
                format!("killing {}", self.virtualizer.name())
            })?;
        }
        let status = self.reap()?;
        let Life {
            shutdown, forced, ..
        } = life;
        let well = status.success() && shutdown.as_ref().is_some_and(|shutdown| shutdown.well);
        Ok(match forced {
            _ if well => Outcome {
                ended: if self.stopping {
                    Ended::Stopped
                } else {
                    Ended::Shutdown
                },
                reason: None,
            },
            Some(forced) if self.stopping => Outcome {
                ended: Ended::Stopped,
                reason: Some(forced),
            },
            forced => {
                let cause = forced
                    .or(shutdown.map(|shutdown| shutdown.reason))
                    .map(|cause| format!("{cause}: "))
                    .unwrap_or_default();
                let reason = format!(
                    "{} ended: {cause}{status}: {}",
                    self.virtualizer.name(),
                    self.stderr.text()
                );
                Outcome {
                    ended: if self.stopping {
                        Ended::Stopped
                    } else {
                        Ended::Died
                    },
                    reason: Some(reason),
                }
            }
        })
    }

    /// Runs until the program closes its monitor. An error means that it no longer obeys.
    fn live(&mut self, patience: Duration, pipe: &Pipe, life: &mut Life) -> io::Result<()> {
        let mut deadline = None;
        let mut standstill: Option<Standstill> = None;
        let mut button: Option<Instant> = None;
        let (mut disk_failed, mut slept, mut crashed) = (false, false, false);
        loop {
            let due = standstill.as_ref().map(|standstill| standstill.due);
            match self.next(deadline.into_iter().chain(due).chain(button).min())? {
                Next::Said(Message::Event(Event::Shutdown(shutdown))) => {
                    // A guest that stands still could not have ended by itself.
                    if shutdown.by_guest
                        && standstill.take().is_some_and(|standstill| standstill.tried)
                    {
                        pipe.warn(GOES_ON);
                    }
                    life.shutdown = Some(shutdown);
                }
                Next::Said(Message::Event(Event::DiskFailed { stopped: true })) => {
                    no_room(&mut standstill, pipe)
                }
                Next::Said(Message::Event(Event::DiskFailed { stopped: false })) => {
                    if !disk_failed {
                        pipe.warn(
                            "the guest's disk could not be read or written, and the guest received the error; see the kernel's log",
                        );
                    }
                    disk_failed = true;
                }
                // It reports a disk without room before this event or, if it just reported
                // another failure, a second later.
                Next::Said(Message::Event(Event::Stopped)) => self.monitor.send(Order::Status)?,
                Next::Said(Message::Status(status)) => match status {
                    Status::NoRoom if standstill.is_none() => no_room(&mut standstill, pipe),
                    Status::Broken(status) if life.forced.is_none() => {
                        pipe.warn(format_args!(
                            "the guest stands still for good ({status}) and is switched off"
                        ));
                        life.forced = Some(format!("the guest stood still for good ({status})"));
                        button = None;
                        self.monitor.send(Order::Quit)?;
                        deadline = Some(Instant::now() + QUIT_LIMIT);
                    }
                    Status::NoRoom | Status::Well | Status::Broken(_) => {}
                },
                Next::Said(Message::Event(Event::Asleep)) => {
                    if !slept {
                        pipe.warn("the guest went to sleep and was woken, because the user cannot; switch sleep off in it");
                    }
                    (life.asleep, slept) = (true, true);
                    self.monitor.send(Order::Wake)?;
                }
                Next::Said(Message::Event(Event::Awake)) => life.asleep = false,
                Next::Said(Message::Event(Event::Hibernates)) => {
                    pipe.warn("the guest went into hibernation, and its next start goes on there; switch hibernation off in it");
                }
                Next::Said(Message::Event(Event::Crashed)) => {
                    if !crashed {
                        pipe.warn("the guest's system crashed");
                    }
                    crashed = true;
                }
                // A refused command has no effect; the time limit handles that.
                Next::Said(_) => {}
                Next::Gone => return Ok(()),
                // It is already being switched off.
                Next::Signal if life.forced.is_some() => {}
                Next::Signal => {
                    pipe.note("asking the guest to shut down");
                    if life.asleep {
                        self.monitor.send(Order::Wake)?;
                    }
                    self.monitor.send(Order::PressPowerButton)?;
                    deadline = Some(Instant::now() + patience);
                    button = Some(Instant::now() + RETRY_INTERVAL);
                }
                Next::TimeUp if deadline.is_none_or(|deadline| Instant::now() < deadline) => {
                    let now = Instant::now();
                    if let Some(due) = button.as_mut().filter(|due| **due <= now) {
                        self.monitor.send(Order::PressPowerButton)?;
                        *due = now + RETRY_INTERVAL;
                    }
                    match standstill.take_if(|standstill| standstill.due <= now) {
                        Some(Standstill { tried: false, .. }) => {
                            self.monitor.send(Order::Run)?;
                            standstill = Some(Standstill::now(true));
                        }
                        Some(_) => pipe.warn(GOES_ON),
                        None => {}
                    }
                }
                Next::TimeUp if life.forced.is_none() => {
                    let why = if standstill.take().is_some() {
                        ": it stood still: no space was left for its disk"
                    } else {
                        ""
                    };
                    life.forced = Some(format!(
                        "it did not shut down within {} s{why}",
                        patience.as_secs()
                    ));
                    button = None;
                    self.monitor.send(Order::Quit)?;
                    deadline = Some(Instant::now() + QUIT_LIMIT);
                }
                Next::TimeUp => {
                    let what = format!(
                        "{} did not quit within {} s and was killed",
                        self.virtualizer.name(),
                        QUIT_LIMIT.as_secs()
                    );
                    return Err(io::Error::new(io::ErrorKind::TimedOut, what));
                }
            }
        }
    }

    /// Waits for the end of a process that closed its monitor or was killed, and kills it if it
    /// lingers.
    fn reap(&mut self) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + EXIT_LIMIT;
        // The end of the process closes its standard error, after its last message.
        while let Some(fd) = self.stderr.pipe() {
            let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
            match poll(&mut fds, until(Some(deadline))) {
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => break,
                Ok(_) => self.stderr.fill().exit(Exit::Software, || {
                    format!("reading {}'s messages", self.virtualizer.name())
                })?,
            }
        }
        if self.stderr.pipe().is_some() {
            self.program.kill().exit(Exit::Software, || {
                format!("killing {}", self.virtualizer.name())
            })?;
        }
        self.program.wait().exit(Exit::Software, || {
            format!("waiting for {}", self.virtualizer.name())
        })
    }

    /// Waits for the next event.
    fn next(&mut self, deadline: Option<Instant>) -> io::Result<Next> {
        loop {
            if let Some(message) = self.monitor.message()? {
                return Ok(Next::Said(message));
            }
            let mut watched = vec![(Source::Monitor, self.monitor.as_fd())];
            watched.extend((!self.stopping).then(|| (Source::Ending, self.ending.as_fd())));
            watched.extend(self.stderr.pipe().map(|fd| (Source::Stderr, fd)));
            let mut fds: Vec<PollFd<'_>> = watched
                .iter()
                .map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN))
                .collect();
            match poll(&mut fds, until(deadline)) {
                Err(Errno::EINTR) => continue,
                ready => ready?,
            };
            let awake = watched
                .iter()
                .zip(&fds)
                .filter(|(_, fd)| fd.any().unwrap_or(true));
            let awake: Vec<Source> = awake.map(|((source, _), _)| *source).collect();
            // The clock and the signal come first, so that a talkative guest cannot delay them.
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(Next::TimeUp);
            }
            if awake.contains(&Source::Ending) {
                self.stopping = true;
                return Ok(Next::Signal);
            }
            if awake.contains(&Source::Stderr) {
                self.stderr.fill()?;
            }
            if awake.contains(&Source::Monitor) && !self.monitor.fill()? {
                return Ok(Next::Gone);
            }
        }
    }
}

/// Converts a deadline for poll(2), rounded up to avoid busy waiting.
fn until(deadline: Option<Instant>) -> PollTimeout {
    deadline.map_or(PollTimeout::NONE, |deadline| {
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child;
    use crate::qemu::Qemu;
    use confined::{Life, Start};

    #[test]
    fn a_qemu_that_never_answers_is_75() {
        let argv = ["/bin/sh", "-c", "echo 'no huge page' >&2; exec sleep 600"].map(str::to_owned);
        let start = Start {
            identity: None,
            hand_down: &[],
            life: Life::WithUs,
            lock_memory: false,
        };
        let (program, stderr) = child::spawn(&argv, &start).unwrap();
        let id = program.id();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let virtualizer = Qemu {
            binary: "/bin/sh".into(),
            version: None,
        };
        let ending = jsonpipe::signals::defer().unwrap();
        let mut guest = Guest::new(program, &virtualizer, ours, stderr, &ending);
        let error = guest.start_within(Duration::from_secs(1)).unwrap_err();
        let message = "starting the guest: QEMU is not ready after 1 s: no huge page";
        assert_eq!(
            (Exit::of(&error), error.to_string().as_str()),
            (Exit::TemporaryFailure, message)
        );
        drop((guest, theirs));
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}
