//! The metrics for Prometheus: the text format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use campus::Role;
use manifest::InfoHash;
use swarm::Refusal;

use crate::peers::{Replaced, Swarm};
use crate::whitelist::Torrent;

/// The bounds of the histogram of answer times, in seconds.
const BOUNDS: [f64; 9] = [
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.1,
];

/// The counters since the start.
#[derive(Debug, Default)]
pub struct Counters {
    results: BTreeMap<&'static str, u64>,
    /// One for each bound, and one above the last.
    times: [u64; BOUNDS.len() + 1],
    total: Duration,
    /// Connections that were closed unread, because there were too many.
    pub connections_refused: u64,
    /// Connections that are open.
    pub connections: u64,
}

const ANSWERED: &str = "answered";
/// All results: each series exists from the start, otherwise a rate would miss the first event.
const RESULTS: [&str; 5] = [ANSWERED, "full", "malformed", "stranger", "unknown_torrent"];

impl Counters {
    /// Counts an announce that was answered or refused, and the time it took.
    pub fn count(&mut self, refusal: Option<Refusal>, took: Duration) {
        let result = match refusal {
            None => ANSWERED,
            Some(Refusal::Malformed(_)) => "malformed",
            Some(Refusal::Stranger) => "stranger",
            Some(Refusal::UnknownTorrent) => "unknown_torrent",
            Some(Refusal::Full) => "full",
        };
        *self.results.entry(result).or_default() += 1;
        let bucket = BOUNDS
            .iter()
            .position(|bound| took.as_secs_f64() <= *bound)
            .unwrap_or(BOUNDS.len());
        self.times[bucket] += 1;
        self.total += took;
    }

    /// The number of announces answered with peers.
    pub fn answered(&self) -> u64 {
        self.results.get(ANSWERED).copied().unwrap_or(0)
    }

    /// The number of refused announces.
    pub fn refused(&self) -> u64 {
        self.results.values().sum::<u64>() - self.answered()
    }
}

/// A page of metrics.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!(
            "# HELP seedctl_tracker_{name} {help}\n# TYPE seedctl_tracker_{name} {kind}"
        ));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let escaped = |text: &str| {
            text.replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n")
        };
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{}\"", escaped(text)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        self.line(format_args!("seedctl_tracker_{name}{labels} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.0, "{line}"); // writing to a String cannot fail
    }
}

/// The sums for a torrent, a building and a role.
#[derive(Default)]
struct Sum {
    complete: u64,
    incomplete: u64,
    left: u64,
    gateways: u64,
    downloaded: u64,
    uploaded: u64,
}

/// A name, a type, a help text, and the value in a sum.
type Family = (&'static str, &'static str, &'static str, fn(&Sum) -> u64);

const FAMILIES: [Family; 4] = [
    (
        "left_bytes",
        "gauge",
        "Bytes that the hosts still lack.",
        |sum| sum.left,
    ),
    (
        "gateways",
        "gauge",
        "Hosts that learn peers outside their building.",
        |sum| sum.gateways,
    ),
    (
        "downloaded_bytes_total",
        "counter",
        "Bytes that the hosts report as received.",
        |sum| sum.downloaded,
    ),
    (
        "uploaded_bytes_total",
        "counter",
        "Bytes that the hosts report as sent.",
        |sum| sum.uploaded,
    ),
];

/// All metrics, as text.
pub fn metrics(
    counters: &Counters,
    torrents: &BTreeMap<InfoHash, Torrent>,
    swarms: &BTreeMap<InfoHash, Swarm>,
) -> String {
    let mut page = Page(String::new());
    counters.write(&mut page);
    page.family(
        "torrents",
        "gauge",
        "Torrents of the signed manifests in the store.",
    );
    page.sample("torrents", &[], torrents.len());
    write_gateways(swarms, &mut page);
    write_sums(torrents, swarms, &mut page);
    page.0
}

fn write_gateways(swarms: &BTreeMap<InfoHash, Swarm>, page: &mut Page) {
    page.family(
        "gateways_replaced_total",
        "counter",
        "Gateways that lost the role before they had everything.",
    );
    let sum = |of: fn(&Replaced) -> u64| {
        swarms
            .values()
            .map(|swarm| of(&swarm.replaced))
            .sum::<u64>()
    };
    page.sample(
        "gateways_replaced_total",
        &[("reason", "stalled")],
        sum(|replaced| replaced.stalled),
    );
    page.sample(
        "gateways_replaced_total",
        &[("reason", "slow")],
        sum(|replaced| replaced.slow),
    );
    page.sample(
        "gateways_replaced_total",
        &[("reason", "silent")],
        sum(|replaced| replaced.silent),
    );
    page.sample(
        "gateways_replaced_total",
        &[("reason", "stopped")],
        sum(|replaced| replaced.stopped),
    );
}

fn write_sums(
    torrents: &BTreeMap<InfoHash, Torrent>,
    swarms: &BTreeMap<InfoHash, Swarm>,
    page: &mut Page,
) {
    let mut sums = Vec::new();
    for (infohash, swarm) in swarms {
        let Some(torrent) = torrents.get(infohash) else {
            continue;
        };
        let mut of: BTreeMap<(&str, Role), Sum> = BTreeMap::new();
        for ((building, role), traffic) in &swarm.traffic {
            let sum = of.entry((building, *role)).or_default();
            (sum.downloaded, sum.uploaded) = (traffic.downloaded, traffic.uploaded);
        }
        for peer in swarm.peers().values() {
            let sum = of.entry((&peer.net.building, peer.net.role)).or_default();
            *if peer.is_complete() {
                &mut sum.complete
            } else {
                &mut sum.incomplete
            } += 1;
            sum.left = sum.left.saturating_add(peer.left);
            sum.gateways += u64::from(peer.elected_at.is_some());
        }
        let generation = torrent.generation.to_string();
        sums.extend(of.into_iter().map(|((building, role), sum)| {
            let labels = [
                ("image", torrent.name.clone()),
                ("generation", generation.clone()),
                ("what", word(&torrent.what)),
                ("building", building.to_owned()),
                ("role", word(&role)),
            ];
            (labels, sum)
        }));
    }
    page.family("peers", "gauge", "Hosts that announce themselves.");
    for (labels, sum) in &sums {
        for (state, count) in [("complete", sum.complete), ("incomplete", sum.incomplete)] {
            let labels: Vec<(&str, &str)> = labels
                .iter()
                .map(|(label, text)| (*label, text.as_str()))
                .chain([("state", state)])
                .collect();
            page.sample("peers", &labels, count);
        }
    }
    for (name, kind, help, of) in FAMILIES {
        page.family(name, kind, help);
        for (labels, sum) in &sums {
            let labels: Vec<(&str, &str)> = labels
                .iter()
                .map(|(label, text)| (*label, text.as_str()))
                .collect();
            page.sample(name, &labels, of(sum));
        }
    }
}

/// The word for it in documents.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

impl Counters {
    fn write(&self, page: &mut Page) {
        page.family("announces_total", "counter", "Announces by result.");
        for result in RESULTS {
            page.sample(
                "announces_total",
                &[("result", result)],
                self.results.get(result).unwrap_or(&0),
            );
        }
        page.family(
            "answer_seconds",
            "histogram",
            "From the whole announce to its answer.",
        );
        let mut count = 0;
        for (bound, times) in BOUNDS
            .iter()
            .map(f64::to_string)
            .chain(["+Inf".to_owned()])
            .zip(self.times)
        {
            count += times;
            page.sample("answer_seconds_bucket", &[("le", &bound)], count);
        }
        page.sample("answer_seconds_sum", &[], self.total.as_secs_f64());
        page.sample("answer_seconds_count", &[], count);
        page.family("connections", "gauge", "Connections that are open.");
        page.sample("connections", &[], self.connections);
        page.family(
            "connections_refused_total",
            "counter",
            "Connections closed unread, because there were too many.",
        );
        page.sample("connections_refused_total", &[], self.connections_refused);
    }
}
