//! Sends over HTTPS, only to the collector.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use envelope::{Kind, Opened};
use http_client::{cause, certificates};
use jsonpipe::{Exit, ExitContext};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::Agent;
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use zeroize::Zeroizing;

/// A report of a few KiB takes less on any line; a server that answers slowly cannot delay us
/// longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// The way out where the collector does not take this machine's certificate.
const REFUSED: &str =
    "it does not take this machine's certificate; collector enroll makes a new one";

/// The outcome of sending a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The collector has it (2xx), or already had this id (409).
    Delivered,
    /// The collector refuses it (4xx).
    Refused(String),
    /// The collector could not be reached, or asked to retry later.
    Later {
        /// The reason.
        reason: String,
        /// The wait that the collector asks for (Retry-After).
        asked: Option<Duration>,
    },
}

/// The collector, as described in invcollect.ini and its files.
#[derive(Debug)]
pub struct Collector {
    agent: Agent,
    url: String,
    secret: Option<Secret>,
    /// The path of the trusted certificates.
    authorities: PathBuf,
}

/// Sent in a header, never shown.
struct Secret(Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The contents of the files named in invcollect.ini.
#[derive(Debug)]
pub struct Credentials<'a> {
    /// The only CA certificates that are trusted; one of them must have signed the collector's.
    pub authorities: &'a Pem,
    /// Our certificate and its key, in PEM; `None` where the server asks for none.
    pub client: Option<(&'a Pem, &'a str)>,
    /// The content of the header `Auth`; `None` where the server does not need it.
    pub secret: Option<Zeroizing<String>>,
}

/// A file of certificates.
#[derive(Debug)]
pub struct Pem {
    /// Its path.
    pub path: PathBuf,
    /// Its content.
    pub text: Vec<u8>,
    /// How to get a valid one.
    pub way_out: &'static str,
}

impl Pem {
    /// Status 78 when the file is invalid.
    fn certificates(&self, whose: &str) -> anyhow::Result<Vec<Certificate<'static>>> {
        let Pem {
            path,
            text,
            way_out,
        } = self;
        certificates(text).map_err(|error| {
            Exit::Config.error(format_args!(
                "reading {whose} in {}: {error:#}; {way_out}",
                path.display()
            ))
        })
    }

    /// Status 78 when the certificate, if it is one, is not for `host`: the collector would refuse
    /// every request with it.
    pub fn names(&self, host: &str) -> anyhow::Result<()> {
        let Some(Ok(certificate)) = CertificateDer::pem_slice_iter(&self.text).next() else {
            return Ok(());
        };
        // The object identifier 2.5.4.3, commonName, in DER (RFC 5280, appendix A.1); the type and
        // the length of the text follow.
        let common_name = [0x06, 0x03, 0x55, 0x04, 0x03];
        let is_host =
            |bytes: &[u8]| bytes.starts_with(&common_name) && bytes[7..] == *host.as_bytes();
        if certificate.windows(7 + host.len()).any(is_host) {
            return Ok(());
        }
        let Pem { path, way_out, .. } = self;
        Err(Exit::Config.error(format_args!(
            "reading {}: this certificate is not for {host}; {way_out}",
            path.display()
        )))
    }
}

impl Collector {
    /// Status 78 when a certificate, the key or the secret is invalid.
    pub fn new(url: &str, credentials: Credentials<'_>) -> anyhow::Result<Collector> {
        let authorities = credentials
            .authorities
            .certificates("the collector's authorities")?;
        let mut tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&authorities));
        if let Some((certificate, key)) = credentials.client {
            let chain = certificate.certificates("this host's certificate")?;
            belong_together(&certificate.text, key).map_err(|error| {
                let Pem { path, way_out, .. } = certificate;
                let what = "this host's certificate does not match host.key";
                Exit::Config.error(format_args!(
                    "reading {}: {what} ({error:#}); {way_out}",
                    path.display()
                ))
            })?;
            let key = PrivateKey::from_pem(key.as_bytes())
                .exit(Exit::Config, || "reading this host's key")?;
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
        }
        let secret = credentials
            .secret
            .map(|secret| Zeroizing::new(secret.trim_end().to_owned()));
        if secret.as_ref().is_some_and(|secret| {
            secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic())
        }) {
            return Err(Exit::Config.error(
                "reading the collector's secret: not one line of letters, digits and signs",
            ));
        }
        let agent = http_client::config()
            .tls_config(tls.build())
            .https_only(true)
            .timeout_global(Some(DEADLINE))
            .user_agent(concat!("invcollect/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let authorities = credentials.authorities.path.clone();
        Ok(Collector {
            agent,
            url: url.trim_end_matches('/').to_owned(),
            secret: secret.map(Secret),
            authorities,
        })
    }

    /// Why there is no answer, with the address.
    fn failed(&self, error: &ureq::Error) -> String {
        let server = self.url.parse::<Uri>().ok();
        let host = server.as_ref().and_then(Uri::host).unwrap_or_default();
        let port = server.as_ref().and_then(Uri::port_u16).unwrap_or(443);
        let mut reason = format!("{host}:{port}: {}", cause(error, DEADLINE, REFUSED));
        if reason.contains("UnknownIssuer") {
            reason += &format!(
                ": its certificate is not signed by one of {}",
                self.authorities.display()
            );
        }
        reason
    }

    /// Sends a report with the bytes `whole`.
    pub fn send(&self, report: &Opened<'_>, whole: &[u8]) -> Outcome {
        let (host, sequence) = (&report.seal.host, report.seal.sequence);
        let put = |under: &str| {
            // The name contains the id, so a repetition changes nothing.
            self.agent
                .put(format!("{}/{under}/{host}/{sequence:012}", self.url))
                .content_type("application/jsonl")
                .send(whole)
        };
        let answer = match report.header.kind {
            Kind::Snapshot | Kind::Events => put("reports"),
            Kind::Register => put("register"),
            // This header makes GLPI read JSON.
            Kind::Glpi => self
                .agent
                .post(&self.url)
                .content_type("application/json")
                .header("GLPI-Agent-ID", host)
                .send(report.payload),
            Kind::Text => {
                let mut post = self
                    .agent
                    .post(&self.url)
                    .content_type("text/plain")
                    .header("Uuid", host);
                if let Some(Secret(secret)) = &self.secret {
                    post = post.header("Auth", secret.as_str());
                }
                post.header("Report", format!("{sequence:012}"))
                    .send(report.payload)
            }
        };
        match answer {
            Ok(answer) => judge(answer),
            Err(error) => Outcome::Later {
                reason: self.failed(&error),
                asked: None,
            },
        }
    }
}

/// An explanation of a status.
fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => {
            ": this machine is not enrolled there, or was expelled, or its certificate belongs to another one"
        }
        StatusCode::UNAUTHORIZED => ": the secret is wrong",
        _ => "",
    }
}

/// Whether rustls accepts the pair; otherwise ureq would panic.
fn belong_together(certificate: &[u8], key: &str) -> anyhow::Result<()> {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    config
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_auth_cert(chain, key)?;
    Ok(())
}

fn judge(answer: Response<ureq::Body>) -> Outcome {
    let status = answer.status();
    let retry_after = answer
        .headers()
        .get("Retry-After")
        .and_then(|value| value.to_str().ok());
    let asked = retry_after.and_then(|text| wait(text, SystemTime::now()));
    // Read to the end, so that the connection can be reused. The status is known, whatever happens
    // to the rest.
    let _ = answer
        .into_body()
        .into_reader()
        .take(64 << 10)
        .read_to_end(&mut Vec::new());
    let reason = format!("the collector says {status}{}", hint(status));
    match status {
        StatusCode::CONFLICT => Outcome::Delivered,
        _ if status.is_success() => Outcome::Delivered,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Outcome::Later { reason, asked }
        }
        _ if status.is_client_error() => Outcome::Refused(reason),
        // A redirection is not followed, and does not count as a delivery.
        _ => Outcome::Later { reason, asked },
    }
}

/// Retry-After, RFC 9110 10.2.3: seconds, or a date.
fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = http_date(text)?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the only form that servers may send (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<SystemTime> {
    let (_day, rest) = text.split_once(", ")?;
    let [day, month, year, time, "GMT"] = rest.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = months.iter().position(|name| *name == month)? + 1;
    humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(
            now,
            humantime::parse_rfc3339("1994-11-06T08:49:37Z").unwrap()
        );
        let seconds = |text| wait(text, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(
            seconds("Sun, 06 Nov 1994 08:00:00 GMT"),
            Some(0),
            "it is over"
        );
        assert_eq!(seconds("99999999999999999999999"), Some(u64::MAX));
        for text in [
            "",
            "-1",
            "soon",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "+5",
        ] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
    }
}
