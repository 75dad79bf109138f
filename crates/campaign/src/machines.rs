//! The machines' answers: a directory with up to three files a machine, `HOST.status`, `HOST.json`
//! and `HOST.err`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use campus::hosts::is_host_name;
use jsonpipe::{Document, Exit, io_error, shown};
use manifest::InfoHash;
use serde::Deserialize;

use crate::report::State;
use crate::samples::{Seconds, parse_time};

/// The maximum size of a file.
const FILE_MAX_BYTES: u64 = 16 << 20;

/// The maximum length of the last words.
const SAID_MAX_CHARS: usize = 300;

/// The answers of one machine.
#[derive(Debug, Default)]
pub struct Said {
    /// Its state, from `HOST.status`.
    pub state: Option<State>,
    /// The exit status, from `HOST.status`.
    pub status: Option<u8>,
    /// The section `transfer` of `HOST.json`, if it is about this image.
    pub transfer: Option<Transferred>,
    /// The last line of `HOST.err`.
    pub last_words: Option<String>,
}

/// The keys of the section `transfer` that are needed here.
#[derive(Clone, Debug, Deserialize)]
pub struct Transferred {
    infohash: InfoHash,
    /// The bytes from this building.
    pub building_bytes: Option<u64>,
    /// The bytes from outside.
    pub outside_bytes: Option<u64>,
    /// The bytes from the old image.
    pub reused_bytes: Option<u64>,
    /// Whether it was a gateway: it fetched from outside for its building.
    pub gateway: Option<bool>,
    /// Whether it reached only servers.
    pub server_only: Option<bool>,
    started_at: Option<String>,
    complete_at: Option<String>,
}

impl Transferred {
    /// The time it took, if the section contains it.
    pub fn seconds(&self) -> Option<Seconds> {
        parse_time(self.complete_at.as_deref()?)?
            .checked_sub(parse_time(self.started_at.as_deref()?)?)
    }
}

/// Reads the directory. Files with other names are ignored, and invalid content counts as unknown.
///
/// Status 66 when the directory does not exist, 74 when it cannot be read.
pub fn read(directory: &Path, infohash: InfoHash) -> anyhow::Result<BTreeMap<String, Said>> {
    let failed = |error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("reading {}", directory.display()),
        )
    };
    let mut machines: BTreeMap<String, Said> = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let file_name = entry.map_err(failed)?.file_name();
        let Some((name, ending)) = file_name.to_str().and_then(|name| name.rsplit_once('.')) else {
            continue;
        };
        if !is_host_name(name) || !matches!(ending, "status" | "json" | "err") {
            continue;
        }
        let text = read_text(&directory.join(&file_name)).map_err(failed)?;
        let said = machines.entry(name.to_owned()).or_default();
        match ending {
            "status" => {
                let mut words = text.split_ascii_whitespace();
                said.state = words.next().map(State::parse);
                said.status = words.next().and_then(|status| status.parse().ok());
            }
            "json" => said.transfer = transfer(&text, infohash),
            _ => said.last_words = last_line(&text),
        }
    }
    Ok(machines)
}

fn transfer(text: &str, infohash: InfoHash) -> Option<Transferred> {
    let document = Document::parse(text, "transfer").ok()?;
    document
        .read::<Transferred>("transfer")
        .ok()?
        .filter(|transfer| transfer.infohash == infohash)
}

/// Cuts off the end of a longer file, and replaces bytes that are not text.
fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_MAX_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(shown(line).chars().take(SAID_MAX_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_read_and_impossible_values_refused() {
        let directory = tempfile::tempdir().unwrap();
        let transfer = |infohash: &str, bytes: &str| {
            format!(
                r#"{{"transfer":{{"schema":1,"infohash":"{infohash}","building_bytes":{bytes},"outside_bytes":2,"reused_bytes":3}}}}"#
            )
        };
        let ours = "07".repeat(20);
        for (name, text) in [
            ("a.status", "done\n".to_owned()),
            ("a.json", transfer(&ours, "1")),
            ("b.status", "failed 65\n".into()),
            ("b.err", "seedctl: first\nseedctl: last\u{1b}[2J\n\n".into()),
            ("b.json", transfer(&"08".repeat(20), "1")),
            ("c.json", transfer(&ours, "-1")),
            ("c.status", "<b>".into()),
            ("d.e-f.status", "no_link".into()),
            (".x.json.tmp", "{".into()),
            ("-o.status", "done".into()),
            ("wake.txt", "done".into()),
        ] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let machines = read(directory.path(), InfoHash::parse(&ours).unwrap()).unwrap();
        assert_eq!(
            machines.keys().collect::<Vec<_>>(),
            ["a", "b", "c", "d.e-f"]
        );
        assert_eq!(
            machines["a"].transfer.as_ref().unwrap().building_bytes,
            Some(1)
        );
        assert_eq!(
            (machines["b"].state, machines["b"].status),
            (Some(State::Failed), Some(65))
        );
        assert_eq!(
            machines["b"].last_words.as_deref(),
            Some("seedctl: last\u{fffd}[2J")
        );
        assert!(machines["b"].transfer.is_none() && machines["c"].transfer.is_none());
        assert_eq!(
            [machines["c"].state, machines["d.e-f"].state],
            [Some(State::Unknown), Some(State::NoLink)]
        );
    }
}
