//! The device nodes of volumes: `/dev/zvol/DATASET` is a link to `/dev/zdN`, which udev makes some
//! time after the volume, and removes some time after it has gone. The number is used again, so a
//! link may for a moment lead to another volume: the device itself names its own.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jsonpipe::{Common, Exit, io_error};
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

pub use self::blkzname::name_of;
use crate::backend::ofd;

/// The time after which udev is taken for broken. It needs some milliseconds.
const LINK_MAX: Duration = Duration::from_secs(10);

/// The path of the node of a volume.
pub fn path_of(dataset: &str) -> String {
    format!("/dev/zvol/{dataset}")
}

/// The volume that a path of this kind leads to.
pub fn dataset_of(path: &str) -> &str {
    path.trim_start_matches("/dev/zvol/")
}

/// Opens a volume for reading: a close after writing would make udev open it, and for that moment
/// nothing can remove it. `None` when its link does not exist or leads to another volume.
pub fn open(common: &Common, dataset: &str) -> anyhow::Result<Option<File>> {
    let path = common.path(path_of(dataset));
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(&path);
    let node = match opened {
        Ok(node) => node,
        // ENXIO: the volume has gone, and its link has not.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(nix::libc::ENXIO) =>
        {
            return Ok(None);
        }
        Err(error) => {
            return Err(io_error(
                error,
                Exit::of_read,
                format_args!("opening {}", path.display()),
            ));
        }
    };
    let is_it = name_of(&node).is_some_and(|name| name == dataset);
    Ok(is_it.then_some(node))
}

/// Keeps QEMU and its tools from opening a volume, until the file is closed; `None` when one has it
/// open, or its node does not exist.
pub fn lock_out(common: &Common, dataset: &str) -> anyhow::Result<Option<File>> {
    let Some(node) = open(common, dataset)? else {
        return Ok(None);
    };
    let locked = || -> io::Result<bool> {
        // In this order, as QEMU does: of two, at least one sees the other.
        Ok(ofd::take(&node, ofd::SHARED)? && !ofd::is_taken(&node)?)
    };
    match locked() {
        Ok(true) => Ok(Some(node)),
        Ok(false) => Ok(None),
        Err(error) => Err(io_error(
            error,
            Exit::of_change,
            format_args!("locking {}", path_of(dataset)),
        )),
    }
}

/// Whether a program has a lock on a volume.
pub fn is_locked(common: &Common, dataset: &str) -> anyhow::Result<bool> {
    match open(common, dataset)? {
        None => Ok(false),
        Some(node) => ofd::is_taken(&node).map_err(|error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("looking for locks on {}", path_of(dataset)),
            )
        }),
    }
}

/// Waits until the link of a volume leads to it. Status 78 when udev does not make it.
pub fn wait(common: &Common, dataset: &str) -> anyhow::Result<()> {
    let path = common.path(path_of(dataset));
    let failed = |error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("waiting for {}", path.display()),
        )
    };
    let until = Instant::now() + LINK_MAX;
    loop {
        let directory = existing_parent(&path);
        let changes = match Changes::of(directory, WatchFlags::CREATE | WatchFlags::MOVED_TO) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            changes => changes.map_err(failed)?,
        };
        // Looked for after the watch began, so that no change is missed.
        if open(common, dataset)?.is_some() {
            return Ok(());
        }
        if existing_parent(&path) != directory {
            continue; // the next one below it is there
        }
        if !changes.wait(until).map_err(failed)? {
            return Err(Exit::Config.error(format_args!(
                "waiting for {}: it does not lead to the volume after {} seconds; is udev running, with the rules of zfsutils-linux?",
                path.display(),
                LINK_MAX.as_secs()
            )));
        }
    }
}

fn existing_parent(path: &Path) -> &Path {
    let mut above = path.ancestors().skip(1);
    above.find(|above| above.is_dir()).unwrap_or(path)
}

/// Changes of a directory or file, from the moment on when this is made.
#[derive(Debug)]
pub struct Changes(OwnedFd);

impl Changes {
    fn of(path: &Path, flags: WatchFlags) -> io::Result<Changes> {
        let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&changes, path, flags)?;
        Ok(Changes(changes))
    }

    /// When programs close the node of a volume, which this does not open.
    pub fn closings(common: &Common, dataset: &str) -> io::Result<Changes> {
        let path: PathBuf = common.path(path_of(dataset));
        Changes::of(&path, WatchFlags::CLOSE | WatchFlags::DELETE_SELF)
    }

    /// Waits for the next one; false when there was none until then.
    pub fn wait(&self, until: Instant) -> io::Result<bool> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let is_ready = poll(&mut fds, timeout)? > 0;
        let _ = rustix::io::read(&self.0, &mut [0; 4096]); // whatever it was
        Ok(is_ready)
    }
}

#[allow(unsafe_code, reason = "an ioctl without a safe wrapper")]
mod blkzname {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    /// `ZFS_MAX_DATASET_NAME_LEN` of sys/fs/zfs.h.
    const NAME_LENGTH: usize = 256;

    // BLKZNAME of sys/fs/zfs.h.
    nix::ioctl_read!(blkzname, 0x12, 125, [u8; NAME_LENGTH]);

    /// The name of the volume behind a node; `None` for anything else.
    pub fn name_of(node: &File) -> Option<String> {
        let mut name = [0; NAME_LENGTH];
        // SAFETY: the descriptor is open, and the kernel writes at most the length that is a part of
        // the call's number.
        unsafe { blkzname(node.as_raw_fd(), &mut name) }.ok()?;
        let length = name.iter().position(|byte| *byte == 0)?;
        String::from_utf8(name[..length].to_vec()).ok()
    }
}
