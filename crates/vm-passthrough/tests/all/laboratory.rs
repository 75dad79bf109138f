//! Real guests: QEMU boots a disk of one sector, whose few instructions do what each test needs.
//!
//! Every test works in a network namespace of its own, which lasts as long as the test's thread: the machine's firewall is not
//! touched. They need root, for QEMU becomes another user; and QEMU, nft, qemu-img, setpriv, ip, ss, losetup, chattr and mount.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, geteuid, mkfifo};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The user that QEMU runs as, and another; neither needs to exist.
const QEMU_USER: &str = "64055";
const OTHER_USER: &str = "64056";

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
const UP: &str = "guest is up\n";

/// What a guest does once it is up.
mod then {
    /// Writes its boot sector to sector 1 and shuts down.
    pub const WRITE_AND_SHUT_DOWN: &[&[u8]] = &[WRITE, SHUT_DOWN];
    /// Waits for the power button and shuts down.
    pub const WAIT_FOR_THE_BUTTON: &[&[u8]] = &[WAIT, SHUT_DOWN];
    /// Waits until somebody has written to sector 1 and shuts down.
    pub const WAIT_FOR_SECTOR_1: &[&[u8]] = &[READ_UNTIL_WRITTEN, SHUT_DOWN];
    /// Starts again and again.
    pub const REBOOT: &[&[u8]] = &[&[0xb0, 0xfe, 0xe6, 0x64, 0xf4]]; // mov al, 0xfe; out 0x64, al; hlt
    /// Does not listen to anybody.
    pub const STAND_STILL: &[&[u8]] = &[&[0xfa, 0xf4, 0xeb, 0xfd]]; // cli; again: hlt; jmp again
    /// Goes to sleep.
    pub const SLEEP: &[&[u8]] = &[&[
        0xba, 0x04, 0x06, // mov dx, 0x604: ACPI's power control
        0xb8, 0x00, 0x24, // mov ax, 0x2400: S3
        0xef, 0xfb, 0xf4, // out dx, ax; sti; hlt
    ]];
    /// Waits for the power button, and sleeps at the first, of which it makes a note; at the second it shuts down.
    pub const SLEEP_AT_THE_BUTTON: &[&[u8]] = &[WAIT, UNLESS_NOTED, NOTE_AND_SLEEP, SHUT_DOWN];
    const UNLESS_NOTED: &[u8] = &[
        0xb0, 0x60, 0xe6, 0x70, 0xe4, 0x71, // mov al, 0x60; out 0x70, al; in al, 0x71: the memory of the clock
        0x3c, 0x5a, 0x74, 0x0c, // cmp al, 0x5a; jz behind the next 12
    ];
    const NOTE_AND_SLEEP: &[u8] = &[
        0xb0, 0x5a, 0xe6, 0x71, // mov al, 0x5a; out 0x71, al
        0xba, 0x04, 0x06, 0xb8, 0x00, 0x24, 0xef, 0xf4, // mov dx, 0x604; mov ax, 0x2400; out dx, ax; hlt
    ];
    /// Waits for the power button, takes the first press for nothing, and shuts down at the second.
    pub const MISS_THE_BUTTON: &[&[u8]] = &[WAIT, FORGET, WAIT, SHUT_DOWN];
    const FORGET: &[u8] = &[0xb8, 0x00, 0x01, 0xef]; // mov ax, 0x100; out dx, ax
    /// Hibernates.
    pub const HIBERNATE: &[&[u8]] = &[&[0xba, 0x04, 0x06, 0xb8, 0x00, 0x28, 0xef, 0xf4]]; // S4, as S3 above
    /// Tells by 0 or 1 whether QEMU offers it S3, and S4, and shuts down.
    pub const TELL_OF_SLEEP: &[&[u8]] = &[TELL, SHUT_DOWN];
    const TELL: &[u8] = &[
        0x1e, 0x07, // push ds; pop es
        0xba, 0x10, 0x05, 0xb8, 0x19, 0x00, 0xef, // mov dx, 0x510; mov ax, 0x19; out dx, ax: the directory of QEMU's files
        0x42, 0xb9, 0x04, 0x00, 0xec, 0xe2, 0xfd, // inc dx; mov cx, 4; again: in al, dx; loop again: past their number
        0xb9, 0x04, 0x00, 0xec, 0xe2, 0xfd, // entry: the same: past its size
        0xec, 0x88, 0xc7, 0xec, 0x88, 0xc3, // in al, dx; mov bh, al; in al, dx; mov bl, al: its key
        0xec, 0xec, // in al, dx; in al, dx
        0xbf, 0x00, 0x80, 0xb9, 0x38, 0x00, 0xf3, 0x6c, // mov di, 0x8000; mov cx, 56; rep insb: its name
        0xbe, 0x40, 0x7d, 0xbf, 0x00, 0x80, 0xb9, 0x12, 0x00, // mov si, 0x7d40; mov di, 0x8000; mov cx, 18
        0xf3, 0xa6, 0x75, 0xdd, // repe cmpsb; jne entry
        0x4a, 0x89, 0xd8, 0xef, 0x42, // dec dx; mov ax, bx; out dx, ax; inc dx
        0xec, 0xec, 0xec, 0xec, 0x88, 0xc4, 0xec, 0x88, 0xc3, // S0 to S2; S3 to ah, S4 to bl: bit 7 says that it is there
        0xba, 0xf8, 0x03, // mov dx, 0x3f8: the first serial port
        0x88, 0xe0, 0xc0, 0xe8, 0x07, 0x04, 0x30, 0xee, // mov al, ah; shr al, 7; add al, '0'; out dx, al
        0x88, 0xd8, 0xc0, 0xe8, 0x07, 0x04, 0x30, 0xee, // mov al, bl; the same
        0xb0, 0x0a, 0xee, // mov al, 10; out dx, al
    ];
    /// Shuts down.
    pub const SHUT_DOWN: &[u8] = &[
        0xba, 0x04, 0x06, // mov dx, 0x604: ACPI's power control
        0xb8, 0x00, 0x20, // mov ax, 0x2000: soft off
        0xef, 0xf4, // out dx, ax; hlt
    ];
    const WRITE: &[u8] = &[
        0xbe, 0x20, 0x7d, // mov si, 0x7d20: the packet
        0xb8, 0x00, 0x43, // mov ax, 0x4300: extended write
        0xcd, 0x13, // int 0x13
    ];
    const READ_UNTIL_WRITTEN: &[u8] = &[
        0xbe, 0x30, 0x7d, // again: mov si, 0x7d30: the packet
        0xb8, 0x00, 0x42, // mov ax, 0x4200: extended read
        0xcd, 0x13, // int 0x13
        0x80, 0x3e, 0x00, 0x7e, 0x00, // cmp byte [0x7e00], 0
        0x74, 0xf1, // jz again
    ];
    const WAIT: &[u8] = &[
        0xfa, // cli
        0xba, 0x00, 0x06, // mov dx, 0x600
        0xed, 0xf6, 0xc4, 0x01, 0x74, 0xfa, // again: in ax, dx; test ah, 1; jz again
    ];
}

/// A disk of one sector, which the BIOS loads at 0x7c00 and runs.
fn boot_sector(then: &[&[u8]]) -> Vec<u8> {
    let say = [
        0x31, 0xc0, 0x8e, 0xd8, 0x52, // xor ax, ax; mov ds, ax; push dx: the drive's number
        0xba, 0x02, 0x06, 0xb8, 0x00, 0x01,
        0xef, // mov dx, 0x602; mov ax, 0x100; out dx, ax: the button is felt from now on
        0xbe, 0x00, 0x7d, // mov si, 0x7d00: the message
        0xba, 0xf8, 0x03, // mov dx, 0x3f8: the first serial port
        0xac, 0x84, 0xc0, 0x74, 0x03, // again: lodsb; test al, al; jz done
        0xee, 0xeb, 0xf8, // out dx, al; jmp again
        0x5a, // done: pop dx
    ];
    let mut code = say.to_vec();
    code.extend(then.concat());
    let mut sector = vec![0; 512];
    sector[..code.len()].copy_from_slice(&code);
    sector[0x100..][..UP.len()].copy_from_slice(UP.as_bytes());
    // The packet: 16 bytes, 1 sector, from 0000:7c00, to sector 1.
    sector[0x120..][..16].copy_from_slice(&[16, 0, 1, 0, 0x00, 0x7c, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // The same to 0000:7e00, for reading.
    sector[0x130..][..16].copy_from_slice(&[16, 0, 1, 0, 0x00, 0x7e, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    sector[0x140..][..18].copy_from_slice(b"etc/system-states\0");
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// A machine in a directory that only root can enter, and its own network.
struct Machine {
    root: TempDir,
    settings: String,
    document: Value,
}

impl Machine {
    /// One whose disk is an overlay of a base that boots and does `then`.
    fn new(then: &[&[u8]]) -> Machine {
        assert!(geteuid().is_root(), "these tests start QEMU as another user in a network namespace: run them as root");
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        succeed("ip", &["link", "set", "lo", "up"]);

        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("etc/labtools")).unwrap();
        fs::write(path("etc/labtools/profiles.ini"), "[profile.linux]\nmemory=64M\ncores=1\n").unwrap();
        mkfifo(&path("console"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        fs::write(path("boot.raw"), boot_sector(then)).unwrap();
        let [boot, base, overlay] = ["boot.raw", "base.qcow2", "overlay.qcow2"].map(|name| path(name).display().to_string());
        succeed("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &boot, &base]);
        succeed("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &base, &overlay, "1M"]);
        let document = json!({"volume": {"path": "/overlay.qcow2", "format": "qcow2", "ostype": "linux",
            "backing_path": "/base.qcow2", "backing_format": "qcow2"}});
        Machine { root, settings: format!("user={QEMU_USER}\nconsole=/console\n"), document }
    }

    /// One where `then` does not matter, for what goes wrong before.
    fn any() -> Machine {
        Machine::new(&[then::SHUT_DOWN])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, verb: &str) -> Command {
        self.write("etc/labtools/vm-passthrough.ini", &format!("[qemu]\n{}", self.settings));
        let mut command = Command::new(env!("CARGO_BIN_EXE_vm-passthrough"));
        command.arg(verb).arg("--root").arg(self.root.path());
        command
    }

    /// Starts a guest.
    fn start(&self) -> Session {
        self.start_by(self.command("run"))
    }

    /// Starts a guest by a command of the test's own.
    fn start_by(&self, mut command: Command) -> Session {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let console = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(self.path("console")).unwrap();
        Session { tool: feed(&mut command, &self.document), console, heard: String::new() }
    }

    /// Runs the tool to its end.
    fn run(&self) -> Ended {
        self.start().end()
    }

    /// Nothing of a run is left: no rule, no lock.
    fn is_as_before(&self) {
        assert_eq!(ruleset(), "");
        assert!(self.can_lock());
    }

    fn can_lock(&self) -> bool {
        let file = File::create(self.path("run/labtools/guest.lock")).unwrap();
        Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
    }

    /// Puts the disk on a file system that has no room left, for this test alone; removing `filler` makes room.
    fn fill_the_disk(&mut self) {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        succeed("mount", &["--make-rprivate", "/"]);
        fs::create_dir(self.path("full")).unwrap();
        succeed("mount", &["-t", "tmpfs", "-o", "size=1M,mode=700", "tmpfs", self.path("full").to_str().unwrap()]);
        fs::copy(self.path("overlay.qcow2"), self.path("full/overlay.qcow2")).unwrap();
        let mut filler = File::create(self.path("full/filler")).unwrap();
        let error = std::iter::repeat_with(|| filler.write_all(&[1; 4096])).find_map(Result::err).unwrap();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        self.document["volume"]["path"] = "/full/overlay.qcow2".into();
    }

    /// A program in QEMU's place, for faults that the real one cannot be made to show.
    fn fake_qemu(&mut self, script: &str) {
        // QEMU's user must be able to reach it, which it cannot in our directory's stead.
        fs::set_permissions(self.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        self.write("qemu", &format!("#!/bin/bash\n{script}\n"));
        fs::set_permissions(self.path("qemu"), fs::Permissions::from_mode(0o755)).unwrap();
        self.settings += &format!("binary={}\n", self.path("qemu").display());
    }
}

/// A tool that runs a guest.
struct Session {
    tool: Child,
    console: File,
    heard: String,
}

/// How the tool ended.
struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Session {
    /// Waits until the guest has said that it is up for the `times`th time.
    fn is_up(&mut self, times: usize) {
        while self.heard.matches(UP).count() < times {
            assert!(self.listen(), "the guest ended before it was up: {:?}", self.heard);
        }
    }

    /// Waits until QEMU, which alone holds the other end of the console, is gone.
    fn qemu_is_gone(&mut self) {
        while self.listen() {}
    }

    /// Takes what the guest says; false when there is nobody left to say anything.
    fn listen(&mut self) -> bool {
        let mut fds = [PollFd::new(self.console.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::from(u16::MAX); // a minute: only a test that has failed already waits for it
        assert_ne!(poll(&mut fds, patience).unwrap(), 0, "the guest says nothing more: {:?}", self.heard);
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
    fn qemu(&self) -> Pid {
        let parent = format!("PPid:\t{}", self.tool.id());
        let is_child = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains(&parent));
        let processes =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
        let mut children = processes.filter(is_child);
        let child = Pid::from_raw(children.next().expect("a QEMU"));
        assert_eq!(children.next(), None, "one QEMU");
        child
    }

    /// Waits until the tool has said one line more.
    fn complaint(&mut self) -> String {
        let stderr = self.tool.stderr.as_mut().unwrap();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
            assert_ne!(poll(&mut fds, PollTimeout::from(u16::MAX)).unwrap(), 0, "the tool says nothing");
            let mut byte = [0];
            stderr.read_exact(&mut byte).expect("the tool ended without a word");
            line.extend(byte);
        }
        String::from_utf8(line).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.tool.id() as i32), signal).unwrap();
    }

    fn end(mut self) -> Ended {
        let mut said = [String::new(), String::new()];
        self.tool.stdout.take().unwrap().read_to_string(&mut said[0]).unwrap();
        self.tool.stderr.take().unwrap().read_to_string(&mut said[1]).unwrap();
        let [stdout, stderr] = said;
        Ended { status: self.tool.wait().unwrap(), stdout, stderr }
    }
}

/// A test that fails leaves no guest behind.
impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.tool.kill();
        let _ = self.tool.wait();
    }
}

impl Ended {
    fn guest(&self) -> Value {
        let document: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{}{}", self.stdout, self.stderr));
        document["guest"].clone()
    }

    /// It ended with `status`, printed nothing, and its one line of complaint begins like this.
    #[track_caller]
    fn refused(&self, status: i32, complaint: &str) {
        assert_eq!((self.status.code(), self.stdout.as_str()), (Some(status), ""), "{}", self.stderr);
        assert!(self.stderr.starts_with(&format!("vm-passthrough: {complaint}")), "{}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
    }
}

fn feed(command: &mut Command, document: &Value) -> Child {
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    child
}

fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ruleset() -> String {
    succeed("nft", &["-n", "list", "ruleset"])
}

/// Whether a user's packet to the loopback leaves, and the listener there gets it and nothing else.
fn reaches_loopback(user: &str, address: &str) -> bool {
    let listener = UdpSocket::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let send = format!("echo {user} > /dev/udp/{address}/{port}");
    let sender = Command::new("setpriv")
        .args(["--reuid", user, "--regid", user, "--clear-groups", "bash", "-c", &send])
        .output()
        .expect("setpriv");
    listener.set_nonblocking(true).unwrap();
    let mut packet = [0; 16];
    // On the loopback a packet that was sent has arrived.
    let arrived = listener.recv(&mut packet).is_ok_and(|size| packet[..size] == *format!("{user}\n").as_bytes());
    assert_eq!(sender.status.success(), arrived, "{}", String::from_utf8_lossy(&sender.stderr));
    arrived
}

#[test]
fn a_guest_boots_writes_to_its_own_disk_and_shuts_down() {
    let machine = Machine::new(then::WRITE_AND_SHUT_DOWN);
    let base = fs::read(machine.path("base.qcow2")).unwrap();
    let ended = machine.run();

    let guest = ended.guest();
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""));
    assert_eq!((&guest["changed"], &guest["ended"], &guest["handed_back"]), (&json!(true), &json!("shutdown"), &json!(true)));
    assert_eq!((&guest["accel"], guest.get("ended_reason")), (&json!("tcg"), None));
    assert!(guest["started_at"].as_str().unwrap() <= guest["ended_at"].as_str().unwrap());

    assert_eq!(fs::read(machine.path("base.qcow2")).unwrap(), base);
    let [overlay, raw] = ["overlay.qcow2", "after.raw"].map(|name| machine.path(name).display().to_string());
    succeed("qemu-img", &["check", "-q", &overlay]);
    succeed("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", &overlay, &raw]);
    let after = fs::read(raw).unwrap();
    assert_eq!(after[512..1024], boot_sector(then::WRITE_AND_SHUT_DOWN));
    machine.is_as_before();
}

#[test]
fn the_base_is_the_documents_whatever_the_disk_says() {
    let machine = Machine::any();
    let overlay = machine.path("overlay.qcow2").display().to_string();
    succeed("qemu-img", &["rebase", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/nonexistent", &overlay]);
    assert_eq!(machine.run().guest()["ended"], "shutdown");
}

#[test]
fn raw_disks_are_files_or_block_devices() {
    let mut machine = Machine::new(then::WRITE_AND_SHUT_DOWN);
    let raw = machine.path("boot.raw");
    File::options().write(true).open(&raw).unwrap().set_len(1 << 20).unwrap();
    machine.document = json!({"volume": {"path": "/boot.raw", "format": "raw", "ostype": "linux"}});
    assert_eq!(machine.run().guest()["ended"], "shutdown");
    let written = fs::read(&raw).unwrap();
    assert_eq!(written[512..1024], written[..512]);

    fs::write(&raw, boot_sector(then::WRITE_AND_SHUT_DOWN)).unwrap();
    File::options().write(true).open(&raw).unwrap().set_len(1 << 20).unwrap();
    let device = succeed("losetup", &["--find", "--show", raw.to_str().unwrap()]).trim().to_owned();
    fs::create_dir(machine.path("dev")).unwrap();
    symlink(&device, machine.path("dev/disk")).unwrap();
    machine.document = json!({"volume": {"path": "/dev/disk", "format": "raw", "ostype": "linux"}});
    let ended = machine.run();
    succeed("losetup", &["--detach", &device]);
    assert_eq!(ended.guest()["ended"], "shutdown");
    let written = fs::read(&raw).unwrap();
    assert_eq!(written[512..1024], written[..512]);

    machine.document = json!({"volume": {"path": "/dev/file", "format": "raw", "ostype": "linux"}});
    machine.write("dev/file", "");
    machine.run().refused(65, &format!("opening {}: not a block device", machine.path("dev/file").display()));
}

#[test]
fn qemu_is_confined_while_the_guest_runs() {
    let machine = Machine::new(then::WAIT_FOR_THE_BUTTON);
    assert!(reaches_loopback(QEMU_USER, "127.0.0.1") && reaches_loopback(QEMU_USER, "::1"));

    // Started as careless scripts do, with a descriptor left open, and with a right of root for whoever follows, another user included.
    machine.write("left-open", "");
    let mut careless = Command::new("setpriv");
    careless.args(["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override", "--securebits", "+no_setuid_fixup"]);
    careless.args(["bash", "-c", "exec 9<>\"$1\"; shift; exec \"$@\"", "bash"]).arg(machine.path("left-open"));
    let command = machine.command("run");
    careless.arg(command.get_program()).args(command.get_args());
    let mut session = machine.start_by(careless);
    session.is_up(1);

    let qemu = session.qemu();
    let status = fs::read_to_string(format!("/proc/{qemu}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for name in ["Uid", "Gid"] {
        assert_eq!(field(name), [QEMU_USER; 4].join(" "));
    }
    assert_eq!(field("Groups"), "");
    for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(name), "0".repeat(16), "{name}");
    }
    assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".into(), "2".into()));
    let limits = fs::read_to_string(format!("/proc/{qemu}/limits")).unwrap();
    let core: Vec<&str> = limits.lines().find(|line| line.starts_with("Max core")).unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"]);
    assert!(fs::read(format!("/proc/{qemu}/environ")).unwrap().is_empty());

    // It can use what it was handed, and none of it by its path.
    let open: Vec<PathBuf> = fs::read_dir(format!("/proc/{qemu}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter(|path| path.starts_with(machine.root.path()))
        .collect();
    for name in ["overlay.qcow2", "base.qcow2", "console"] {
        assert!(open.contains(&machine.path(name)), "{name}: {open:?}");
        let test = ["--reuid", QEMU_USER, "--regid", QEMU_USER, "--clear-groups", "test", "-r"];
        assert!(!Command::new("setpriv").args(test).arg(machine.path(name)).status().unwrap().success());
    }
    let handed = |path: &PathBuf| ["overlay.qcow2", "base.qcow2", "console"].iter().any(|name| *path == machine.path(name));
    assert!(open.iter().all(handed), "{open:?}");

    // The rule stands, and it is about this user only.
    for address in ["127.0.0.1", "::1"] {
        assert!(!reaches_loopback(QEMU_USER, address));
        assert!(reaches_loopback(OTHER_USER, address));
    }

    session.signal(Signal::SIGTERM);
    session.end();
    assert!(reaches_loopback(QEMU_USER, "127.0.0.1") && reaches_loopback(QEMU_USER, "::1"));
}

#[test]
fn a_guest_that_reboots_goes_on() {
    let mut machine = Machine::new(then::REBOOT);
    machine.settings += "shutdown_seconds=0\n";
    let mut session = machine.start();
    session.is_up(3);
    session.signal(Signal::SIGINT);
    let ended = session.end();
    assert_eq!((ended.status.signal(), &ended.guest()["ended"]), (Some(Signal::SIGINT as i32), &json!("stopped")));
    machine.is_as_before();
}

#[test]
fn a_signal_shuts_the_guest_down_and_then_ends_the_tool() {
    let mut machine = Machine::new(then::WAIT_FOR_THE_BUTTON);
    machine.settings += "shutdown_seconds=4294967295\n";
    let mut session = machine.start();
    session.is_up(1);
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    let guest = ended.guest();
    assert_eq!((ended.status.signal(), ended.stderr.as_str()), (Some(Signal::SIGTERM as i32), ""));
    assert_eq!((&guest["ended"], guest.get("ended_reason"), &guest["handed_back"]), (&json!("stopped"), None, &json!(true)));
    machine.is_as_before();
}

#[test]
fn a_guest_that_does_not_listen_is_switched_off() {
    let mut machine = Machine::new(then::STAND_STILL);
    machine.settings += "shutdown_seconds=0\n";
    let mut session = machine.start();
    session.is_up(1);
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    let guest = ended.guest();
    assert_eq!(ended.status.signal(), Some(Signal::SIGTERM as i32));
    assert_eq!((&guest["ended"], &guest["ended_reason"]), (&json!("stopped"), &json!("it did not shut down within 0 s")));
    machine.is_as_before();
}

#[test]
fn a_qemu_that_hangs_is_killed() {
    let mut machine = Machine::new(then::STAND_STILL);
    machine.settings += "shutdown_seconds=0\n";
    let mut session = machine.start();
    session.is_up(1);
    kill(session.qemu(), Signal::SIGSTOP).unwrap();
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    let guest = ended.guest();
    assert_eq!(ended.status.signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(
        (&guest["ended"], &guest["ended_reason"]),
        (&json!("stopped"), &json!("QEMU did not quit within 10 s and was killed"))
    );
    machine.is_as_before();
}

#[test]
fn a_qemu_that_is_killed_is_a_guest_that_died() {
    let machine = Machine::new(then::STAND_STILL);
    let mut session = machine.start();
    session.is_up(1);
    kill(session.qemu(), Signal::SIGKILL).unwrap();
    let ended = session.end();
    let guest = ended.guest();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!((&guest["ended"], &guest["handed_back"]), (&json!("died"), &json!(true)));
    assert_eq!(guest["ended_reason"], "QEMU ended: signal: 9 (SIGKILL): it said nothing");
    machine.is_as_before();
}

#[test]
fn a_qemu_that_dies_while_the_guest_shuts_down_is_said() {
    let machine = Machine::new(then::STAND_STILL);
    let mut session = machine.start();
    session.is_up(1);
    let qemu = session.qemu();
    session.signal(Signal::SIGTERM);
    kill(qemu, Signal::SIGKILL).unwrap();
    let ended = session.end();
    let guest = ended.guest();
    assert_eq!((ended.status.signal(), &guest["ended"]), (Some(Signal::SIGTERM as i32), &json!("stopped")));
    assert_eq!(guest["ended_reason"], "QEMU ended: signal: 9 (SIGKILL): it said nothing");
    machine.is_as_before();
}

#[test]
fn a_qemu_that_somebody_else_stops_is_a_guest_that_died() {
    let machine = Machine::new(then::STAND_STILL);
    let mut session = machine.start();
    session.is_up(1);
    kill(session.qemu(), Signal::SIGTERM).unwrap();
    let ended = session.end();
    let guest = ended.guest();
    assert_eq!((ended.status.code(), &guest["ended"]), (Some(1), &json!("died")));
    let reason = guest["ended_reason"].as_str().unwrap();
    assert!(reason.starts_with("QEMU ended: host-signal: exit status: 0: "), "{reason}");
    machine.is_as_before();
}

#[test]
fn a_guest_is_told_that_it_cannot_sleep() {
    let machine = Machine::new(then::TELL_OF_SLEEP);
    let mut session = machine.start();
    session.qemu_is_gone();
    assert_eq!(session.heard, [UP, "00\n"].concat());
    assert_eq!(session.end().guest()["ended"], "shutdown");
}

const SLEEPS: &str = "vm-passthrough: the guest went to sleep and was woken, because the user cannot; switch sleep off in it\n";

#[test]
fn a_guest_that_sleeps_all_the_same_is_woken() {
    let mut machine = Machine::new(then::SLEEP);
    machine.settings += "shutdown_seconds=0\n";
    let mut session = machine.start();
    session.is_up(3); // this one knows no way to wake up but to boot
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    assert_eq!((ended.stderr.as_str(), &ended.guest()["ended"]), (SLEEPS, &json!("stopped")));
    machine.is_as_before();
}

#[test]
fn a_guest_that_sleeps_at_the_power_button_is_woken_and_shuts_down() {
    let mut machine = Machine::new(then::SLEEP_AT_THE_BUTTON);
    machine.settings += "shutdown_seconds=30\n";
    let mut session = machine.start();
    session.is_up(1);
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    let guest = ended.guest();
    assert_eq!((ended.status.signal(), ended.stderr.as_str()), (Some(Signal::SIGTERM as i32), SLEEPS));
    assert_eq!((&guest["ended"], guest.get("ended_reason")), (&json!("stopped"), None));
    machine.is_as_before();
}

#[test]
fn a_guest_that_misses_the_power_button_is_asked_again() {
    let mut machine = Machine::new(then::MISS_THE_BUTTON);
    machine.settings += "shutdown_seconds=30\n";
    let mut session = machine.start();
    session.is_up(1);
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    let guest = ended.guest();
    assert_eq!((ended.stderr.as_str(), &guest["ended"], guest.get("ended_reason")), ("", &json!("stopped"), None));
    machine.is_as_before();
}

#[test]
fn a_guest_that_hibernates_all_the_same_ends_and_that_is_said() {
    let machine = Machine::new(then::HIBERNATE);
    let ended = machine.run();
    assert_eq!((ended.status.code(), &ended.guest()["ended"]), (Some(0), &json!("shutdown")));
    let said = "the guest went into hibernation, and its next start goes on there; switch hibernation off in it";
    assert_eq!(ended.stderr, format!("vm-passthrough: {said}\n"));
    machine.is_as_before();
}

/// What a fake QEMU does: says QMP, hears commands in the order that is expected, and plays the start.
const FAKE_QMP: &str = concat!(
    "for word; do case $word in socket,id=monitor,fd=*) monitor=${word##*=} ;; esac; done\n",
    "say() { printf '%s\\r\\n' \"$1\" >&\"$monitor\"; }\n",
    "hear() { read -r line <&\"$monitor\"; [ \"$line\" = '{\"execute\":\"'\"$1\"'\"}' ] || exit 9; say '{\"return\": {'\"$2\"'}}'; }\n",
    "fail() { say '{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"action\": \"'\"$1\"'\"}}'; }\n",
    "end() { say '{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": '\"$1\"', \"reason\": \"'\"$2\"'\"}}'; exit; }\n",
    "say '{\"QMP\": {}}'; hear qmp_capabilities; hear query-status; hear cont\n",
);

#[test]
fn a_guest_that_stands_still_for_good_is_switched_off_and_named() {
    // A fake: nothing makes the real one stop a guest for good but the faults of a processor or of a device that was handed over.
    for status in ["internal-error", "guest-panicked", "paused"] {
        let mut machine = Machine::any();
        machine.fake_qemu(&format!(
            "{FAKE_QMP}say '{{\"event\": \"STOP\"}}'; hear query-status '\"status\": \"{status}\"'; hear quit; end false host-qmp-quit"
        ));
        let ended = machine.run();
        let guest = ended.guest();
        assert_eq!(ended.stderr, format!("vm-passthrough: the guest stands still for good ({status}) and is switched off\n"));
        assert_eq!((ended.status.code(), &guest["ended"]), (Some(1), &json!("died")));
        let reason = format!("QEMU ended: the guest stood still for good ({status}): exit status: 0: it said nothing");
        assert_eq!(guest["ended_reason"], reason);
        machine.is_as_before();
    }
}

#[test]
fn a_guest_whose_system_crashed_died() {
    // A fake: the guest would need a device that tells of it, or Windows on KVM.
    let mut machine = Machine::any();
    machine.fake_qemu(&format!(
        "{FAKE_QMP}say '{{\"event\": \"GUEST_PANICKED\", \"data\": {{\"action\": \"poweroff\"}}}}'; end true guest-panic"
    ));
    let ended = machine.run();
    let guest = ended.guest();
    assert_eq!(ended.stderr, "vm-passthrough: the guest's system crashed\n");
    assert_eq!((ended.status.code(), &guest["ended"]), (Some(1), &json!("died")));
    assert_eq!(guest["ended_reason"], "QEMU ended: guest-panic: exit status: 0: it said nothing");
    machine.is_as_before();
}

#[test]
fn a_disk_without_room_is_known_by_the_status_where_qemu_did_not_tell_of_it() {
    // A fake: QEMU 10 keeps an event back for a second after another like it, which it has to be made to show.
    let mut machine = Machine::any();
    machine.fake_qemu(&format!(
        "{FAKE_QMP}fail report; say '{{\"event\": \"STOP\"}}'; hear query-status '\"status\": \"io-error\"'; hear cont; end true guest-shutdown"
    ));
    let ended = machine.run();
    assert_eq!((ended.status.code(), &ended.guest()["ended"]), (Some(0), &json!("shutdown")));
    assert_eq!(ended.stderr, [DISK_FAILED, STANDS_STILL, GOES_ON].concat());
    machine.is_as_before();
}

const DISK_FAILED: &str =
    "vm-passthrough: the guest's disk could not be read or written, and the guest received the error; see the kernel's log\n";
const GOES_ON: &str = "vm-passthrough: the guest goes on\n";
const STANDS_STILL: &str =
    "vm-passthrough: the guest stands still: no space left for its disk; it goes on by itself when there is room\n";

#[test]
fn a_guest_whose_disk_has_no_room_waits_and_goes_on() {
    let mut machine = Machine::new(then::WRITE_AND_SHUT_DOWN);
    machine.fill_the_disk();
    let mut session = machine.start();
    assert_eq!(session.complaint(), STANDS_STILL);
    fs::remove_file(machine.path("full/filler")).unwrap();
    let ended = session.end();
    assert_eq!((ended.status.code(), &ended.guest()["ended"]), (Some(0), &json!("shutdown")));
    assert_eq!(ended.stderr, GOES_ON, "it is said of one that ends soon, too");

    let [overlay, raw] = ["full/overlay.qcow2", "after.raw"].map(|name| machine.path(name).display().to_string());
    succeed("qemu-img", &["check", "-q", &overlay]);
    succeed("qemu-img", &["rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "../base.qcow2", &overlay]);
    succeed("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", &overlay, &raw]);
    assert_eq!(fs::read(raw).unwrap()[512..1024], boot_sector(then::WRITE_AND_SHUT_DOWN));
    succeed("umount", &[machine.path("full").to_str().unwrap()]);
    machine.is_as_before();
}

#[test]
fn a_guest_whose_disk_has_no_room_can_be_stopped() {
    let mut machine = Machine::new(then::WRITE_AND_SHUT_DOWN);
    machine.settings += "shutdown_seconds=1\n";
    machine.fill_the_disk();
    let mut session = machine.start();
    assert_eq!(session.complaint(), STANDS_STILL);
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    let guest = ended.guest();
    assert_eq!((ended.status.signal(), &guest["ended"]), (Some(Signal::SIGTERM as i32), &json!("stopped")));
    let reason = "it did not shut down within 1 s: it stood still: no space was left for its disk";
    assert_eq!((&guest["ended_reason"], &guest["handed_back"]), (&json!(reason), &json!(true)));
    succeed("umount", &[machine.path("full").to_str().unwrap()]);
    machine.is_as_before();
}

#[test]
fn of_a_disk_that_fails_again_and_again_one_line_is_said() {
    let mut machine = Machine::any();
    // A fake, for it is to fail so often and no more.
    machine.fake_qemu(&format!(
        "{FAKE_QMP}{}",
        concat!(
            "fail report; fail report; fail stop; fail stop; hear cont; fail stop; hear cont\n",
            // Longer than until the next attempt, which does not come: the guest goes on.
            "read -rt 4 <&\"$monitor\" && exit 9; fail stop; hear cont; end true guest-shutdown\n",
        )
    ));
    let ended = machine.run();
    assert_eq!((ended.status.code(), &ended.guest()["ended"]), (Some(0), &json!("shutdown")), "{}", ended.guest());
    assert_eq!(ended.stderr, [DISK_FAILED, STANDS_STILL, GOES_ON, STANDS_STILL, GOES_ON].concat());
    machine.is_as_before();
}

#[test]
fn a_killed_tool_takes_its_guest_along_and_the_next_one_clears_up() {
    let machine = Machine::new(then::STAND_STILL);
    let mut session = machine.start();
    session.is_up(1);
    session.signal(Signal::SIGKILL);
    session.qemu_is_gone();
    assert_eq!(session.end().status.signal(), Some(Signal::SIGKILL as i32));
    assert_ne!(ruleset(), "");
    assert!(machine.can_lock());

    let mut session = machine.start();
    session.is_up(1);
    assert_eq!(ruleset().matches("drop").count(), 1);
    kill(session.qemu(), Signal::SIGKILL).unwrap();
    session.end();
    machine.is_as_before();
}

#[test]
fn a_rule_that_somebody_took_away_is_noticed_at_the_end() {
    let mut machine = Machine::new(then::WAIT_FOR_SECTOR_1);
    let raw = File::options().write(true).open(machine.path("boot.raw")).unwrap();
    raw.set_len(1 << 20).unwrap();
    machine.document = json!({"volume": {"path": "/boot.raw", "format": "raw", "ostype": "linux"}});
    let mut session = machine.start();
    session.is_up(1);
    succeed("nft", &["flush", "ruleset"]);
    raw.write_all_at(b"go", 512).unwrap();
    let ended = session.end();
    let guest = ended.guest();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!((&guest["ended"], &guest["handed_back"]), (&json!("shutdown"), &json!(false)));
    assert!(ended.stderr.starts_with("vm-passthrough: removing the firewall rule for QEMU's user: nft "), "{}", ended.stderr);
    machine.is_as_before();
}

#[test]
fn one_guest_at_a_time() {
    let machine = Machine::new(then::WAIT_FOR_THE_BUTTON);
    let mut session = machine.start();
    session.is_up(1);
    let second = machine.run();
    let lock = machine.path("run/labtools/guest.lock");
    second.refused(75, &format!("locking {}: another guest runs, or old volumes are being removed; try again", lock.display()));
    // The first does not notice.
    assert_ne!(ruleset(), "");
    session.signal(Signal::SIGTERM);
    assert_eq!(session.end().guest()["ended"], "stopped");
    machine.is_as_before();
}

#[test]
fn a_signal_before_the_guest_is_ready_leaves_nothing() {
    let mut machine = Machine::any();
    // A fake: the real QEMU is ready too soon to be interrupted for certain.
    machine.fake_qemu(concat!(
        "for word; do case $word in fd=*,set=3,*) word=${word%%,*}; console=${word#fd=} ;; esac; done\n",
        "echo 'guest is up' >&\"$console\"\n",
        "exec sleep 600",
    ));
    let mut session = machine.start();
    session.is_up(1);
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    assert_eq!((ended.status.signal(), ended.stdout.as_str()), (Some(Signal::SIGTERM as i32), ""));
    machine.is_as_before();
}

#[test]
fn the_remote_desktop_is_at_the_management_address_alone() {
    for (rdp, listening) in [("rdp=false", ""), ("rdp=true", "127.0.0.2:3389")] {
        let mut machine = Machine::new(then::STAND_STILL);
        machine.write("etc/labtools/profiles.ini", &format!("[profile.linux]\nmemory=64M\ncores=1\n{rdp}\n"));
        machine.settings += "management_address=127.0.0.2\nshutdown_seconds=0\n";
        let mut session = machine.start();
        session.is_up(1);
        let sockets = succeed("ss", &["--no-header", "--listening", "--tcp", "--udp", "--numeric"]);
        let addresses: Vec<&str> = sockets.lines().filter_map(|line| line.split_whitespace().nth(4)).collect();
        assert_eq!(addresses.join(" "), listening, "{rdp}");
        session.signal(Signal::SIGTERM);
        session.end();
    }
}

#[test]
fn a_missing_disk_is_66() {
    let machine = Machine::any();
    for name in ["base.qcow2", "overlay.qcow2"] {
        fs::remove_file(machine.path(name)).unwrap();
        let ended = machine.run();
        ended.refused(66, &format!("opening {}: No such file", machine.path(name).display()));
        machine.is_as_before();
    }
}

#[test]
fn an_immutable_disk_is_no_lack_of_rights() {
    let machine = Machine::any();
    let overlay = machine.path("overlay.qcow2");
    succeed("chattr", &["+i", overlay.to_str().unwrap()]);
    let ended = machine.run();
    succeed("chattr", &["-i", overlay.to_str().unwrap()]);
    ended.refused(74, &format!("opening {}: Operation not permitted", overlay.display()));
    machine.is_as_before();
}

#[test]
fn a_console_that_cannot_be_made_is_73() {
    let mut machine = Machine::any();
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    succeed("mount", &["--make-rprivate", "/"]);
    fs::create_dir(machine.path("closed")).unwrap();
    succeed("mount", &["-t", "tmpfs", "-o", "ro,mode=700", "tmpfs", machine.path("closed").to_str().unwrap()]);
    machine.settings = machine.settings.replace("=/console", "=/closed/console");
    let ended = machine.run();
    succeed("umount", &[machine.path("closed").to_str().unwrap()]);
    ended.refused(73, &format!("opening qemu.console {}: Read-only file system", machine.path("closed/console").display()));
    machine.is_as_before();
}

#[test]
fn a_link_leads_to_the_base_but_not_to_the_users_disk() {
    let machine = Machine::any();
    let put_elsewhere = |name: &str| {
        fs::rename(machine.path(name), machine.path("elsewhere").join(name)).unwrap();
        symlink(Path::new("elsewhere").join(name), machine.path(name)).unwrap();
    };
    fs::create_dir(machine.path("elsewhere")).unwrap();
    put_elsewhere("base.qcow2");
    assert_eq!(machine.run().guest()["ended"], "shutdown");

    put_elsewhere("overlay.qcow2");
    let overlay = machine.path("overlay.qcow2");
    machine.run().refused(65, &format!("opening {}: a symbolic link, which is not followed", overlay.display()));
    machine.is_as_before();
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let machine = Machine::any();
    for name in ["base.qcow2", "overlay.qcow2"] {
        fs::remove_file(machine.path(name)).unwrap();
        mkfifo(&machine.path(name), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        machine.run().refused(65, &format!("opening {}: not a regular file", machine.path(name).display()));
    }
}

#[test]
fn a_broken_disk_is_what_qemu_says() {
    let machine = Machine::any();
    machine.write("overlay.qcow2", "no qcow2");
    let ended = machine.run();
    ended.refused(69, "QEMU ended before it was ready: exit status: 1: ");
    assert!(ended.stderr.contains("Image is not in qcow2 format"), "{}", ended.stderr);
    machine.is_as_before();
}

#[test]
fn no_qemu_is_69() {
    let mut machine = Machine::any();
    machine.settings += "binary=/nonexistent/qemu\n";
    machine.run().refused(69, "starting /nonexistent/qemu: No such file or directory");
    machine.is_as_before();
}

#[test]
fn a_qemu_that_dies_after_its_greeting_is_69() {
    let mut machine = Machine::any();
    machine.fake_qemu(concat!(
        "for word; do case $word in socket,id=monitor,fd=*) monitor=${word##*=} ;; esac; done\n",
        "printf '{\"QMP\": {}}\\r\\n' >&\"$monitor\"\n",
        "echo 'cannot set up guest memory' >&2\n",
        "exit 3",
    ));
    machine.run().refused(69, "QEMU ended before it was ready: exit status: 3: cannot set up guest memory");
    machine.is_as_before();
}

#[test]
fn no_nft_is_69_and_nothing_starts() {
    let mut machine = Machine::any();
    let mark = machine.path("marks/started");
    machine.fake_qemu(&format!("> {}; exit 3", mark.display()));
    fs::create_dir(mark.parent().unwrap()).unwrap();
    fs::set_permissions(mark.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = machine.command("run");
    command.env("PATH", "/nonexistent");
    machine.start_by(command).end().refused(69, "installing the firewall rule for QEMU's user: no program nft; install nftables");
    assert!(!mark.exists());
    machine.is_as_before();

    // That mark would have been seen.
    machine.run().refused(69, "QEMU ended before it was ready: exit status: 3: it said nothing");
    assert!(mark.exists());
}

#[test]
fn starting_a_guest_needs_root() {
    let machine = Machine::any();
    fs::set_permissions(machine.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (verb, status) in [("run", 77), ("plan", 0)] {
        let command = machine.command(verb);
        let mut unprivileged = Command::new("setpriv");
        unprivileged.args(["--reuid", OTHER_USER, "--regid", OTHER_USER, "--clear-groups"]);
        unprivileged.arg(command.get_program()).args(command.get_args());
        let ended = machine.start_by(unprivileged).end();
        assert_eq!(ended.status.code(), Some(status), "{}", ended.stderr);
    }
}

/// A machine with one device to hand over, whose driver is `driver`.
fn with_a_device(driver: &str) -> Machine {
    let machine = Machine::any();
    machine.write("etc/labtools/models.ini", "[model.Test]\ndevices=00:02.0\n");
    machine.write("sys/class/dmi/id/product_name", "Test\n");
    let device = "sys/bus/pci/devices/0000:00:02.0";
    machine.write(&format!("{device}/vendor"), "0x8086\n");
    symlink(Path::new("../../drivers").join(driver), machine.path(device).join("driver")).unwrap();
    machine
}

#[test]
fn a_device_that_was_not_prepared_is_78() {
    with_a_device("i915").run().refused(78, "PCI device 0000:00:02.0: bound to i915; bind it to vfio-pci before the session");

    let machine = with_a_device("vfio-pci");
    machine.run().refused(78, "PCI device 0000:00:02.0: in no IOMMU group; switch on VT-d");

    symlink("../../../../kernel/iommu_groups/7", machine.path("sys/bus/pci/devices/0000:00:02.0/iommu_group")).unwrap();
    let group = machine.path("dev/vfio/7");
    machine.run().refused(78, &format!("looking at {}: No such file", group.display()));

    // Where the real node would be. Its mode is all that is looked at here.
    machine.write("dev/vfio/7", "");
    fs::set_permissions(&group, fs::Permissions::from_mode(0o600)).unwrap();
    machine.run().refused(78, &format!("{}: QEMU's user cannot use it; give it to user {QEMU_USER}", group.display()));
    machine.is_as_before();
}

#[test]
fn memory_must_be_there() {
    let machine = Machine::any();
    for (meminfo, status, message) in [
        ("MemTotal: 65535 kB\n", 78, "it is to get 64M, and this machine has 63M; give the guest less"),
        ("MemTotal: 1048576 kB\nMemAvailable: 65535 kB\n", 75, "it is to get 64M, and 63M are available; end other programs"),
    ] {
        machine.write("proc/meminfo", meminfo);
        machine.run().refused(status, &format!("finding memory for the guest: {message}"));
        machine.is_as_before();
    }
    machine.write("proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 65536 kB\n");
    assert_eq!(machine.run().guest()["ended"], "shutdown");
}

#[test]
fn huge_pages_must_be_there() {
    let machine = Machine::any();
    machine.write("etc/labtools/profiles.ini", "[profile.linux]\nmemory=64M\ncores=1\nhugepages=true\n");
    let mount = machine.path("hugepages");
    fs::create_dir(&mount).unwrap();
    machine.run().refused(78, &format!("{}: not a mounted hugetlbfs; mount one there", mount.display()));
    machine.is_as_before();
}

/// What a plan says of this machine's KVM.
fn accel(machine: &Machine) -> Value {
    let guest = machine.start_by(machine.command("plan")).end().guest();
    assert_eq!(guest["argv"][2], guest["accel"]);
    assert_eq!(guest["argv"][4], if guest["accel"] == "kvm" { "host" } else { "qemu64" });
    guest["accel"].clone()
}

#[test]
fn kvm_is_used_where_a_guest_really_starts_on_it() {
    let machine = Machine::any();
    assert_eq!(accel(&machine), "tcg", "a machine without /dev/kvm");

    // Here is what this machine says, and the judge is a whole guest that shuts itself down.
    machine.write("dev/kvm", "");
    let disk = format!("if=none,id=disk,format=raw,file={}", machine.path("boot.raw").display());
    let judge = Command::new("timeout")
        .args(["30", QEMU, "-accel", "kvm", "-cpu", "host", "-m", "64M", "-nodefaults", "-display", "none"])
        .args(["-drive", &disk, "-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=disk"])
        .output()
        .unwrap();
    assert_eq!(accel(&machine), if judge.status.success() { "kvm" } else { "tcg" });
}

#[test]
fn kvm_is_believed_for_its_proof_alone() {
    // Fakes, for what a given machine's KVM does or does not do.
    for (script, accel_name) in [("exit 85", "kvm"), ("exit 0", "tcg"), ("exit 1", "tcg"), ("exec sleep 600", "tcg")] {
        let mut machine = Machine::any();
        machine.write("dev/kvm", "");
        machine.fake_qemu(script);
        assert_eq!(accel(&machine), accel_name, "{script}");
    }
}
