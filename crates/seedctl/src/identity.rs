//! Who aria2 runs as.

use jsonpipe::{Exit, ExitContext};
use nix::unistd::{Gid, Uid, User};

/// aria2's own user: not root, and in no group but its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: Uid,
    pub gid: Gid,
}

impl Identity {
    /// A user's name, or the numbers `UID` or `UID:GID`. A user that is not there, and root, is status 78.
    pub fn resolve(user: &str) -> anyhow::Result<Identity> {
        let (uid, gid) = match user.split_once(':').unwrap_or((user, user)) {
            (uid, gid) if user.starts_with(|c: char| c.is_ascii_digit()) => {
                let parse = || Some((uid.parse().ok()?, gid.parse().ok()?));
                let (uid, gid) = parse().exit(Exit::Config, || "aria2.user: expected a name, UID or UID:GID")?;
                (Uid::from_raw(uid), Gid::from_raw(gid))
            }
            _ => {
                let found = User::from_name(user).exit(Exit::Config, || format!("looking up the user {user}"))?;
                let found = found
                    .exit(Exit::Config, || format!("aria2.user: no user {user}; add one with useradd --system --user-group"))?;
                (found.uid, found.gid)
            }
        };
        if uid.is_root() || gid.as_raw() == 0 {
            return Err(Exit::Config.error("aria2.user: refusing to run aria2 as root; name a user of its own"));
        }
        Ok(Identity { uid, gid })
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
