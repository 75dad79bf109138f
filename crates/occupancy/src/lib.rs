//! The locks that show who uses a lab machine. They are kernel locks on files, released when the
//! process that holds them ends.
//!
//! **Admission rule:** a lock belongs here if one tool holds it and another checks it. A lock that
//! only its own tool uses stays there; the lock on the images of bases belongs to `images`; the
//! operations are in `jsonpipe::lock`.
//!
//! The scripts login-session and update-host hold [`SESSION`] under the same name.

/// A session holds it from before its volume is made until its end, and an update from its trial to
/// the reboot.
pub const SESSION: &str = "/run/labtools/session.lock";

/// vm-passthrough holds it from before its guest's disks are opened until the guest's end, and
/// cowvol while it removes volumes.
pub const GUEST: &str = "/run/labtools/guest.lock";
