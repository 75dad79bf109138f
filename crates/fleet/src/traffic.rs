//! Received bytes over time, from Prometheus: means of five minutes, for each computer or summed by
//! any label (thesis, Figures 30 and 31). A long period is queried in pieces, so that neither side
//! holds all of it at once.

use std::collections::BTreeMap;
use std::time::Duration;

use http_client::cause;
use jsonpipe::{Exit, shown};
use serde::Deserialize;
use ureq::Agent;

use crate::known::Period;
use crate::report::{Line, Traffic};
use crate::request::{self, Label};
use crate::time::{self, Seconds};

/// The interval of the thesis's means; the collector's Prometheus has a sample per minute.
const MEAN: &str = "5m";
/// The steps between values: every minute for some hours, otherwise adjacent means.
const STEPS: [Seconds; 2] = [60, 300];
const SHORT: Seconds = 6 * 3600;
/// The maximum number of values of a line in one query (Prometheus allows 11,000), and in the
/// drawing.
const PIECE: Seconds = 288;
const DRAWN: Seconds = 480;
const ANSWER_MAX_BYTES: u64 = 64 << 20;
/// More cannot be distinguished; a machine can invent interfaces.
const LINES_MAX: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(60);
/// The way out where the server wants a client's certificate.
const REFUSED: &str = "it asks for a client's certificate, and invcollect has none; name a Prometheus that needs none";

/// The maximum rate, above that of all machines of a campus together. A counter can contain
/// anything, and one such line would flatten all others.
const RATE_MAX: f64 = 1e11;
/// A computer below this rate receives slowly, if its room does not (thesis, Figure 30).
const SLOW: f64 = 2e6;
/// Below this rate it is idle.
const IDLE: f64 = 5e4;
/// The minimum number of busy computers that shows what is usual in a room.
const BUSY_MIN: usize = 3;
/// The minimum time of being slow.
const SLOW_SECONDS: Seconds = 300;
/// The number of recent comparable moments, of which a computer must be slow in more than half: any
/// computer reads something for five minutes while others download, and one with a new cable needs
/// no visit.
const COMPARED_MAX: u32 = 64;

/// A computer that received slowly while its room did not.
#[derive(Clone, Debug, PartialEq)]
pub struct Slow {
    /// The machine's label `host` in Prometheus.
    pub host: String,
    /// The mean of its rates while it was slow, in bytes per second.
    pub rate: u64,
    /// The median of its room, averaged over the same time.
    pub others: u64,
    /// The beginning.
    pub since: Seconds,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    /// The machines chose these values; the names are ours.
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

impl Series {
    /// The value of a label in printable form.
    fn label(&self, name: &str) -> String {
        self.metric
            .get(name)
            .map(|value| shown(value).into_owned())
            .unwrap_or_default()
    }
}

/// One range of a query.
struct Grid {
    start: Seconds,
    step: Seconds,
    points: Seconds,
}

impl Grid {
    fn new(period: Period) -> Grid {
        let [fine, coarse] = STEPS;
        let step = if period.until - period.since <= SHORT {
            fine
        } else {
            coarse
        };
        // At round times, so that a period has the same values in every query.
        let start = (period.since + step - 1).div_euclid(step) * step;
        Grid {
            start,
            step,
            points: ((period.until - start).div_euclid(step) + 1).max(0),
        }
    }

    fn index(&self, at: f64) -> Option<usize> {
        let index = ((at - self.start as f64) / self.step as f64).round();
        (index >= 0.0 && index < self.points as f64).then_some(index as usize)
    }
}

/// A line while it is being summed up.
#[derive(Default)]
struct Sum {
    buckets: Vec<(f64, u32)>,
    peak: f64,
}

/// Queries Prometheus. Status 69 when it does not answer or rejects the query.
pub fn ask(
    url: &str,
    options: &request::Options,
    period: Period,
) -> anyhow::Result<(Traffic, Vec<Slow>)> {
    let prometheus = Prometheus::new(url)?;
    let grid = Grid::new(period);
    let width = (grid.points + DRAWN - 1).div_euclid(DRAWN).max(1);
    let buckets = usize::try_from((grid.points + width - 1).div_euclid(width)).unwrap_or(0);
    let labels = labels(options.by);
    let mut sums: BTreeMap<Vec<String>, Sum> = BTreeMap::new();
    let mut watch = Watch::default();
    for first in (0..grid.points).step_by(PIECE as usize) {
        let piece = (first, (first + PIECE).min(grid.points) - 1);
        let all = prometheus.range(&query(labels, options), &grid, piece)?;
        for series in &all {
            let key: Vec<String> = labels.iter().map(|label| series.label(label)).collect();
            if sums.len() == LINES_MAX && !sums.contains_key(&key) {
                return Err(Exit::Unavailable.error(format_args!(
                    "asking {}: more than {LINES_MAX} lines; choose a --room, or another --by",
                    prometheus.url
                )));
            }
            let sum = sums.entry(key).or_default();
            sum.buckets.resize(buckets, (0.0, 0));
            for (at, value) in values(series) {
                let bucket = grid
                    .index(at)
                    .and_then(|index| sum.buckets.get_mut(index / width as usize));
                if let Some((total, count)) = bucket {
                    *total += value;
                    *count += 1;
                    sum.peak = sum.peak.max(value);
                }
            }
        }
        if options.by == Label::Host {
            watch.piece(&all, &grid);
        } else {
            watch.piece(
                &prometheus.range(&query(self::labels(Label::Host), options), &grid, piece)?,
                &grid,
            );
        }
    }
    let line = |(labels, sum): (Vec<String>, Sum)| {
        let (total, count) = sum
            .buckets
            .iter()
            .fold((0.0, 0u32), |(total, count), bucket| {
                (total + bucket.0, count + bucket.1)
            });
        Line {
            labels,
            mean_bytes_per_second: (total / f64::from(count.max(1))) as u64,
            peak_bytes_per_second: sum.peak as u64,
            bytes_per_second: sum
                .buckets
                .iter()
                .map(|(total, count)| (*count > 0).then(|| (total / f64::from(*count)) as u64))
                .collect(),
        }
    };
    let slow = watch.slow();
    let traffic = Traffic {
        by: options.by.to_string(),
        step_seconds: u64::try_from(grid.step * width).unwrap_or(0),
        at: (0..buckets as Seconds)
            .map(|bucket| time::text(grid.start + bucket * width * grid.step))
            .collect(),
        lines: sums.into_iter().map(line).collect(),
        slow: slow.iter().map(|slow| slow.host.clone()).collect(),
    };
    Ok((traffic, slow))
}

/// The labels that distinguish the lines: a room's name is unique only in its building.
fn labels(by: Label) -> &'static [&'static str] {
    match by {
        Label::Campus => &["campus"],
        Label::Building => &["campus", "building"],
        Label::Room => &["campus", "building", "room"],
        Label::Host => &["campus", "building", "room", "host"],
        Label::Interface => &["campus", "building", "room", "host", "interface"],
    }
}

fn query(labels: &[&str], options: &request::Options) -> String {
    let filter = |(label, value): (&str, &Option<String>)| {
        value
            .as_ref()
            .map(|value| format!("{label}={}", quoted(value)))
    };
    let filters: Vec<String> = [("building", &options.building), ("room", &options.room)]
        .into_iter()
        .filter_map(filter)
        .collect();
    // Only of hardware, which labtools_link_up covers: the traffic of a bridge or a guest's tap
    // already came through a port.
    format!(
        "sum by ({}) (rate(labtools_interface_receive_bytes_total{{{}}}[{MEAN}]) and on (host, interface) labtools_link_up)",
        labels.join(","),
        filters.join(",")
    )
}

/// A PromQL string in which quotes are escaped.
fn quoted(text: &str) -> String {
    format!(
        "\"{}\"",
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    )
}

/// NaN is not a rate, nor is a rate beyond any machine's.
fn values(series: &Series) -> impl Iterator<Item = (f64, f64)> {
    let rate = |value: &str| {
        value
            .parse::<f64>()
            .ok()
            .filter(|value| (0.0..=RATE_MAX).contains(value))
    };
    series
        .values
        .iter()
        .filter_map(move |(at, value)| Some((*at, rate(value)?)))
}

struct Prometheus {
    agent: Agent,
    url: String,
}

impl Prometheus {
    fn new(url: &str) -> anyhow::Result<Prometheus> {
        let Some(address) = ["http://", "https://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme))
        else {
            return Err(Exit::Usage.error("--prometheus: not a URL like http://127.0.0.1:9090"));
        };
        // The address appears in the process list, in messages and in the document.
        if address
            .split(['/', '?', '#'])
            .next()
            .is_some_and(|host| host.contains('@'))
        {
            return Err(Exit::Usage.error(
                "--prometheus: an address with a user or a password, which would be public",
            ));
        }
        if address.contains(['?', '#']) {
            return Err(
                Exit::Usage.error("--prometheus: an address with ? or #; it ends with a path")
            );
        }
        Ok(Prometheus {
            agent: http_client::agent(PATIENCE),
            url: format!("{}/api/v1/query_range", url.trim_end_matches('/')),
        })
    }

    fn range(
        &self,
        query: &str,
        grid: &Grid,
        (first, last): (Seconds, Seconds),
    ) -> anyhow::Result<Vec<Series>> {
        let asking = || format!("asking {}", self.url);
        let strange = |why: &str| {
            Exit::Unavailable.error(format_args!(
                "{}: the answer is not one of Prometheus ({why}); check which program listens there",
                asking()
            ))
        };
        let [start, end] = [first, last].map(|index| (grid.start + index * grid.step).to_string());
        let request = self
            .agent
            .get(&self.url)
            .query("query", query)
            .query("start", start)
            .query("end", end);
        let answer = request.query("step", grid.step.to_string()).call();
        let mut answer = answer.map_err(|error| {
            Exit::Unavailable.error(format_args!(
                "{}: {}",
                asking(),
                cause(&error, PATIENCE, REFUSED)
            ))
        })?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(ANSWER_MAX_BYTES);
        let said: Answer = match body.read_json() {
            Ok(said) => said,
            Err(_) if !status.is_success() => {
                return Err(
                    Exit::Unavailable.error(format_args!("{}: HTTP status {status}", asking()))
                );
            }
            Err(ureq::Error::Json(error)) => return Err(strange(&error.to_string())),
            Err(error) => {
                return Err(Exit::Unavailable.error(format_args!(
                    "{}: {}",
                    asking(),
                    cause(&error, PATIENCE, REFUSED)
                )));
            }
        };
        match said {
            Answer {
                data: Some(data), ..
            } if status.is_success() => Ok(data.result),
            Answer { error: None, .. } if status.is_success() => Err(strange("no data")),
            Answer { error, .. } => {
                let error = error.map_or_else(
                    || format!("HTTP status {status}"),
                    |error| shown(&error).into_owned(),
                );
                Err(Exit::Unavailable.error(format_args!("{}: {error}", asking())))
            }
        }
    }
}

/// Finds computers that are slow while their rooms are not.
#[derive(Default)]
struct Watch(BTreeMap<(String, String, String), Watched>);

/// A computer.
#[derive(Default)]
struct Watched {
    /// The last comparable moments, a bit each; 1: it was slow.
    moments: u64,
    compared: u32,
    run: Run,
    slow: Option<Slow>,
}

/// The time that a computer has been slow.
#[derive(Clone, Copy, Default)]
struct Run {
    since: Seconds,
    last: Seconds,
    count: u32,
    rate: f64,
    others: f64,
}

impl Watch {
    fn piece(&mut self, all: &[Series], grid: &Grid) {
        type Rooms<'a> = BTreeMap<(&'a str, &'a str), Vec<(&'a str, f64)>>;
        let names: Vec<[String; 3]> = all
            .iter()
            .map(|series| ["building", "room", "host"].map(|name| series.label(name)))
            .collect();
        let mut moments: BTreeMap<usize, Rooms> = BTreeMap::new();
        for (series, [building, room, host]) in all.iter().zip(&names) {
            for (at, value) in values(series) {
                let Some(index) = grid.index(at) else {
                    continue;
                };
                moments
                    .entry(index)
                    .or_default()
                    .entry((building, room))
                    .or_default()
                    .push((host, value));
            }
        }
        for (index, rooms) in moments {
            let at = grid.start + index as Seconds * grid.step;
            for ((building, room), hosts) in rooms {
                // A computer that has finished is not compared.
                let mut busy: Vec<f64> = hosts
                    .iter()
                    .map(|(_, rate)| *rate)
                    .filter(|rate| *rate > IDLE)
                    .collect();
                busy.sort_by(f64::total_cmp);
                let median = busy
                    .get(busy.len() / 2)
                    .copied()
                    .filter(|_| busy.len() >= BUSY_MIN)
                    .unwrap_or(0.0);
                for (host, rate) in hosts
                    .into_iter()
                    .filter(|(_, rate)| median >= SLOW && *rate > IDLE)
                {
                    let key = (building.to_owned(), room.to_owned(), host.to_owned());
                    self.0
                        .entry(key)
                        .or_default()
                        .moment(host, at, grid.step, rate, median);
                }
            }
        }
    }

    fn slow(self) -> Vec<Slow> {
        let is_slow = |watched: &Watched| 2 * watched.moments.count_ones() > watched.compared;
        self.0
            .into_values()
            .filter(is_slow)
            .filter_map(|watched| watched.slow)
            .collect()
    }
}

impl Watched {
    /// A moment in which its room receives much and it receives something.
    fn moment(&mut self, host: &str, at: Seconds, step: Seconds, rate: f64, others: f64) {
        let is_slow = rate < SLOW && rate < others / 2.0;
        self.moments = self.moments << 1 | u64::from(is_slow);
        self.compared = (self.compared + 1).min(COMPARED_MAX);
        if !is_slow {
            self.run = Run::default();
            return;
        }
        let run = &mut self.run;
        if run.count == 0 || at > run.last + step {
            *run = Run {
                since: at,
                ..Run::default()
            };
        }
        run.last = at;
        run.count += 1;
        run.rate += rate;
        run.others += others;
        if at - run.since >= SLOW_SECONDS {
            let mean = |sum: f64| (sum / f64::from(run.count)) as u64;
            self.slow = Some(Slow {
                host: host.to_owned(),
                rate: mean(run.rate),
                others: mean(run.others),
                since: run.since,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(room: &str, host: &str, values: &[f64]) -> Series {
        let metric = [("building", "b"), ("room", room), ("host", host)];
        let values = values
            .iter()
            .enumerate()
            .map(|(index, value)| (6000.0 + 300.0 * index as f64, value.to_string()));
        Series {
            metric: metric
                .map(|(label, value)| (label.into(), value.into()))
                .into(),
            values: values.collect(),
        }
    }

    #[test]
    fn slow_machine_of_a_quick_room_is_found() {
        let grid = Grid {
            start: 6000,
            step: 300,
            points: 10,
        };
        let mut watch = Watch::default();
        let all = [
            series("1", "quick", &[9e6, 9e6, 9e6]),
            series("1", "quick-too", &[8e6, 8e6, 8e6]),
            series("1", "slow", &[1e6, 1e6, 1e6]),
            series("1", "done", &[9e6, 1e3, 1e3]),
            series("1", "for-a-moment", &[9e6, 1e6, 9e6]),
            series("3", "reads-something", &[1e6, 1e6, 1e6, 9e6, 9e6, 9e6]),
            series("3", "a", &[9e6; 6]),
            series("3", "b", &[9e6; 6]),
            series("4", "nearly-as-quick", &[1.9e6; 6]),
            series("4", "a", &[2.1e6; 6]),
            series("4", "b", &[2.1e6; 6]),
            series("2", "slow-as-its-room", &[1e6, 1e6, 1e6]),
            series("2", "its-room", &[1e6, 1e6, 1e6]),
        ];
        watch.piece(&all, &grid);
        assert_eq!(
            watch.slow(),
            [Slow {
                host: "slow".into(),
                rate: 1_000_000,
                others: 8_666_666,
                since: 6000
            }]
        );
    }

    #[test]
    fn a_period_is_asked_for_on_round_times() {
        let grid = Grid::new(Period {
            since: 1001,
            until: 1001 + 3600,
        });
        assert_eq!((grid.start, grid.step, grid.points), (1020, 60, 60));
        assert_eq!(
            (
                grid.index(1020.0),
                grid.index(4560.0),
                grid.index(4620.0),
                grid.index(960.0)
            ),
            (Some(0), Some(59), None, None)
        );
        let grid = Grid::new(Period {
            since: 0,
            until: 86400,
        });
        assert_eq!((grid.start, grid.step, grid.points), (0, 300, 289));
    }

    #[test]
    fn a_name_is_no_query() {
        assert_eq!(
            quoted("a\"} or vector(1) #\\\n"),
            r#""a\"} or vector(1) #\\\n""#
        );
    }
}
