//! The tool, stopped before each of its system calls: an image that changes under it, a kill and a
//! power cut at any point.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jsonpipe::testkit::stepped::{Call, Stepped};
use nix::libc::SYS_pread64;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use serde_json::json;

use crate::server::{CREATE, Server, document, names, request, said, store};

/// The order in which they appear.
const ENDINGS: [&str; 5] = ["blocks", "torrent", "blocks.torrent", "manifest", "sig"];

/// What somebody does to an image.
type Change = fn(&Path);

#[test]
fn an_image_that_changes_while_it_is_read_is_told() {
    let changes: [(&str, Change); 7] = [
        ("longer", |path| {
            File::options()
                .append(true)
                .open(path)
                .and_then(|file| file.write_all_at(b"x", 1 << 30))
                .unwrap()
        }),
        ("shorter", |path| {
            File::options()
                .write(true)
                .open(path)
                .and_then(|file| file.set_len(1 << 20))
                .unwrap()
        }),
        ("other bytes", |path| {
            File::options()
                .write(true)
                .open(path)
                .and_then(|file| file.write_all_at(b"x", 9))
                .unwrap()
        }),
        ("other bytes, the time set back", |path| {
            let file = File::options().write(true).open(path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.write_all_at(b"x", 9).unwrap();
            file.set_modified(modified).unwrap();
        }),
        ("another file of that name", |path| {
            fs::copy(path, path.with_extension("new")).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("nothing", |_| {}),
    ];
    for (what, change) in changes {
        let server = published_image();
        let image = server.root().join("image");
        let mut create = stepped(&server);
        // The first look is at the format, the second one is the pass over all of it.
        for _ in 0..2 {
            while !reads(&create, &image) {
                assert!(create.steps(1), "{what}");
            }
            assert!(create.steps(1));
        }
        change(&image);
        let WaitStatus::Exited(_, status) = create.end() else {
            panic!("{what}: it ended by a signal")
        };
        let stderr = said(&fs::read_to_string(server.root().join("stderr")).unwrap());
        if what == "nothing" {
            assert_eq!((status, stderr.as_str()), (0, ""));
            continue;
        }
        let expected = format!(
            "mkimg-torrent: reading {}: it changed while it was read; take an image that nothing writes to\n",
            image.display()
        );
        assert_eq!((status, stderr), (65, expected), "{what}");
        assert_eq!(names(&store(server.root())), [""; 0], "{what}");
    }
}

#[test]
fn at_no_point_is_there_a_signature_without_all_that_it_stands_for() {
    let server = published_image();
    let expected = expected(&server);
    let directory = store(server.root());
    let mut create = stepped(&server);
    let mut synced = Vec::new();
    let mut states = 0;
    loop {
        // What a kill here would leave.
        let there: Vec<bool> = ENDINGS
            .iter()
            .map(|ending| directory.join(format!("7.{ending}")).exists())
            .collect();
        assert!(
            there.is_sorted_by(|before, after| before >= after),
            "{there:?}"
        );
        for ((ending, bytes), there) in expected.iter().zip(there) {
            assert!(
                !there || fs::read(directory.join(format!("7.{ending}"))).unwrap() == *bytes,
                "{ending}"
            );
        }
        synced.extend(create.syncs().filter(|path| path.starts_with(&directory)));
        states += 1;
        if !create.steps(1) {
            break;
        }
    }
    assert!(states > 100, "{states}");
    // What a power cut would leave: each is durable under its name before the next is begun.
    let durable: Vec<PathBuf> = ENDINGS
        .iter()
        .flat_map(|ending| {
            [
                directory.join(format!(".7.{ending}.tmp")),
                directory.clone(),
            ]
        })
        .collect();
    assert_eq!(synced, durable);
}

#[test]
fn after_a_kill_at_any_point_the_next_run_completes() {
    // Before each file is durable, and before its name is.
    for nth in 0..2 * ENDINGS.len() {
        let server = published_image();
        let directory = store(server.root());
        let mut create = stepped(&server);
        steps_to_sync(&mut create, &directory, nth);
        assert!(
            matches!(create.end_by(Signal::SIGKILL), WaitStatus::Signaled(_, by, _) if by == Signal::SIGKILL)
        );
        let output = document(&server.create_image(json!({})));
        // The rename of the last one was done, and only its directory not yet durable.
        assert_eq!(
            output["image"]["changed"],
            nth + 1 < 2 * ENDINGS.len(),
            "{nth}"
        );
        for (ending, bytes) in expected(&server) {
            assert_eq!(
                fs::read(directory.join(format!("7.{ending}"))).unwrap(),
                bytes
            );
        }
        assert_eq!(
            names(&directory).len(),
            ENDINGS.len(),
            "{:?}",
            names(&directory)
        );
    }
}

#[test]
fn a_signal_while_it_writes_waits_until_all_is_there() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let server = published_image();
        let directory = store(server.root());
        let mut create = stepped(&server);
        steps_to_sync(&mut create, &directory, 0);
        assert!(matches!(create.end_by(signal), WaitStatus::Signaled(_, by, _) if by == signal));
        assert_eq!(names(&directory).len(), ENDINGS.len());
    }
    // While it reads, at once.
    let server = published_image();
    let mut create = stepped(&server);
    while !reads(&create, &server.root().join("image")) {
        assert!(create.steps(1));
    }
    assert!(
        matches!(create.end_by(Signal::SIGTERM), WaitStatus::Signaled(_, by, _) if by == Signal::SIGTERM)
    );
    assert_eq!(names(&store(server.root())), [""; 0]);
}

/// A server with a raw image that has data and a hole.
fn published_image() -> Server {
    let server = Server::bare();
    server.image(3 << 20, &[(0, &[7; 1 << 20]), (2 << 20, &[9; 1000])]);
    fs::write(
        server.root().join("request"),
        request(json!({"path": "/image"})),
    )
    .unwrap();
    server
}

/// What `create` writes there, by ending, from a run on a copy.
fn expected(server: &Server) -> Vec<(&'static str, Vec<u8>)> {
    let other = Server::bare();
    fs::copy(server.root().join("image"), other.root().join("image")).unwrap();
    document(&other.create_image(json!({})));
    ENDINGS
        .into_iter()
        .map(|ending| {
            (
                ending,
                fs::read(other.file(&format!("7.{ending}"))).unwrap(),
            )
        })
        .collect()
}

/// A `create`, whose first thread reads and writes all files.
fn stepped(server: &Server) -> Stepped {
    let file = |name: &str| File::create(server.root().join(name)).unwrap();
    let mut command = Command::new(CREATE.binary);
    command
        .args(CREATE.arguments)
        .arg("--root")
        .arg(server.root());
    command
        .stdin(File::open(server.root().join("request")).unwrap())
        .stdout(Stdio::null())
        .stderr(file("stderr"));
    Stepped::start(&mut command)
}

/// Until it is about to make the directory, or a file in it, durable for the nth time.
fn steps_to_sync(create: &mut Stepped, directory: &Path, nth: usize) {
    let mut before = 0;
    loop {
        if create
            .syncs()
            .is_some_and(|path| path.starts_with(directory))
        {
            if before == nth {
                return;
            }
            before += 1;
        }
        assert!(create.steps(1));
    }
}

/// Whether it is about to read this file.
fn reads(create: &Stepped, path: &Path) -> bool {
    let Call { number, arguments } = create.next_call();
    number == SYS_pread64 && create.file(arguments[0]) == path
}
