//! Who QEMU runs as.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use jsonpipe::{Exit, ExitContext};
use nix::libc;
use nix::unistd::{Gid, Uid, User, getresgid, getresuid, setgroups, setresgid, setresuid};

/// As a user or group, what setresuid(2) takes for "leave it as it is".
const UNCHANGED: u32 = u32::MAX;

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
                let parse = || Some((number(uid)?, number(gid)?));
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
        if uid.as_raw() == UNCHANGED || gid.as_raw() == UNCHANGED {
            return Err(Exit::Config
                .error(format_args!("qemu.user: {UNCHANGED} is nobody, and who becomes it stays root; name a user of its own")));
        }
        Ok(Identity { uid, gid, kvm: None })
    }

    /// Makes the calling process this user, and makes sure that it is no other and has no capability left. For the time between
    /// fork and exec: system calls only.
    pub fn assume(&self) -> io::Result<()> {
        setgroups(self.kvm.as_slice())?;
        setresgid(self.gid, self.gid, self.gid)?;
        setresuid(self.uid, self.uid, self.uid)?;
        // The change of user takes them away, unless whoever started us has forbidden that (SECBIT_NO_SETUID_FIXUP).
        system::drop_capabilities()?;
        let (uid, gid) = (getresuid()?, getresgid()?);
        let is_user = [uid.real, uid.effective, uid.saved] == [self.uid; 3];
        let is_group = [gid.real, gid.effective, gid.saved] == [self.gid; 3];
        if is_user && is_group && system::is_in_groups(self.kvm.as_slice())? && !system::has_capabilities()? {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::EPERM))
        }
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

/// A user's or group's number, in the one way to write it: no plus sign, and no zero in front, which others take for the octal system.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

/// What nix has no word for, or none that is fit for the time between fork and exec.
#[expect(unsafe_code, reason = "system calls about this process's own rights")]
mod system {
    use std::io;

    use nix::libc;
    use nix::unistd::Gid;

    /// capget(2) and capset(2), version 3: who, and 64 bits for each set.
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }

    #[repr(C)]
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    struct Half {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }

    const VERSION_3: u32 = 0x2008_0522;

    /// Gives up every capability.
    pub fn drop_capabilities() -> io::Result<()> {
        let (header, none) = (Header { version: VERSION_3, pid: 0 }, [Half::default(); 2]);
        // SAFETY: the kernel reads the two structures, which are as large as this version says.
        done(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) })
    }

    /// Whether there is one.
    pub fn has_capabilities() -> io::Result<bool> {
        let (mut header, mut found) = (Header { version: VERSION_3, pid: 0 }, [Half::default(); 2]);
        // SAFETY: the kernel writes to the two structures, which are as large as this version says.
        done(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, found.as_mut_ptr()) })?;
        Ok(found != [Half::default(); 2])
    }

    /// Whether these are the supplementary groups, of which there is one at most.
    pub fn is_in_groups(groups: &[Gid]) -> io::Result<bool> {
        let mut found = [0; 2];
        // SAFETY: the kernel writes two groups at most, and refuses when there are more.
        let count = unsafe { libc::getgroups(2, found.as_mut_ptr()) };
        done(count.into())?;
        let found = found.iter().take(count as usize);
        Ok(found.copied().eq(groups.iter().map(|group| group.as_raw())))
    }

    fn done(result: libc::c_long) -> io::Result<()> {
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
            assert_eq!(Exit::of(&Identity::resolve(user).unwrap_err()), Exit::Config, "{user:?}");
        }
        for user in ["4294967295", "64000:4294967295", "4294967295:64000", "64000:4294967296"] {
            assert_eq!(Exit::of(&Identity::resolve(user).unwrap_err()), Exit::Config, "{user:?}");
        }
    }
}
