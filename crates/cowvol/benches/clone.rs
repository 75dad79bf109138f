//! `cowvol clone` against `qemu-img create -b`, process against process, both made durable.
//!
//! `cargo bench -p cowvol`. What is counted: from before the process starts until the new overlay
//! would survive a power cut. cowvol syncs the file, its directory and the directory above by
//! itself; for qemu-img, which syncs no directory and makes none, that is done here and counted (no
//! process is started for it). Its overlay appears under the final name at once, without the rename
//! that lets cowvol's appear whole or not at all. COWVOL_BENCH_DIR names a directory on the disk to
//! measure; without it, one below target/ is taken.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use cowvol::Token;
use qcow2::CLUSTER_BYTES;
use tempfile::TempDir;

/// The disk has to have its room: cowvol holds it, and qemu-img does not.
const BASE: &str = "8G";
const RUNS: usize = 20;
const CROWD: usize = 10_000;
const GOAL: f64 = 5.0;
/// Milliseconds.
const LIST_GOAL: f64 = 100.0;

fn main() {
    let disk = env::var_os("COWVOL_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let machines = [0, CROWD].map(|crowd| Machine::new(&disk, crowd));

    // By turns, so that whatever else the computer does meets all alike.
    let mut figures = [Figures::default(), Figures::default()];
    let mut starts = Vec::new();
    for run in 0..RUNS {
        for (machine, figures) in machines.iter().zip(&mut figures) {
            figures.cowvol.push(machine.clone_with_cowvol(run));
            figures.qemu_img.push(machine.clone_with_qemu_img(run));
        }
        starts.push(timed(|| {
            feed(
                Command::new(env!("CARGO_BIN_EXE_cowvol")).arg("--version"),
                "",
            )
        }));
    }

    println!(
        "{BASE} base, median of {RUNS} each (fastest to slowest), in milliseconds, on {}",
        disk.display()
    );
    println!(
        "{:24}{:>24}{:>24}{:>8}",
        "volumes there already", "cowvol clone", "qemu-img create + fsync", "ratio"
    );
    for (Figures { cowvol, qemu_img }, there) in figures.iter().zip([0, CROWD]) {
        println!(
            "{there:<24}{:>24}{:>24}{:>8.1}",
            shown(cowvol),
            shown(qemu_img),
            median(qemu_img) / median(cowvol)
        );
    }
    println!(
        "cowvol --version, which does nothing but start: {}",
        shown(&starts)
    );
    let lists: Vec<f64> = (0..RUNS)
        .map(|_| timed(|| cowvol(machines[1].root(), &["list"], "")))
        .collect();
    println!(
        "cowvol list of {} volumes: {}",
        CROWD + 2 * RUNS,
        shown(&lists)
    );

    let verdict = |ok| if ok { "met" } else { "MISSED" };
    let ratio = figures
        .iter()
        .map(|of| median(&of.qemu_img) / median(&of.cowvol))
        .fold(f64::INFINITY, f64::min);
    let slower = median(&figures[1].cowvol) / median(&figures[0].cowvol);
    println!(
        "goal, at least {GOAL} times faster: {} ({ratio:.1})",
        verdict(ratio >= GOAL)
    );
    println!(
        "goal, no slower among {CROWD} volumes: {} ({slower:.2} times the time)",
        verdict(slower <= 1.1)
    );
    println!(
        "goal, a list within {LIST_GOAL} ms: {} ({:.0})",
        verdict(median(&lists) < LIST_GOAL),
        median(&lists)
    );
}

/// Milliseconds of each run.
#[derive(Default)]
struct Figures {
    cowvol: Vec<f64>,
    qemu_img: Vec<f64>,
}

/// A machine in a directory.
struct Machine {
    directory: TempDir,
}

impl Machine {
    /// With a base, and the volumes of a crowd of users.
    fn new(disk: &Path, crowd: usize) -> Machine {
        let machine = Machine {
            directory: tempfile::tempdir_in(disk).expect("a temporary directory"),
        };
        let base = machine.root().join("qcow2/backing/windows/7.qcow2");
        fs::create_dir_all(base.parent().expect("a parent")).expect("directories");
        feed(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2"])
                .arg(&base)
                .arg(BASE),
            "",
        );
        feed(
            Command::new("qemu-io")
                .args(["-c", "write -q 0 64M"])
                .arg(&base),
            "",
        );
        let bases_ini = "[base.windows]\nname=Windows 10\nostype=windows\ngeneration=7\n";
        fs::write(machine.root().join("qcow2/backing/bases.ini"), bases_ini).expect("bases.ini");

        machine.clone_with_cowvol(RUNS);
        let model =
            fs::read(machine.home("cowvol", RUNS).join("windows@7.qcow2")).expect("a volume");
        for user in 0..crowd {
            let directory = machine.home("crowd", user);
            fs::create_dir(&directory).expect("a directory");
            let copy = File::create(directory.join("windows@7.qcow2")).expect("a file");
            // As sparse as the model: three of its clusters hold something.
            for (cluster, bytes) in model.chunks(CLUSTER_BYTES as usize).take(3).enumerate() {
                copy.write_all_at(&bytes[..4096], cluster as u64 * CLUSTER_BYTES)
                    .expect("a write");
            }
            copy.set_len(model.len() as u64).expect("a length");
        }
        nix::unistd::sync();
        machine
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn home(&self, by: &str, run: usize) -> PathBuf {
        self.root()
            .join("qcow2/user")
            .join(Token::of(&format!("{run}@{by}.example")).as_str())
    }

    fn clone_with_cowvol(&self, run: usize) -> f64 {
        let request = format!("[login]\nuser={run}@cowvol.example\nauthenticated=true\n");
        let took = timed(|| cowvol(self.root(), &["clone"], &request));
        cowvol(self.root(), &["release"], "");
        took
    }

    fn clone_with_qemu_img(&self, run: usize) -> f64 {
        let directory = self.home("qemu-img", run);
        let overlay = directory.join("windows@7.qcow2");
        timed(|| {
            fs::create_dir(&directory).expect("a directory");
            let mut command = Command::new("qemu-img");
            command
                .args([
                    "create",
                    "-q",
                    "-f",
                    "qcow2",
                    "-F",
                    "qcow2",
                    "-b",
                    "../../backing/windows/7.qcow2",
                ])
                .arg(&overlay);
            feed(&mut command, "");
            for durable in [&overlay, &directory, directory.parent().expect("a parent")] {
                File::open(durable)
                    .and_then(|file| file.sync_all())
                    .expect("a sync");
            }
        })
    }
}

fn cowvol(root: &Path, arguments: &[&str], request: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cowvol"));
    command.args(arguments).arg("--root").arg(root);
    feed(&mut command, request);
}

fn feed(command: &mut Command, input: &str) {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input.as_bytes())
        .expect("a request");
    let output = child.wait_with_output().expect("the program ends");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Milliseconds that something takes.
fn timed(what: impl FnOnce()) -> f64 {
    let since = Instant::now();
    what();
    since.elapsed().as_secs_f64() * 1e3
}

fn sorted(figures: &[f64]) -> Vec<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn median(figures: &[f64]) -> f64 {
    let sorted = sorted(figures);
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

fn shown(figures: &[f64]) -> String {
    let sorted = sorted(figures);
    format!(
        "{:.2} ({:.2} to {:.2})",
        median(figures),
        sorted[0],
        sorted[sorted.len() - 1]
    )
}
