//! The tracker's samples over time: the bytes that every host still lacked.
//!
//! A host announces itself at intervals. The missing bytes are taken at the times of its announces,
//! with straight lines in between; curves and rates are computed from these lines. The downloaded
//! bytes that it announces are not used: they restart whenever its client does.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use campus::Role;
use jsonpipe::{Document, Exit, io_error, timestamp};
use manifest::InfoHash;
use swarm::{Snapshot, SwarmHost};

/// The maximum length of a line: the same as for a document.
const LINE_MAX_BYTES: u64 = 16 << 20;

/// Seconds since 1970.
pub type Seconds = u64;

/// All samples of one torrent.
#[derive(Debug, Default)]
pub struct Samples {
    /// The times of the first and the last sample.
    pub span: Option<(Seconds, Seconds)>,
    /// The hosts that announced themselves, without servers.
    pub hosts: BTreeMap<IpAddr, Announced>,
    /// The bytes that the servers sent.
    pub server_bytes: u64,
    /// Per building and time, the number of hosts that had all of it. A building missing in a
    /// sample has 0.
    pub seeders: BTreeMap<String, Vec<(Seconds, u64)>>,
    /// The number of lines that are not a snapshot of the tracker.
    pub bad_lines: u64,
    servers: BTreeMap<IpAddr, Counter>,
}

/// The announces of one host.
#[derive(Debug)]
pub struct Announced {
    /// The building, according to the tracker.
    pub building: String,
    /// The room, according to the tracker.
    pub room: String,
    /// The role of its network.
    pub role: Role,
    /// Whether the tracker ever introduced it to peers outside of its building.
    pub gateway: bool,
    /// The time of its first announce.
    pub first_seen: Seconds,
    /// The time when it had all of it.
    pub complete: Option<Seconds>,
    /// The missing bytes at each time: the times ascend, the bytes descend.
    left: Vec<(Seconds, u64)>,
}

/// A counter that restarts when its client does.
#[derive(Debug, Default)]
struct Counter {
    before: u64,
    last: u64,
}

impl Counter {
    /// Takes the current reading.
    fn add(&mut self, shows: u64) {
        if shows < self.last {
            self.before = self.before.saturating_add(self.last);
        }
        self.last = shows;
    }

    fn sum(&self) -> u64 {
        self.before.saturating_add(self.last)
    }
}

impl Samples {
    /// Reads a file of `seedctl swarm` output, one document per line. Invalid lines are only
    /// counted: status 66 and 74 refer to the file itself.
    pub fn read(path: &Path, infohash: InfoHash) -> anyhow::Result<Samples> {
        let failed = |error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", path.display()),
            )
        };
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut samples = Samples::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = (&mut file)
                .take(LINE_MAX_BYTES)
                .read_until(b'\n', &mut line)
                .map_err(failed)?;
            if length == 0 {
                return Ok(samples);
            }
            samples.add_line(&line, infohash);
        }
    }

    fn add_line(&mut self, line: &[u8], infohash: InfoHash) {
        let snapshot = str::from_utf8(line).ok().and_then(|text| {
            let document = Document::parse(text, "swarm").ok()?;
            document.read::<Snapshot>("swarm").ok()?
        });
        let added = snapshot.and_then(|snapshot| self.add(&snapshot, infohash));
        if added.is_none() {
            self.bad_lines += 1;
        }
    }

    /// Returns `None`, without adding anything, when the time is invalid or earlier than the last
    /// one.
    fn add(&mut self, snapshot: &Snapshot, infohash: InfoHash) -> Option<()> {
        let at = parse_time(&snapshot.at)?;
        let (first, last) = self.span.unwrap_or((at, at));
        if at < last {
            return None;
        }
        self.span = Some((first, at));
        let mut complete: BTreeMap<&str, u64> = BTreeMap::new();
        for swarm in snapshot
            .swarms
            .iter()
            .filter(|swarm| swarm.infohash == infohash)
        {
            for building in &swarm.buildings {
                for host in &building.hosts {
                    if host.role == Role::Servers {
                        self.servers
                            .entry(host.address)
                            .or_default()
                            .add(host.uploaded_bytes);
                        continue;
                    }
                    *complete.entry(&building.building).or_default() +=
                        u64::from(host.left_bytes == 0);
                    self.add_host(&building.building, host, swarm.size_bytes, first, at);
                }
            }
        }
        self.server_bytes = self
            .servers
            .values()
            .map(Counter::sum)
            .fold(0, u64::saturating_add);
        for (building, count) in complete {
            self.seeders
                .entry(building.to_owned())
                .or_default()
                .push((at, count));
        }
        Some(())
    }

    fn add_host(
        &mut self,
        building: &str,
        host: &SwarmHost,
        size: u64,
        first: Seconds,
        at: Seconds,
    ) {
        // All times are by the tracker's clock; a time outside of the watched span counts as its
        // edge.
        let within = |time: &str| parse_time(time).map_or(at, |time| time.clamp(first, at));
        let left = host.left_bytes.min(size);
        let announced = self.hosts.entry(host.address).or_insert_with(|| Announced {
            building: building.to_owned(),
            room: host.room.clone(),
            role: host.role,
            gateway: false,
            first_seen: within(&host.first_seen_at),
            complete: None,
            left: Vec::new(),
        });
        announced.gateway |= host.gateway;
        let mut seen = within(&host.last_seen_at).max(announced.first_seen);
        if left == 0 && announced.complete.is_none() {
            seen = host
                .complete_at
                .as_deref()
                .map_or(at, within)
                .max(announced.first_seen);
            announced.complete = Some(seen);
            // It appeared and completed between two samples.
            if announced.left.is_empty() && announced.first_seen < seen {
                announced.left.push((announced.first_seen, size));
            }
        }
        match announced.left.last() {
            Some((_, before)) if *before <= left => {}
            // Times are whole seconds: bytes that arrived within one took one second.
            Some((time, _)) => announced.left.push((seen.max(*time + 1), left)),
            None => announced.left.push((seen, left)),
        }
    }

    /// The number of hosts of a building that had all of it at a time, from the latest sample until
    /// then.
    pub fn seeders_at(&self, building: &str, samples_at: Seconds) -> u64 {
        let Some(counts) = self.seeders.get(building) else {
            return 0;
        };
        let until = counts.partition_point(|(at, _)| *at <= samples_at);
        until.checked_sub(1).map_or(0, |last| counts[last].1)
    }
}

impl Announced {
    /// The bytes it obtained while it was watched.
    pub fn obtained_bytes(&self) -> u64 {
        let lefts = self.left.first().zip(self.left.last());
        lefts.map_or(0, |((_, first), (_, last))| first - last)
    }

    /// The share of those that it had at a time, from 0 to 1.
    pub fn share_at(&self, second: f64) -> f64 {
        let Some((_, all)) = self.left.first() else {
            return 0.0;
        };
        let after = self.left.partition_point(|(at, _)| *at as f64 <= second);
        let left = match (
            after.checked_sub(1).map(|before| self.left[before]),
            self.left.get(after),
        ) {
            (None, _) => *all as f64,
            (Some((_, left)), None) => left as f64,
            (Some((from, high)), Some((to, low))) => {
                let passed = (second - from as f64) / (*to as f64 - from as f64);
                high as f64 - (high - low) as f64 * passed
            }
        };
        (*all as f64 - left) / (self.obtained_bytes() as f64).max(1.0)
    }
}

/// Seconds since 1970 of a time in RFC 3339.
pub fn parse_time(text: &str) -> Option<Seconds> {
    let time: SystemTime = humantime::parse_rfc3339(text).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// The inverse.
pub fn time(seconds: Seconds) -> String {
    // Only parsed times come here, and they end in the year 9999.
    timestamp::rfc3339(UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IMAGE: &str = "0707070707070707070707070707070707070707";

    fn infohash() -> InfoHash {
        InfoHash::parse(IMAGE).unwrap()
    }

    fn host(
        address: &str,
        left: u64,
        downloaded: u64,
        seen: &str,
        complete: Option<&str>,
    ) -> String {
        let complete = complete.map_or(String::new(), |at| {
            format!(r#","complete_at":"2026-11-23T00:00:{at}Z""#)
        });
        format!(
            r#"{{"address":"{address}","net":"n","room":"101","role":"lab","left_bytes":{left},"downloaded_bytes":{downloaded},
               "uploaded_bytes":5,"gateway":false,"first_seen_at":"2026-11-23T00:00:01Z","last_seen_at":"2026-11-23T00:00:{seen}Z"{complete}}}"#
        )
    }

    fn line(at: &str, hosts: &[String]) -> String {
        let line = format!(
            r#"{{"swarm":{{"schema":1,"at":"2026-11-23T00:00:{at}Z","swarms":[{{"infohash":"{IMAGE}","name":"windows","generation":7,
               "what":"image","size_bytes":1000,"buildings":[{{"campus":"c","building":"b1","complete":0,"incomplete":0,"gateways":[],
               "hosts":[{}]}}]}}]}}}}"#,
            hosts.join(",")
        );
        line.replace('\n', "")
    }

    fn samples(lines: &[String]) -> Samples {
        let mut samples = Samples::default();
        lines
            .iter()
            .for_each(|line| samples.add_line(line.as_bytes(), infohash()));
        samples
    }

    fn only(samples: &Samples) -> &Announced {
        samples.hosts.values().next().unwrap()
    }

    #[test]
    fn a_client_that_is_started_again_goes_on_where_it_was() {
        let samples = samples(&[
            line("02", &[host("10.0.1.1", 1000, 0, "02", None)]),
            line("10", &[host("10.0.1.1", 600, 400, "10", None)]),
            line("20", &[host("10.0.1.1", 500, 100, "20", None)]),
            line("40", &[host("10.0.1.1", 0, 0, "40", Some("30"))]),
        ]);
        let (start, host) = (samples.span.unwrap().0, only(&samples));
        let left: Vec<_> = host
            .left
            .iter()
            .map(|(at, bytes)| (at - start, *bytes))
            .collect();
        assert_eq!(left, [(0, 1000), (8, 600), (18, 500), (28, 0)]);
        assert_eq!(
            (host.complete, host.obtained_bytes()),
            (Some(start + 28), 1000)
        );
        assert_eq!(
            [2.0, 4.0, 23.0, 99.0].map(|at| host.share_at(start as f64 + at)),
            [0.1, 0.2, 0.75, 1.0]
        );
        assert_eq!(
            [0, 37, 38].map(|at| samples.seeders_at("b1", start + at)),
            [0, 0, 1]
        );
    }

    #[test]
    fn samples_ignore_bytes_of_earlier_campaigns() {
        let seeder = samples(&[line("02", &[host("10.0.1.1", 0, 900, "02", Some("01"))])]);
        assert_eq!(only(&seeder).obtained_bytes(), 0);
        let quick = samples(&[
            line("00", &[]),
            line("09", &[host("10.0.1.1", 0, 900, "08", Some("07"))]),
        ]);
        assert_eq!(
            only(&quick).obtained_bytes(),
            1000,
            "between two samples it came and had it all"
        );
        let instant = samples(&[
            line("02", &[host("10.0.1.1", 9, 0, "02", None)]),
            line("03", &[host("10.0.1.1", 0, 9, "02", Some("02"))]),
        ]);
        assert_eq!(only(&instant).obtained_bytes(), 9);
    }

    #[test]
    fn a_server_that_was_started_again_has_sent_both() {
        let server = |uploaded: u64| {
            host("10.0.0.2", 0, 0, "02", None)
                .replace("\"lab\"", "\"servers\"")
                .replace(":5,", &format!(":{uploaded},"))
        };
        let samples = samples(&[
            line("02", &[server(700)]),
            line("03", &[server(100)]),
            line("04", &[server(300)]),
        ]);
        assert_eq!((samples.server_bytes, samples.hosts.len()), (1000, 0));
    }

    #[test]
    fn samples_count_bad_lines() {
        let good = line("02", &[]);
        let samples = samples(&[
            good.clone(),
            good[..good.len() / 2].into(),
            "{}".into(),
            "\n".into(),
            line("01", &[]),
        ]);
        assert_eq!(
            samples.bad_lines, 4,
            "a torn one, one of nothing, an empty one, and a clock that went back"
        );
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_counted(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut samples = Samples::default();
            samples.add_line(&bytes, infohash());
            prop_assert_eq!(samples.bad_lines, 1);
        }

        #[test]
        fn any_announces_give_falling_lines(hosts in proptest::collection::vec((any::<u64>(), any::<u64>(), 0..60u8, 0..60u8), 1..20)) {
            let lines: Vec<_> = hosts.iter().enumerate().map(|(at, (left, bytes, seen, complete))| {
                line(&format!("{at:02}"), &[host("10.0.1.1", *left, *bytes, &format!("{seen:02}"), Some(&format!("{complete:02}")))])
            }).collect();
            let samples = samples(&lines);
            prop_assert_eq!(samples.bad_lines, 0);
            let host = only(&samples);
            prop_assert!(host.left.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1), "{:?}", host.left);
            let start = samples.span.unwrap().0 as f64;
            prop_assert!((0..90).map(|at| host.share_at(start + f64::from(at))).all(|share| (0.0..=1.0).contains(&share)));
        }
    }
}
