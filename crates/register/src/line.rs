//! A line of the register.

use jsonpipe::Common;
use serde::{Deserialize, Serialize};
use std::fs;

use crate::time::Time;

/// The kind of a line.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A session began.
    Start,
    /// It ended, or was found to have ended.
    End,
    /// A login was refused.
    Refused,
    /// Lines in front of this one were removed.
    Pruned,
}

/// A line. A key that does not belong to its event, or is not known, is absent.
///
/// Times are text here: a line of another release, or of a clock gone wrong, is still a line.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Line {
    /// Its kind.
    pub event: Event,
    /// Names the session, in its start and its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The canonical user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The realm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// The name of this machine in the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The identity of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// Those that the session has had on all its links, of both families.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<String>>,
    /// The base of the user's disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// When the login began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Of a start: the boot of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Of an end that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Of an end that was not: when it was found. Of removed lines: their sessions had ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_before: Option<String>,
    /// Of an end that was seen, by a clock that cannot be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
    /// How.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Why a login was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When a login was refused, or lines were removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Of removed lines: the lines behind the kept ones had this offset...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// ... in the file of this inode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// The length of the kept ones, which follow this line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_bytes: Option<u64>,
    /// The keys that are not known, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
}

/// As `jsonpipe::Missing`, and it can be read.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Missing {
    /// The absent key.
    pub key: String,
    /// Why, in words.
    pub reason: String,
}

impl Line {
    /// With its kind alone.
    pub fn new(event: Event) -> Line {
        Line {
            event,
            session: None,
            user: None,
            realm: None,
            machine: None,
            host_id: None,
            addresses: None,
            base: None,
            started_at: None,
            boot_id: None,
            ended_at: None,
            ended_before: None,
            duration_seconds: None,
            ended: None,
            reason: None,
            at: None,
            offset: None,
            inode: None,
            kept_bytes: None,
            missing: Vec::new(),
        }
    }

    /// Reads one; `None` of a line torn by a power cut, and of an event unknown to this release.
    pub fn parse(bytes: &[u8]) -> Option<Line> {
        serde_json::from_slice(bytes).ok()
    }

    /// With its newline.
    pub fn to_text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// When it was written, by the clock of then.
    pub fn written_at(&self) -> Option<Time> {
        let time = match self.event {
            Event::Start => &self.started_at,
            Event::End if self.ended_at.is_some() => &self.ended_at,
            Event::End => &self.ended_before,
            Event::Refused => &self.at,
            Event::Pruned => return None, // the lines behind it are older
        };
        Time::parse(time.as_deref()?).ok()
    }

    /// Of this machine: its name, and its identity where it has one.
    pub fn on_this_machine(self, common: &Common) -> Line {
        let id = fs::read_to_string(common.path(envelope::HOST_ID)).ok();
        Line {
            machine: kernel("hostname"),
            host_id: id.and_then(|text| Some(envelope::host_id(&text).ok()?.to_owned())),
            ..self
        }
    }
}

/// The boot of this machine.
pub fn boot_id() -> Option<String> {
    kernel("random/boot_id")
}

/// A directory can stand for the machine's disk, but has no kernel: this one's is asked.
fn kernel(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?;
    Some(text.trim_end().to_owned())
}
