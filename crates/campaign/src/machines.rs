//! The machines' answers: a directory with a file `HOST.json` for each, as `seedctl ask` saves it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use campus::hosts::is_host_name;
use fanout::{Answer, Event};
use jsonpipe::{Exit, io_error};
use manifest::InfoHash;
use serde::Deserialize;

use crate::report::State;
use crate::samples::{Seconds, parse_time};

/// The answer of one machine.
#[derive(Debug, Default)]
pub struct Said {
    /// Its state; absent when the file is not an answer.
    pub state: Option<State>,
    /// The exit status of its command.
    pub status: Option<u8>,
    /// The section `transfer` of its document, if it is about this image.
    pub transfer: Option<Transferred>,
    /// Its last words.
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
    let mut machines = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let file_name = entry.map_err(failed)?.file_name();
        let name = file_name
            .to_str()
            .and_then(|name| name.strip_suffix(".json"));
        let Some(name) = name.filter(|name| is_host_name(name)) else {
            continue;
        };
        let said = match fanout::read(&directory.join(&file_name)).map_err(failed)? {
            None => Said::default(),
            Some(Event::Begun(_)) => Said {
                state: Some(State::Getting),
                ..Said::default()
            },
            Some(Event::Answer(answer)) => Said {
                state: Some(answer.state.into()),
                status: answer.status,
                transfer: transfer(&answer, infohash),
                last_words: answer.said,
            },
        };
        machines.insert(name.to_owned(), said);
    }
    Ok(machines)
}

fn transfer(answer: &Answer, infohash: InfoHash) -> Option<Transferred> {
    answer
        .document()?
        .read::<Transferred>("transfer")
        .ok()?
        .filter(|transfer| transfer.infohash == infohash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_read_and_impossible_values_refused() {
        let directory = tempfile::tempdir().unwrap();
        let done = |infohash: &str, bytes: &str| {
            format!(
                r#"{{"event":"answer","host":"x","state":"done","status":0,"answer":{{"transfer":{{"schema":1,"infohash":"{infohash}","building_bytes":{bytes},"outside_bytes":2,"reused_bytes":3}}}}}}"#
            )
        };
        let ours = "07".repeat(20);
        for (name, text) in [
            ("a.json", done(&ours, "1")),
            ("b.json", r#"{"event":"answer","host":"b","state":"failed","status":65,"said":"seedctl: last"}"#.into()),
            ("c.json", done(&ours, "-1")),
            ("d.e-f.json", r#"{"event":"answer","host":"d.e-f","state":"no_link"}"#.into()),
            ("e.json", r#"{"event":"begun","host":"e"}"#.into()),
            ("f.json", done(&"08".repeat(20), "1")),
            ("g.json", r#"{"event":"answer","host":"g","state":"<b>"}"#.into()),
            (".x.json.tmp", "{".into()),
            ("-o.json", "{}".into()),
            ("wake.txt", "{}".into()),
        ] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let machines = read(directory.path(), InfoHash::parse(&ours).unwrap()).unwrap();
        let states: Vec<_> = machines
            .iter()
            .map(|(name, said)| (name.as_str(), said.state))
            .collect();
        assert_eq!(
            states,
            [
                ("a", Some(State::Done)),
                ("b", Some(State::Failed)),
                ("c", Some(State::Done)),
                ("d.e-f", Some(State::NoLink)),
                ("e", Some(State::Getting)),
                ("f", Some(State::Done)),
                ("g", None),
            ]
        );
        let bytes = |name: &str| Some(machines[name].transfer.as_ref()?.building_bytes);
        assert_eq!(
            [bytes("a"), bytes("c"), bytes("f")],
            [Some(Some(1)), None, None]
        );
        assert_eq!(
            (machines["b"].status, machines["b"].last_words.as_deref()),
            (Some(65), Some("seedctl: last"))
        );
    }
}
