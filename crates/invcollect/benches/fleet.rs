//! `invcollect fleet` on a month of a campus: 252 machines that report every quarter of an hour for
//! 30 days, 725,760 signed reports.
//!
//! `cargo bench -p invcollect --bench fleet`. Needs 6 GB of room in the temporary directory
//! (TMPDIR), and some minutes to make them; a number of days as an argument makes fewer. What is
//! read was just written, so it comes from memory as far as that reaches: a disk adds its own time.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "../tests/all/store/mod.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod store;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use store::{DAY, HOUR, MONDAY, QUARTER, Store};

const ROOMS: u64 = 9;
const MACHINES: u64 = 28;

fn main() {
    let days: u64 = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(30);
    let mut store = Store::new();
    let machines: Vec<_> = (0..ROOMS * MACHINES)
        .map(|number| {
            let (room, number) = (number / MACHINES, number % MACHINES);
            let (building, name) = (
                format!("at{}", 1 + room / 3),
                format!("r{}-h{number:02}", 1 + room),
            );
            let mut machine = store.machine(&building, &format!("r{}", 1 + room), &name);
            machine.programs = 60;
            machine
        })
        .collect();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut shares: Vec<Vec<store::Machine>> = Vec::new();
        shares.resize_with(threads, Vec::new);
        for (index, machine) in machines.into_iter().enumerate() {
            shares[index % threads].push(machine);
        }
        for share in shares {
            scope.spawn(move || {
                for mut machine in share {
                    for day in 0..days {
                        let morning = MONDAY + day * DAY;
                        machine.on(morning, morning + 24 * HOUR - QUARTER, |_| ());
                    }
                }
            });
        }
    });
    println!(
        "{} reports, made in {:.0} s",
        ROOMS * MACHINES * days * 96,
        started.elapsed().as_secs_f64()
    );

    let started = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_invcollect"))
        .arg("fleet")
        .arg(store.store())
        .arg("--config")
        .arg(store.config())
        .args([
            "--since",
            "2024-11-18T00:00:00Z",
            "--period",
            &format!("{days}days"),
            "--html",
        ])
        .arg(store.path().join("page.html"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("invcollect starts");
    let id = child.id();
    let reader = std::thread::spawn(move || child.wait_with_output().expect("invcollect ends"));
    // The most that it ever had is in /proc until it has ended.
    let mut peak = 0;
    while !reader.is_finished() {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let kib = status.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<u64>()
                .ok()
        });
        peak = peak.max(kib.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    let wall = started.elapsed().as_secs_f64();
    let output = reader.join().expect("the reader");
    assert!(
        output.status.success(),
        "{:?} {:?}",
        output.status.code(),
        output.status.signal()
    );
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
    let read = &document["fleet"]["read"];
    let (reports, bytes) = (
        read["reports"].as_u64().unwrap_or(0),
        read["bytes"].as_u64().unwrap_or(0),
    );
    assert_eq!(
        (reports, &read["unbelieved_reports"]),
        (ROOMS * MACHINES * days * 96, &0.into())
    );
    println!(
        "invcollect fleet: {wall:.1} s, {:.0} reports/s of {} bytes each, {} MiB of memory at most; the document {} kB, the page {} kB",
        reports as f64 / wall,
        bytes / reports.max(1),
        peak / 1024,
        output.stdout.len() / 1000,
        std::fs::metadata(store.path().join("page.html")).map_or(0, |page| page.len() / 1000)
    );
}
