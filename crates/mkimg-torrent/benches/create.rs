//! `mkimg-torrent create` against `mktorrent -t2` and bare digests, on a file in the page cache and
//! on one that is nearly all hole.
//!
//! `cargo bench -p mkimg-torrent`. mktorrent and the loop of SHA-1 give the pieces of a torrent
//! only; create gives the SHA-256 of the whole and the block map, too, signs, and makes its files
//! durable. SHA-256 of a whole file cannot be divided among processors and cannot skip zeros, so a
//! bare loop of it, which is printed as well, is as fast as create can be. MKIMG_BENCH_DIR names a
//! directory with 4 GiB of room; without it, one below target/ is taken.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::env;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const RUNS: usize = 5;
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const SPARSE_BYTES: u64 = 60 * GIB;
/// 32 stretches of 64 MiB, spread over the file.
const STRETCHES: u64 = 32;

fn main() {
    let disk = env::var_os("MKIMG_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let server = Server::new(&disk);

    println!(
        "60 GiB of which 2 GiB are data, once each, seconds by the clock (seconds of processors)"
    );
    let sparse = server.file("sparse", SPARSE_BYTES, &[64 * MIB; STRETCHES as usize]);
    let (ours, parts) = server.create("sparse", 1);
    // Of all children so far, which is this one.
    let memory = getrusage(UsageWho::RUSAGE_CHILDREN)
        .expect("usage")
        .max_rss();
    let theirs = server.mktorrent(&sparse, 22);
    let floor = timed(|| {
        let zeros = vec![0; 65536];
        let mut digest = Sha256::new();
        (0..SPARSE_BYTES / 65536).for_each(|_| digest.update(&zeros));
        std::hint::black_box(digest.finalize());
    });
    fs::remove_file(sparse).expect("the file goes");
    println!("mkimg-torrent create          {ours}");
    println!("  its SHA-1 and block map     {parts:8.2}");
    println!("mktorrent -t2                 {theirs}");
    println!("bare SHA-256 of 60 GiB zeros  {floor}");

    println!();
    println!("1 GiB in the page cache, the fastest of {RUNS}, the same");
    let whole = server.file("whole", GIB, &[GIB]);
    let mut figures: [Vec<Figure>; 4] = Default::default();
    // By turns, so that whatever else the computer does meets all alike.
    for run in 0..RUNS {
        figures[0].push(server.create("whole", 2 + run as u64).0);
        figures[1].push(server.mktorrent(&whole, 20));
        figures[2].push(timed(|| digest_file::<Sha1>(&whole, MIB)));
        figures[3].push(timed(|| digest_file::<Sha256>(&whole, GIB)));
    }
    let [create, mktorrent, sha1, sha256] = figures.map(fastest);
    println!("mkimg-torrent create          {create}");
    println!("mktorrent -t2                 {mktorrent}");
    println!("bare SHA-1, one thread        {sha1}");
    println!("bare SHA-256, one thread      {sha256}");

    println!();
    let verdict = |ok| if ok { "met" } else { "MISSED" };
    let best = mktorrent.clock.min(sha1.clock);
    println!(
        "goal, at most 1.1 times the best of mktorrent -t2 and SHA-1: {} ({:.2})",
        verdict(create.clock <= 1.1 * best),
        create.clock / best
    );
    println!(
        "  against one thread of SHA-1: {:.2}; against SHA-256, which is the least: {:.2}",
        create.clock / sha1.clock,
        create.clock / sha256.clock
    );
    let faster = theirs.clock / ours.clock;
    println!(
        "goal, at least 20 times faster on the sparse file: {} ({faster:.2})",
        verdict(faster >= 20.0)
    );
    println!(
        "  what mktorrent makes alone: {:.1} times faster; against SHA-256, which is the least: {:.2}",
        theirs.clock / parts,
        ours.clock / floor.clock
    );
    println!(
        "goal, less than 64 MiB of memory for 60 GiB: {} ({:.1} MiB)",
        verdict(memory < 64 << 10),
        memory as f64 / 1024.0
    );
}

/// How long something took.
#[derive(Clone, Copy)]
struct Figure {
    /// By the clock.
    clock: f64,
    /// On all processors.
    processors: f64,
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:8.2} ({:.2})", self.clock, self.processors)
    }
}

/// Whatever else the computer does only adds.
fn fastest(figures: Vec<Figure>) -> Figure {
    figures
        .into_iter()
        .min_by(|a, b| a.clock.total_cmp(&b.clock))
        .expect("a run")
}

fn timed(what: impl FnOnce()) -> Figure {
    let processors = || -> f64 {
        let of = |who| {
            getrusage(who)
                .map(|usage| (usage.user_time() + usage.system_time()).num_microseconds())
                .expect("usage")
        };
        (of(UsageWho::RUSAGE_SELF) + of(UsageWho::RUSAGE_CHILDREN)) as f64 / 1e6
    };
    let (since, before) = (Instant::now(), processors());
    what();
    Figure {
        clock: since.elapsed().as_secs_f64(),
        processors: processors() - before,
    }
}

/// Reads a file and digests every `piece` bytes of it.
fn digest_file<D: Digest>(path: &Path, piece: u64) {
    let mut file = File::open(path).expect("the file");
    let mut buffer = vec![0; 256 << 10];
    let (mut digest, mut filled) = (D::new(), 0);
    loop {
        let read = file.read(&mut buffer).expect("a read");
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
        filled += read as u64;
        if filled == piece {
            std::hint::black_box(std::mem::replace(&mut digest, D::new()).finalize());
            filled = 0;
        }
    }
}

/// A server in a directory.
struct Server {
    directory: TempDir,
}

impl Server {
    fn new(disk: &Path) -> Server {
        let server = Server {
            directory: tempfile::tempdir_in(disk).expect("a temporary directory"),
        };
        let key = server.path("key");
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "ed25519", "-out"])
            .arg(&key)
            .status();
        assert!(made.expect("openssl").success());
        fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a mode");
        fs::create_dir_all(server.path("etc/labtools/keys")).expect("a directory");
        let public = server.path("etc/labtools/keys/base-1.pub");
        let made = Command::new("openssl")
            .arg("pkey")
            .arg("-in")
            .arg(&key)
            .args(["-pubout", "-out"])
            .arg(public)
            .status();
        assert!(made.expect("openssl").success());
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file with stretches of data, evenly spread, which are in the page cache, for they were
    /// just written.
    fn file(&self, name: &str, size: u64, stretches: &[u64]) -> PathBuf {
        let path = self.path(name);
        let file = File::create(&path).expect("a file");
        file.set_len(size).expect("a length");
        let mut state = 88_172_645_463_325_252u64;
        for (index, length) in stretches.iter().enumerate() {
            let start = size / stretches.len() as u64 * index as u64;
            for at in (start..start + length).step_by(MIB as usize) {
                let bytes: Vec<u8> = (0..MIB / 8)
                    .flat_map(|_| {
                        // xorshift
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        state.to_ne_bytes()
                    })
                    .collect();
                file.write_all_at(&bytes, at).expect("a write");
            }
        }
        // An empty disk at its beginning: what is no qcow2 image is refused.
        let disk = self.path("disk");
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-o", "cluster_size=512"])
            .arg(&disk)
            .arg("64K")
            .status();
        assert!(made.expect("qemu-img").success());
        file.write_all_at(&fs::read(disk).expect("a disk"), 0)
            .expect("a write");
        file.sync_all().expect("a sync");
        path
    }

    /// Runs create; how long it took, and how long SHA-1 and the block map did by its own word.
    fn create(&self, name: &str, generation: u64) -> (Figure, f64) {
        let request = format!(
            "[image]\nname=windows\ntitle=Windows\nostype=windows\npath=/{name}\ngeneration={generation}\n\
             trackers=http://server.example:6969/announce\n"
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkimg-torrent"));
        command
            .args(["create", "-v", "--root"])
            .arg(self.directory.path())
            .arg("--key")
            .arg(self.path("key"));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut said = String::new();
        let figure = timed(|| {
            let mut child = command.spawn().expect("the tool starts");
            child
                .stdin
                .take()
                .expect("a pipe")
                .write_all(request.as_bytes())
                .expect("a request");
            let output = child.wait_with_output().expect("the tool ends");
            said = String::from_utf8(output.stderr).expect("UTF-8");
            assert!(output.status.success(), "{said}");
        });
        let parts = said
            .rsplit("block map ")
            .next()
            .and_then(|text| text.trim_end().strip_suffix(" s")?.parse().ok());
        (figure, parts.unwrap_or_else(|| panic!("{said}")))
    }

    fn mktorrent(&self, file: &Path, bits: u32) -> Figure {
        let torrent = self.path("mktorrent.torrent");
        let figure = timed(|| {
            let mut command = Command::new("mktorrent");
            command.args([
                "-p",
                "-d",
                "-t",
                "2",
                "-l",
                &bits.to_string(),
                "-a",
                "http://server.example:6969/announce",
                "-o",
            ]);
            let output = command.arg(&torrent).arg(file).output().expect("mktorrent");
            assert!(output.status.success(), "{output:?}");
        });
        fs::remove_file(torrent).expect("the torrent goes");
        figure
    }
}
