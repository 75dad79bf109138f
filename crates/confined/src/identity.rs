//! The user that a program runs as.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use jsonpipe::{Exit, ExitContext};
use nix::libc;
use nix::unistd::{Gid, Uid, User, getresgid, getresuid, setgroups, setresgid, setresuid};

use crate::system;

/// The value that setresuid(2) takes for "no change".
const UNCHANGED: u32 = u32::MAX;

/// A user that is not root, and is only in its own group and perhaps one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub uid: Uid,
    /// Its own group.
    pub gid: Gid,
    /// The group of a device that it needs.
    pub group: Option<Gid>,
}

impl Identity {
    /// Parses a user's name, or the numbers `UID` or `UID:GID`. An unknown user, and root, is
    /// status 78; the error names the configuration's `key`.
    pub fn resolve(key: &str, user: &str) -> anyhow::Result<Identity> {
        let (uid, gid) = match user.split_once(':').unwrap_or((user, user)) {
            (uid, gid) if user.starts_with(|c: char| c.is_ascii_digit()) => {
                let parse = || Some((number(uid)?, number(gid)?));
                let (uid, gid) = parse().exit(Exit::Config, || {
                    format!("{key}: expected a name, UID or UID:GID")
                })?;
                (Uid::from_raw(uid), Gid::from_raw(gid))
            }
            _ => {
                let found = User::from_name(user)
                    .exit(Exit::Config, || format!("looking up the user {user}"))?;
                let found = found.exit(Exit::Config, || {
                    format!(
                        "{key}: no user {user}; add one with systemd-sysusers if it is the package's, or with useradd --system --user-group {user}"
                    )
                })?;
                (found.uid, found.gid)
            }
        };
        if uid.is_root() || gid.as_raw() == 0 {
            return Err(Exit::Config.error(format_args!(
                "{key}: refusing to run as root; name another user"
            )));
        }
        if uid.as_raw() == UNCHANGED || gid.as_raw() == UNCHANGED {
            return Err(Exit::Config.error(format_args!(
                "{key}: refusing {UNCHANGED}, which the kernel takes for no change of user; name another user"
            )));
        }
        Ok(Identity {
            uid,
            gid,
            group: None,
        })
    }

    /// Makes the calling process this user, and verifies that no other identity and no capability
    /// is left. Runs between fork and exec: system calls only.
    pub(crate) fn assume(&self) -> io::Result<()> {
        setgroups(self.group.as_slice())?;
        setresgid(self.gid, self.gid, self.gid)?;
        setresuid(self.uid, self.uid, self.uid)?;
        // The change of user drops them, unless the parent has disabled that
        // (SECBIT_NO_SETUID_FIXUP).
        system::drop_capabilities()?;
        let (uid, gid) = (getresuid()?, getresgid()?);
        let is_user = [uid.real, uid.effective, uid.saved] == [self.uid; 3];
        let is_group = [gid.real, gid.effective, gid.saved] == [self.gid; 3];
        if is_user
            && is_group
            && system::is_in_groups(self.group.as_slice())?
            && !system::has_capabilities()?
        {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::EPERM))
        }
    }

    /// The same user, also in the group of a device. Never root's group, which would grant more
    /// than the device.
    pub fn with_group_of(self, device: &Metadata) -> Identity {
        Identity {
            group: Some(Gid::from_raw(device.gid())).filter(|gid| gid.as_raw() != 0),
            ..self
        }
    }

    /// Whether the file's mode allows it to read and write the file.
    pub fn may_use(&self, file: &Metadata) -> bool {
        let (owner, group) = (Uid::from_raw(file.uid()), Gid::from_raw(file.gid()));
        let shift = if owner == self.uid {
            6
        } else if group == self.gid || Some(group) == self.group {
            3
        } else {
            0
        };
        file.permissions().mode() >> shift & 0o6 == 0o6
    }
}

/// The number of a user or group in its only accepted spelling: no plus sign, and no leading zero,
/// which others read as octal.
fn number(text: &str) -> Option<u32> {
    text.parse()
        .ok()
        .filter(|number: &u32| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_numbers_and_never_root() {
        let numbers = Identity::resolve("test.user", "64000:64001").unwrap();
        assert_eq!((numbers.uid.as_raw(), numbers.gid.as_raw()), (64000, 64001));
        assert_eq!(
            Identity::resolve("test.user", "64000")
                .unwrap()
                .gid
                .as_raw(),
            64000
        );
        assert_ne!(
            Identity::resolve("test.user", "nobody")
                .unwrap()
                .uid
                .as_raw(),
            0
        );
        for user in [
            "root",
            "0",
            "64000:0",
            "0:64000",
            "64000:x",
            "6x",
            "-1",
            "",
            "no such user",
            "64000:+1",
            "64000:",
            "064000",
            "64000:01",
        ] {
            assert_eq!(
                Exit::of(&Identity::resolve("test.user", user).unwrap_err()),
                Exit::Config,
                "{user:?}"
            );
        }
        for user in [
            "4294967295",
            "64000:4294967295",
            "4294967295:64000",
            "64000:4294967296",
        ] {
            assert_eq!(
                Exit::of(&Identity::resolve("test.user", user).unwrap_err()),
                Exit::Config,
                "{user:?}"
            );
        }
    }
}
