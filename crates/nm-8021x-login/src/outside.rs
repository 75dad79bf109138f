//! What the holder of a session hears besides the bus: signals, the processes it belongs to, and
//! whoever asks it for the end.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use jsonpipe::{Common, Exit, ExitContext};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};

use crate::bus::Event;
use crate::state;

/// What the process that was called says once its answer is delivered.
pub const DELIVERED: &[u8] = b"y";
/// The one thing that can be asked for on the socket.
pub const LOGOUT: &[u8] = b"logout\n";

/// One that connects and says nothing is not waited for.
const ASKING_TIMEOUT: Duration = Duration::from_secs(2);

/// Listens at /run/labtools/login.sock; only root may connect. The caller has the lock: what is
/// there is a leftover.
pub fn bind(common: &Common) -> anyhow::Result<UnixListener> {
    let path = common.path(state::SOCKET);
    let _ = fs::remove_file(&path); // bind says what it could not do
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(&path);
    umask(before);
    listener.exit(Exit::Io, || format!("listening at {}", path.display()))
}

/// What there is to hear.
#[derive(Debug)]
pub struct Outside {
    /// Readable when a signal asks for the end.
    pub ending: OwnedFd,
    /// At its end when the keeper has ended.
    pub keeper: OwnedFd,
    /// The process that was called; at its end when that has ended.
    pub front: UnixStream,
    /// Whoever asks for the end.
    pub listener: UnixListener,
}

impl Outside {
    /// Sends what happens, from a thread that ends with this process.
    pub fn listen(self, events: Sender<Event>) {
        thread::spawn(move || self.hear(&events));
    }

    fn hear(self, events: &Sender<Event>) {
        let mut front = Some(self.front);
        loop {
            let mut fds = vec![
                PollFd::new(self.ending.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.keeper.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            ];
            if let Some(front) = &front {
                fds.push(PollFd::new(front.as_fd(), PollFlags::POLLIN));
            }
            if poll(&mut fds, PollTimeout::NONE).is_err() {
                continue; // EINTR
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            if ready[0] || ready[1] {
                let _ = events.send(Event::Ending); // nobody may be waiting any more
                return;
            }
            if ready[2]
                && let Ok((stream, _)) = self.listener.accept()
                && asks_for_logout(&stream)
            {
                let _ = events.send(Event::Logout(stream));
            }
            if ready.get(3) == Some(&true) {
                let mut word = [0];
                let read = front.take().map(|mut front| front.read(&mut word));
                let is_delivered = matches!(read, Some(Ok(1))) && word == DELIVERED;
                let _ = events.send(Event::Delivered(is_delivered));
            }
        }
    }
}

fn asks_for_logout(mut stream: &UnixStream) -> bool {
    let mut word = [0; LOGOUT.len()];
    stream.set_read_timeout(Some(ASKING_TIMEOUT)).is_ok()
        && stream.read_exact(&mut word).is_ok()
        && word == LOGOUT
}
