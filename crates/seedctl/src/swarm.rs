//! `seedctl swarm`: how far each building is, by the tracker.

use std::time::Duration;

use jsonpipe::{Answer, Document, Exit, ExitContext};

use crate::report::Snapshot;
use crate::request::Swarm;

/// The tracker is on this machine or next to it: who waits longer has no tracker.
const PATIENCE: Duration = Duration::from_secs(10);

/// More than this is not what a tracker of one campus says.
const ANSWER_MAX_BYTES: u64 = 16 << 20;

/// `seedctl swarm`: status 69 when there is no tracker, or one that does not tell us; 65 when it says something else.
pub fn swarm(options: &Swarm) -> anyhow::Result<Answer> {
    let url = format!("{}/swarms", options.tracker.trim_end_matches('/'));
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).max_redirects(0).build().into();
    let mut answer = agent.get(&url).call().exit(Exit::Unavailable, || format!("asking {url}"))?;
    let reader = answer.body_mut().with_config().limit(ANSWER_MAX_BYTES);
    let snapshot: Snapshot = reader.read_json().exit(Exit::Data, || format!("reading the answer of {url}"))?;
    let mut document = Document::default();
    document.set("swarm", &snapshot)?;
    Ok(Answer::yes(document))
}
