//! Supervises a guest from the start of its program to its end.

mod course;

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
use crate::virtualizer::{Control, Message, Order, Virtualizer};

use course::{Course, End};

/// The limit from the program's start to its first answer, including the clearing of gigabytes of huge
/// pages.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The limit from the end of the monitor to that of the process.
const EXIT_LIMIT: Duration = Duration::from_secs(5);
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
        let mut course = Course::new(&mut self, patience, pipe);
        let followed = course.follow();
        let End {
            shutdown,
            mut forced,
        } = course.end();
        if let Err(error) = followed {
            forced = Some(error.to_string());
            self.program.kill().exit(Exit::Software, || {
                format!("killing {}", self.virtualizer.name())
            })?;
        }
        let status = self.reap()?;
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
                Ok(_) if deadline <= Instant::now() => break, // it prints without an end
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
