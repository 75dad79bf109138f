//! What `cowvol` costs, against `qemu-img create -b` and find(1), process against process.
//!
//! `cargo bench -p cowvol`, as root. A clone is counted from before the process starts until the
//! volume has its room and would survive a power cut. Each machine is a file system on a loop device,
//! in a sparse file in target/ or in COWVOL_BENCH_DIR; all are gone when it ends.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod machine;
mod process;

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::machine::Machine;
use crate::process::{Times, run};

/// The size of the base where nothing else is said, and of the disk.
const BASE: u64 = 80;
const DISK: u64 = 200;

const KINDS: [&str; 2] = ["ext4", "xfs"];
const CROWDS: [u64; 3] = [10, 1_000, 10_000];
const VICTIMS: [u64; 2] = [1, 50];
const BASES: [u64; 4] = [8, 80, 1 << 10, 5 << 10];
const HUGE_DISK: u64 = 8 << 10;

fn main() {
    // What is mounted here is gone when this process ends.
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace; this benchmark needs root");
    run(Command::new("mount").args(["--make-rprivate", "/"]), "");

    println!("Milliseconds: the median, and in brackets the time within which 99 of 100 runs end.");
    for kind in KINDS {
        let machines = CROWDS.map(|crowd| {
            let machine = Machine::new(kind, DISK, &[BASE]);
            machine.add_crowd(crowd, BASE);
            machine
        });
        crowds(kind, &machines);
        let [.., crowded] = &machines;
        list(crowded);
        memory(crowded);
        evictions(crowded);
    }
    KINDS.into_iter().for_each(base_sizes);
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

#[derive(Default)]
struct Logins {
    first: Times,
    later: Times,
    /// No room is held, as qemu-img holds none.
    roomless: Times,
    peer: Times,
    /// The peer, which then holds the same room.
    peer_with_room: Times,
}

/// By turns, so that whatever else the computer does meets all alike.
fn crowds(kind: &str, machines: &[Machine]) {
    const RUNS: usize = 100;
    let mut all = CROWDS.map(|_| Logins::default());
    let mut start = Times::default();
    for _ in 0..RUNS {
        for (machine, logins) in machines.iter().zip(&mut all) {
            let volume = logins.first.of(|| machine.clone(BASE));
            let room = volume["room_bytes"].as_u64().expect("a number");
            machine.release();
            logins.later.of(|| machine.clone(BASE));
            machine.discard();
            logins.roomless.of(|| machine.clone_without_room(BASE));
            machine.discard();
            logins.peer.of(|| machine.clone_with_qemu_img(BASE, None));
            machine.remove_qemu_imgs();
            let with_room = || machine.clone_with_qemu_img(BASE, Some(room));
            logins.peer_with_room.of(with_room);
            machine.remove_qemu_imgs();
        }
        let mut version = Command::new(env!("CARGO_BIN_EXE_cowvol"));
        start.of(|| run(version.arg("--version"), ""));
    }
    println!("\ncowvol clone of a base of {BASE} GiB, on {kind}; {RUNS} runs each");
    println!(
        "{:>8}{:>17}{:>17}{:>17}{:>18}{:>18}",
        "volumes",
        "first login",
        "later login",
        "without room",
        "qemu-img + fsync",
        "and with room"
    );
    for (of, crowd) in all.iter().zip(CROWDS) {
        println!(
            "{crowd:>8}{:>17}{:>17}{:>17}{:>18}{:>18}",
            of.first.shown(),
            of.later.shown(),
            of.roomless.shown(),
            of.peer.shown(),
            of.peer_with_room.shown(),
        );
    }
    println!("cowvol --version, which only starts: {}", start.shown());
    verdicts(&all);
}

fn verdicts(all: &[Logins; 3]) {
    let least = |ours: fn(&Logins) -> &Times, peer: fn(&Logins) -> &Times| {
        let ratios = all.iter().map(|of| peer(of).median() / ours(of).median());
        ratios.fold(f64::INFINITY, f64::min)
    };
    let ratio = least(|of| &of.first, |of| &of.peer);
    println!(
        "goal, at least 4 times faster than qemu-img: {} ({ratio:.1}; both without room {:.1}, both with room {:.1})",
        verdict(ratio >= 4.0),
        least(|of| &of.roomless, |of| &of.peer),
        least(|of| &of.first, |of| &of.peer_with_room),
    );
    let p99 = all.iter().map(|of| of.first.p99()).fold(0.0, f64::max);
    println!(
        "goal, 99 of 100 within 20 ms: {} ({p99:.1})",
        verdict(p99 < 20.0)
    );
    let [few, .., many] = all;
    let slower = many.first.median() / few.first.median();
    println!(
        "goal, no slower among more volumes: {} ({slower:.2} of the time)",
        verdict(slower <= 1.1)
    );
}

fn list(machine: &Machine) {
    const RUNS: usize = 20;
    let (mut ours, mut peer) = (Times::default(), Times::default());
    for _ in 0..RUNS {
        ours.of(|| machine.list());
        peer.of(|| machine.find());
    }
    let (ours_ms, ratio) = (ours.median(), ours.median() / peer.median());
    println!(
        "\ncowvol list of {} volumes: {}; find(1), which opens none of them: {}; ratio {ratio:.1}",
        CROWDS[2],
        ours.shown(),
        peer.shown()
    );
    println!(
        "goal, within 100 ms: {} ({ours_ms:.0})",
        verdict(ours_ms < 100.0)
    );
}

fn memory(machine: &Machine) {
    let [clone, list, peer] = machine.peaks(BASE).map(|kib| kib as f64 / 1024.0);
    println!(
        "peak memory, MiB: clone {clone:.1}, list of {} volumes {list:.1}, qemu-img create {peer:.1}",
        CROWDS[2]
    );
}

fn evictions(machine: &Machine) {
    const RUNS: usize = 10;
    println!(
        "\ncowvol clone that evicts volumes of 1 GiB, of {} volumes; {RUNS} runs each",
        CROWDS[2]
    );
    let room = machine.clone(BASE)["room_bytes"]
        .as_u64()
        .expect("a number");
    machine.discard();
    for victims in VICTIMS {
        let mut times = Times::default();
        for _ in 0..RUNS {
            machine.add_victims(victims, room);
            let volume = times.of(|| machine.clone(BASE));
            let evicted = volume["evicted"].as_array().expect("a list").len();
            assert_eq!(evicted as u64, victims, "{}", volume["evicted"]);
            machine.discard();
            machine.remove_ballast();
        }
        println!("{victims:>10} victims: {}", times.shown());
    }
}

fn base_sizes(kind: &str) {
    const RUNS: usize = 5;
    let machine = Machine::new(kind, HUGE_DISK, &BASES);
    let mut all = BASES.map(|_| [(); 2].map(|()| Times::default()));
    for _ in 0..RUNS {
        for (gib, [with, without]) in BASES.into_iter().zip(&mut all) {
            with.of(|| machine.clone(gib));
            machine.discard();
            without.of(|| machine.clone_without_room(gib));
            machine.discard();
        }
    }
    println!(
        "\ncowvol clone of bases of several sizes, on {kind} of {} TiB; {RUNS} runs each",
        HUGE_DISK >> 10
    );
    println!("{:>8}{:>20}{:>20}", "GiB", "with its room", "without room");
    for ([with, without], gib) in all.iter().zip(BASES) {
        println!("{gib:>8}{:>20.2}{:>20.2}", with.median(), without.median());
    }
    let [small, .., large] = &all;
    let [with, without] = [0, 1].map(|of: usize| large[of].median() / small[of].median());
    println!(
        "goal, flat up to 5 TiB: {} ({with:.2} of the time; without room {without:.2})",
        verdict(with <= 1.1)
    );
}
