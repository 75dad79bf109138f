//! `seedctl swarm`: each building's progress, by the tracker.

use std::time::Duration;

use jsonpipe::{Answer, Document, Exit, ExitContext};
use swarm::{ANSWER_MAX_BYTES, Snapshot};
use ureq::http::Uri;

use crate::request::Swarm;

/// The tracker is local or one hop away, so a longer wait means that there is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// `seedctl swarm`: status 69 when there is no tracker or it refuses to answer; 65 when its answer
/// is invalid.
pub fn swarm(options: &Swarm) -> anyhow::Result<Answer> {
    let url = format!("{}/swarms", options.tracker.trim_end_matches('/'));
    let uri: Uri = url.parse().map_err(|_| {
        Exit::Usage.error("--tracker: not an address like http://server.example:6969")
    })?;
    let address = http_client::public(&uri);
    let mut answer = http_client::agent(PATIENCE)
        .get(uri)
        .call()
        .exit(Exit::Unavailable, || format!("asking {address}"))?;
    if !answer.status().is_success() {
        let reason = match answer.status().as_u16() {
            403 => "it answers only requests from networks with role=servers; ask from a server"
                .to_owned(),
            status => format!("http status: {status}"),
        };
        return Err(Exit::Unavailable.error(format_args!("asking {address}: {reason}")));
    }
    let reader = answer.body_mut().with_config().limit(ANSWER_MAX_BYTES);
    let snapshot: Snapshot = reader
        .read_json()
        .exit(Exit::Data, || format!("reading the answer of {address}"))?;
    let mut document = Document::default();
    document.set("swarm", &snapshot)?;
    Ok(Answer::yes(document))
}
