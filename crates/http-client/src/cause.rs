//! The reason why a server did not answer, in words for its technician.

use std::io::ErrorKind;
use std::time::Duration;

use ureq::Error;

/// The cause of an error, without the library's jargon, and with the way out where there is one.
///
/// `refused` is the caller's way out where the server does not take the client's certificate, or
/// misses one.
pub fn cause(error: &Error, patience: Duration, refused: &str) -> String {
    match error {
        Error::Timeout(_) => {
            return format!("timeout: no answer within {} seconds", patience.as_secs());
        }
        Error::HostNotFound => {
            return "no such host; look at the url, and at this machine's name servers".into();
        }
        // The system's own message, with its number.
        Error::Io(error) if error.raw_os_error().is_none() && is_cut(error.kind()) => {
            return "the connection was cut before the answer; look at the server's error log"
                .into();
        }
        Error::Protocol(error) => {
            return format!("the answer is no HTTP ({error}); check which program listens there");
        }
        _ => {}
    }
    let said = match error {
        Error::Io(error) => error.to_string(), // without the library's "io:" in front
        error => error.to_string(),
    };
    // A link to a library's documentation is of no use to a technician.
    let said = said
        .split(": https://")
        .next()
        .unwrap_or_default()
        .to_owned();
    if said.contains("received fatal alert") && said.contains("ertificate") {
        return format!("{said}: {refused}");
    }
    let hint = if ["Expired", "expired", "NotValidYet", "not valid yet"]
        .iter()
        .any(|word| said.contains(word))
    {
        ": its certificate is out of date, or this machine's clock is wrong"
    } else if said.contains("corrupt message") {
        ": what listens there does not speak TLS"
    } else {
        ""
    };
    said + hint
}

fn is_cut(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_cause_is_for_a_technician() {
        let cut = "peer closed connection without sending TLS close_notify: https://docs.rs/rustls/latest/rustls/manual/index.html";
        let other = "no way: https://docs.rs/x";
        for (error, expected) in [
            (
                Error::Timeout(ureq::Timeout::Global),
                "timeout: no answer within 30 seconds",
            ),
            (
                Error::HostNotFound,
                "no such host; look at the url, and at this machine's name servers",
            ),
            (
                Error::Io(io::Error::new(ErrorKind::UnexpectedEof, cut)),
                "the connection was cut before the answer; look at the server's error log",
            ),
            (
                Error::Io(io::Error::from_raw_os_error(111)),
                "Connection refused (os error 111)",
            ),
            (Error::Io(io::Error::other(other)), "no way"),
            (
                Error::Rustls(rustls::Error::InvalidCertificate(
                    rustls::CertificateError::Expired,
                )),
                "rustls: invalid peer certificate: Expired: its certificate is out of date, or this machine's clock is wrong",
            ),
            (
                Error::Rustls(rustls::Error::AlertReceived(
                    rustls::AlertDescription::CertificateExpired,
                )),
                "rustls: received fatal alert: CertificateExpired: make a new one",
            ),
        ] {
            let patience = Duration::from_secs(30);
            assert_eq!(cause(&error, patience, "make a new one"), expected);
        }
    }
}
