//! `cowvol export` and `import` against `qemu-img convert`, which copies what an overlay changes as
//! well, into another overlay; a volume with 1 GiB of changes, all of it made durable.
//!
//! `cargo bench -p cowvol --bench carry`. qemu-img neither compares the base nor digests anything, and
//! syncs nothing; its file is synced here, and that is counted. COWVOL_BENCH_DIR names a directory on
//! the disk to measure; without it, one below target/ is taken. It needs 6 GiB.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use cowvol::Token;

const BASE: &str = "2G";
const CHANGED_MIB: u64 = 1024;
const RUNS: usize = 3;
const USER: &str = "alice@uni-a.example";

fn main() {
    let disk = env::var_os("COWVOL_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let directory = tempfile::tempdir_in(&disk).expect("a temporary directory");
    let at = directory.path();
    let base = at.join("qcow2/backing/windows/7.qcow2");
    let volume = at
        .join("qcow2/user")
        .join(Token::of(USER).as_str())
        .join("windows@7.qcow2");
    prepare(at, &base, &volume);

    let (stream, out, back) = (at.join("stream"), at.join("out"), at.join("back"));
    let [mut export, mut import, mut convert, mut convert_back] = [const { Vec::new() }; 4];
    let mut stream_bytes = 0;
    for _ in 0..RUNS {
        for old in [&stream, &out, &back] {
            let _ = fs::remove_file(old); // there is none before the first run
        }
        nix::unistd::sync();
        export.push(timed(|| {
            cowvol(at, &["export", "--user", USER, "--to", text(&stream)])
        }));
        convert.push(timed(|| qemu_img_convert(&base, &volume, &out)));
        import.push(timed(|| {
            cowvol(
                at,
                &[
                    "import",
                    "--user",
                    USER,
                    "--replace",
                    "--from",
                    text(&stream),
                ],
            );
        }));
        convert_back.push(timed(|| qemu_img_convert(&base, &out, &back)));
        stream_bytes = fs::metadata(&stream).expect("a stream").len();
        run("qemu-img", &["compare", "-q", text(&volume), text(&back)]);
    }

    println!(
        "a volume with {CHANGED_MIB} MiB changed, in seconds, median of {RUNS} each, on {}; the stream has {stream_bytes} bytes",
        disk.display()
    );
    for (what, ours, theirs) in [
        ("cowvol export; qemu-img convert", &mut export, &mut convert),
        (
            "cowvol import; qemu-img convert",
            &mut import,
            &mut convert_back,
        ),
    ] {
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "{what:36}{ours:8.2}{theirs:8.2}   ratio {:.2}",
            theirs / ours
        );
    }
}

/// A machine whose one user has changed a part of the disk, in pieces.
fn prepare(at: &Path, base: &Path, volume: &Path) {
    fs::create_dir_all(base.parent().expect("a parent")).expect("directories");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", text(base), BASE],
    );
    run("qemu-io", &["-c", "write -q 0 64M", text(base)]);
    let bases_ini = "[base.windows]\nname=Windows 10\nostype=windows\ngeneration=7\n";
    fs::write(at.join("qcow2/backing/bases.ini"), bases_ini).expect("bases.ini");
    let request = at.join("request");
    fs::write(
        &request,
        format!("[login]\nuser={USER}\nauthenticated=true\n"),
    )
    .expect("a request");
    let mut clone = Command::new(env!("CARGO_BIN_EXE_cowvol"));
    clone
        .args(["clone", "--root"])
        .arg(at)
        .stdin(File::open(request).expect("a request"));
    succeed(&mut clone);
    for piece in 0..CHANGED_MIB / 16 {
        // Every other 16 MiB of the disk.
        let write = format!("write -q -P {} {}M 16M", 1 + piece, 32 * piece);
        run("qemu-io", &["-c", &write, text(volume)]);
    }
    cowvol(at, &["release"]);
}

fn qemu_img_convert(base: &Path, from: &Path, to: &Path) {
    let on = ["-B", text(base), "-F", "qcow2"];
    let convert = ["convert", "-q", "-f", "qcow2", "-O", "qcow2"];
    run(
        "qemu-img",
        &[&convert[..], &on, &[text(from), text(to)]].concat(),
    );
    let synced = File::open(to).and_then(|file| file.sync_all());
    synced.expect("a sync");
}

fn cowvol(at: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cowvol"));
    succeed(command.args(arguments).arg("--root").arg(at));
}

fn run(program: &str, arguments: &[&str]) {
    succeed(Command::new(program).args(arguments));
}

fn succeed(command: &mut Command) {
    let output = command.stdout(Stdio::piped()).output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Seconds that something takes.
fn timed(what: impl FnOnce()) -> f64 {
    let since = Instant::now();
    what();
    since.elapsed().as_secs_f64()
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
