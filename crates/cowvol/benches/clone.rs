//! `cowvol clone` against `qemu-img create -b`, process against process, both made durable.
//!
//! `cargo bench -p cowvol`. What is counted: from before the process starts until the new overlay would survive a power cut. cowvol
//! syncs the file, its directory and the directory above by itself; for qemu-img, which syncs no directory and makes none, that is
//! done here and counted (no process is started for it). Its overlay appears under the final name at once, without the rename
//! that lets cowvol's appear whole or not at all. COWVOL_BENCH_DIR names a directory on the disk to measure; without it, one
//! below target/ is taken.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use cowvol::Token;

const RUNS: usize = 20;
const CROWD: usize = 10_000;
const GOAL: f64 = 5.0;

fn main() {
    let disk = env::var_os("COWVOL_BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let machine = tempfile::tempdir_in(&disk).expect("a temporary directory");
    let root = machine.path();
    prepare(root);

    println!("80 GiB base, median of {RUNS} each (fastest to slowest), in milliseconds, on {}", disk.display());
    println!("{:24}{:>24}{:>24}{:>8}", "volumes there already", "cowvol clone", "qemu-img create + fsync", "ratio");
    let few = compare(root, "few", 0);
    crowd(root);
    let many = compare(root, "many", CROWD);

    let since = Instant::now();
    cowvol(root, &["list"], "");
    println!("\ncowvol list of {} volumes: {:.0} ms", CROWD + 2 * RUNS, millis(since.elapsed()));
    let mut starts: Vec<f64> = Vec::new();
    for _ in 0..RUNS {
        let since = Instant::now();
        cowvol(root, &["--version"], "");
        starts.push(millis(since.elapsed()));
    }
    println!("cowvol --version, which does nothing but start: {} ms", figures(&sorted(starts)));
    let verdict = |ok| if ok { "met" } else { "MISSED" };
    let slower = many.cowvol / few.cowvol;
    println!("goal, {GOAL} times faster: {}", verdict(few.ratio() >= GOAL && many.ratio() >= GOAL));
    println!("goal, no slower among {CROWD} volumes: {} ({slower:.2} times the time)", verdict(slower < 1.1));
}

/// Medians in milliseconds.
struct Compared {
    cowvol: f64,
    qemu_img: f64,
}

impl Compared {
    fn ratio(&self) -> f64 {
        self.qemu_img / self.cowvol
    }
}

/// Runs both by turns, so that whatever else the machine does meets both.
fn compare(root: &Path, round: &str, there: usize) -> Compared {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let request = format!("[login]\nuser={round}-{run}@uni-a.example\nauthenticated=true\n");
        let since = Instant::now();
        cowvol(root, &["clone"], &request);
        ours.push(millis(since.elapsed()));

        let directory = root.join("qcow2/user").join(Token::of(&format!("{round}-{run}@qemu-img.example")).as_str());
        let since = Instant::now();
        qemu_img(&directory);
        theirs.push(millis(since.elapsed()));
    }
    let (ours, theirs) = (sorted(ours), sorted(theirs));
    let compared = Compared { cowvol: median(&ours), qemu_img: median(&theirs) };
    println!("{there:<24}{:>24}{:>24}{:>8.1}", figures(&ours), figures(&theirs), compared.ratio());
    compared
}

fn cowvol(root: &Path, arguments: &[&str], request: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cowvol"));
    let input = root.join("request.ini");
    fs::write(&input, request).expect("a request");
    command.args(arguments).arg("--root").arg(root).stdin(File::open(input).expect("the request"));
    finish(&mut command);
}

fn qemu_img(directory: &Path) {
    fs::create_dir(directory).expect("a directory");
    let overlay = directory.join("windows@7.qcow2");
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "../../backing/windows/7.qcow2"]).arg(&overlay);
    finish(command.stdin(Stdio::null()));
    for durable in [&overlay, directory, directory.parent().expect("a parent")] {
        File::open(durable).and_then(|file| file.sync_all()).expect("a sync");
    }
}

fn prepare(root: &Path) {
    let base = root.join("qcow2/backing/windows/7.qcow2");
    fs::create_dir_all(base.parent().expect("a parent")).expect("directories");
    fs::create_dir_all(root.join("qcow2/user")).expect("directories");
    finish(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&base).arg("80G"));
    finish(Command::new("qemu-io").args(["-c", "write -q 0 64M"]).arg(&base));
    let bases_ini = "[base.windows]\nname=Windows 10\nostype=windows\ngeneration=7\n";
    fs::write(root.join("qcow2/backing/bases.ini"), bases_ini).expect("bases.ini");
}

/// Copies of a volume that was cloned, under the tokens of as many users.
fn crowd(root: &Path) {
    let users = root.join("qcow2/user");
    let model = users.join(Token::of("few-0@uni-a.example").as_str()).join("windows@7.qcow2");
    let model = fs::read(model).expect("a volume");
    for user in 0..CROWD {
        let directory = users.join(Token::of(&format!("crowd-{user}")).as_str());
        fs::create_dir(&directory).expect("a directory");
        let copy = File::create(directory.join("windows@7.qcow2")).expect("a file");
        // As sparse as the model: the three clusters that hold something.
        for cluster in model.chunks(cowvol::qcow2::CLUSTER_BYTES as usize).take(3).enumerate() {
            copy.write_all_at(&cluster.1[..4096], cluster.0 as u64 * cowvol::qcow2::CLUSTER_BYTES).expect("a write");
        }
        copy.set_len(model.len() as u64).expect("a length");
    }
    nix::unistd::sync();
}

fn finish(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn sorted(mut figures: Vec<f64>) -> Vec<f64> {
    figures.sort_by(f64::total_cmp);
    figures
}

fn median(sorted: &[f64]) -> f64 {
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

fn figures(sorted: &[f64]) -> String {
    format!("{:.2} ({:.2} to {:.2})", median(sorted), sorted[0], sorted[sorted.len() - 1])
}
