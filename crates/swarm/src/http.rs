//! HTTP as a client: aria2 on loopback and the tracker.

use std::time::Duration;

use ureq::Agent;
use ureq::http::Uri;

/// The maximum length of an answer: aria2's lists of peers and files are shorter.
pub const ANSWER_MAX_BYTES: u64 = 16 << 20;

/// An agent without a proxy of the environment, without redirections, and with a time limit.
pub fn agent(timeout: Duration) -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_global(Some(timeout));
    config.build().new_agent()
}

/// An address in printable form: without its name and password, and without its query, which may
/// contain a key.
pub fn told(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!(
        "{}://{host}{}",
        uri.scheme_str().unwrap_or("http"),
        uri.path()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_its_secrets() {
        for (address, expected) in [
            (
                "http://10.0.0.2:6969/announce",
                "http://10.0.0.2:6969/announce",
            ),
            (
                "http://user:secret@tracker.example:6969/announce?passkey=secret",
                "http://tracker.example:6969/announce",
            ),
            (
                "http://a@b:secret@[2001:db8::1]/x",
                "http://[2001:db8::1]/x",
            ),
        ] {
            assert_eq!(told(&address.parse().unwrap()), expected);
        }
    }
}
