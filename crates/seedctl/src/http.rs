//! HTTP as a client: aria2 on loopback and the tracker.

use std::time::Duration;

use ureq::Agent;

/// The longest answer that is read: aria2 lists its peers and files in less.
pub const ANSWER_MAX_BYTES: u64 = 16 << 20;

/// Goes where it is told to and nowhere else: no proxy of the environment, no redirection, no call without an end.
pub fn agent(timeout: Duration) -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_global(Some(timeout));
    config.build().new_agent()
}
