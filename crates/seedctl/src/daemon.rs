//! The one aria2c of this machine: started when needed, and left running when seedctl ends.
//!
//! aria2c runs as a user without other rights. It reads its secret from a file without a name,
//! never from an argument or the environment. It inherits an open file with a kernel lock, which
//! shows that it is running: the kernel releases the lock when the process ends, however it ends.
//! Other processes only test whether the lock is available, and so never hold it by accident.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use confined::{Life, Start};
use jsonpipe::{Common, Exit, ExitContext, atomic, io_error};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use secrecy::{ExposeSecret, SecretString};

use crate::aria2::{Rpc, SECRET};
use crate::request::Aria2;

/// Locks and other state until the next boot.
pub const RUN: &str = "/run/labtools";
const LOCK: &str = "/run/labtools/aria2.lock";

/// aria2 normally starts in a tenth of a second.
const START: Duration = Duration::from_secs(20);
/// aria2 informs the trackers first.
const END: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The running aria2; `None` when it is not running. Status 78 when it rejects our secret.
pub fn connect(common: &Common, settings: &Aria2) -> anyhow::Result<Option<Rpc>> {
    if !is_alive(common)? {
        return Ok(None);
    }
    reach(common, settings, None).map(Some)
}

/// The running aria2, started if necessary. Status 69 when it is not installed or does not start.
pub fn ensure(common: &Common, settings: &Aria2) -> anyhow::Result<Rpc> {
    atomic::create_directory(&common.path(RUN), 0o700)?;
    let lock = open_lock(common)?;
    match fcntl(&lock, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
        Ok(_) => {}
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
            return reach(common, settings, None);
        }
        Err(errno) => {
            return Err(io_error(
                errno.into(),
                Exit::of_write,
                format_args!("locking {}", common.path(LOCK).display()),
            ));
        }
    }
    let secret = make_secret(common)?;
    let child = start(settings, &lock, &secret)?;
    // Once it answers, the lock is aria2's alone: our descriptor is closed.
    reach(common, settings, Some(child))
}

/// Shuts aria2 down. Returns whether it was running.
pub fn shut_down(common: &Common, settings: &Aria2) -> anyhow::Result<bool> {
    let Some(rpc) = connect(common, settings)? else {
        return Ok(false);
    };
    rpc.shut_down()?;
    let since = Instant::now();
    while is_alive(common)? {
        if since.elapsed() > END {
            return Err(
                Exit::Unavailable.error("ending aria2: it still runs after the order to end")
            );
        }
        sleep(BETWEEN_LOOKS);
    }
    Ok(true)
}

/// Whether a process holds the lock.
fn is_alive(common: &Common) -> anyhow::Result<bool> {
    let failed = |error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("looking at {}", common.path(LOCK).display()),
        )
    };
    let file = match OpenOptions::new()
        .read(true)
        .write(true)
        .open(common.path(LOCK))
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    let mut found = whole_file(libc::F_WRLCK);
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found)).map_err(|errno| failed(errno.into()))?;
    Ok(found.l_type != libc::F_UNLCK as libc::c_short)
}

fn open_lock(common: &Common) -> anyhow::Result<File> {
    let path = common.path(LOCK);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    file.map_err(|error| {
        io_error(
            error,
            Exit::of_write,
            format_args!("opening {}", path.display()),
        )
    })
}

/// A lock of this type on the whole file, owned by the open file description, not by the process.
fn whole_file(kind: libc::c_int) -> libc::flock {
    // The other fields, above all the pid, must be 0.
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// The owner of a loopback port, if any: aria2's user, or another one, who must not receive the
/// secret.
///
/// /proc/net/tcp contains the owner of a listening socket (proc_net_tcp(5)). An IPv6 socket that
/// listens on all addresses also receives connections to 127.0.0.1, unless a more specific socket
/// listens there.
fn owner(port: u16) -> anyhow::Result<Option<u32>> {
    let mut found = None;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match fs::read_to_string(table) {
            Ok(text) => found = found.or(owner_in(&text, port)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {} // a kernel without IPv6
            Err(error) => return Err(error).exit(Exit::Io, || format!("reading {table}")),
        }
    }
    Ok(found)
}

fn owner_in(text: &str, port: u16) -> Option<u32> {
    const LISTEN: &str = "0A";
    /// 127.0.0.1 and 0.0.0.0, ::ffff:127.0.0.1 and ::, each 32 bits as they lie in memory.
    const HEARS_US: [&str; 4] = [
        "0100007F",
        "00000000",
        "0000000000000000FFFF00000100007F",
        "00000000000000000000000000000000",
    ];
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (address, found) = fields.get(1)?.split_once(':')?;
        let is_here = HEARS_US.contains(&address) && u16::from_str_radix(found, 16) == Ok(port);
        if is_here && *fields.get(3)? == LISTEN {
            fields.get(7)?.parse().ok()
        } else {
            None
        }
    })
}

/// Waits until aria2 answers. `child` is given when it was just started.
fn reach(
    common: &Common,
    settings: &Aria2,
    mut child: Option<(Child, File)>,
) -> anyhow::Result<Rpc> {
    let (identity, since) = (settings.identity()?, Instant::now());
    loop {
        let answered = match owner(settings.rpc_port)? {
            Some(owner) if owner != identity.uid.as_raw() => Err(Exit::Unavailable.error(format_args!(
                "asking aria2: port {} is another program's; choose one by rpc_port in seedctl.ini",
                settings.rpc_port
            ))),
            _ => read_secret(common).and_then(|secret| {
                let rpc = Rpc::new(settings.rpc_port, secret);
                rpc.version().map(|_| rpc)
            }),
        };
        let error = match answered {
            Ok(rpc) => return Ok(rpc),
            Err(error) => error,
        };
        if let Some((child, said)) = &mut child
            && let Ok(Some(status)) = child.try_wait()
        {
            let mut words = String::new();
            let _ = said.take(4096).read_to_string(&mut words); // as much as there is
            return Err(Exit::Unavailable.error(format_args!(
                "starting aria2: it ended at once ({status}): {}",
                cause(&words)
            )));
        }
        // Another seedctl may be starting aria2: then the secret changes in a moment.
        let patience = if Exit::of(&error) == Exit::Config {
            Duration::from_secs(5)
        } else {
            START
        };
        if since.elapsed() > patience || !is_alive(common)? {
            return Err(error);
        }
        sleep(BETWEEN_LOOKS);
    }
}

/// aria2 reports a failure in a log line and its causes in the lines after it, then the
/// consequences.
fn cause(words: &str) -> &str {
    let line = words
        .lines()
        .find(|line| line.contains("cause: "))
        .or_else(|| words.lines().rfind(|line| line.contains("rror")));
    line.map_or("it did not say why", |line| {
        line.rsplit("cause: ").next().unwrap_or(line).trim()
    })
}

fn make_secret(common: &Common) -> anyhow::Result<SecretString> {
    let mut random = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .exit(Exit::Io, || "reading /dev/urandom")?;
    let secret = SecretString::from(manifest::Hex(random).to_string());
    atomic::write(&common.path(SECRET), 0o600, |file| {
        file.write_all(secret.expose_secret().as_bytes())
    })?;
    Ok(secret)
}

fn read_secret(common: &Common) -> anyhow::Result<SecretString> {
    // seedctl wrote the secret, so a missing file is also an error.
    let text = secret_file::read(&common.path(SECRET))
        .map_err(|error| Exit::Config.error(format_args!("{error:#}")))?;
    Ok(text.trim().into())
}

/// aria2's configuration: only the deviations from its defaults.
fn configuration(settings: &Aria2, secret: &SecretString) -> String {
    let ports = [
        ("rpc-listen-port", settings.rpc_port),
        ("listen-port", settings.listen_port),
    ];
    let mut text = format!(
        "enable-rpc=true\nrpc-listen-all=false\nrpc-secret={}\n",
        secret.expose_secret()
    );
    for (key, port) in ports {
        text += &format!("{key}={port}\n");
    }
    // Peers come only from the tracker.
    text += "enable-dht=false\nenable-dht6=false\nbt-enable-lpd=false\nenable-peer-exchange=false\nno-netrc=true\n";
    // A torrent is passed as bytes, not as a file that is followed or left behind.
    text += "follow-torrent=false\nrpc-save-upload-metadata=false\nrpc-max-request-size=16M\n";
    // Existing data is checked whenever a torrent is added, so no control file is needed.
    text += "auto-save-interval=0\nfile-allocation=none\n";
    // All torrents run at once, and only seedctl ends them.
    text += "max-concurrent-downloads=100\nbt-detach-seed-only=true\nseed-ratio=0.0\n";
    text += "bt-tracker-connect-timeout=10\nbt-tracker-timeout=20\n";
    text + "console-log-level=error\nshow-console-readout=false\nsummary-interval=0\nenable-color=false\n"
}

/// Starts aria2; its output until it is up can be read from the returned file.
fn start(settings: &Aria2, lock: &File, secret: &SecretString) -> anyhow::Result<(Child, File)> {
    let identity = settings.identity()?;
    if !nix::unistd::geteuid().is_root() {
        return Err(Exit::NoPermission
            .error("starting aria2: needs root, to become the user that it runs as"));
    }
    let failed =
        |error: io::Error| io_error(error, |_| Exit::Software, "making aria2's configuration");
    let memory =
        memfd_create("aria2.conf", MFdFlags::MFD_CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let mut configured = File::from(memory);
    configured
        .write_all(configuration(settings, secret).as_bytes())
        .map_err(failed)?;
    let (said, speak) = io::pipe().map_err(failed)?;
    let mut command = Command::new(&settings.binary);
    command.arg(OsString::from(format!(
        "--conf-path=/dev/fd/{}",
        configured.as_raw_fd()
    )));
    command
        .stdout(speak.try_clone().map_err(failed)?)
        .stderr(speak);
    let hand_down = [lock.as_fd(), configured.as_fd()];
    let start = Start {
        identity: Some(identity),
        hand_down: &hand_down,
        life: Life::Beyond,
        lock_memory: false,
    };
    let child = start.spawn(command).map_err(|error| {
        let absent = error.kind() == io::ErrorKind::NotFound;
        let way_out = if absent {
            "; it is in Debian's package aria2"
        } else {
            ""
        };
        let exit_of = if absent {
            |_: &io::Error| Exit::Unavailable
        } else {
            |_: &io::Error| Exit::Config
        };
        io_error(
            error,
            exit_of,
            format_args!("starting {}{way_out}", settings.binary.display()),
        )
    })?;
    Ok((child, File::from(OwnedFd::from(said))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_in_what_aria2_says() {
        let words = "\n11/23 07:28:42 [ERROR] IPv4 RPC: failed to bind TCP port 16800\nException: [SocketCore.cc:312] errorCode=1 Failed to bind a socket, cause: Address already in use\n\
                     Exception: [DownloadEngineFactory.cc:219] errorCode=1 Failed to setup RPC server.\n";
        assert_eq!(cause(words), "Address already in use");
        assert_eq!(cause(""), "it did not say why");
    }

    #[test]
    fn the_owner_of_a_port_is_found() {
        let text = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1A90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 65534        0 1461741 1 0 100 0 0 10 0
   1: 0200000A:1B39 0300000A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   2: 0100007F:1B39 0300000A:9C40 0A 00000000:00000000 00:00000000 00000000     7        0 1 1 0 100 0 0 10 0
";
        assert_eq!(
            [6800, 6969, 80].map(|port| owner_in(text, port)),
            [Some(65534), Some(7), None]
        );
        let text = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:1A90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 32768 1 0 100 0 0 10 0
   1: 0000000000000000FFFF00000100007F:1B39 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     9        0 32768 1 0 100 0 0 10 0
   2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 32768 1 0 100 0 0 10 0
";
        assert_eq!(
            [6800, 6969, 80].map(|port| owner_in(text, port)),
            [Some(1000), Some(9), None]
        );
    }

    #[test]
    fn the_secret_stands_in_the_configuration_once() {
        let text = configuration(&Aria2::default(), &SecretString::from("s3cret".to_owned()));
        assert_eq!(text.matches("s3cret").count(), 1);
        assert!(text.lines().all(|line| line.contains('=')), "{text}");
    }
}
