//! /run/labtools/login.*: what is known of the session of this machine by whoever did not begin it.
//!
//! `login.json` names its links, so that they can be closed when all its processes were killed.
//! `login.sock` is the way to the process that holds it. Neither has a secret.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jsonpipe::{Common, Exit, ExitContext, atomic};
use nix::libc::{IFNAMSIZ, O_NOFOLLOW, O_NONBLOCK};
use serde::{Deserialize, Serialize};

use crate::{attempt, report};

/// Where the holder listens.
pub const SOCKET: &str = "/run/labtools/login.sock";
const STATE: &str = "/run/labtools/login.json";

/// Of the state file.
pub const SCHEMA: u32 = 1;
/// Far above every address that a session can have had.
const MAX_BYTES: u64 = 1 << 20;

/// How far a session is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The network is asked.
    Starting,
    /// The user is in.
    Up,
    /// The user was in, and the university refuses the password now: links that go down stay down.
    Rejected,
    /// It is over.
    Ended,
}

/// A session.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Session {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Its name, once the network has let the user in: before that there is nothing to register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Whose it is.
    pub user: String,
    /// The user's realm.
    pub realm: String,
    /// How far it is.
    pub status: Status,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// The same as seconds since the machine was started.
    pub started_boot_seconds: u64,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How long it was, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
    /// Where it is, or was.
    pub links: Vec<Link>,
}

/// One link of a session.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Link {
    /// The network interface.
    pub interface: String,
    /// `ethernet` or `wifi`.
    pub kind: String,
    /// The name of the wireless network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssid: Option<String>,
    /// The UUID of its NetworkManager profile.
    pub profile: String,
    /// Whether its port may be open.
    pub open: bool,
    /// Whether its port is closed, and its device is not as it was before.
    #[serde(default)]
    pub unrestored: bool,
    /// All addresses that it ever had.
    pub addresses: Vec<String>,
    /// The UUID of the profile that was active there before, and comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confined: Option<String>,
    /// Whether NetworkManager had been told before not to activate anything there by itself.
    #[serde(default)]
    pub no_autoconnect: bool,
}

impl From<&attempt::link::Link> for Link {
    /// One that may be open.
    fn from(link: &attempt::link::Link) -> Link {
        Link {
            interface: link.device.interface.clone(),
            kind: link.device.kind.name().to_owned(),
            ssid: link.ssid(),
            profile: link.profile.clone(),
            open: true,
            unrestored: false,
            addresses: link.addresses.clone(),
            confined: link.confined.clone(),
            no_autoconnect: link.no_autoconnect,
        }
    }
}

impl Session {
    /// What a logout says of it.
    pub fn report(&self, changed: bool) -> report::Login {
        report::Login {
            changed,
            user: Some(self.user.clone()),
            realm: Some(self.realm.clone()),
            session: self.session.clone(),
            started_at: Some(self.started_at.clone()),
            ended_at: self.ended_at.clone(),
            duration_seconds: self.duration_seconds,
            links: self.links.iter().map(Link::report).collect(),
            ..report::Login::default()
        }
    }
}

impl Link {
    /// Whether the kernel can have such an interface (its `dev_valid_name`), and NetworkManager such
    /// profiles. With any other name every closing of the link would fail.
    fn is_possible(&self) -> bool {
        let name = &self.interface;
        let is_foreign = |c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control();
        let uuids = [Some(&self.profile), self.confined.as_ref()];
        !matches!(name.as_str(), "" | "." | "..")
            && name.len() < IFNAMSIZ
            && !name.contains(is_foreign)
            && !uuids.iter().flatten().any(|uuid| uuid.contains('\0'))
    }

    /// What a logout says of it.
    fn report(&self) -> report::Link {
        report::Link {
            interface: self.interface.clone(),
            kind: self.kind.clone(),
            ssid: self.ssid.clone(),
            profile: Some(self.profile.clone()),
            addresses: self.addresses.clone(),
            unrestored: self.unrestored.then_some(true),
            ..report::Link::default()
        }
    }
}

/// The session that began here last, if it was not logged out. An error when the file is not one
/// that [`save`] wrote.
pub fn load(common: &Common) -> anyhow::Result<Option<Session>> {
    let path = path(common);
    let session = match read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.and_then(|bytes| Ok(serde_json::from_slice::<Session>(&bytes)?)),
    };
    let session = session.and_then(|session| match session.schema {
        SCHEMA if !session.links.iter().all(Link::is_possible) => {
            Err(io::Error::other("a link has an impossible name"))
        }
        SCHEMA => Ok(session),
        schema => Err(io::Error::other(format!("schema {schema} is unknown"))),
    });
    session
        .map(Some)
        .exit(Exit::Io, || format!("reading {}", path.display()))
}

/// Neither waits for a pipe's writer nor follows a link.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes it, whatever was there or was deleted.
pub fn save(common: &Common, session: &Session) -> anyhow::Result<()> {
    let path = path(common);
    if let Some(directory) = path.parent() {
        atomic::create_directory(directory, 0o700)?;
    }
    if path.is_dir() {
        remove(common)?;
    }
    let text = serde_json::to_vec(session)?;
    atomic::write(&path, 0o600, |file| file.write_all(&text))
}

/// Forgets it.
pub fn remove(common: &Common) -> anyhow::Result<()> {
    let path = path(common);
    clear(&path).exit(Exit::Io, || format!("removing {}", path.display()))
}

/// Removes what is at one of our places, a directory included: it is a leftover, or nobody's.
pub fn clear(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn path(common: &Common) -> PathBuf {
    common.path(STATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_with_an_impossible_link_is_unreadable() {
        let root = tempfile::tempdir().unwrap();
        let common = jsonpipe::testkit::common(root.path());
        let load_with = |change: fn(&mut Link)| {
            let mut link = Link {
                interface: "enp0s31f6.1234".into(),
                profile: "5c8d1e1c-0d3a-4d0b-8f0e-0d6c6f6b7a01".into(),
                ..Link::default()
            };
            change(&mut link);
            let session = Session {
                schema: SCHEMA,
                session: None,
                user: "alice@uni-a.example".into(),
                realm: "uni-a.example".into(),
                status: Status::Up,
                started_at: "2026-11-20T08:00:00Z".into(),
                started_boot_seconds: 0,
                ended_at: None,
                duration_seconds: None,
                links: vec![link],
            };
            save(&common, &session).unwrap();
            load(&common)
        };
        assert!(load_with(|_| ()).unwrap().is_some());
        let changes: [fn(&mut Link); 8] = [
            |link| link.interface = "no\0name".into(),
            |link| link.interface = String::new(),
            |link| link.interface = "..".into(),
            |link| link.interface = "a/b".into(),
            |link| link.interface = "a b".into(),
            |link| link.interface = "sixteen-bytes-is".into(),
            |link| link.profile = "\0".into(),
            |link| link.confined = Some("\0".into()),
        ];
        for change in changes {
            let error = load_with(change).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Io);
            let message = format!("{error:#}");
            assert!(
                message.ends_with("a link has an impossible name"),
                "{message}"
            );
        }
    }
}
