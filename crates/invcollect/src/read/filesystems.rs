//! The machine's mounts from disks and servers, and their use.
//!
//! Only the machine's own mounts are reported: those that every machine has, and those in
//! /etc/fstab. The path or the source of a home, a stick or a guest's volume would identify the
//! user, so these are not even queried.
//!
//! A query of a file system blocks while its server is gone, possibly for ever. So each query has
//! its own thread, and after two seconds no thread is waited for; it ends with the process. File
//! systems served by programs (FUSE) are not queried at all: a thread that waits for a program's
//! answer cannot even be killed, and would keep the process alive. For these the kernel shows
//! whether requests are unanswered.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use jsonpipe::sabotaged;
use nix::sys::statvfs::{Statvfs, statvfs};

use crate::read::machine::{Asked, Machine, PATIENCE};
use crate::report::Filesystem;

const MOUNTS: &str = "/proc/self/mountinfo";
const FSTAB: &str = "/etc/fstab";
/// The mount points of a machine's own file systems. Users cannot choose these names.
const OWN: &[&str] = &[
    "/",
    "/boot",
    "/boot/efi",
    "/persistent",
    "/qcow2",
    "/usr",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/lib/labtools",
    "/var/log",
    "/var/tmp",
];
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
const STACK_BYTES: usize = 64 << 10;
/// File system types that store data without a block device.
const WITHOUT_DEVICE: &[&str] = &[
    "9p",
    "afs",
    "bcachefs",
    "btrfs",
    "ceph",
    "cifs",
    "fuse",
    "glusterfs",
    "nfs",
    "nfs4",
    "overlay",
    "smb3",
    "virtiofs",
    "zfs",
];

/// By path.
pub fn read(machine: &Machine) -> Vec<Filesystem> {
    let mounts = match machine.text(MOUNTS) {
        Ok(text) => mounts(&text, &machine.text(FSTAB).unwrap_or_default()), // it may be missing in an image
        Err(error) => {
            machine.unreadable("filesystems", MOUNTS, &error);
            return Vec::new();
        }
    };
    let since = Instant::now();
    let (sender, answers) = mpsc::channel();
    for (index, mount) in mounts
        .iter()
        .enumerate()
        .filter(|(_, mount)| !mount.is_served())
    {
        let (sender, path) = (sender.clone(), machine.path(&mount.path));
        let ask = move || {
            let _ = sender.send((index, Usage::of(&path))); // the receiver may be gone
        };
        // A thread that cannot be started counts as no answer.
        let _ = thread::Builder::new().stack_size(STACK_BYTES).spawn(ask);
    }
    drop(sender);
    let mut usages: Vec<Reply> = mounts.iter().map(|_| Reply::Late).collect();
    while let Ok((index, usage)) = answers.recv_timeout(PATIENCE.saturating_sub(since.elapsed())) {
        usages[index] = Reply::Came(usage);
    }
    if sabotaged("skip-hanging") {
        usages
            .iter_mut()
            .filter(|usage| matches!(usage, Reply::Late))
            .for_each(|usage| *usage = Reply::NotAsked);
    }
    for (mount, usage) in mounts
        .iter()
        .zip(&mut usages)
        .filter(|(mount, _)| mount.is_served())
    {
        while has_unanswered_requests(machine, mount) && since.elapsed() < PATIENCE {
            thread::sleep(BETWEEN_LOOKS);
        }
        *usage = if has_unanswered_requests(machine, mount) {
            Reply::Busy
        } else {
            Reply::NotAsked
        };
    }
    let mut filesystems: Vec<Filesystem> = mounts
        .into_iter()
        .zip(usages)
        .map(|(mount, usage)| mount.report(machine, usage))
        .collect();
    filesystems.sort_by(|a, b| a.path.cmp(&b.path));
    filesystems
}

/// The mount points of /etc/fstab, in its order, where a boot mounts something and nothing is.
pub fn unmounted(machine: &Machine) -> Vec<String> {
    let (Ok(mounts), Ok(fstab)) = (machine.text(MOUNTS), machine.text(FSTAB)) else {
        return Vec::new();
    };
    let mounted: HashSet<String> = mounts
        .lines()
        .filter_map(Mount::parse)
        .map(|mount| mount.path)
        .collect();
    fstab
        .lines()
        .filter_map(Listed::parse)
        .filter(|listed| listed.at_boot && !mounted.contains(&listed.path))
        .map(|listed| plain(&listed.path))
        .collect()
}

/// Starts reading from one of these file systems, under `key`; `None`, with a reason, when that
/// file system did not answer.
pub fn ask<T: Send + 'static>(
    machine: &Machine,
    filesystems: &[Filesystem],
    path: &str,
    key: &str,
    read: impl FnOnce(&Machine) -> T + Send + 'static,
) -> Option<Asked<T>> {
    let below = |filesystem: &&Filesystem| Path::new(path).starts_with(&filesystem.path);
    let on = filesystems
        .iter()
        .filter(below)
        .max_by_key(|filesystem| filesystem.path.len());
    if on.is_some_and(|filesystem| filesystem.hanging != Some(false)) {
        machine.missing(key, "the file system that it is on does not answer");
        return None;
    }
    Some(machine.ask(PATIENCE, key, read))
}

/// Whether requests wait for the serving program, by the kernel's own count
/// (Documentation/filesystems/fuse.rst, "waiting").
fn has_unanswered_requests(machine: &Machine, mount: &Mount) -> bool {
    let Some((major, minor)) = mount.device.split_once(':') else {
        return false;
    };
    let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>()) else {
        return false;
    };
    // The kernel's own number of a device; the major is 0 unless the program serves a disk
    // (fuseblk).
    let connection = u64::from(major) << 20 | u64::from(minor);
    machine
        .number(format!("/sys/fs/fuse/connections/{connection}/waiting"))
        .is_some_and(|waiting| waiting > 0)
}

/// The result of querying a file system.
enum Reply {
    /// There was no query.
    NotAsked,
    /// There was no query, and other requests are unanswered: the program is busy, or gone.
    Busy,
    /// There was no answer in time.
    Late,
    /// An answer, or an error.
    Came(nix::Result<Usage>),
}

/// A line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    path: String,
    kind: String,
    source: String,
    read_only: bool,
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(2);
        let (device, _root, path, options) =
            (left.next()?, left.next()?, left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, source, super_options) =
            (right.next()?, right.next()?, right.next().unwrap_or(""));
        let read_only = [options, super_options]
            .iter()
            .any(|options| options.split(',').any(|option| option == "ro"));
        // `user@server:/path`: the login name is private.
        let source = unescape(source);
        let network = !source.starts_with('/') || source.starts_with("//");
        let source = match source.split_once('@') {
            Some((user, rest)) if network && !user.contains('/') && kind != "zfs" => {
                rest.to_owned()
            }
            _ => source,
        };
        Some(Mount {
            device: device.into(),
            path: unescape(path),
            kind: kind.into(),
            source,
            read_only,
        })
    }

    /// Whether it has this type, or a sub-type such as `fuse.sshfs`.
    fn is(&self, kind: &str) -> bool {
        self.kind.split('.').next() == Some(kind)
    }

    /// Whether it is served by a program.
    fn is_served(&self) -> bool {
        self.is("fuse") || self.is("fuseblk")
    }

    fn holds_something(&self) -> bool {
        let on_device = !self.device.starts_with("0:")
            && !["squashfs", "iso9660"].contains(&self.kind.as_str());
        on_device || WITHOUT_DEVICE.iter().any(|kind| self.is(kind))
    }

    /// Whether it belongs to the machine, not to one of its users.
    fn belongs_to_machine(&self, listed: &HashSet<String>) -> bool {
        let is_pool = self.is("zfs") && !self.source.contains('/');
        is_pool || OWN.contains(&self.path.as_str()) || listed.contains(&self.path)
    }

    fn report(self, machine: &Machine, reply: Reply) -> Filesystem {
        let hanging = match reply {
            Reply::Late => Some(true),
            Reply::Came(_) | Reply::NotAsked => Some(false),
            Reply::Busy => {
                let reason = "requests were unanswered for 2 seconds: the program that serves it is busy, or gone";
                machine.missing(format!("filesystems[{}].hanging", self.path), reason);
                None
            }
        };
        let usage = match reply {
            Reply::Came(Ok(usage)) => Ok(usage),
            Reply::Came(Err(errno)) => Err(errno.desc().to_owned()),
            Reply::Late => Err(format!("{} did not answer within 2 seconds", self.source)),
            Reply::NotAsked | Reply::Busy => {
                Err("served by a program, which is not asked: it might never answer".to_owned())
            }
        };
        let usage = usage
            .map_err(|reason| {
                machine.missing(format!("filesystems[{}].total_bytes", self.path), reason)
            })
            .ok();
        Filesystem {
            total_bytes: usage.as_ref().map(|usage| usage.total),
            used_bytes: usage.as_ref().map(|usage| usage.used),
            available_bytes: usage.as_ref().map(|usage| usage.available),
            path: plain(&self.path),
            source: plain(&self.source),
            kind: self.kind,
            read_only: self.read_only,
            hanging,
        }
    }
}

/// A mount point of /etc/fstab (fstab(5)).
struct Listed {
    path: String,
    /// Whether a boot mounts it.
    at_boot: bool,
}

impl Listed {
    /// `None` for a comment, and for swap.
    fn parse(line: &str) -> Option<Listed> {
        let mut fields = line.split_whitespace();
        let source = fields.next()?;
        let path = unescape(fields.next()?);
        let options = fields.nth(1).unwrap_or("");
        let is_place = !source.starts_with('#') && path.starts_with('/');
        is_place.then(|| Listed {
            path,
            at_boot: options.split(',').all(|option| option != "noauto"),
        })
    }
}

/// Replaces terminal control characters. A newline is part of a name, and JSON and metrics escape
/// it.
fn plain(name: &str) -> String {
    name.replace(|c| c != '\n' && jsonpipe::is_hidden(c), "\u{fffd}")
}

/// The last mount at each path, and each file system once, at the first of its paths.
fn mounts(text: &str, fstab: &str) -> Vec<Mount> {
    let listed = fstab.lines().filter_map(Listed::parse);
    let listed: HashSet<String> = listed.map(|listed| listed.path).collect();
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in text.lines().filter_map(Mount::parse) {
        mounts.retain(|covered| covered.path != mount.path);
        mounts.push(mount);
    }
    let mut devices = HashSet::new();
    mounts.retain(|mount| {
        mount.holds_something()
            && mount.belongs_to_machine(&listed)
            && devices.insert(mount.device.clone())
    });
    mounts
}

/// `\040` is a space.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part
            .get(..3)
            .and_then(|octal| u8::from_str_radix(octal, 8).ok())
        {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[3..]);
            }
            None => {
                bytes.push(b'\\');
                bytes.extend(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Its sizes.
struct Usage {
    total: u64,
    used: u64,
    available: u64,
}

impl Usage {
    fn of(path: &PathBuf) -> nix::Result<Usage> {
        statvfs(path).map(|statvfs| Usage::from(&statvfs))
    }
}

impl From<&Statvfs> for Usage {
    fn from(statvfs: &Statvfs) -> Usage {
        let bytes = |blocks: u64| blocks.saturating_mul(statvfs.fragment_size());
        Usage {
            total: bytes(statvfs.blocks()),
            used: bytes(statvfs.blocks().saturating_sub(statvfs.blocks_free())),
            available: bytes(statvfs.blocks_available()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn file_systems_are_listed_once() {
        let text = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
25 27 8:4 / /media/jane.doe/STICK rw - ext4 /dev/sdb1 rw
28 27 8:1 /var /mnt/bind rw - ext4 /dev/sda1 rw
29 27 0:40 / /media/a\\040b\\134c ro,nosuid - fuse.sshfs u@h:/x\\011y rw
30 27 0:41 / /srv rw - nfs4 server:/export rw,vers=4.2
31 27 0:42 / /pool rw - zfs pool rw
36 27 0:45 / /home/jane.doe rw - zfs pool/home/jane.doe rw
32 27 8:3 / /hidden rw - ext4 /dev/sda3 rw
33 27 8:4 / /hidden rw - ext4 /dev/sda4 ro
34 27 0:43 / /run rw - tmpfs tmpfs rw
a line that is none
";
        let fstab = "# /srv\nserver:/export /srv nfs4 defaults 0 0\nx /media/a\\040b\\134c fuse.sshfs ro\n/dev/sda4 /hidden ext4 ro\n\n";
        let shown = |mount: &Mount| {
            format!(
                "{} {} {} {}",
                mount.path, mount.kind, mount.source, mount.read_only
            )
        };
        let expected = [
            "/ ext4 /dev/sda1 false",
            "/media/a b\\c fuse.sshfs h:/x\ty true",
            "/srv nfs4 server:/export false",
            "/pool zfs pool false",
            "/hidden ext4 /dev/sda4 true",
        ];
        assert_eq!(
            mounts(text, fstab).iter().map(shown).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(unescape(r"a\09x\"), r"a\09x\");
        assert_eq!(unescape(r"\303\251"), "é");
    }

    proptest! {
        #[test]
        fn any_text_is_mounts_or_not(text in "([0-9:/ \\\\-]|[a-z]{1,4}|\n| - |\\PC){0,80}") {
            let _ = mounts(&text, &text);
        }

        #[test]
        fn unescape_reverts_the_kernels_escapes(path in "[ -~\t\né]{0,20}") {
            let escaped: String = path
                .bytes()
                .map(|b| if b == b' ' || b == b'\\' || !b.is_ascii_graphic() { format!("\\{b:03o}") } else { char::from(b).into() })
                .collect();
            prop_assert_eq!(unescape(&escaped), path);
        }
    }
}
