//! A program on a terminal for itself: a pty, with the test at the other end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jsonpipe::testkit::Ended;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{Termios, tcgetattr};

/// No test waits this long: it only reports a hang.
const HANG: Duration = Duration::from_secs(120);

/// The other end of a program's terminal.
pub struct Terminal {
    master: File,
    slave: File,
    /// What it shows since [`Terminal::see`] last looked.
    shown: String,
    /// All that it ever showed.
    pub all: String,
    pub child: Child,
}

impl Terminal {
    /// Starts a program that leads the session of a new terminal. Its standard streams are as its
    /// command says, and standard input is the terminal where `redirect` is empty; otherwise as
    /// that says in words of a shell.
    pub fn start(command: &Command, redirect: &str) -> Terminal {
        // Closed on exec: the programs of other tests would keep it from hanging up.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(ptsname_r(&master).unwrap())
            .unwrap();
        let mut leader = Command::new("setsid");
        leader
            .args(["--ctty", "sh", "-c"])
            .arg(format!("exec \"$0\" \"$@\" {redirect}"))
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(slave.try_clone().unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in command.get_envs() {
            leader.env(name, value.unwrap());
        }
        for name in ["LC_ALL", "LC_MESSAGES"] {
            leader.env_remove(name);
        }
        Terminal {
            master: OwnedFd::from(master).into(),
            slave,
            shown: String::new(),
            all: String::new(),
            child: leader.spawn().unwrap(),
        }
    }

    /// Waits until it shows this, after what was seen before.
    #[track_caller]
    pub fn see(&mut self, text: &str) {
        let started = Instant::now();
        loop {
            if let Some(place) = self.shown.find(text) {
                self.shown.drain(..place + text.len());
                return;
            }
            let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let patience = PollTimeout::try_from(HANG).unwrap();
            assert!(
                started.elapsed() < HANG && poll(&mut ready, patience).unwrap() == 1,
                "it never showed {text:?}: {:?}",
                self.all
            );
            let mut buffer = [0; 4096];
            let length = self.master.read(&mut buffer).unwrap();
            let more = String::from_utf8_lossy(&buffer[..length]);
            self.shown += &more;
            self.all += &more;
        }
    }

    /// Types this.
    pub fn press(&mut self, keys: impl AsRef<[u8]>) {
        self.master.write_all(keys.as_ref()).unwrap();
    }

    /// Its settings.
    pub fn settings(&self) -> Termios {
        tcgetattr(&self.slave).unwrap()
    }

    /// Hangs up.
    pub fn hang_up(self) -> Ended {
        drop((self.master, self.slave));
        Ended::of(self.child.wait_with_output().unwrap())
    }

    /// Waits for the program's end.
    pub fn end(self) -> Ended {
        Ended::of(self.child.wait_with_output().unwrap())
    }
}
