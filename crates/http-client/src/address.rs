//! Addresses in messages.

use ureq::http::Uri;

/// An address that may be printed: without its name and password, and without its query, which may
/// contain a key.
pub fn public(uri: &Uri) -> String {
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
    fn a_public_address_has_no_secret() {
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
            assert_eq!(public(&address.parse().unwrap()), expected);
        }
    }
}
