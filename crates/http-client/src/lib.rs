//! The HTTP client of the tools: the policy of a connection, the CAs that it trusts, and the words
//! for its failures.
//!
//! **Admission rule:** rules that every client of a server follows belong here. Addresses,
//! deadlines, and the meaning of an answer belong to the caller.

mod address;
mod cause;
mod trust;

use std::time::Duration;

use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

pub use address::public;
pub use cause::cause;
pub use trust::{certificates, root_certs};

/// An agent that trusts the public CAs, and gives up after `deadline`.
pub fn agent(deadline: Duration) -> Agent {
    config().timeout_global(Some(deadline)).build().new_agent()
}

/// The configuration of an agent, without a deadline: the caller sets one.
///
/// It uses no proxy of the environment. It follows no redirection, which would take a secret or a
/// report to an address that nobody has configured. The caller judges every status.
pub fn config() -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
}
