//! A machine in a directory, and the session of a guest on it.

use std::fs;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use jsonpipe::testkit::{Ended, heeding_signals};
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, geteuid, mkfifo};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::QEMU_USER;
use super::boot::{UP, boot_sector, then};

/// A machine in a directory that only root can enter, and its own network.
pub struct Machine {
    pub root: TempDir,
    pub settings: String,
    pub document: Value,
}

impl Machine {
    /// One whose disk is an overlay of a base that boots and does `then`.
    pub fn new(then: &[&[u8]]) -> Machine {
        assert!(
            geteuid().is_root(),
            "these tests start QEMU as another user in a network namespace: run them as root"
        );
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        succeed("ip", &["link", "set", "lo", "up"]);

        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("etc/labtools")).unwrap();
        fs::write(
            path("etc/labtools/profiles.ini"),
            "[profile.linux]\nmemory=64M\ncores=1\n",
        )
        .unwrap();
        mkfifo(&path("console"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        fs::write(path("boot.raw"), boot_sector(then)).unwrap();
        let [boot, base, overlay] = ["boot.raw", "base.qcow2", "overlay.qcow2"]
            .map(|name| path(name).display().to_string());
        succeed(
            "qemu-img",
            &["convert", "-f", "raw", "-O", "qcow2", &boot, &base],
        );
        succeed(
            "qemu-img",
            &[
                "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &base, &overlay, "1M",
            ],
        );
        let document = json!({"volume": {"path": "/overlay.qcow2", "format": "qcow2", "ostype": "linux",
            "backing_path": "/base.qcow2", "backing_format": "qcow2"}});
        Machine {
            root,
            settings: format!("user={QEMU_USER}\nconsole=/console\n"),
            document,
        }
    }

    /// One where `then` does not matter, for what goes wrong before.
    pub fn any() -> Machine {
        Machine::new(&[then::SHUT_DOWN])
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    pub fn command(&self, verb: &str) -> Command {
        self.write(
            "etc/labtools/vm-passthrough.ini",
            &format!("[qemu]\n{}", self.settings),
        );
        let mut command = heeding_signals(env!("CARGO_BIN_EXE_vm-passthrough"));
        command.arg(verb).arg("--root").arg(self.root.path());
        command
    }

    /// Starts a guest.
    pub fn start(&self) -> Session {
        self.start_by(self.command("run"))
    }

    /// Starts a guest by a command of the test's own.
    pub fn start_by(&self, mut command: Command) -> Session {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let console = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(self.path("console"))
            .unwrap();
        Session {
            tool: feed(&mut command, &self.document),
            console,
            heard: String::new(),
        }
    }

    /// Runs the tool to its end.
    pub fn run(&self) -> Ended {
        self.start().end()
    }

    /// Nothing of a run is left: no rule, no lock.
    pub fn is_as_before(&self) {
        assert_eq!(ruleset(), "");
        assert!(self.can_lock());
    }

    pub fn can_lock(&self) -> bool {
        let file = File::create(self.path("run/labtools/guest.lock")).unwrap();
        Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
    }

    /// Puts the disk on a file system that has no room left, for this test alone; removing `filler`
    /// makes room.
    pub fn fill_the_disk(&mut self) {
        own_mounts();
        fs::create_dir(self.path("full")).unwrap();
        succeed(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                "size=1M,mode=700",
                "tmpfs",
                self.path("full").to_str().unwrap(),
            ],
        );
        fs::copy(self.path("overlay.qcow2"), self.path("full/overlay.qcow2")).unwrap();
        let mut filler = File::create(self.path("full/filler")).unwrap();
        let error = std::iter::repeat_with(|| filler.write_all(&[1; 4096]))
            .find_map(Result::err)
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        self.document["volume"]["path"] = "/full/overlay.qcow2".into();
    }

    /// A program in QEMU's place, for faults that the real one cannot be made to show. It has the
    /// version of Debian 12.
    pub fn fake_qemu(&mut self, script: &str) {
        const VERSION: &str = "[ \"$1\" = -version ] && exec echo 'QEMU emulator version 7.2.22'";
        self.fake_program(&format!("{VERSION}\n{script}"));
    }

    /// The same, without a version.
    pub fn fake_program(&mut self, script: &str) {
        // QEMU's user must be able to reach it, which it cannot in our directory's stead.
        fs::set_permissions(self.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        self.write("qemu", &format!("#!/bin/bash\n{script}\n"));
        fs::set_permissions(self.path("qemu"), fs::Permissions::from_mode(0o755)).unwrap();
        self.settings += &format!("binary={}\n", self.path("qemu").display());
    }
}

/// A tool that runs a guest.
pub struct Session {
    pub tool: Child,
    pub console: File,
    pub heard: String,
}

impl Session {
    /// Waits until the guest has said that it is up for the `times`th time.
    pub fn is_up(&mut self, times: usize) {
        while self.heard.matches(UP).count() < times {
            assert!(
                self.listen(),
                "the guest ended before it was up: {:?}",
                self.heard
            );
        }
    }

    /// Waits until QEMU, which alone holds the other end of the console, is gone.
    pub fn qemu_is_gone(&mut self) {
        while self.listen() {}
    }

    /// Takes what the guest says; false when there is nobody left to say anything.
    pub fn listen(&mut self) -> bool {
        let mut fds = [PollFd::new(self.console.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::from(u16::MAX); // a minute: only a test that has failed already waits for it
        assert_ne!(
            poll(&mut fds, patience).unwrap(),
            0,
            "the guest says nothing more: {:?}",
            self.heard
        );
        let mut chunk = [0; 256];
        match self.console.read(&mut chunk) {
            Ok(count) => {
                self.heard += &String::from_utf8_lossy(&chunk[..count]);
                count > 0
            }
            Err(error) => panic!("reading the console: {error}"),
        }
    }

    /// The QEMU that the tool has started.
    pub fn qemu(&self) -> Pid {
        let parent = format!("PPid:\t{}\n", self.tool.id());
        let is_child = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|status| status.contains(&parent))
        };
        let processes = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
        let mut children = processes.filter(is_child);
        let child = Pid::from_raw(children.next().expect("a QEMU"));
        assert_eq!(children.next(), None, "one QEMU");
        child
    }

    /// Waits until the tool has said one line more.
    pub fn complaint(&mut self) -> String {
        let stderr = self.tool.stderr.as_mut().unwrap();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
            assert_ne!(
                poll(&mut fds, PollTimeout::from(u16::MAX)).unwrap(),
                0,
                "the tool says nothing"
            );
            let mut byte = [0];
            stderr
                .read_exact(&mut byte)
                .expect("the tool ended without a word");
            line.extend(byte);
        }
        String::from_utf8(line).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.tool.id() as i32), signal).unwrap();
    }

    pub fn end(mut self) -> Ended {
        let mut said = [Vec::new(), Vec::new()];
        self.tool
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut said[0])
            .unwrap();
        self.tool
            .stderr
            .take()
            .unwrap()
            .read_to_end(&mut said[1])
            .unwrap();
        let [stdout, stderr] = said;
        Ended::of(Output {
            status: self.tool.wait().unwrap(),
            stdout,
            stderr,
        })
    }
}

/// A test that fails leaves no guest behind.
impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.tool.kill();
        let _ = self.tool.wait();
    }
}

pub fn feed(command: &mut Command, document: &Value) -> Child {
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(document.to_string().as_bytes())
        .unwrap();
    child
}

pub fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Mounts of this test are its own, and end with its thread.
pub fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    succeed("mount", &["--make-rprivate", "/"]);
}

pub fn ruleset() -> String {
    succeed("nft", &["-n", "list", "ruleset"])
}
