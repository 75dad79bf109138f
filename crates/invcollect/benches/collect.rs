//! `invcollect collect` against the thesis's script (Figure 28), process tree against process tree,
//! on this machine.
//!
//! `cargo bench -p invcollect --bench collect`. Needs root and scripts/lab/collector. What is
//! counted: processor time and the largest process of all that a run starts, as the kernel accounts
//! them to whoever waits for it; wall time; programs that are started, by strace. The script is run
//! twice: with what it pipes into curl taken away by cat, so that no network is in the figures, and
//! with curl, which takes it to a collector over TLS. `push` is that of a machine in a directory,
//! of which little can be read: what a whole report costs is at most that and `collect`. Each run
//! is measured by its own process (this program, once more), because the kernel adds up what a
//! process waited for.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "../tests/all/laboratory/collector.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod collector;

use std::env;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use collector::{Collector, H1};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const RUNS: usize = 30;
const GOAL_SHARE: f64 = 0.5;
const GOAL_MIB: f64 = 8.0;
/// Stands before a command that this program is to run and measure.
const MEASURE: &str = "--measure-one";

/// As it stands in the thesis, but for the end of the pipe. `function` is no word of every /bin/sh.
const SCRIPT: &str = r#"#!/bin/bash
collector() { # as it stands there, but for the collector's CA
    curl -s -f -m 10 --data-binary @- -H "Content-Type: text/plain" -H "Auth: $SECRET" -H "Uuid: $ID" --cacert "$CA" https://collector.example
}
function run() {
    echo "---- $@ ----"
    $@ 2>&1
}
{
    run cctk -o /dev/stdout
    run cat /proc/meminfo
    run df
    run cat /proc/net/dev
    run cat /proc/net/wireless
    run ip addr
    run ip route
    run ethtool eth0
} | "$1"
"#;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == MEASURE) {
        return measure(&arguments[at + 1..]);
    }
    let collector = Collector::up();
    let host = collector.host(H1);
    let script = collector.path("script");
    fs::write(&script, SCRIPT).expect("the script");
    let (script, root) = (
        script.to_str().expect("a path"),
        host.root.to_str().expect("a path"),
    );
    let invcollect = env!("CARGO_BIN_EXE_invcollect");
    let peers = [
        ("the thesis's script", vec!["bash", script, "cat"]),
        ("invcollect collect", vec![invcollect, "collect"]),
        ("the script, with curl", vec!["bash", script, "collector"]),
        (
            "invcollect push",
            vec![invcollect, "push", "--now", "--root", root],
        ),
    ];
    // By turns, so that whatever else the computer does meets all alike.
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); peers.len()];
    for _ in 0..RUNS {
        for ((_, command), runs) in peers.iter().zip(&mut runs) {
            runs.push(Run::of(&collector, command));
        }
    }
    println!("median of {RUNS} runs (least to most)");
    println!(
        "{:22}{:>24}{:>24}{:>14}{:>10}",
        "", "CPU, ms", "wall, ms", "largest, MiB", "programs"
    );
    let mut cpu = Vec::new();
    let mut mib = Vec::new();
    let mut programs = Vec::new();
    for ((name, command), runs) in peers.iter().zip(&runs) {
        let of = |figure: fn(&Run) -> f64| sorted(runs.iter().map(figure).collect());
        let started = programs_of(&collector, command);
        println!(
            "{name:22}{:>24}{:>24}{:>14.1}{started:>10}",
            shown(&of(|r| r.cpu)),
            shown(&of(|r| r.wall)),
            median(&of(|r| r.mib))
        );
        cpu.push(median(&of(|r| r.cpu)));
        mib.push(median(&of(|r| r.mib)));
        programs.push(started);
    }
    let verdict = |ok| if ok { "met" } else { "MISSED" };
    println!(
        "collect, to the script without curl: {:.2}",
        cpu[1] / cpu[0]
    );
    let share = (cpu[1] + cpu[3]) / cpu[2];
    println!(
        "goal, with TLS (collect and push) at most {GOAL_SHARE} of the script's CPU: {} ({share:.2})",
        verdict(share <= GOAL_SHARE)
    );
    let largest = mib[1].max(mib[3]);
    println!(
        "goal, at most {GOAL_MIB} MiB: {} ({largest:.1})",
        verdict(largest <= GOAL_MIB)
    );
    println!(
        "goal, no program but itself: {}",
        verdict(programs[1] == 1 && programs[3] == 1)
    );
}

/// What one run took.
#[derive(Clone, Debug)]
struct Run {
    cpu: f64,
    wall: f64,
    mib: f64,
}

impl Run {
    fn of(collector: &Collector, command: &[&str]) -> Run {
        let program = env::current_exe().expect("this program");
        let output = inside(
            collector,
            program.to_str().expect("a path"),
            &[&[MEASURE], command].concat(),
        )
        .output();
        let output = output.expect("it starts");
        let text = String::from_utf8(output.stdout).expect("figures");
        let figures: Vec<f64> = text
            .split_whitespace()
            .map(|figure| figure.parse().expect("a figure"))
            .collect();
        let [cpu, wall, mib] = figures[..] else {
            panic!("{text:?} {}", String::from_utf8_lossy(&output.stderr))
        };
        Run { cpu, wall, mib }
    }
}

/// Where the collector is, and with what the script asks for.
fn inside(collector: &Collector, program: &str, arguments: &[&str]) -> Command {
    let mut command = collector.inside(program, arguments);
    command
        .env("CA", collector.path("root/etc/labtools/collector/ca.pem"))
        .env("SECRET", collector.secret())
        .env("ID", H1);
    command
}

/// Runs a command, and prints milliseconds of processor time, of wall time, and MiB.
fn measure(command: &[String]) {
    let since = Instant::now();
    let mut run = Command::new(&command[0]);
    let status = run
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let wall = since.elapsed().as_secs_f64() * 1e3;
    assert!(status.expect("it starts").success(), "{command:?} failed");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel's account");
    let cpu = (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e3;
    println!("{cpu} {wall} {}", usage.max_rss() as f64 / 1024.0);
}

/// How many programs a command starts, itself included.
fn programs_of(collector: &Collector, command: &[&str]) -> usize {
    let trace = collector.path("trace");
    let strace = [
        "-f",
        "-qq",
        "-e",
        "trace=execve",
        "-e",
        "status=successful",
        "-o",
        trace.to_str().expect("a path"),
    ];
    let mut strace = inside(collector, "strace", &[&strace, command].concat());
    strace
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("strace starts");
    fs::read_to_string(&trace)
        .expect("a trace")
        .matches("execve(")
        .count()
}

fn sorted(mut figures: Vec<f64>) -> Vec<f64> {
    figures.sort_by(f64::total_cmp);
    figures
}

fn median(sorted: &[f64]) -> f64 {
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

fn shown(sorted: &[f64]) -> String {
    format!(
        "{:.2} ({:.2} to {:.2})",
        median(sorted),
        sorted[0],
        sorted[sorted.len() - 1]
    )
}
