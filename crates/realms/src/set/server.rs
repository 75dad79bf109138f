//! The server that the set of a federation is on.

use std::io::Read;
use std::time::{Duration, Instant};

use http_client::cause;
use jsonpipe::ini::Configuration;
use jsonpipe::{Common, Exit};
use serde::Deserialize;
use ureq::Agent;
use ureq::http::{StatusCode, Uri};
use ureq::tls::TlsConfig;

/// The configuration, below the configuration directory.
const FILE: &str = "nm-8021x-login.ini";

/// For one file of at most some megabytes, to its last byte: a server that drips it holds nobody
/// longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// For all of them.
const LONGEST_UPDATE: Duration = Duration::from_secs(15 * 60);

/// The way out where the server wants a client's certificate.
const REFUSED: &str = "it asks for a client's certificate, and update-realms has none; let the server give the set to everybody";

/// `[update]` of nm-8021x-login.ini.
#[derive(Debug, Deserialize)]
struct Update {
    /// The address of the directory.
    url: String,
    /// The CA of the server's certificate, instead of those of the web; relative to the
    /// configuration directory, or absolute.
    ca_cert: Option<String>,
}

/// The server, for one update.
#[derive(Debug)]
pub struct Server {
    agent: Agent,
    /// Ends in a slash.
    url: String,
    /// For one file.
    patience: Duration,
    /// For all of them.
    until: Instant,
}

impl Server {
    /// The one that nm-8021x-login.ini names. Status 66 when it names none, 78 when it is wrong.
    pub fn of(common: &Common) -> anyhow::Result<Server> {
        let path = common.config(FILE);
        jsonpipe::ini::require(&path, "put [update] with url=https://... there")?;
        let mut file = Configuration::read(&path)?;
        let update = file.section::<Update>("update")?;
        file.end()?;
        let wrong = |why: &str| Exit::Config.error(format_args!("{}: {why}", path.display()));
        let update = update.ok_or_else(|| wrong("no [update]; put url=https://... there"))?;
        let url: Option<Uri> = update.url.parse().ok();
        let is_plain = url.is_some_and(|url| {
            url.query().is_none()
                && url
                    .authority()
                    .is_some_and(|authority| !authority.as_str().contains('@'))
        });
        if !update.url.starts_with("https://") || !is_plain {
            return Err(wrong("update.url: not https://HOST[:PORT][/PATH]"));
        }
        let tls = TlsConfig::builder();
        let tls = match &update.ca_cert {
            None => tls,
            Some(ca_cert) => {
                tls.root_certs(http_client::root_certs(&match ca_cert.strip_prefix('/') {
                    Some(_) => common.path(ca_cert),
                    None => common.config(ca_cert),
                })?)
            }
        };
        let agent = http_client::config()
            .tls_config(tls.build())
            .https_only(true)
            .user_agent(concat!("nm-8021x-login/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Server {
            agent,
            url: update.url.trim_end_matches('/').to_owned() + "/",
            patience: PATIENCE,
            until: Instant::now() + LONGEST_UPDATE,
        })
    }

    /// A file of it, of at most so many bytes, all in memory.
    ///
    /// Status 69 when the server does not give it, 75 when that takes too long, 65 when there is
    /// more of it.
    pub fn get(&self, name: &str, max_bytes: u64) -> anyhow::Result<Vec<u8>> {
        let url = format!("{}{name}", self.url);
        let patience = self
            .patience
            .min(self.until.saturating_duration_since(Instant::now()));
        if patience.is_zero() {
            return Err(Exit::TemporaryFailure.error(format_args!(
                "fetching {url}: the update takes longer than {} minutes",
                LONGEST_UPDATE.as_secs() / 60
            )));
        }
        let failed = |error: ureq::Error| {
            let exit = match error {
                ureq::Error::Timeout(_) => Exit::TemporaryFailure,
                _ => Exit::Unavailable,
            };
            let cause = cause(&error, patience, REFUSED);
            exit.error(format_args!("fetching {url}: {cause}"))
        };
        let request = self.agent.get(&url).header("accept-encoding", "identity");
        let request = request.config().timeout_global(Some(patience)).build();
        let answer = request.call().map_err(failed)?;
        match answer.status() {
            StatusCode::OK => {}
            status => {
                let hint = if status.is_redirection() {
                    "; no redirection is followed, put the last address into url"
                } else {
                    ""
                };
                return Err(Exit::Unavailable.error(format_args!(
                    "fetching {url}: the server says {status}{hint}"
                )));
            }
        }
        let mut bytes = Vec::new();
        answer
            .into_body()
            .into_reader()
            .take(max_bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(ureq::Error::from(error)))?;
        if bytes.len() as u64 > max_bytes {
            return Err(Exit::Data.error(format_args!(
                "fetching {url}: longer than {max_bytes} bytes"
            )));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    /// A server that drips an answer without end, without TLS.
    fn dripping(until: Instant) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        Server {
            agent: Agent::new_with_defaults(),
            url: format!("http://{address}/"),
            patience: Duration::from_millis(100),
            until,
        }
    }

    #[test]
    fn a_server_that_drips_ends_by_its_time() {
        let soon = Instant::now() + LONGEST_UPDATE;
        let error = dripping(soon).get("realms.json", 1 << 20).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::TemporaryFailure, "{error:#}");
        assert!(
            format!("{error:#}").contains("timeout: no answer within"),
            "{error:#}"
        );
        let error = dripping(Instant::now()).get("realms.json", 9).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::TemporaryFailure);
        assert!(
            format!("{error:#}").ends_with("longer than 15 minutes"),
            "{error:#}"
        );
    }
}
