//! The locks that say who uses a lab machine. They are kernel locks on files, and gone with the
//! process that holds them.
//!
//! **Admission rule:** a lock belongs here if one tool holds it and another looks at it. A lock
//! that only its own tool knows stays there; the lock on the images of bases belongs to `images`;
//! taking and looking is `jsonpipe::lock`.
//!
//! The scripts login-session and update-host hold [`SESSION`] by the same name.

/// Held from before a session's volume is made to the session's end, and by an update from its
/// trial to the reboot.
pub const SESSION: &str = "/run/labtools/session.lock";

/// Held by vm-passthrough from before its guest's disks are opened to the guest's end, and by
/// cowvol while it removes volumes.
pub const GUEST: &str = "/run/labtools/guest.lock";
