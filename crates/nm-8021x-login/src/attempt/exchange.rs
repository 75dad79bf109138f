//! What the supplicant tells of an EAP exchange, and why it or NetworkManager says a login failed.
//!
//! The supplicant's signal `EAP` has a status and a parameter (wpa_supplicant's src/eap_peer); each
//! cause leaves another row of them. nm-8021x-login(8) has the table of all reasons.

use std::time::{Instant, SystemTime};

use jsonpipe::{Exit, timestamp};

use crate::network::network_manager;
use crate::report::Reason;

/// A refusal, and what the supplicant said of it beyond the reason.
pub type Refusal = (Reason, Option<String>);

/// What the supplicant has told of one link since its profile was activated.
#[derive(Debug, Default)]
pub struct Heard {
    /// The exchange that is under way; `None` before the supplicant has begun one.
    exchange: Option<Exchange>,
    /// Somebody on the link speaks 802.1X.
    pub asked: bool,
    /// When something was heard last.
    pub last_word: Option<Instant>,
    /// An exchange ended with nothing but a failure.
    turned_away: bool,
    /// The switch was asked again after that.
    asked_again: bool,
    /// The subject of the certificate that the server showed last.
    pub server_subject: Option<String>,
    /// When the supplicant gave its verdict.
    pub verdict: Option<Instant>,
    /// The verdict, if it is no.
    pub refused: Option<Refusal>,
}

/// One EAP exchange.
#[derive(Debug, Default)]
struct Exchange {
    /// The server proposed a method.
    proposed: bool,
    /// The server's certificate is the realm's: what follows is inside the tunnel.
    trusted: bool,
    /// Why the server's certificate is not.
    distrusted: Option<String>,
    /// A TLS alert, of either side, that ended the tunnel.
    alert: Option<String>,
}

impl Heard {
    /// Whether an exchange is under way.
    pub fn in_exchange(&self) -> bool {
        self.exchange.is_some()
    }

    /// Whether the server may have the password, and its verdict is due.
    pub fn is_in_tunnel(&self) -> bool {
        self.exchange
            .as_ref()
            .is_some_and(|exchange| exchange.trusted)
    }

    /// The switch is asked to begin again.
    pub fn asking_again(&mut self) {
        self.asked_again = self.turned_away;
    }

    /// The signal `EAP`. A failure counts only for what was asked before it.
    pub fn eap(&mut self, status: &str, parameter: &str) {
        self.last_word = Some(Instant::now());
        if status == "started" {
            self.exchange = Some(Exchange::default());
            self.asked = true;
        }
        // A switch also sends a failure to a port that is silent, and after our own EAPOL-Logoff:
        // it is the answer to nothing.
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        match (status, parameter) {
            ("accept proposed method" | "refuse proposed method", _) => exchange.proposed = true,
            ("remote certificate verification", "success") => exchange.trusted = true,
            ("remote certificate verification", why) => exchange.distrusted = Some(why.to_owned()),
            ("local TLS alert" | "remote TLS alert", alert) if alert != "close notify" => {
                exchange.alert = Some(alert.to_owned())
            }
            ("completion", "success") => self.verdict = Some(Instant::now()),
            ("completion", _) => {
                let ended = self.exchange.take().unwrap_or_default();
                self.refused = ended.refusal(self.asked_again);
                self.verdict = self.refused.is_some().then(Instant::now);
                self.turned_away = true;
            }
            _ => {}
        }
    }
}

impl Exchange {
    /// Why it failed. `None` where the failure may be a leftover of what was before.
    fn refusal(self, asked_again: bool) -> Option<Refusal> {
        match self {
            Exchange {
                distrusted: Some(why),
                ..
            } => Some(distrust(why)),
            Exchange {
                alert: Some(alert), ..
            } => Some((Reason::NoAgreement, Some(alert))),
            Exchange { trusted: true, .. } => Some((Reason::Rejected, None)),
            Exchange { proposed: true, .. } => Some((Reason::NoAgreement, None)),
            // Leftovers, or no server knows the realm: asked again, the one does not come again, the
            // other does.
            _ => asked_again.then_some((Reason::RealmRejected, None)),
        }
    }
}

/// Why a server's certificate was not accepted, in the words of OpenSSL and of wpa_supplicant's
/// src/crypto/tls_openssl.c.
fn distrust(why: String) -> Refusal {
    let words = why.to_ascii_lowercase();
    if words.contains("expired") || words.contains("not yet valid") {
        // The one cause that may be this computer's fault.
        let now = timestamp::rfc3339(SystemTime::now());
        let detail = format!("{why}; by this computer's clock it is {now}");
        return (Reason::ServerExpired, Some(detail));
    }
    if words.contains("mismatch") {
        return (Reason::ServerWrongName, Some(why));
    }
    (Reason::ServerNotTrusted, Some(why))
}

/// What it means for a login that its device stopped for this NMDeviceStateReason: why it is
/// refused (`None` where that is for the supplicant to say), or the status it ends with.
pub fn stopped(reason: u32) -> Result<Option<Reason>, (Exit, &'static str)> {
    Err(match reason {
        36 | 40 => return Ok(Some(Reason::NoCarrier)), // the device is gone, or its cable
        7 => (
            Exit::Unavailable,
            "NetworkManager took no password from its secret agent",
        ),
        9 => (
            Exit::Unavailable,
            "wpa_supplicant did not take the profile; its log says why",
        ),
        10 => (
            Exit::Unavailable,
            "wpa_supplicant ended; start it, and try again",
        ),
        3 => (
            Exit::TemporaryFailure,
            "NetworkManager no longer manages the device; see nmcli device",
        ),
        37 => (
            Exit::TemporaryFailure,
            "the machine went to sleep; try again",
        ),
        38 | network_manager::ENDED_BY_USER | network_manager::ENDED_BY_OTHER => (
            Exit::TemporaryFailure,
            "another program ended the login; try again",
        ),
        // 8 and 11, of the supplicant: no answer in NetworkManager's time. The others come after
        // the verdict.
        _ => return Ok(None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the supplicant was seen to say, and what it means.
    fn refused(said: &[(&str, &str)]) -> Option<Refusal> {
        let mut heard = Heard::default();
        said.iter()
            .for_each(|(status, parameter)| heard.eap(status, parameter));
        heard.refused
    }

    const STARTED: (&str, &str) = ("started", "");
    const ACCEPTED: (&str, &str) = ("accept proposed method", "TTLS");
    const TRUSTED: (&str, &str) = ("remote certificate verification", "success");
    const FAILED: (&str, &str) = ("completion", "failure");

    #[test]
    fn rejected_is_what_was_asked_for_in_the_tunnel_and_nothing_else() {
        let detail = |words: &str| Some(words.to_owned());
        let local = |alert| ("local TLS alert", alert);
        assert_eq!(
            refused(&[STARTED, ACCEPTED, TRUSTED, FAILED]),
            Some((Reason::Rejected, None))
        );
        assert_eq!(
            refused(&[STARTED, ACCEPTED, TRUSTED, local("close notify"), FAILED]),
            Some((Reason::Rejected, None))
        );
        assert_eq!(
            refused(&[STARTED, ACCEPTED, FAILED]),
            Some((Reason::NoAgreement, None))
        );
        assert_eq!(
            refused(&[STARTED, ("refuse proposed method", "MD5"), FAILED]),
            Some((Reason::NoAgreement, None))
        );
        assert_eq!(
            refused(&[STARTED, ACCEPTED, local("protocol version"), FAILED]),
            Some((Reason::NoAgreement, detail("protocol version")))
        );
        // A server that wants a certificate of ours says so only after it has shown its own.
        assert_eq!(
            refused(&[
                STARTED,
                ACCEPTED,
                TRUSTED,
                ("remote TLS alert", "handshake failure"),
                FAILED
            ]),
            Some((Reason::NoAgreement, detail("handshake failure")))
        );
    }

    #[test]
    fn the_faults_of_a_certificate_are_told_apart() {
        for (words, reason) in [
            ("certificate has expired", Reason::ServerExpired),
            ("certificate is not yet valid", Reason::ServerExpired),
            ("Domain suffix mismatch", Reason::ServerWrongName),
            (
                "unable to get local issuer certificate",
                Reason::ServerNotTrusted,
            ),
        ] {
            let verified = ("remote certificate verification", words);
            let (found, detail) = refused(&[STARTED, ACCEPTED, verified, FAILED]).unwrap();
            assert_eq!(found, reason);
            assert!(detail.unwrap().starts_with(words));
        }
    }

    #[test]
    fn a_failure_counts_for_its_own_exchange() {
        assert_eq!(refused(&[FAILED, FAILED, FAILED]), None);
        assert_eq!(refused(&[FAILED, STARTED, ACCEPTED, TRUSTED]), None);
        assert_eq!(refused(&[STARTED, FAILED]), None, "a leftover, perhaps");
        assert_eq!(
            refused(&[STARTED, FAILED, STARTED, FAILED, STARTED, FAILED]),
            None,
            "more leftovers; nobody asked for them"
        );
        assert_eq!(
            refused(&[STARTED, FAILED, STARTED, ACCEPTED, TRUSTED, FAILED]),
            Some((Reason::Rejected, None))
        );
        let mut heard = Heard::default();
        [STARTED, FAILED]
            .iter()
            .for_each(|(status, parameter)| heard.eap(status, parameter));
        heard.asking_again();
        [STARTED, FAILED]
            .iter()
            .for_each(|(status, parameter)| heard.eap(status, parameter));
        assert_eq!(heard.refused, Some((Reason::RealmRejected, None)));
        // The certificate of an exchange that was broken off says nothing of the next one.
        assert_eq!(
            refused(&[STARTED, ACCEPTED, TRUSTED, STARTED, ACCEPTED, FAILED]),
            Some((Reason::NoAgreement, None))
        );
    }
}
