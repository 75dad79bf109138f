//! What `create` writes, what it refuses, and that it does either wholly.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use jsonpipe::testkit::{feed, hold};
use serde_json::{Value, json};

use crate::server::{CREATE, KEY, Server, decoded, document, mode, names, request, run, store};

const FILES: [&str; 6] = [
    "7.blocks",
    "7.blocks.torrent",
    "7.manifest",
    "7.qcow2",
    "7.sig",
    "7.torrent",
];

#[test]
fn the_first_call_writes_and_the_second_finds_it() {
    let server = Server::new();
    let first = server.created(json!({}));
    assert_eq!(
        (&first["image"]["schema"], &first["image"]["changed"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(first["programs"], json!({"R": "4.5"}));
    assert_eq!(names(&store(server.root())), FILES);
    for (key, ending) in [
        ("manifest", "manifest"),
        ("signature", "sig"),
        ("torrent_file", "torrent"),
        ("blocks_torrent_file", "blocks.torrent"),
    ] {
        let path = server.file(&format!("7.{ending}"));
        assert_eq!(
            fs::read(&path).unwrap(),
            decoded(&first["image"][key]),
            "{key}"
        );
        assert_eq!(mode(&path), 0o444);
    }
    assert_eq!(mode(&server.file("7.blocks")), 0o444);

    let manifest: Value =
        serde_json::from_slice(&fs::read(server.file("7.manifest")).unwrap()).unwrap();
    let image = server.file("7.qcow2");
    let digest = |path: &std::path::Path| json!(run("sha256sum", &[path.to_str().unwrap()])[..64]);
    assert_eq!(
        manifest,
        json!({
            "schema": 1, "kind": "base", "name": "windows", "title": "Windows 10", "ostype": "windows", "default": true,
            "generation": 7, "format": "qcow2", "size_bytes": fs::metadata(&image).unwrap().len(), "virtual_bytes": 1 << 30,
            "sha256": digest(&image), "blocks_sha256": digest(&server.file("7.blocks")), "infohash": manifest["infohash"],
            "blocks_infohash": manifest["blocks_infohash"], "models": [], "programs": [{"name": "R", "version": "4.5"}],
            "created_at": "2026-11-23T00:00:00Z",
        })
    );

    let mut second = server.created(json!({}));
    assert_eq!(second["image"]["changed"], false);
    second["image"]["changed"] = json!(true);
    assert_eq!(second, first);
}

#[test]
fn the_same_image_gives_the_same_bytes_whatever_its_name_and_holes() {
    let of = |write_all: bool, path: &str| {
        let server = Server::bare();
        server.image(3 << 20, &[(1 << 20, &[7; 100])]);
        if write_all {
            let bytes = fs::read(server.root().join("image")).unwrap();
            fs::remove_file(server.root().join("image")).unwrap();
            fs::write(server.root().join(path), bytes).unwrap();
        } else {
            fs::rename(server.root().join("image"), server.root().join(path)).unwrap();
        }
        document(&server.create_image(json!({"path": format!("/{path}")})))
    };
    let first = of(false, "image");
    assert_eq!(of(true, ".hidden"), first);
    assert_eq!(of(false, "Ação 10 ü.img"), first);
}

#[test]
fn without_a_time_it_is_that_of_the_file() {
    let server = Server::bare();
    server.image(1 << 20, &[]);
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::options()
        .write(true)
        .open(server.root().join("image"))
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    document(&server.create_image(json!({"created_at": null})));
    assert!(
        fs::read_to_string(server.file("7.manifest"))
            .unwrap()
            .contains(r#""created_at":"2001-09-09T01:46:40Z""#)
    );
}

#[test]
fn a_dry_run_says_the_same_and_writes_nothing() {
    let server = Server::new();
    let dry = server.create_with(&[
        "--key",
        KEY,
        "--dry-run",
        "--metalink",
        "/nowhere/x",
        "--url",
        "http://a/x",
    ]);
    assert_eq!(names(&store(server.root())), ["7.qcow2"]);
    assert!(!server.root().join("run").exists());
    assert_eq!(document(&dry), server.created(json!({})));
    assert_eq!(
        document(&server.create_with(&["--key", KEY, "--dry-run"]))["image"]["changed"],
        false
    );
}

#[test]
fn create_does_not_replace_a_published_image() {
    let server = Server::new();
    server.created(json!({}));
    let before = fs::read(server.file("7.manifest")).unwrap();
    let ended = server.create(json!({"title": "Windows 11"}));
    assert_eq!((ended.status, ended.stdout.as_str()), (73, ""));
    assert!(ended.stderr.contains(
        "generation 7 of windows is published already, with other contents; count generation up"
    ));
    assert_eq!(fs::read(server.file("7.manifest")).unwrap(), before);
    assert_eq!(names(&store(server.root())), FILES);

    // A file that went missing comes back.
    fs::remove_file(server.file("7.blocks")).unwrap();
    assert_eq!(server.created(json!({}))["image"]["changed"], true);
    assert_eq!(names(&store(server.root())), FILES);

    // What a kill left, without a signature, is in nobody's way.
    fs::remove_file(server.file("7.sig")).unwrap();
    assert_eq!(
        server.created(json!({"title": "Windows 11"}))["image"]["changed"],
        true
    );
}

#[test]
fn a_key_that_machines_do_not_know_signs_nothing() {
    let server = Server::new();
    server.created(json!({}));
    let before = fs::read(server.file("7.sig")).unwrap();
    let key = server.root().join("other.key");
    let key = key.to_str().unwrap();
    run(
        "openssl",
        &["genpkey", "-algorithm", "ed25519", "-out", key],
    );
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    let keys = server.root().join("etc/labtools/keys");
    let refused = |message: &str| {
        // An image that is not there is not looked for.
        for (more, input) in [
            (None, json!({})),
            (Some("--dry-run"), json!({})),
            (None, json!({"path": "/nowhere"})),
        ] {
            let arguments: Vec<&str> = ["create", "--key", key].into_iter().chain(more).collect();
            let ended = server.run(&arguments, &request(input));
            assert_eq!((ended.status, ended.stdout.as_str()), (78, ""), "{ended:?}");
            assert_eq!(ended.stderr, format!("mkimg-torrent: {message}\n"));
            assert_eq!(fs::read(server.file("7.sig")).unwrap(), before);
            assert_eq!(names(&store(server.root())), FILES);
        }
    };
    let directory = keys.display();
    refused(&format!(
        "signing with {key}: its public half is not in base-*.pub in {directory}; machines would refuse its signature; \
         put it there: openssl pkey -in {key} -pubout -out {directory}/base-NAME.pub"
    ));
    let none = format!(
        "reading the keys in {directory}: no base-*.pub; put the publisher's public key there: openssl pkey -in KEY -pubout"
    );
    fs::rename(keys.join("base-1.pub"), server.root().join("base-1.pub")).unwrap();
    refused(&none);
    fs::remove_dir(&keys).unwrap();
    refused(&format!(
        "reading the keys in {directory}: no such directory; make it, with the publisher's public key as base-NAME.pub"
    ));

    // Machines know it: the same manifest gets its signature.
    fs::create_dir(&keys).unwrap();
    run(
        "openssl",
        &[
            "pkey",
            "-in",
            key,
            "-pubout",
            "-out",
            keys.join("base-2.pub").to_str().unwrap(),
        ],
    );
    let signed = document(&server.create_with(&["--key", key]));
    assert_eq!(signed["image"]["changed"], true);
    assert_eq!(
        fs::read(server.file("7.sig")).unwrap(),
        decoded(&signed["image"]["signature"])
    );
    assert_eq!(server.verify(&[], &signed).0, 0);
}

#[test]
fn create_names_the_fault_of_a_request() {
    let server = Server::new();
    for (more, message) in [
        (json!({"name": "../windows"}), "image.name: not a name"),
        (json!({"ostype": "Win 10"}), "image.ostype: not a name"),
        (
            json!({"title": "a\nb"}),
            "describing the image: title: empty, or not one line",
        ),
        (json!({"title": null}), "image.title: missing"),
        (
            json!({"generation": -1}),
            "image.generation: expected a whole number",
        ),
        (
            json!({"generation": 0}),
            "image.generation: 0; generations count from 1",
        ),
        (
            json!({"generation": 1u64 << 53}),
            "image.generation: more than 9007199254740991, the largest number that every reader of JSON keeps",
        ),
        (
            json!({"format": "vmdk"}),
            "image.format: expected one of qcow2, raw",
        ),
        (
            json!({"path": "7.qcow2"}),
            "image.path: not an absolute path",
        ),
        (json!({"trackers": []}), "image.trackers: empty"),
        (
            json!({"trackers": ["http://a/announce", "file:///etc/passwd"]}),
            "image.trackers: not a URL",
        ),
        (
            json!({"trackers": ["http://a/\"><x"]}),
            "image.trackers: not a URL",
        ),
        (
            json!({"comment": "a\u{7}"}),
            "image.comment: empty, or not one line",
        ),
        (
            json!({"models": ["OptiPlex 7010", ""]}),
            "image.models: empty, or not one line",
        ),
        (
            json!({"piece_bytes": 1_000_000}),
            "image.piece_bytes: not a power of two",
        ),
        (
            json!({"piece_bytes": 0}),
            "image.piece_bytes: not a power of two",
        ),
        (
            json!({"created_at": "yesterday"}),
            "image.created_at: not a time",
        ),
        (
            json!({"format": "raw"}),
            "image.format: raw; a base is qcow2, which qemu-img convert -O qcow2 makes of it",
        ),
    ] {
        let ended = server.create(more.clone());
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (65, ""),
            "{more}: {ended:?}"
        );
        assert!(ended.stderr.contains(message), "{more}: {}", ended.stderr);
    }
    assert_eq!(server.create(json!({"path": "/nowhere"})).status, 66);
    let ended = server.create(json!({"generation": (1u64 << 53) - 1}));
    assert_eq!((ended.status, ended.stdout.as_str()), (66, ""), "{ended:?}");
    assert!(
        ended
            .stderr
            .ends_with("; give the image as FILE, or its place as image.path\n"),
        "{}",
        ended.stderr
    );
    assert_eq!(names(&store(server.root())), ["7.qcow2"]);
}

#[test]
fn an_image_that_is_none_is_refused() {
    let server = Server::new();
    let path = server.root().join("image");
    let text = path.to_str().unwrap();
    let base = server.file("7.qcow2");
    let refused = |more: Value, message: &str| {
        let ended = server.create(more);
        assert_eq!((ended.status, ended.stdout.as_str()), (65, ""), "{ended:?}");
        assert!(ended.stderr.contains(message), "{}", ended.stderr);
    };
    let qcow2 = || json!({"path": "/image"});
    server.image(0, &[]);
    refused(qcow2(), "it is empty, which is no disk");
    fs::write(&path, "garbage").unwrap();
    refused(
        qcow2(),
        "not a qcow2 image; if it is a raw disk, convert it with qemu-img convert",
    );
    fs::remove_file(&path).unwrap();
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "qcow2",
            "-b",
            base.to_str().unwrap(),
            text,
        ],
    );
    refused(qcow2(), "has a backing file");
    fs::copy(&base, &path).unwrap();
    run("qemu-img", &["snapshot", "-c", "a", text]);
    refused(qcow2(), "holds internal snapshots");
    let whole = fs::read(&base).unwrap();
    // Without its tables, and, as cowvol would refuse it when it has come, without its last
    // clusters.
    for length in [whole.len() / 100, whole.len() - (128 << 10)] {
        fs::write(&path, &whole[..length]).unwrap();
        refused(qcow2(), "truncated");
    }
    server.image((1 << 40) + 1, &[]);
    refused(qcow2(), "larger than 1 TiB");
    fs::remove_file(&path).unwrap();
    run("mkfifo", &[text]);
    refused(qcow2(), "not a regular file");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused(qcow2(), "not a regular file");
}

#[test]
fn a_key_is_there_private_and_one() {
    let server = Server::new();
    let key = server.root().join("key");
    let create = || server.create_with(&["--key", key.to_str().unwrap()]).status;
    assert_eq!(create(), 66);
    fs::copy(KEY, &key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(create(), 78);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(create(), 0);
    fs::write(&key, "x").unwrap();
    assert_eq!(create(), 78);
    assert_eq!(server.create_with(&[]).status, 2);
}

#[test]
fn a_metalink_needs_the_url_of_the_torrent() {
    let server = Server::new();
    let path = server.root().join("7.meta4");
    let with = |more: &[&str]| server.create_with(&[&["--key", KEY], more].concat());
    assert_eq!(with(&["--metalink", path.to_str().unwrap()]).status, 2);
    assert_eq!(with(&["--url", "http://a.example/7.torrent"]).status, 2);
    assert_eq!(
        with(&["--metalink", path.to_str().unwrap(), "--url", "7.torrent"]).status,
        2
    );
    assert_eq!(names(&store(server.root())), ["7.qcow2"]);
}

#[test]
fn create_leaves_nothing_without_room() {
    let server = Server::new();
    // A Metalink in a directory that is not there.
    let ended = server.create_with(&[
        "--key",
        KEY,
        "--metalink",
        "/nowhere/x",
        "--url",
        "http://a/x",
    ]);
    assert_eq!(ended.status, 74, "{ended:?}");
    assert_eq!(names(&store(server.root())), ["7.qcow2"]);

    // 1 KiB at most; the map has more. The signal that says so is ignored, as service managers do.
    let limited = r#"ulimit -f 1; exec "$0" create --key "$1" --root "$2""#;
    server.image(8 << 20, &[]);
    let mut command = Command::new("env");
    command
        .args([
            "--ignore-signal=XFSZ",
            "bash",
            "-c",
            limited,
            CREATE.binary,
            KEY,
        ])
        .arg(server.root());
    let ended = feed(&mut command, &request(json!({"path": "/image"})));
    assert_eq!((ended.status, ended.stdout.as_str()), (73, ""), "{ended:?}");
    assert_eq!(names(&store(server.root())), ["7.qcow2"]);
}

#[test]
fn another_run_in_the_store_is_waited_for_and_then_told() {
    let server = Server::new();
    let held = hold(&server.root().join("run/labtools/pool.lock"));
    let ended = server.create(json!({}));
    assert_eq!((ended.status, ended.stdout.as_str()), (75, ""), "{ended:?}");
    drop(held);
    assert_eq!(server.create(json!({})).status, 0);
}

#[test]
fn create_takes_back_an_undelivered_document() {
    let server = Server::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(CREATE.binary);
    command
        .args(CREATE.arguments)
        .arg("--root")
        .arg(server.root());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(full)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), CREATE.document.as_bytes())
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(74));
    assert_eq!(names(&store(server.root())), ["7.qcow2"]);
}

#[test]
fn the_store_is_free_while_the_document_waits_for_its_reader() {
    let server = Server::new();
    let (reader, mut full) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut full, &[b' '; 65536]).unwrap(); // the pipe takes no more
    let mut command = Command::new(CREATE.binary);
    command
        .args(CREATE.arguments)
        .arg("--root")
        .arg(server.root());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(full)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(command); // and with it this process's end of the pipe
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), CREATE.document.as_bytes())
        .unwrap();
    let since = std::time::Instant::now();
    let is_free = || {
        fs::File::open(server.root().join("run/labtools/pool.lock"))
            .is_ok_and(|lock| lock.try_lock().is_ok() && lock.unlock().is_ok())
    };
    while !(server.file("7.sig").exists() && is_free()) {
        assert!(
            since.elapsed().as_secs() < 60,
            "the lock is held as long as nobody reads"
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(reader);
    assert_eq!(child.wait().unwrap().code(), Some(74));
    assert_eq!(
        names(&store(server.root())),
        ["7.qcow2"],
        "what nobody was told of is taken back"
    );
}
