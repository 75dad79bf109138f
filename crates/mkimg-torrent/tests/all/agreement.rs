//! Others agree: mktorrent on the infohash, aria2c on torrents, Metalink and pieces, openssl on the
//! signature, xxh128sum on the map.

use std::fs;
use std::path::Path;
use std::process::Command;

use mkimg_torrent::metainfo::Contents;
use mkimg_torrent::pieces::PieceHasher;
use serde_json::json;

use crate::server::{self, KEY, Server, document, request, run};

const MIB: u64 = 1 << 20;

/// The infohash of a torrent, by aria2c.
fn infohash(torrent: &Path) -> String {
    let shown = run("aria2c", &["--no-conf", "-S", torrent.to_str().unwrap()]);
    shown
        .lines()
        .find_map(|line| line.strip_prefix("Info Hash: "))
        .unwrap_or_else(|| panic!("{shown}"))
        .to_owned()
}

/// The infohash that mktorrent gives a file: private, with pieces of 2^bits.
fn mktorrent(file: &Path, name: &str, bits: u32, source: Option<&str>) -> String {
    let directory = tempfile::tempdir().unwrap();
    let torrent = directory.path().join("x.torrent");
    let mut command = Command::new("mktorrent");
    command
        .args([
            "-p",
            "-l",
            &bits.to_string(),
            "-n",
            name,
            "-a",
            "http://other.example/announce",
            "-o",
        ])
        .arg(&torrent);
    if let Some(source) = source {
        command.args(["-s", source]);
    }
    let output = command.arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    infohash(&torrent)
}

#[test]
fn the_infohash_is_mktorrents_whatever_the_size_and_the_holes() {
    let bytes: Vec<u8> = (0..5 * MIB).map(|i| (i * i / 251) as u8).collect();
    for size in [
        2048,
        65535,
        65536,
        65537,
        MIB - 1,
        MIB,
        MIB + 1,
        3 * MIB,
        5 * MIB - 7,
    ] {
        let all: &[u8] = &bytes[..size as usize];
        let some = &all[..all.len() / 3];
        for (writes, what) in [
            (vec![(0, all)], "data"),
            (vec![], "hole"),
            (vec![(size / 2, some)], "both"),
        ] {
            for (bits, source) in [(16, None), (20, Some("campus"))] {
                let server = Server::bare();
                server.image(size, &writes);
                document(&server.create_image(json!({"piece_bytes": 1 << bits, "source": source})));
                let expected = mktorrent(
                    &server.root().join("image"),
                    "windows-7.qcow2",
                    bits,
                    source,
                );
                assert_eq!(
                    infohash(&server.file("7.torrent")),
                    expected,
                    "{size} {what} {bits}"
                );
                let expected = mktorrent(&server.file("7.blocks"), "windows-7.blocks", 16, source);
                assert_eq!(
                    infohash(&server.file("7.blocks.torrent")),
                    expected,
                    "the map of {size} {what}"
                );
                let manifest = fs::read_to_string(server.file("7.manifest")).unwrap();
                assert!(manifest.contains(&format!(
                    r#""infohash":"{}""#,
                    infohash(&server.file("7.torrent"))
                )));
            }
        }
    }
}

#[test]
fn the_infohash_is_mktorrents_whatever_the_name() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = vec![7; 300_000];
    for name in [
        "plain",
        ".hidden",
        "Imagem São João ü 漢字.qcow2",
        "with space",
        "-",
        &"x".repeat(200),
    ] {
        let file = directory.path().join(name);
        fs::write(&file, &bytes).unwrap();
        let mut pieces = PieceHasher::new(1 << 18);
        pieces.update(&bytes);
        let contents = Contents {
            name,
            size_bytes: bytes.len() as u64,
            piece_bytes: 1 << 18,
            pieces: &pieces.finish(),
            source: None,
            trackers: &["http://a.example/announce".to_owned()],
            comment: None,
        };
        assert_eq!(
            contents.encode().unwrap().1.to_string(),
            mktorrent(&file, name, 18, None),
            "{name}"
        );
    }
}

#[test]
fn aria2_finds_every_piece_right_and_a_changed_one_wrong() {
    let server = Server::bare();
    let bytes: Vec<u8> = (0..3 * MIB + 5).map(|i| (i / 3) as u8).collect();
    server.image(bytes.len() as u64, &[(0, &bytes)]);
    document(&server.create_image(json!({"comment": "Größe"})));
    let path = server.root().join("windows-7.qcow2");
    fs::copy(server.root().join("image"), &path).unwrap();
    let torrent = server.file("7.torrent");
    let check = || {
        let mut aria2c = Command::new("aria2c");
        aria2c.args([
            "--no-conf",
            "-q",
            "--hash-check-only=true",
            "--check-integrity=true",
            "--enable-dht=false",
            "-d",
        ]);
        aria2c
            .arg(server.root())
            .arg(&torrent)
            .status()
            .unwrap()
            .success()
    };
    assert!(check());
    let mut wrong = bytes.clone();
    wrong[2_000_000] ^= 1;
    fs::write(&path, wrong).unwrap();
    assert!(!check());
    let shown = run("aria2c", &["--no-conf", "-S", torrent.to_str().unwrap()]);
    for line in [
        "Comment: Größe",
        " http://a.example:6969/announce",
        " http://b.example:6969/announce",
        "Name: windows-7.qcow2",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line}:\n{shown}");
    }
    assert!(
        !shown.contains("Creation Date") && !shown.contains("Created By"),
        "{shown}"
    );
}

#[test]
fn aria2_takes_the_metalink_and_finds_no_mirror_in_it() {
    let server = Server::bare();
    server.image(3 * MIB + 5, &[(0, &[7; 99])]);
    let path = server.root().join("7.meta4");
    let url = "http://a.example/?a=1&b=2";
    let input = request(json!({"path": "/image", "title": "R & D <\"10\">"}));
    document(&server.run(
        &[
            "create",
            "--key",
            KEY,
            "--metalink",
            path.to_str().unwrap(),
            "--url",
            url,
        ],
        &input,
    ));
    let shown = run("aria2c", &["--no-conf", "-S", path.to_str().unwrap()]);
    assert!(
        shown.contains("  1|windows-7.qcow2\n") && shown.contains("(3,145,733)"),
        "{shown}"
    );

    let text = fs::read_to_string(&path).unwrap();
    let sha256 = &run(
        "sha256sum",
        &[server.root().join("image").to_str().unwrap()],
    )[..64];
    for part in [
        "<identity>R &amp; D &lt;&quot;10&quot;&gt;</identity>",
        "<size>3145733</size>",
        &format!("<hash type=\"sha-256\">{sha256}</hash>"),
        "<pieces length=\"65536\" type=\"sha-1\">",
        "<metaurl mediatype=\"torrent\">http://a.example/?a=1&amp;b=2</metaurl>",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert_eq!(
        (text.matches("<hash>").count(), text.matches("<url").count()),
        (49, 0)
    );
    assert_eq!(server::mode(&path), 0o644);
}

#[test]
fn openssl_believes_the_signature() {
    let server = Server::new();
    document(&server.create(json!({})));
    let verify = || {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"])
            .arg(server.root().join("etc/labtools/keys/base-1.pub"));
        openssl
            .arg("-in")
            .arg(server.file("7.manifest"))
            .arg("-sigfile")
            .arg(server.file("7.sig"))
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(verify());
    let manifest = fs::read_to_string(server.file("7.manifest")).unwrap();
    fs::remove_file(server.file("7.manifest")).unwrap();
    fs::write(
        server.file("7.manifest"),
        manifest.replace("\"generation\":7", "\"generation\":8"),
    )
    .unwrap();
    assert!(!verify());
}

#[test]
fn the_block_map_is_what_xxh128sum_prints() {
    let server = Server::bare();
    let bytes: Vec<u8> = (0..4 * MIB + 77).map(|i| (i * i / 13) as u8).collect();
    server.image(12 * MIB + 77, &[(8 * MIB, &bytes)]);
    document(&server.create_image(json!({})));
    let image = server.root().join("image");
    let printed = run(
        "split",
        &[
            "-b",
            "65536",
            "--filter",
            "xxh128sum",
            image.to_str().unwrap(),
        ],
    );
    let expected: String = printed.lines().map(|line| &line[..32]).collect();
    let found: String = fs::read(server.file("7.blocks"))
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(found, expected);
}
