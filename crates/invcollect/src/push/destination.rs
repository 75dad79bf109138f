//! Where reports go, and who this host is there: `[push]` of invcollect.ini, and what the installer left in /persistent.

use std::fs;

use jsonpipe::ini::Configuration;
use jsonpipe::{Common, Exit, ExitContext, io_error};

use super::send::{Collector, Credentials};
use crate::envelope::{Key, read_secret};
use crate::request::{Destination, Expected, Method};

/// Who this host is.
const HOST: &str = "/persistent/inventory/uuid";
/// Signs its reports, and belongs to its certificate.
const KEY: &str = "/persistent/labtools/host.key";
/// Its certificate; `scripts/collector enroll` makes it.
const CERTIFICATE: &str = "/persistent/labtools/host.pem";
/// What the header `Auth` says.
const SECRET: &str = "/persistent/labtools/secrets/collector";

/// The spool holds at least a few reports of the largest size.
const SPOOL_MIN_BYTES: u64 = 1 << 20;

/// What is read before anything is done.
#[derive(Debug)]
pub struct Local {
    /// `[push]`.
    pub destination: Destination,
    /// `host.id`.
    pub host: String,
    /// For signed reports.
    pub key: Option<Key>,
    authorities: Vec<u8>,
    certificate: Option<Vec<u8>>,
    secret: Option<zeroize::Zeroizing<String>>,
}

impl Local {
    /// Status 78 when something is not right, 66 when a file is not there.
    pub fn read(common: &Common) -> anyhow::Result<Local> {
        let path = common.config("invcollect.ini");
        let mut file = Configuration::read(&path)?;
        file.table::<Expected>("expected")?;
        let destination: Option<Destination> = file.section("push")?;
        file.end()?;
        let wrong = |what: &str| Exit::Config.error(format_args!("{}: {what}", path.display()));
        let destination = destination.ok_or_else(|| wrong("no [push]; its url says where reports go"))?;
        if !destination.url.starts_with("https://") || destination.url.parse::<ureq::http::Uri>().is_err() {
            return Err(wrong("push.url: not https://HOST[:PORT][/PATH]"));
        }
        if destination.spool_bytes < SPOOL_MIN_BYTES {
            return Err(wrong("push.spool_bytes: less than 1 MiB"));
        }
        if destination.register && destination.method != Method::Put {
            return Err(wrong("push.register: only by method=put; no other server keeps it for its keeper alone"));
        }
        let read = |path: &std::path::Path| {
            fs::read(path).map_err(|error| io_error(error, Exit::of_read, format_args!("reading {}", path.display())))
        };
        let authorities = read(&common.config(&destination.authorities))?;
        let host = host(common)?;
        let (mut key, mut certificate, mut secret) = (None, None, None);
        match destination.method {
            Method::Put => {
                key = Some(Key::read(&common.path(KEY))?);
                certificate = Some(read(&common.path(CERTIFICATE))?);
            }
            Method::Text => secret = Some(read_secret(&common.path(SECRET))?),
            Method::Glpi => {}
        }
        Ok(Local { destination, host, key, authorities, certificate, secret })
    }

    /// The server, as it is described here.
    pub fn collector(&self) -> anyhow::Result<Collector> {
        let client = self.certificate.as_deref().zip(self.key.as_ref().map(Key::pem));
        let secret = self.secret.clone();
        Collector::new(&self.destination.url, Credentials { authorities: &self.authorities, client, secret })
    }
}

/// Who this host is. It is a name in URLs and of files: status 78 when it cannot be.
fn host(common: &Common) -> anyhow::Result<String> {
    let path = common.path(HOST);
    let text =
        fs::read_to_string(&path).map_err(|error| io_error(error, Exit::of_read, format_args!("reading {}", path.display())))?;
    let host = text.trim();
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = host.len() <= 64
        && host.bytes().next().is_some_and(alphanumeric)
        && host.bytes().all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'.'));
    fits.then(|| host.to_owned()).exit(Exit::Config, || format!("reading {}: not a UUID in lower case", path.display()))
}
