//! /run/labtools/login.*: what is known of the session of this machine by whoever did not begin it.
//!
//! `login.lock` is held by a session, from before its first packet until its ports are closed.
//! `login.json` names its links, so that they can be closed when all its processes were killed.
//! `login.sock` is the way to the process that holds it. None of them has a secret.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use jsonpipe::{Common, Exit, ExitContext, atomic};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::report;

/// Two logins at once would close each other's port.
pub const LOCK: &str = "/run/labtools/login.lock";
/// Where the holder listens.
pub const SOCKET: &str = "/run/labtools/login.sock";
const STATE: &str = "/run/labtools/login.json";

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
    /// 1.
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
    /// All addresses that it ever had.
    pub addresses: Vec<String>,
    /// The UUID of the profile that was active there before, and comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confined: Option<String>,
}

impl Link {
    /// What a logout says of it.
    pub fn report(&self) -> report::Link {
        report::Link {
            interface: self.interface.clone(),
            kind: self.kind.clone(),
            ssid: self.ssid.clone(),
            profile: Some(self.profile.clone()),
            addresses: self.addresses.clone(),
            ..report::Link::default()
        }
    }
}

/// Seconds since the machine was started, those in which it slept included.
pub fn boot_seconds() -> anyhow::Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .exit(Exit::Software, || "reading the clock since the boot")?;
    Ok(now.tv_sec().cast_unsigned())
}

/// The session that began here last, if it was not logged out.
pub fn load(common: &Common) -> anyhow::Result<Option<Session>> {
    let Some(bytes) = jsonpipe::read_if_there(&path(common))? else {
        return Ok(None);
    };
    let session = serde_json::from_slice(&bytes);
    Ok(Some(session.exit(Exit::Software, || {
        let path = path(common);
        format!(
            "reading {}; a restart of the machine closes what it names",
            path.display()
        )
    })?))
}

/// Writes it.
pub fn save(common: &Common, session: &Session) -> anyhow::Result<()> {
    let text = serde_json::to_vec(session)?;
    atomic::write(&path(common), 0o600, |file| file.write_all(&text))
}

/// Forgets it.
pub fn remove(common: &Common) -> anyhow::Result<()> {
    match fs::remove_file(path(common)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).exit(Exit::Io, || format!("removing {}", path(common).display()))
        }
        _ => Ok(()),
    }
}

fn path(common: &Common) -> PathBuf {
    common.path(STATE)
}
