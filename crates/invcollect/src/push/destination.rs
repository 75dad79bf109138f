//! The destination of reports, and this host's identity there: `[push]` of invcollect.ini, and the
//! installer's files in /persistent.

use std::path::{Path, PathBuf};

use envelope::Key;
use jsonpipe::{Common, Exit, ExitContext};

use super::send::{Collector, Credentials, Pem};
use crate::request::{Destination, Method};
use crate::settings::{self, Settings};

/// The key that signs reports and belongs to the certificate.
const KEY: &str = "/persistent/labtools/host.key";
/// The certificate; `collector enroll` makes it.
const CERTIFICATE: &str = "/persistent/labtools/host.pem";
const ENROLL: &str = "collector enroll, on the collector, makes it";
/// The content of the header `Auth`.
const SECRET: &str = "/persistent/labtools/secrets/collector";

/// The local files, all read before any other step.
#[derive(Debug)]
pub struct Local {
    /// `[push]`.
    pub destination: Destination,
    /// `host.id`.
    pub host: String,
    /// The key for signed reports.
    pub key: Option<Key>,
    authorities: Pem,
    certificate: Option<Pem>,
    secret: Option<zeroize::Zeroizing<String>>,
}

impl Local {
    /// Status 78 when a file is invalid, 66 when one does not exist.
    pub fn read(common: &Common) -> anyhow::Result<Local> {
        let path = common.config(settings::FILE);
        let destination = Settings::read(&path)?.push;
        let none = || {
            format!(
                "{}: no [push]; its url says where reports go",
                path.display()
            )
        };
        let destination = destination.exit(Exit::Config, none)?;
        let authorities = pem(
            common.config(&destination.authorities),
            "it is the collector's /etc/labtools/collector/ca.pem",
        )?;
        let host = host(common)?;
        let (mut key, mut certificate, mut secret) = (None, None, None);
        match destination.method {
            Method::Put => {
                let path = common.path(KEY);
                must_be_there(&path, "openssl genpkey -algorithm ed25519 makes it")?;
                key = Some(Key::read(&path)?);
                certificate = Some(pem(common.path(CERTIFICATE), ENROLL)?);
            }
            Method::Text => {
                let path = common.path(SECRET);
                must_be_there(
                    &path,
                    "it is the collector's /etc/labtools/collector/secret",
                )?;
                secret = Some(secret_file::read(&path)?);
            }
            Method::Glpi => {}
        }
        Ok(Local {
            destination,
            host,
            key,
            authorities,
            certificate,
            secret,
        })
    }

    /// The server with these settings.
    pub fn collector(&self) -> anyhow::Result<Collector> {
        let client = self
            .certificate
            .as_ref()
            .zip(self.key.as_ref().map(Key::pem));
        let secret = self.secret.clone();
        let collector = Collector::new(
            &self.destination.url,
            Credentials {
                authorities: &self.authorities,
                client,
                secret,
            },
        )?;
        self.certificate
            .as_ref()
            .map_or(Ok(()), |certificate| certificate.names(&self.host))?;
        Ok(collector)
    }
}

/// The host's id. It is part of URLs and file names: status 78 when it is unsuitable.
fn host(common: &Common) -> anyhow::Result<String> {
    let path = common.path(envelope::HOST_ID);
    must_be_there(&path, "no id of this machine; the installer writes it")?;
    let text = jsonpipe::read_text(&path)?;
    let wrong = |what| Exit::Config.error(format_args!("reading {}: {what}", path.display()));
    envelope::host_id(&text).map(str::to_owned).map_err(wrong)
}

fn pem(path: PathBuf, way_out: &'static str) -> anyhow::Result<Pem> {
    must_be_there(&path, way_out)?;
    let text = jsonpipe::read(&path)?;
    Ok(Pem {
        path,
        text,
        way_out,
    })
}

/// Status 66 when the file does not exist.
fn must_be_there(path: &Path, way_out: &str) -> anyhow::Result<()> {
    let is_missing = path.try_exists().is_ok_and(|there| !there);
    if is_missing {
        Err(Exit::NoInput.error(format_args!(
            "reading {}: no such file; {way_out}",
            path.display()
        )))
    } else {
        Ok(())
    }
}
