//! aria2's JSON-RPC, as far as it is needed: torrents are added, followed and removed.
//!
//! The id (gid) that a torrent has in aria2 is the beginning of its infohash. So adding one twice
//! is refused at once, where aria2 by itself would hand out a second id and let it fail later, and
//! asking for a torrent needs no list.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use jsonpipe::{Exit, ExitContext};
use manifest::InfoHash;
use secrecy::{ExposeSecret, SecretString};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use swarm::http;
use ureq::Agent;
use ureq::http::Uri;

use crate::torrent::Torrent;

/// What proves to aria2 that we are root.
pub const SECRET: &str = "/run/labtools/aria2.secret";

/// aria2 answers at once, unless the machine is very busy. A wrong secret it answers late, on
/// purpose.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a torrent that is removed may take to be gone: its files are closed by then.
const REMOVAL: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// With how many peers at a time. More only means more half-used connections; a room has fewer
/// hosts.
const PEERS_MAX: &str = "55";

/// What of a torrent's state is asked for.
const KEYS: [&str; 14] = [
    "status",
    "dir",
    "infoHash",
    "totalLength",
    "completedLength",
    "uploadLength",
    "downloadSpeed",
    "uploadSpeed",
    "errorCode",
    "errorMessage",
    "seeder",
    "verifiedLength",
    "verifyIntegrityPending",
    "bittorrent",
];

/// A running aria2.
#[derive(Debug)]
pub struct Rpc {
    agent: Agent,
    url: String,
    secret: SecretString,
}

/// What aria2 says of a torrent.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Download {
    /// What it is doing.
    pub status: State,
    /// Where its file is, or was when it was added.
    pub dir: PathBuf,
    /// Which torrent it is.
    pub info_hash: Option<InfoHash>,
    /// How long its file is.
    #[serde(deserialize_with = "number")]
    pub total_length: u64,
    /// How much of it is there.
    #[serde(deserialize_with = "number")]
    pub completed_length: u64,
    /// How much was sent to others.
    #[serde(deserialize_with = "number")]
    pub upload_length: u64,
    /// Bytes a second.
    #[serde(deserialize_with = "number")]
    pub download_speed: u64,
    /// Bytes a second.
    #[serde(deserialize_with = "number")]
    pub upload_speed: u64,
    /// Why it failed, as a number of aria2's page.
    pub error_code: Option<String>,
    /// The same in words.
    pub error_message: Option<String>,
    /// Whether all of it is there and is offered to others.
    #[serde(default, deserialize_with = "boolean")]
    pub seeder: bool,
    /// What its torrent says.
    bittorrent: Option<Metainfo>,
    /// How far the integrity check is; absent when none is going on.
    verified_length: Option<String>,
    /// Whether an integrity check is going to begin.
    verify_integrity_pending: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metainfo {
    announce_list: Vec<Vec<String>>,
}

/// What a torrent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is checked, fetched or offered.
    Active,
    /// It comes later.
    Waiting,
    /// It was told to pause.
    Paused,
    /// It failed.
    Error,
    /// It ended, and is not offered.
    Complete,
    /// It was told to end.
    Removed,
}

impl Download {
    /// How much of the file the integrity check has read; `None` when no check is going on.
    pub fn verified_bytes(&self) -> Option<u64> {
        match (&self.verified_length, &self.verify_integrity_pending) {
            (Some(length), _) => Some(length.parse().unwrap_or(0)),
            (None, Some(_)) => Some(0),
            (None, None) => None,
        }
    }

    /// Where it is announced.
    pub fn trackers(&self) -> Vec<Uri> {
        let tiers = self
            .bittorrent
            .iter()
            .flat_map(|metainfo| &metainfo.announce_list);
        tiers
            .flatten()
            .filter_map(|address| address.parse().ok())
            .collect()
    }

    /// Whether all of it is there, checked, and offered to others.
    pub fn is_offered(&self) -> bool {
        self.status == State::Active && self.seeder && self.verified_bytes().is_none()
    }

    /// Whether it has come to an end, good or bad.
    fn is_over(&self) -> bool {
        matches!(self.status, State::Error | State::Complete | State::Removed)
    }
}

/// Another host that aria2 is connected to.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its address.
    pub ip: std::net::IpAddr,
    /// Bytes a second that it sends to us, over the last ten seconds or so.
    #[serde(deserialize_with = "number")]
    pub download_speed: u64,
}

/// What aria2 is to believe about a file that is there when its torrent is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nothing: every piece is compared with its hash first.
    Check,
    /// Nothing, and nothing of it need be looked at: all is to be fetched.
    Empty,
    /// That it is whole. Only right after it was verified here, and nobody but root can write to
    /// it.
    Verified,
}

impl Rpc {
    /// For an aria2 at a port of loopback.
    pub fn new(port: u16, secret: SecretString) -> Rpc {
        Rpc {
            agent: http::agent(TIMEOUT),
            url: format!("http://127.0.0.1:{port}/jsonrpc"),
            secret,
        }
    }

    /// Whether it answers, and knows the secret.
    pub fn version(&self) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        self.call::<Version>("aria2.getVersion", &[])
            .map(|version| version.version)
    }

    /// Adds a torrent, whose file is or will be `path`. It is announced every so many seconds, or
    /// without a number as often as the tracker says: then aria2 keeps silent for two minutes when
    /// an announce failed, or brought it no peer within ten seconds.
    pub fn add(
        &self,
        torrent: &Torrent,
        path: &Path,
        trust: Trust,
        interval_seconds: Option<u64>,
    ) -> anyhow::Result<()> {
        let directory = path.parent().and_then(Path::to_str);
        let name = path.file_name().and_then(|name| name.to_str());
        let (Some(directory), Some(name)) = (directory, name) else {
            return Err(Exit::Config.error(format_args!(
                "{}: not a path that aria2 can take",
                path.display()
            )));
        };
        let options = json!({
            "gid": gid(torrent.infohash),
            "dir": directory,
            "index-out": [format!("1={name}")],
            "check-integrity": (trust == Trust::Check).to_string(),
            "bt-seed-unverified": (trust == Trust::Verified).to_string(),
            // Only says that a file may be there; it is not cut.
            "allow-overwrite": (trust == Trust::Empty).to_string(),
            "bt-max-peers": PEERS_MAX,
            "file-allocation": "none",
            "bt-tracker-interval": interval_seconds.unwrap_or(0).to_string(),
            // Until it is told to stop.
            "seed-ratio": "0.0",
        });
        self.call::<String>(
            "aria2.addTorrent",
            &[
                BASE64_STANDARD.encode(&torrent.bytes).into(),
                json!([]),
                options,
            ],
        )
        .map(drop)
    }

    /// The state of a torrent; `None` when aria2 does not have it.
    pub fn download(&self, infohash: InfoHash) -> anyhow::Result<Option<Download>> {
        let answer =
            self.ask::<Download>("aria2.tellStatus", &[gid(infohash).into(), json!(KEYS)])?;
        match answer {
            Ok(download) => Ok(Some(download)),
            Err(message) if message.contains("is not found") => Ok(None),
            Err(message) => Err(refused("aria2.tellStatus", &message)),
        }
    }

    /// The state of every torrent.
    pub fn downloads(&self) -> anyhow::Result<Vec<Download>> {
        let mut downloads: Vec<Download> = self.call("aria2.tellActive", &[json!(KEYS)])?;
        for method in ["aria2.tellWaiting", "aria2.tellStopped"] {
            downloads
                .extend(self.call::<Vec<Download>>(method, &[0.into(), 1000.into(), json!(KEYS)])?);
        }
        Ok(downloads)
    }

    /// The peers of a torrent; none when it is not active.
    pub fn peers(&self, infohash: InfoHash) -> anyhow::Result<Vec<Peer>> {
        Ok(self
            .ask("aria2.getPeers", &[gid(infohash).into()])?
            .unwrap_or_default())
    }

    /// Limits how fast a torrent is fetched, in bytes a second, at once; 0 is no limit.
    pub fn limit(&self, infohash: InfoHash, bytes_per_second: u64) -> anyhow::Result<()> {
        let options = json!({"max-download-limit": bytes_per_second.to_string()});
        self.call::<String>("aria2.changeOption", &[gid(infohash).into(), options])
            .map(drop)
    }

    /// Lets go of all peers of a torrent and announces it as one that begins, at once. What of its
    /// file, at `path`, has arrived stays and is not looked at again, as long as aria2 could note
    /// what that is.
    pub fn announce_again(&self, infohash: InfoHash, path: &Path) -> anyhow::Result<()> {
        let _ = self.ask::<String>("aria2.forcePause", &[gid(infohash).into()])?; // it may have come to its end
        let since = Instant::now();
        loop {
            match self.download(infohash)?.map(|download| download.status) {
                Some(State::Paused) => break,
                Some(State::Active | State::Waiting) if since.elapsed() < REMOVAL => {
                    std::thread::sleep(BETWEEN_LOOKS)
                }
                _ => return Ok(()), // whoever follows it sees what it is
            }
        }
        let check = !crate::store::has_control_file(path);
        let options = json!({"check-integrity": check.to_string(), "allow-overwrite": "false"});
        self.call::<String>("aria2.changeOption", &[gid(infohash).into(), options])?;
        self.call::<String>("aria2.unpause", &[gid(infohash).into()])
            .map(drop)
    }

    /// Ends a torrent without a word to the tracker, and forgets it. Its file is closed, and stays.
    /// Whether it was there.
    pub fn drop_torrent(&self, infohash: InfoHash) -> anyhow::Result<bool> {
        self.remove("aria2.forceRemove", infohash)
    }

    /// Ends a torrent, and tells the tracker that this host is no longer a peer. Whether it was
    /// there.
    pub fn leave(&self, infohash: InfoHash) -> anyhow::Result<bool> {
        self.remove("aria2.remove", infohash)
    }

    fn remove(&self, method: &str, infohash: InfoHash) -> anyhow::Result<bool> {
        let Some(download) = self.download(infohash)? else {
            return Ok(false);
        };
        if !download.is_over() {
            // It may come to an end by itself between the question and this: the loop sees that.
            let _ = self.ask::<String>(method, &[gid(infohash).into()])?;
        }
        let since = Instant::now();
        while let Some(download) = self.download(infohash)? {
            if download.is_over() {
                // Refused for a moment after the end, while aria2 still closes.
                let _ =
                    self.ask::<String>("aria2.removeDownloadResult", &[gid(infohash).into()])?;
            } else if since.elapsed() > REMOVAL {
                return Err(Exit::Unavailable.error("asking aria2 to end a torrent: it does not"));
            } else if since.elapsed() > REMOVAL / 2 {
                let _ = self.ask::<String>("aria2.forceRemove", &[gid(infohash).into()])?;
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        Ok(true)
    }

    /// Tells it to end, after a word to the trackers.
    pub fn shut_down(&self) -> anyhow::Result<()> {
        self.call::<String>("aria2.shutdown", &[]).map(drop)
    }

    fn call<T: DeserializeOwned>(&self, method: &str, parameters: &[Value]) -> anyhow::Result<T> {
        self.ask(method, parameters)?
            .map_err(|message| refused(method, &message))
    }

    /// What a method returns, or why aria2 refused it. Status 69 when it does not answer, 78 when
    /// it does not know the secret.
    fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        parameters: &[Value],
    ) -> anyhow::Result<Result<T, String>> {
        #[derive(Deserialize)]
        struct Answer<T> {
            result: Option<T>,
            error: Option<Refusal>,
        }
        #[derive(Deserialize)]
        struct Refusal {
            message: String,
        }
        let mut all = vec![Value::from(format!(
            "token:{}",
            self.secret.expose_secret()
        ))];
        all.extend_from_slice(parameters);
        let call = json!({"jsonrpc": "2.0", "id": "seedctl", "method": method, "params": all});
        let failed = || format!("asking aria2 ({method})");
        let mut response = self
            .agent
            .post(&self.url)
            .send_json(call)
            .exit(Exit::Unavailable, failed)?;
        let body = response
            .body_mut()
            .with_config()
            .limit(http::ANSWER_MAX_BYTES);
        let answer: Answer<T> = body.read_json().exit(Exit::Unavailable, failed)?;
        match answer {
            Answer { result: Some(result), .. } => Ok(Ok(result)),
            Answer { error: Some(refusal), .. } if refusal.message == "Unauthorized" => Err(Exit::Config.error(format_args!(
                "asking aria2 ({method}): it does not know the secret in {}; end that aria2c, and the next call starts its own",
                SECRET
            ))),
            Answer { error: Some(refusal), .. } => Ok(Err(refusal.message)),
            _ => Err(Exit::Unavailable.error(format_args!("asking aria2 ({method}): what answers is not aria2"))),
        }
    }
}

fn refused(method: &str, message: &str) -> anyhow::Error {
    Exit::Unavailable.error(format_args!("asking aria2 ({method}): {message}"))
}

/// The id of a torrent in aria2: 16 digits.
fn gid(infohash: InfoHash) -> String {
    let mut gid = infohash.to_string();
    gid.truncate(16);
    gid
}

/// aria2 writes numbers as strings.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

/// And booleans.
fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(String::deserialize(deserializer)? == "true")
}
