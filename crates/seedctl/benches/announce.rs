//! `seedctl track` against opentracker, over real HTTP on loopback, with 10,000 hosts.
//!
//! `cargo bench -p seedctl --bench announce`. Needs opentracker (Debian's package). Every host has
//! its own address, in 127.0.0.0/8, and a connection for every announce, as aria2 has; the hosts
//! are in 90 buildings of four rooms. Both trackers are asked by turns, so that whatever else the
//! computer does meets both alike, by the same client, which takes its share of the time: so the
//! processor's time that a tracker itself used is told, too. opentracker tells 50 random hosts and
//! has no policy.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "../tests/all/tracker/mod.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod tracker;

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use manifest::{Hex, InfoHash};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tracker::{BINARY, Running, prepare, publish};

const HOSTS: u32 = 10_000;
const BUILDINGS: u32 = 90;
const ROUNDS: u32 = 5;
const PER_ROUND: u32 = 4_000;
/// Announces under way at the same time, for the throughput.
const AT_ONCE: usize = 16;
const IMAGE: InfoHash = Hex(*b"aaaaaaaaaaaaaaaaaaaa");

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let machine = tempfile::tempdir().expect("a directory");
    set_up(machine.path());
    let running = Running::start(
        Command::new(BINARY)
            .args(["track", "-v", "--root"])
            .arg(machine.path()),
    );
    // What it says with -v has to be read by somebody, or left out: this one says nothing.
    let free = running.listen;
    drop(running);
    write_settings(machine.path(), free);
    let mut sides = [Side::seedctl(&machine, free), Side::opentracker()];

    for side in &mut sides {
        runtime.block_on(all_at_once(side.listen, 0, HOSTS));
        side.measured_from = side.processor_seconds();
    }
    for round in 0..ROUNDS {
        for side in &mut sides {
            let first = HOSTS / ROUNDS * round;
            let started = Instant::now();
            runtime.block_on(all_at_once(side.listen, first, PER_ROUND));
            side.rates
                .push(f64::from(PER_ROUND) / started.elapsed().as_secs_f64());
            side.one_by_one(&runtime, first);
        }
    }
    for side in &mut sides {
        side.processor = side.processor_seconds() - side.measured_from;
        side.times.sort();
    }

    println!(
        "{HOSTS} hosts in {BUILDINGS} buildings, a connection for every announce; {ROUNDS} rounds by turns"
    );
    println!(
        "{:<40}{:>14}{:>14}{:>8}",
        "", "seedctl track", "opentracker", "ratio"
    );
    let [ours, other] = &sides;
    row(
        "announces per second, 16 at once",
        median(&ours.rates),
        median(&other.rates),
    );
    row(
        "announces per second of its processor",
        ours.per_processor_second(),
        other.per_processor_second(),
    );
    for percent in [50, 99] {
        row(
            &format!("one announce, p{percent}, microseconds"),
            ours.percentile(percent),
            other.percentile(percent),
        );
    }
    let metrics = get(&runtime, free, "127.0.0.1", "/metrics");
    let value = |name: &str| -> f64 {
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .expect("a metric");
        line.parse().expect("a number")
    };
    let all = value("seedctl_tracker_answer_seconds_count");
    let within = value("seedctl_tracker_answer_seconds_bucket{le=\"0.001\"}");
    let mean = value("seedctl_tracker_answer_seconds_sum") / all * 1e6;
    println!(
        "inside seedctl, from the request read to the answer made: {mean:.1} microseconds in the mean,"
    );
    println!(
        "  {:.3} % of {all} within a millisecond (seedctl_tracker_answer_seconds)",
        within / all * 100.0
    );
    let met = if ours.percentile(99) < 1000.0 {
        "met"
    } else {
        "MISSED"
    };
    println!("goal, p99 of an announce under a millisecond: {met}");
}

fn row(what: &str, ours: f64, other: f64) {
    println!("{what:<40}{ours:>14.0}{other:>14.0}{:>8.2}", ours / other);
}

fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A tracker, and what was measured of it.
struct Side {
    listen: SocketAddr,
    child: Child,
    rates: Vec<f64>,
    times: Vec<Duration>,
    measured_from: f64,
    processor: f64,
    _directory: Option<TempDir>,
}

impl Side {
    fn new(listen: SocketAddr, command: &mut Command, directory: Option<TempDir>) -> Side {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!("starting {:?}: {error}; install it", command.get_program())
        });
        while TcpStream::connect(listen).is_err() {
            assert_eq!(
                child.try_wait().expect("its state"),
                None,
                "{:?} ended",
                command.get_program()
            );
            std::thread::yield_now();
        }
        let (rates, times) = Default::default();
        Side {
            listen,
            child,
            rates,
            times,
            measured_from: 0.0,
            processor: 0.0,
            _directory: directory,
        }
    }

    fn seedctl(machine: &TempDir, listen: SocketAddr) -> Side {
        Side::new(
            listen,
            Command::new(BINARY)
                .args(["track", "--root"])
                .arg(machine.path()),
            None,
        )
    }

    fn opentracker() -> Side {
        let listen = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("a port");
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("whitelist"), format!("{IMAGE}\n")).expect("a list");
        let port = listen.port().to_string();
        // It makes the directory its root, and is nobody there.
        let everybody = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), everybody).expect("the directory's mode");
        let mut command = Command::new("opentracker");
        command
            .args([
                "-i",
                "127.0.0.1",
                "-p",
                &port,
                "-u",
                "nobody",
                "-w",
                "/whitelist",
                "-d",
            ])
            .arg(directory.path());
        Side::new(listen, &mut command, Some(directory))
    }

    /// Each announce alone: how long it takes, from before the connection to the end of the answer.
    fn one_by_one(&mut self, runtime: &Runtime, first: u32) {
        for host in first..first + PER_ROUND / 4 {
            let started = Instant::now();
            runtime.block_on(announce(self.listen, host % HOSTS));
            self.times.push(started.elapsed());
        }
    }

    fn percentile(&self, percent: usize) -> f64 {
        self.times[self.times.len() * percent / 100].as_secs_f64() * 1e6
    }

    fn per_processor_second(&self) -> f64 {
        f64::from(ROUNDS * (PER_ROUND + PER_ROUND / 4)) / self.processor
    }

    /// User and system time of the tracker's process, in seconds (proc_pid_stat(5); 100 ticks
    /// each).
    fn processor_seconds(&self) -> f64 {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("its statistics");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .expect("fields")
            .split_whitespace()
            .collect();
        let ticks: u64 = [11, 12]
            .into_iter()
            .map(|field: usize| fields[field].parse::<u64>().expect("ticks"))
            .sum();
        ticks as f64 / 100.0
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

fn set_up(root: &Path) {
    prepare(root);
    publish(root, 7, IMAGE, 1 << 30);
    let mut campus = String::new();
    for building in 1..=BUILDINGS {
        for room in 0..4 {
            let _ = write!(
                campus,
                "[net.b{building}-{room}]\ncidr=127.{building}.{room}.0/24\ncampus=c\nbuilding=b{building}\nroom=r{room}\n"
            );
        }
    }
    campus += "[net.servers]\ncidr=127.0.0.0/16\ncampus=c\nbuilding=servers\nroom=servers\nrole=servers\n";
    fs::write(root.join("etc/labtools/campus.ini"), campus).expect("campus.ini");
    write_settings(root, SocketAddr::from(([127, 0, 0, 1], 0)));
}

fn write_settings(root: &Path, listen: SocketAddr) {
    fs::write(
        root.join("etc/labtools/seedctl.ini"),
        format!("[tracker]\nlisten={listen}\n"),
    )
    .expect("seedctl.ini");
}

/// So many hosts announce themselves, a few at a time.
async fn all_at_once(to: SocketAddr, first: u32, count: u32) {
    let mut under_way = JoinSet::new();
    for host in first..first + count {
        if under_way.len() >= AT_ONCE {
            under_way.join_next().await;
        }
        under_way.spawn(announce(to, host % HOSTS));
    }
    while under_way.join_next().await.is_some() {}
}

async fn announce(to: SocketAddr, host: u32) {
    let building = host % BUILDINGS + 1;
    let number = host / BUILDINGS;
    let from = format!("127.{building}.{}.{}", number % 4, number / 4 + 1);
    let query = "peer_id=A2-1-36-0-aaaaaaaaaa&uploaded=0&downloaded=0&left=1000&compact=1&key=abcdefgh&numwant=50&no_peer_id=1";
    let hash = str::from_utf8(&IMAGE.0).expect("text");
    let path =
        format!("/announce?info_hash={hash}&{query}&port=6881&event=started&supportcrypto=1");
    let answer = exchange(to, &from, &path).await;
    assert!(answer.contains("8:interval"), "{answer}");
}

async fn exchange(to: SocketAddr, from: &str, path: &str) -> String {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_zero_linger().expect("no ports that wait");
    socket
        .bind(format!("{from}:0").parse().expect("an address"))
        .expect("an address of this machine");
    let mut stream = socket.connect(to).await.expect("the tracker");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: aria2/1.36.0\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the answer");
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(runtime: &Runtime, to: SocketAddr, from: &str, path: &str) -> String {
    runtime.block_on(exchange(to, from, path))
}
