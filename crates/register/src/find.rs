//! `find`: who had an address at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::path::Path;

use jsonpipe::{Answer, Common, Document, Missing};

use crate::line::{Event, Line};
use crate::report::{Found, Had};
use crate::time::Time;
use crate::{PATH, SECTION, unreadable};

/// Answers with the sessions that had the address then, and with nothing about others.
pub fn find(common: &Common, address: IpAddr, at: Time) -> anyhow::Result<Answer> {
    let read = read(&common.path(PATH), address).map_err(|error| unreadable(common, error))?;
    let now = Time::now();
    let report = Found {
        address: address.to_string(),
        at,
        missing: read.missing(at),
        sessions: read
            .with_address
            .into_iter()
            .filter_map(|line| had(line, address, at, now))
            .collect(),
    };
    let mut document = Document::default();
    document.set(SECTION, &report)?;
    Ok(match report.sessions.is_empty() {
        true => Answer::no(document),
        false => Answer::yes(document),
    })
}

/// The lines of the register about an address.
#[derive(Default)]
struct Read {
    /// The last word on each session that had it: its end, where there is one. In the order of the
    /// register.
    with_address: Vec<Line>,
    /// When the first line was written.
    begins: Option<Time>,
    /// Lines that are none: a power cut tore them.
    torn: u64,
}

impl Read {
    /// Why the answer may not be all of it.
    fn missing(&self, at: Time) -> Vec<Missing> {
        let mut reasons = Vec::new();
        match self.begins {
            None => reasons.push("the register is empty".to_owned()),
            Some(begins) if at < begins => reasons.push(format!("the register begins at {begins}")),
            Some(_) => {}
        }
        if self.torn > 0 {
            reasons.push(format!("lines that cannot be read: {}", self.torn));
        }
        let missing = |reason| Missing {
            key: "sessions".into(),
            reason,
        };
        reasons.into_iter().map(missing).collect()
    }
}

fn read(path: &Path, address: IpAddr) -> io::Result<Read> {
    let (mut read, mut known) = (Read::default(), BTreeMap::new());
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(read),
        opened => BufReader::new(opened?),
    };
    let mut bytes = Vec::new();
    while file.read_until(b'\n', &mut bytes)? > 0 {
        let parsed = Line::parse(&bytes);
        bytes.clear();
        let Some(line) = parsed else {
            read.torn += 1;
            continue;
        };
        read.begins = read.begins.or_else(|| match line.event {
            Event::Pruned => Time::parse(line.ended_before.as_deref()?).ok(),
            _ => line.written_at(),
        });
        let (Event::Start | Event::End, Some(session)) = (line.event, &line.session) else {
            continue;
        };
        match known.get(session) {
            // An end that was seen is more than one that was found.
            Some(index) => {
                let word: &mut Line = &mut read.with_address[*index];
                if word.ended_at.is_none() {
                    *word = line;
                }
            }
            None if has(&line, address) => {
                known.insert(session.clone(), read.with_address.len());
                read.with_address.push(line);
            }
            None => {}
        }
    }
    Ok(read)
}

fn has(line: &Line, address: IpAddr) -> bool {
    addresses(line).any(|had| had == address)
}

fn addresses(line: &Line) -> impl Iterator<Item = IpAddr> {
    let texts = line.addresses.iter().flatten();
    texts.filter_map(|text| text.parse().ok())
}

/// The session, if it ran at the time or may have.
fn had(line: Line, address: IpAddr, at: Time, now: Time) -> Option<Had> {
    let time = |text: &Option<String>| Time::parse(text.as_deref()?).ok();
    let started_at = time(&line.started_at)?;
    let ended_at = time(&line.ended_at);
    let ended_before = time(&line.ended_before);
    let (certain, possible, reason) = match (ended_at, ended_before) {
        (Some(end), _) => {
            // The start by each of two clocks. The clock at the end is the better one, but
            // started_at is in other logs.
            let counted = line
                .duration_seconds
                .map_or(started_at, |seconds| end.before(seconds));
            let reason = "the clock was set during the session";
            (
                (started_at.max(counted), end),
                (started_at.min(counted), end.max(started_at)),
                reason,
            )
        }
        (None, Some(end)) => (
            (started_at, started_at),
            (started_at, end.max(started_at)),
            "it ended between started_at and ended_before",
        ),
        (None, None) => (
            (started_at, started_at),
            (started_at, now.max(started_at)),
            "its end is not recorded; it may still run",
        ),
    };
    let within = |(from, until): (Time, Time)| from <= at && at <= until;
    // Of several addresses the lines do not have the times.
    let of_family = addresses(&line)
        .filter(|had| had.is_ipv4() == address.is_ipv4())
        .count();
    let doubt = if !within(certain) {
        Some(reason)
    } else if of_family > 1 {
        Some("it had other addresses of this family; when it had each is not recorded")
    } else {
        None
    };
    within(possible).then_some(Had {
        session: line.session?,
        user: line.user,
        realm: line.realm,
        machine: line.machine,
        host_id: line.host_id,
        started_at,
        ended_at,
        ended_before,
        duration_seconds: line.duration_seconds,
        ended: line.ended,
        certain: doubt.is_none(),
        reason: doubt,
    })
}
