//! 252 machines, an hour of schedule: how the reports are spread, and what they cost the collector.
//!
//! `cargo bench -p invcollect --bench schedule`. Needs root and scripts/lab/collector. The hour is
//! not waited for: when each machine speaks follows from its id, and so the spread is known
//! exactly; the load is that of the real nginx, which gets all 1008 reports of the hour, over TLS,
//! each from its own machine with its own certificate. The peer is the thesis's script, which has
//! no turn: cron starts it on all machines in the same second.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "../tests/all/laboratory/collector.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod collector;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use collector::{Collector, Host};
use invcollect::push::turn;

const HOSTS: usize = 252;
const QUARTERS: usize = 4;
/// Machines that speak at the same time: more than there are processors here would measure the
/// clients.
const AT_ONCE: usize = 2;

fn main() {
    let ids: Vec<String> = (0..HOSTS).map(|_| id()).collect();
    spread(&ids);
    let collector = Collector::up();
    let hosts: Vec<Host<'_>> = ids.iter().map(|id| collector.host(id)).collect();
    let before = seconds_of_nginx(&collector);
    let started = Instant::now();
    for _ in 0..QUARTERS {
        all(&hosts, AT_ONCE);
    }
    let reports = HOSTS * QUARTERS;
    let (wall, used) = (
        started.elapsed().as_secs_f64(),
        seconds_of_nginx(&collector) - before,
    );
    let stored: u64 = ids.iter().map(|id| bytes(&collector, id)).sum();
    println!(
        "nginx, {reports} reports of an hour: {used:.2} s of processor, {:.3} % of one over the hour",
        used / 36.0
    );
    println!(
        "  {:.2} ms a report, {} KiB stored; the machines themselves took {wall:.0} s here, {AT_ONCE} at a time",
        1000.0 * used / reports as f64,
        stored / 1024
    );
    let started = Instant::now();
    all(&hosts, HOSTS);
    println!(
        "all {HOSTS} in the same second, as without turns: the last is served after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let lost = ids
        .iter()
        .filter(|id| collector.received("reports", id).len() != QUARTERS + 1)
        .count();
    assert_eq!(lost, 0, "machines whose reports are not all there");
}

/// A random UUID, as the installer draws one.
fn id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid")
        .expect("a UUID")
        .trim()
        .to_owned()
}

/// How many machines speak in the same minute and second of the quarter.
fn spread(ids: &[String]) {
    let most = |of: u64| {
        let mut counts = vec![0; (900 / of) as usize];
        for id in ids {
            counts[(turn(id).as_secs() / of) as usize] += 1;
        }
        (
            counts.iter().copied().min().unwrap_or(0),
            counts.iter().copied().max().unwrap_or(0),
        )
    };
    let ((fewest, busiest), (_, second)) = (most(60), most(1));
    println!(
        "{HOSTS} machines, every 15 minutes: {fewest} to {busiest} in a minute (even: 16.8), at most {second} in a second (without turns: {HOSTS})"
    );
    let mut turns: Vec<Duration> = ids.iter().map(|id| turn(id)).collect();
    turns.sort();
    let longest = turns
        .windows(2)
        .map(|two| two[1] - two[0])
        .max()
        .unwrap_or_default();
    println!(
        "  the longest silence between two of them: {:.0} s",
        longest.as_secs_f64()
    );
}

/// Every machine reports once.
fn all(hosts: &[Host<'_>], at_once: usize) {
    for some in hosts.chunks(at_once) {
        let start = |host: &Host<'_>| {
            let mut push: Command = host.command(&["push", "--now"]);
            push.stdout(Stdio::null()).spawn().expect("it starts")
        };
        for mut run in some.iter().map(start).collect::<Vec<_>>() {
            assert!(run.wait().expect("it ends").success());
        }
    }
}

/// What nginx's processes have used, user and system.
fn seconds_of_nginx(collector: &Collector) -> f64 {
    let master = fs::read_to_string(collector.path("nginx.pid"))
        .expect("its pid")
        .trim()
        .to_owned();
    let children =
        fs::read_to_string(format!("/proc/{master}/task/{master}/children")).expect("its workers");
    let ticks = |pid: &str| -> f64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its times");
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .expect("a name")
            .1
            .split_whitespace()
            .collect();
        fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime")
    };
    children
        .split_whitespace()
        .chain([master.as_str()])
        .map(ticks)
        .sum::<f64>()
        / 100.0 // USER_HZ
}

fn bytes(collector: &Collector, id: &str) -> u64 {
    let entries = fs::read_dir(collector.store("reports").join(id)).expect("its directory");
    entries
        .map(|entry| entry.expect("a report").metadata().expect("its size").len())
        .sum()
}
