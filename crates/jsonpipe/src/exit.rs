//! The exit statuses of the contract, and how an error carries one.

use std::fmt;
use std::io;

use nix::libc;
use nix::unistd::geteuid;

/// The exit statuses (sysexits(3), which systemd prints by name).
///
/// From [`Exit::Data`] on, standard output stays empty, and nothing was changed or all was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or already done (`"changed": false`).
    Done = 0,
    /// The answer is no; the document is printed and gives the reason.
    No = 1,
    /// Bad command line.
    Usage = 2,
    /// The document, or a file it names, does not have the form in the man page.
    Data = 65,
    /// A named file, device, base or image does not exist.
    NoInput = 66,
    /// A service or program is absent.
    Unavailable = 69,
    /// An internal fault, including a panic.
    Software = 70,
    /// No room, or the output cannot be created; nothing was destroyed for it.
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
    const ALL: [Exit; 12] = [
        Exit::Done,
        Exit::No,
        Exit::Usage,
        Exit::Data,
        Exit::NoInput,
        Exit::Unavailable,
        Exit::Software,
        Exit::CantCreate,
        Exit::Io,
        Exit::TemporaryFailure,
        Exit::NoPermission,
        Exit::Config,
    ];

    /// The status of a number. Any other number, such as that of a program that was killed or is
    /// not there, is an internal fault.
    pub fn of_number(number: u8) -> Exit {
        let known = Exit::ALL.into_iter().find(|exit| *exit as u8 == number);
        known.unwrap_or(Exit::Software)
    }

    /// An error with this status. The text follows the house style: `{gerund} {object}`, or the
    /// object and its fault.
    pub fn error(self, text: impl fmt::Display) -> anyhow::Error {
        anyhow::Error::new(Coded {
            exit: self,
            text: text.to_string(),
        })
    }

    /// The status of an error: the outermost one given, otherwise 74 for a failed system call,
    /// otherwise 70.
    pub fn of(error: &anyhow::Error) -> Exit {
        if let Some(coded) = error.downcast_ref::<Coded>() {
            coded.exit
        } else if error.chain().any(|cause| cause.is::<io::Error>()) {
            Exit::Io
        } else {
            Exit::Software
        }
    }

    /// The status of a failed write of a new file: 73 for no room and a read-only file system, 75
    /// for a lock held by another process, 77 for no permission, otherwise 74.
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

    /// The status of a failed change or removal of an existing file: the same, but 74 for a
    /// read-only file system, because nothing was to be created.
    pub fn of_change(error: &io::Error) -> Exit {
        if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
            Exit::Io
        } else {
            Exit::of_write(error)
        }
    }

    /// The status of a failed open for reading: 66 when the file does not exist, 77 for no
    /// permission, otherwise 74.
    pub fn of_read(error: &io::Error) -> Exit {
        match error.kind() {
            io::ErrorKind::NotFound => Exit::NoInput,
            io::ErrorKind::PermissionDenied => Exit::of_refusal(error, geteuid().is_root()),
            _ => Exit::Io,
        }
    }

    /// The status of a refusal by the kernel. EPERM can mean more than a lack of rights: an
    /// immutable file (chattr(1)) is closed to root as well, and asking for root does not help.
    fn of_refusal(error: &io::Error, is_root: bool) -> Exit {
        if is_root && error.raw_os_error() == Some(libc::EPERM) {
            Exit::Io
        } else {
            Exit::NoPermission
        }
    }
}

/// An I/O error with its context, with the status from `exit_of`: [`Exit::of_read`],
/// [`Exit::of_write`] or [`Exit::of_change`].
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
    fn a_number_that_is_no_status_is_an_internal_fault() {
        for number in [0, 1, 2, 65, 66, 69, 70, 73, 74, 75, 77, 78] {
            assert_eq!(Exit::of_number(number) as u8, number);
        }
        for number in [3, 64, 67, 126, 127, 137, 255] {
            assert_eq!(Exit::of_number(number), Exit::Software);
        }
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
