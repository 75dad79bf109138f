//! invcollect.ini.

use std::path::Path;

use jsonpipe::Exit;
use jsonpipe::ini::Configuration;
use ureq::http::Uri;

use crate::request::{Destination, Method};

/// The file below the configuration directory.
pub const FILE: &str = "invcollect.ini";
/// The spool holds at least a few reports of the largest size.
const SPOOL_MIN_BYTES: u64 = 1 << 20;

/// The content of the file.
#[derive(Debug, Default)]
pub struct Settings {
    /// The destination of reports.
    pub push: Option<Destination>,
}

impl Settings {
    /// Reads the file; the default when it does not exist. Status 78 when it is invalid.
    pub fn read(path: &Path) -> anyhow::Result<Settings> {
        let mut file = Configuration::read(path)?;
        let settings = Settings {
            push: file.section("push")?,
        };
        file.end()?;
        match settings.push.as_ref().map(check) {
            Some(Err(wrong)) => {
                Err(Exit::Config.error(format_args!("{}: {wrong}", path.display())))
            }
            _ => Ok(settings),
        }
    }
}

fn check(push: &Destination) -> Result<(), &'static str> {
    let url: Option<Uri> = push.url.parse().ok();
    // A password here would appear in every error; it has its own file.
    let is_plain = url
        .as_ref()
        .and_then(Uri::authority)
        .is_some_and(|authority| !authority.as_str().contains('@'));
    if !push.url.starts_with("https://") || !is_plain {
        return Err("push.url: not https://HOST[:PORT][/PATH]");
    }
    if push.spool_bytes < SPOOL_MIN_BYTES {
        return Err("push.spool_bytes: less than 1 MiB");
    }
    if push.register && push.method != Method::Put {
        return Err(
            "push.register: only by method=put; no other server keeps it for its keeper alone",
        );
    }
    Ok(())
}
