//! HTTP as a client: aria2 on loopback and the tracker.

use std::time::Duration;

use ureq::Agent;
use ureq::http::Uri;

/// The longest answer that is read: aria2 lists its peers and files in less.
pub const ANSWER_MAX_BYTES: u64 = 16 << 20;

/// Goes where it is told to and nowhere else: no proxy of the environment, no redirection, no call
/// without an end.
pub fn agent(timeout: Duration) -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_global(Some(timeout));
    config.build().new_agent()
}

/// An address as people are told it: without a name and password in it, and without its query,
/// which may hold a key.
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
