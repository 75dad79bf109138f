//! Who QEMU runs as.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use jsonpipe::{Exit, ExitContext};
use nix::unistd::{Gid, Uid, User};

/// QEMU's own user: not root, and in no group but its own and, where KVM works, the one that owns /dev/kvm.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub uid: Uid,
    pub gid: Gid,
    pub kvm: Option<Gid>,
}

impl Identity {
    /// A user's name, or the numbers `UID` or `UID:GID`. A user that is not there, and root, is status 78.
    pub fn resolve(user: &str) -> anyhow::Result<Identity> {
        let (uid, gid) = match user.split_once(':').unwrap_or((user, user)) {
            (uid, gid) if user.starts_with(|c: char| c.is_ascii_digit()) => {
                let parse = || Some((uid.parse().ok()?, gid.parse().ok()?));
                let (uid, gid) = parse().exit(Exit::Config, || "qemu.user: expected a name, UID or UID:GID")?;
                (Uid::from_raw(uid), Gid::from_raw(gid))
            }
            _ => {
                let found = User::from_name(user).exit(Exit::Config, || format!("looking up the user {user}"))?;
                let found = found
                    .exit(Exit::Config, || format!("qemu.user: no user {user}; add one with useradd --system --user-group"))?;
                (found.uid, found.gid)
            }
        };
        if uid.is_root() || gid.as_raw() == 0 {
            return Err(Exit::Config.error("qemu.user: refusing to run QEMU as root; name a user of its own"));
        }
        Ok(Identity { uid, gid, kvm: None })
    }

    /// The same in the group of `kvm`, the node /dev/kvm, too. Never root's group: that would open more than KVM.
    pub fn with_group_of(self, kvm: &Metadata) -> Identity {
        Identity { kvm: Some(Gid::from_raw(kvm.gid())).filter(|gid| gid.as_raw() != 0), ..self }
    }

    /// Whether it can read and write a file by the file's mode.
    pub fn may_use(&self, file: &Metadata) -> bool {
        let (owner, group) = (Uid::from_raw(file.uid()), Gid::from_raw(file.gid()));
        let shift = if owner == self.uid {
            6
        } else if group == self.gid || Some(group) == self.kvm {
            3
        } else {
            0
        };
        file.permissions().mode() >> shift & 0o6 == 0o6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_numbers_and_never_root() {
        let numbers = Identity::resolve("64000:64001").unwrap();
        assert_eq!((numbers.uid.as_raw(), numbers.gid.as_raw()), (64000, 64001));
        assert_eq!(Identity::resolve("64000").unwrap().gid.as_raw(), 64000);
        assert_ne!(Identity::resolve("nobody").unwrap().uid.as_raw(), 0);
        for user in ["root", "0", "64000:0", "0:64000", "64000:x", "6x", "-1", "", "no such user"] {
            assert_eq!(Exit::of(&Identity::resolve(user).unwrap_err()), Exit::Config, "{user:?}");
        }
    }
}
