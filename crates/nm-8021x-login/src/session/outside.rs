//! What the holder of a session hears besides the bus: signals, the processes it belongs to,
//! whoever asks it for the end, and the deletion of the directory by which others find it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use jsonpipe::{Common, Exit, ExitContext};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::state;
use crate::attempt::Event;

/// What the process that was called says once its answer is delivered.
pub const DELIVERED: &[u8] = b"y";
/// What the keeper says when the process ends that the session is for.
pub const SEAT_ENDED: &[u8] = b"e";
/// The one thing that can be asked for on the socket.
pub const LOGOUT: &[u8] = b"logout\n";

/// One that connects and says nothing is not waited for.
const ASKING_TIMEOUT: Duration = Duration::from_secs(2);

/// Listens at /run/labtools/login.sock; only root may connect. The caller has the lock: what is
/// there is a leftover.
pub fn bind(common: &Common) -> anyhow::Result<Door> {
    let path = common.path(state::SOCKET);
    let doing = || format!("listening at {}", path.display());
    state::clear(&path).exit(Exit::Io, doing)?;
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(&path);
    umask(before);
    let listener = listener.exit(Exit::Io, doing)?;
    let deletions = watch(&path).exit(Exit::Io, doing)?;
    Ok(Door {
        path,
        listener,
        deletions,
    })
}

/// Hears of what is deleted beside a file.
fn watch(path: &Path) -> io::Result<OwnedFd> {
    let deletions = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let directory = path.parent().unwrap_or(path);
    let flags = WatchFlags::DELETE | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
    inotify::add_watch(&deletions, directory, flags)?;
    Ok(deletions)
}

/// Where the holder is found.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    listener: UnixListener,
    /// Readable when something in the directory was deleted.
    deletions: OwnedFd,
}

impl Door {
    /// Whether it was deleted. Nobody finds the holder then, and the next login takes a new lock.
    fn is_gone(&self) -> bool {
        let mut events = [0; 4096];
        let _ = rustix::io::read(&self.deletions, &mut events); // whatever it was
        !self.path.exists()
    }
}

/// What there is to hear.
#[derive(Debug)]
pub struct Outside {
    /// Readable when a signal asks for the end.
    pub ending: OwnedFd,
    /// The keeper; at its end when that has ended.
    pub keeper: File,
    /// The process that was called; at its end when that has ended.
    pub front: UnixStream,
    /// Whoever asks for the end.
    pub door: Door,
}

impl Outside {
    /// Sends what happens, from a thread that ends with this process.
    pub fn listen(self, events: Sender<Event>) {
        thread::spawn(move || self.hear(&events));
    }

    fn hear(mut self, events: &Sender<Event>) {
        let mut front = Some(self.front);
        loop {
            let mut fds = vec![
                PollFd::new(self.ending.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.keeper.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.door.deletions.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.door.listener.as_fd(), PollFlags::POLLIN),
            ];
            if let Some(front) = &front {
                fds.push(PollFd::new(front.as_fd(), PollFlags::POLLIN));
            }
            if poll(&mut fds, PollTimeout::NONE).is_err() {
                continue; // EINTR
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            let why = if ready[0] {
                Some("interrupted")
            } else if ready[1] {
                Some(word(&mut self.keeper))
            } else if ready[2] && self.door.is_gone() {
                Some("/run/labtools was deleted; try again")
            } else {
                None
            };
            if let Some(why) = why {
                let _ = events.send(Event::Ending(why)); // nobody may be waiting any more
                return;
            }
            if ready[3]
                && let Ok((stream, _)) = self.door.listener.accept()
                && asks_for_logout(&stream)
            {
                let _ = events.send(Event::Logout(stream));
            }
            if ready.get(4) == Some(&true) {
                let mut word = [0];
                let read = front.take().map(|mut front| front.read(&mut word));
                let is_delivered = matches!(read, Some(Ok(1))) && word == DELIVERED;
                let _ = events.send(Event::Delivered(is_delivered));
            }
        }
    }
}

/// Why the keeper ends the session.
fn word(keeper: &mut File) -> &'static str {
    let mut word = [0];
    match keeper.read(&mut word) {
        Ok(1) if word == SEAT_ENDED => {
            "the process of --until-pid, for which the session is, has ended"
        }
        _ => "the keeper of the session was killed; try again",
    }
}

fn asks_for_logout(mut stream: &UnixStream) -> bool {
    let mut word = [0; LOGOUT.len()];
    stream.set_read_timeout(Some(ASKING_TIMEOUT)).is_ok()
        && stream.read_exact(&mut word).is_ok()
        && word == LOGOUT
}
