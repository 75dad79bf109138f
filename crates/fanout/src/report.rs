//! Output: the form of an answer, on standard output and in the files `HOST.json`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use jsonpipe::Document;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The document of a machine, its text fit to be shown.
pub type Object = Map<String, Value>;

/// The maximum size of a file: two answers of 1 MiB, of which numbers can become four times as long.
const FILE_MAX_BYTES: u64 = 10 << 20;

/// A line of `seedctl ask`. With `--save`, the last one about a machine is its `HOST.json`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// COMMAND ended with 0, and the one of `--wait` follows.
    Begun(Begun),
    /// The result of a machine.
    Answer(Answer),
}

/// A machine that has begun.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Begun {
    /// The machine.
    pub host: String,
    /// The document that COMMAND printed, if it printed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Object>,
}

/// The result of a machine.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Answer {
    /// The machine.
    pub host: String,
    /// Its state.
    pub state: State,
    /// The exit status of its last command; absent when that did not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u8>,
    /// With `--wait`, the document that COMMAND printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Object>,
    /// The document that its last command printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Object>,
    /// The last words on standard error, also of ssh; absent when it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}

/// The state of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its last command ended with 0, and the answer is the expected one.
    Done,
    /// The command failed, the answer is not the expected one, or the fault is of this server.
    Failed,
    /// It refuses, by status 65 or 78.
    Refused,
    /// Something else is at work there, by status 75.
    InUse,
    /// It answered at first, but no longer.
    Lost,
    /// ssh answers, but the command is silent, or does not end.
    Hung,
    /// ssh answers, but refuses the server.
    NoLogin,
    /// ssh does not answer.
    Unreachable,
    /// The same, and it answers to ping. `wake-lab` writes this one and the next two.
    NoAgent,
    /// It answers on the wire, but not to ping.
    NoPing,
    /// Its address does not answer on the wire.
    NoLink,
}

impl Answer {
    /// The machine's document, if the answer is an object of sections.
    pub fn document(&self) -> Option<Document> {
        let text = serde_json::to_string(self.answer.as_ref()?).ok()?;
        Document::parse(&text, "").ok()
    }
}

/// Reads a file `HOST.json`; `None` when its content is something else.
pub fn read(path: &Path) -> io::Result<Option<Event>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_MAX_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes).ok())
}
