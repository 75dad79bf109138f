//! The part of aria2's JSON-RPC that seedctl needs: adding, following and removing torrents.
//!
//! The id (gid) of a torrent in aria2 is the beginning of its infohash. So adding a torrent twice
//! is refused at once, where aria2 by itself would assign a second id and fail later, and querying
//! a torrent needs no list.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use jsonpipe::{Exit, ExitContext};
use manifest::InfoHash;
use secrecy::{ExposeSecret, SecretString};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Uri;

use crate::torrent::Torrent;

/// The secret that proves to aria2 that the caller is root.
pub const SECRET: &str = "/run/labtools/aria2.secret";

/// aria2 answers at once, unless the machine is very busy. It delays the answer to a wrong secret
/// on purpose.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum length of an answer: aria2's lists of peers and files are shorter.
const ANSWER_MAX_BYTES: u64 = 16 << 20;

/// The maximum time until a removed torrent has closed its files.
const REMOVAL: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The maximum number of peers at a time. More would only mean more half-used connections; a room
/// has fewer hosts.
const PEERS_MAX: &str = "55";

/// The requested keys of a torrent's state.
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

/// The state of a torrent in aria2.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Download {
    /// Its activity.
    pub status: State,
    /// The directory of its file, now or when it was added.
    pub dir: PathBuf,
    /// Its infohash.
    pub info_hash: Option<InfoHash>,
    /// The length of its file.
    #[serde(deserialize_with = "number")]
    pub total_length: u64,
    /// The bytes of the file that are present.
    #[serde(deserialize_with = "number")]
    pub completed_length: u64,
    /// The bytes sent to other hosts.
    #[serde(deserialize_with = "number")]
    pub upload_length: u64,
    /// Bytes per second.
    #[serde(deserialize_with = "number")]
    pub download_speed: u64,
    /// Bytes per second.
    #[serde(deserialize_with = "number")]
    pub upload_speed: u64,
    /// The error, as a number of aria2's manual page.
    pub error_code: Option<String>,
    /// The error in words.
    pub error_message: Option<String>,
    /// Whether the file is complete and is offered to others.
    #[serde(default, deserialize_with = "boolean")]
    pub seeder: bool,
    /// The content of its torrent.
    bittorrent: Option<Metainfo>,
    /// The progress of the integrity check; absent when none is running.
    verified_length: Option<String>,
    /// Whether an integrity check is pending.
    verify_integrity_pending: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metainfo {
    announce_list: Vec<Vec<String>>,
}

/// The activity of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is being checked, fetched or offered.
    Active,
    /// It is queued.
    Waiting,
    /// It is paused.
    Paused,
    /// It failed.
    Error,
    /// It has ended, and is not offered.
    Complete,
    /// It was removed.
    Removed,
}

impl Download {
    /// The bytes that the integrity check has read; `None` when no check is running.
    pub fn verified_bytes(&self) -> Option<u64> {
        match (&self.verified_length, &self.verify_integrity_pending) {
            (Some(length), _) => Some(length.parse().unwrap_or(0)),
            (None, Some(_)) => Some(0),
            (None, None) => None,
        }
    }

    /// The addresses of its trackers.
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

    /// Whether the file is complete, checked, and offered to others.
    pub fn is_offered(&self) -> bool {
        self.status == State::Active && self.seeder && self.verified_bytes().is_none()
    }

    /// Whether it has ended, well or badly.
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
    /// The bytes per second that it sends to us, averaged over about ten seconds.
    #[serde(deserialize_with = "number")]
    pub download_speed: u64,
}

/// How aria2 treats an existing file when its torrent is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It compares every piece with its hash first.
    Check,
    /// It checks nothing and fetches everything.
    Empty,
    /// It takes the file as complete. Only directly after seedctl verified it, while only root can
    /// write to it.
    Verified,
}

impl Rpc {
    /// For the aria2 at this port of loopback.
    pub fn new(port: u16, secret: SecretString) -> Rpc {
        Rpc {
            agent: http_client::agent(TIMEOUT),
            url: format!("http://127.0.0.1:{port}/jsonrpc"),
            secret,
        }
    }

    /// Its version, which also proves that it answers and accepts the secret.
    pub fn version(&self) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        self.call::<Version>("aria2.getVersion", &[])
            .map(|version| version.version)
    }

    /// Adds a torrent, whose file is or will be `path`. It is announced at the given interval in
    /// seconds, or without one at the tracker's interval: then aria2 is silent for two minutes
    /// after an announce that failed, or brought no peer within ten seconds.
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
            // This only allows an existing file; it does not truncate it.
            "allow-overwrite": (trust == Trust::Empty).to_string(),
            "bt-max-peers": PEERS_MAX,
            "file-allocation": "none",
            "bt-tracker-interval": interval_seconds.unwrap_or(0).to_string(),
            // It seeds until it is stopped.
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

    /// The peers of a torrent; empty when it is not active.
    pub fn peers(&self, infohash: InfoHash) -> anyhow::Result<Vec<Peer>> {
        Ok(self
            .ask("aria2.getPeers", &[gid(infohash).into()])?
            .unwrap_or_default())
    }

    /// Sets the download limit of a torrent at once, in bytes per second; 0 means no limit.
    pub fn limit(&self, infohash: InfoHash, bytes_per_second: u64) -> anyhow::Result<()> {
        let options = json!({"max-download-limit": bytes_per_second.to_string()});
        self.call::<String>("aria2.changeOption", &[gid(infohash).into(), options])
            .map(drop)
    }

    /// Drops all peers of a torrent and announces it at once as a new one. The data of its file, at
    /// `path`, stays and is not checked again, as long as aria2 could write its control file.
    pub fn announce_again(&self, infohash: InfoHash, path: &Path) -> anyhow::Result<()> {
        let _ = self.ask::<String>("aria2.forcePause", &[gid(infohash).into()])?; // it may have ended
        let since = Instant::now();
        loop {
            match self.download(infohash)?.map(|download| download.status) {
                Some(State::Paused) => break,
                Some(State::Active | State::Waiting) if since.elapsed() < REMOVAL => {
                    std::thread::sleep(BETWEEN_LOOKS)
                }
                _ => return Ok(()), // the follower sees the state
            }
        }
        let check = !crate::store::has_control_file(path);
        let options = json!({"check-integrity": check.to_string(), "allow-overwrite": "false"});
        self.call::<String>("aria2.changeOption", &[gid(infohash).into(), options])?;
        self.call::<String>("aria2.unpause", &[gid(infohash).into()])
            .map(drop)
    }

    /// Removes a torrent without informing the tracker. Its file is closed, and stays. Returns
    /// whether it was there.
    pub fn drop_torrent(&self, infohash: InfoHash) -> anyhow::Result<bool> {
        self.remove("aria2.forceRemove", infohash)
    }

    /// Removes a torrent and informs the tracker that this host is no longer a peer. Returns
    /// whether it was there.
    pub fn leave(&self, infohash: InfoHash) -> anyhow::Result<bool> {
        self.remove("aria2.remove", infohash)
    }

    fn remove(&self, method: &str, infohash: InfoHash) -> anyhow::Result<bool> {
        let Some(download) = self.download(infohash)? else {
            return Ok(false);
        };
        if !download.is_over() {
            // It may end by itself between the query and this request; the loop handles that.
            let _ = self.ask::<String>(method, &[gid(infohash).into()])?;
        }
        let since = Instant::now();
        while let Some(download) = self.download(infohash)? {
            if download.is_over() {
                // aria2 refuses this for a moment while it still closes the file.
                let _ =
                    self.ask::<String>("aria2.removeDownloadResult", &[gid(infohash).into()])?;
            } else if since.elapsed() > REMOVAL {
                return Err(Exit::Unavailable.error("asking aria2 to end a torrent: it did not"));
            } else if since.elapsed() > REMOVAL / 2 {
                let _ = self.ask::<String>("aria2.forceRemove", &[gid(infohash).into()])?;
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        Ok(true)
    }

    /// Shuts aria2 down, after its last announce to the trackers.
    pub fn shut_down(&self) -> anyhow::Result<()> {
        self.call::<String>("aria2.shutdown", &[]).map(drop)
    }

    fn call<T: DeserializeOwned>(&self, method: &str, parameters: &[Value]) -> anyhow::Result<T> {
        self.ask(method, parameters)?
            .map_err(|message| refused(method, &message))
    }

    /// The result of a method, or aria2's reason to refuse it. Status 69 when aria2 does not
    /// answer, 78 when it rejects the secret.
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
        let body = response.body_mut().with_config().limit(ANSWER_MAX_BYTES);
        let answer: Answer<T> = body.read_json().exit(Exit::Unavailable, failed)?;
        match answer {
            Answer { result: Some(result), .. } => Ok(Ok(result)),
            Answer { error: Some(refusal), .. } if refusal.message == "Unauthorized" => Err(Exit::Config.error(format_args!(
                "asking aria2 ({method}): it rejects the secret in {}; end that aria2c, and the next call starts its own",
                SECRET
            ))),
            Answer { error: Some(refusal), .. } => Ok(Err(refusal.message)),
            _ => Err(Exit::Unavailable.error(format_args!("asking aria2 ({method}): the answer is not aria2's"))),
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
