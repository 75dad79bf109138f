//! The exit statuses of the contract, and how an error carries one.

use std::fmt;
use std::io;

use nix::libc;
use nix::unistd::geteuid;

/// How a process ends (sysexits(3), which systemd prints by name).
///
/// From [`Exit::Data`] on, standard output stays empty, and nothing was changed or all was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or already so (`"changed": false`).
    Done = 0,
    /// The answer is no; the document is printed and says why.
    No = 1,
    /// Bad command line.
    Usage = 2,
    /// The document, or a file it names, is not what the page says.
    Data = 65,
    /// A named file, device, base or image is not there.
    NoInput = 66,
    /// A service or program is absent.
    Unavailable = 69,
    /// A fault of our own, a panic included.
    Software = 70,
    /// Cannot make room or create what was asked; nothing was destroyed for it.
    CantCreate = 73,
    /// Reading or writing failed, or the document could not be delivered.
    Io = 74,
    /// Try again later: a lock is held, a volume is in use, a timeout.
    TemporaryFailure = 75,
    /// Needs root or a capability.
    NoPermission = 77,
    /// The machine or its configuration is set up wrongly, or the release is not supported.
    Config = 78,
}

impl Exit {
    /// An error with this status. The text follows the house style: `{gerund} {object}`, or the
    /// object and what is wrong.
    pub fn error(self, text: impl fmt::Display) -> anyhow::Error {
        anyhow::Error::new(Coded {
            exit: self,
            text: text.to_string(),
        })
    }

    /// The status of an error: the outermost one that was given, otherwise 74 for a system call
    /// that failed, otherwise 70.
    pub fn of(error: &anyhow::Error) -> Exit {
        if let Some(coded) = error.downcast_ref::<Coded>() {
            coded.exit
        } else if error.chain().any(|cause| cause.is::<io::Error>()) {
            Exit::Io
        } else {
            Exit::Software
        }
    }

    /// What a failed write of something new means: no room, and a file system that is read-only, is
    /// 73, a lock held by another 75, no permission 77, anything else 74.
    pub fn of_write(error: &io::Error) -> Exit {
        use io::ErrorKind::{
            FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
            WouldBlock,
        };
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem => Exit::CantCreate,
            WouldBlock => Exit::TemporaryFailure,
            PermissionDenied => Exit::of_refusal(error, geteuid().is_root()),
            _ => Exit::Io,
        }
    }

    /// What a failed change or removal of something that is there means: the same, but a file
    /// system that became read-only is 74. Nothing was to be created.
    pub fn of_change(error: &io::Error) -> Exit {
        if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
            Exit::Io
        } else {
            Exit::of_write(error)
        }
    }

    /// What a failed open for reading means: not there is 66, no permission is 77, anything else
    /// 74.
    pub fn of_read(error: &io::Error) -> Exit {
        match error.kind() {
            io::ErrorKind::NotFound => Exit::NoInput,
            io::ErrorKind::PermissionDenied => Exit::of_refusal(error, geteuid().is_root()),
            _ => Exit::Io,
        }
    }

    /// What it means that the kernel does not permit it. EPERM is more than a lack of rights: an
    /// immutable file (chattr(1)) is closed to root, too, and then it is of no use to ask for root.
    fn of_refusal(error: &io::Error, is_root: bool) -> Exit {
        if is_root && error.raw_os_error() == Some(libc::EPERM) {
            Exit::Io
        } else {
            Exit::NoPermission
        }
    }
}

/// An I/O error in context, its status chosen by `exit_of`: [`Exit::of_read`], [`Exit::of_write`]
/// or [`Exit::of_change`].
pub fn io_error(
    error: io::Error,
    exit_of: fn(&io::Error) -> Exit,
    text: impl fmt::Display,
) -> anyhow::Error {
    let exit = exit_of(&error);
    anyhow::Error::new(error).context(Coded {
        exit,
        text: text.to_string(),
    })
}

/// The link of an error chain that carries the status.
#[derive(Debug)]
struct Coded {
    exit: Exit,
    text: String,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Coded {}

/// `.exit(Exit::Config, || "reading …")`: context with a status, in the manner of
/// `anyhow::Context`.
pub trait ExitContext<T> {
    /// Wraps the error in `text` and gives it the status `exit`.
    fn exit<S: fmt::Display>(self, exit: Exit, text: impl FnOnce() -> S) -> anyhow::Result<T>;
}

impl<T, E> ExitContext<T> for Result<T, E>
where
    E: Into<anyhow::Error>,
{
    fn exit<S: fmt::Display>(self, exit: Exit, text: impl FnOnce() -> S) -> anyhow::Result<T> {
        self.map_err(|error| {
            error.into().context(Coded {
                exit,
                text: text().to_string(),
            })
        })
    }
}

impl<T> ExitContext<T> for Option<T> {
    fn exit<S: fmt::Display>(self, exit: Exit, text: impl FnOnce() -> S) -> anyhow::Result<T> {
        self.ok_or_else(|| exit.error(text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_outermost_status_counts() {
        let error = Err::<(), _>(io::Error::from(io::ErrorKind::NotFound))
            .exit(Exit::NoInput, || "opening a base")
            .unwrap_err();
        assert_eq!(Exit::of(&error), Exit::NoInput);
        let error = Err::<(), _>(error).context("cloning").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::NoInput);
        let error = Err::<(), _>(error)
            .exit(Exit::Config, || "reading bases.ini")
            .unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Config);
        assert_eq!(
            format!("{error:#}"),
            "reading bases.ini: cloning: opening a base: entity not found"
        );
    }

    #[test]
    fn an_error_without_a_status_is_io_or_ours() {
        assert_eq!(
            Exit::of(&anyhow::Error::from(io::Error::other("x")).context("y")),
            Exit::Io
        );
        assert_eq!(Exit::of(&anyhow::anyhow!("y")), Exit::Software);
    }

    #[test]
    fn a_failed_write_is_told_by_its_cause() {
        let write = |errno: i32| Exit::of_write(&io::Error::from_raw_os_error(errno));
        assert_eq!(
            [libc::ENOSPC, libc::EDQUOT, libc::EFBIG, libc::EROFS].map(write),
            [Exit::CantCreate; 4]
        );
        assert_eq!(write(libc::EIO), Exit::Io);
        let change = |errno: i32| Exit::of_change(&io::Error::from_raw_os_error(errno));
        assert_eq!(
            [libc::ENOSPC, libc::EROFS].map(change),
            [Exit::CantCreate, Exit::Io]
        );
        let refusal =
            |errno: i32, is_root| Exit::of_refusal(&io::Error::from_raw_os_error(errno), is_root);
        assert_eq!(refusal(libc::EPERM, true), Exit::Io, "root has tried");
        assert_eq!(refusal(libc::EPERM, false), Exit::NoPermission);
        assert_eq!(
            refusal(libc::EACCES, true),
            Exit::NoPermission,
            "a capability is missing"
        );
    }
}
