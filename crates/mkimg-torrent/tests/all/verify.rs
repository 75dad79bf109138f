//! What `verify` finds wrong, with an image and with its description.

use std::fs;
use std::os::unix::fs::FileExt;

use serde_json::{Value, json};

use crate::server::{CREATE, Server, decoded, document};

const PIECE: u64 = 65536;

/// A server with a published image of ten pieces and a half, and its document.
fn published() -> (Server, Value) {
    let server = Server::bare();
    let bytes: Vec<u8> = (0..10 * PIECE + PIECE / 2).map(|i| (i / 7) as u8).collect();
    server.image(bytes.len() as u64, &[(0, &bytes)]);
    let document = document(&server.create_image(json!({})));
    fs::copy(server.root().join("image"), server.file("7.qcow2")).unwrap();
    (server, document)
}

fn faults(verification: &Value) -> Vec<&str> {
    verification["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["what"].as_str().unwrap())
        .collect()
}

fn base64(bytes: &[u8]) -> Value {
    use base64::prelude::{BASE64_STANDARD, Engine};
    json!(BASE64_STANDARD.encode(bytes))
}

#[test]
fn verify_accepts_right_images_anywhere() {
    let (server, document) = published();
    let (status, verification) = server.verify(&[], &document);
    let expected = json!({
        "schema": 1, "changed": false, "verified": true, "name": "windows", "generation": 7,
        "path": "/qcow2/backing/windows/7.qcow2", "faults": [], "wrong_pieces": [],
    });
    assert_eq!((status, &verification), (0, &expected));
    let elsewhere = server.root().join("image");
    let (status, verification) = server.verify(&[elsewhere.to_str().unwrap()], &document);
    assert_eq!((status, &verification["path"]), (0, &json!(elsewhere)));

    fs::remove_file(server.file("7.qcow2")).unwrap();
    let ended = server.run(&["verify"], &document.to_string());
    assert_eq!((ended.status, ended.stdout.as_str()), (66, ""));
}

#[test]
fn wrong_bytes_are_found_piece_by_piece() {
    let (server, document) = published();
    let path = server.file("7.qcow2");
    let file = fs::File::options().write(true).open(&path).unwrap();
    for at in [0, 3 * PIECE, 5 * PIECE - 1, 10 * PIECE + 9] {
        file.write_all_at(&[0xee], at).unwrap();
    }
    let (status, verification) = server.verify(&[], &document);
    assert_eq!(
        (status, faults(&verification)),
        (1, vec!["sha256", "blocks", "pieces"])
    );
    let run = |first: u64, last: u64, length: u64| json!({"first": first, "last": last, "offset_bytes": first * PIECE, "length_bytes": length});
    assert_eq!(
        verification["wrong_pieces"],
        json!([
            run(0, 0, PIECE),
            run(3, 4, 2 * PIECE),
            run(10, 10, PIECE / 2)
        ])
    );

    // Too short, too long, empty.
    fs::copy(server.root().join("image"), &path).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(10 * PIECE + PIECE / 2 + 1).unwrap();
    let (_, longer) = server.verify(&[], &document);
    assert_eq!(faults(&longer), ["size", "sha256", "blocks", "pieces"]);
    assert_eq!(longer["wrong_pieces"], json!([run(10, 10, PIECE / 2)]));
    file.set_len(4 * PIECE).unwrap();
    assert_eq!(
        server.verify(&[], &document).1["wrong_pieces"],
        json!([run(4, 10, 6 * PIECE + PIECE / 2)])
    );
    file.set_len(0).unwrap();
    assert_eq!(
        server.verify(&[], &document).1["wrong_pieces"],
        json!([run(0, 10, 10 * PIECE + PIECE / 2)])
    );
}

#[test]
fn a_manifest_that_nobody_signed_is_believed_in_nothing() {
    let (server, document) = published();
    let mut forged = document.clone();
    let manifest = String::from_utf8(decoded(&document["image"]["manifest"])).unwrap();
    forged["image"]["manifest"] = base64(manifest.replace("windows", "windowz").as_bytes());
    let (status, verification) = server.verify(&[], &forged);
    assert_eq!((status, faults(&verification)), (1, vec!["manifest"]));
    assert!(
        verification.get("name").is_none() && verification.get("path").is_none(),
        "{verification}"
    );
    assert!(
        verification["faults"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("not signed by any of base-1.pub")
    );

    // A key for the roots of hosts is none for bases; without keys nothing is verified.
    let keys = server.root().join("etc/labtools/keys");
    fs::rename(keys.join("base-1.pub"), keys.join("host-1.pub")).unwrap();
    assert_eq!(server.run(&["verify"], &document.to_string()).status, 78);
}

#[test]
fn a_torrent_that_is_another_public_or_leads_elsewhere_is_named() {
    let (server, document) = published();
    let with = |key: &str, torrent: &[u8]| {
        let mut document = document.clone();
        document["image"][key] = base64(torrent);
        let (status, verification) = server.verify(&[], &document);
        let reasons = verification["faults"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fault| fault["reason"].as_str().unwrap().to_owned());
        (
            status,
            faults(&verification).join(" "),
            reasons.collect::<Vec<_>>().join("; "),
        )
    };
    let torrent = decoded(&document["image"]["torrent_file"]);
    let replaced = |from: &[u8], to: &[u8]| {
        let at = torrent
            .windows(from.len())
            .position(|window| window == from)
            .unwrap();
        [&torrent[..at], to, &torrent[at + from.len()..]].concat()
    };
    let (status, what, reasons) = with("torrent_file", &replaced(b"7:privatei1e", b""));
    assert_eq!((status, what.as_str()), (1, "torrent_file torrent_file"));
    assert!(
        reasons.contains("not private") && reasons.contains("its infohash is"),
        "{reasons}"
    );
    let (status, what, reasons) = with(
        "torrent_file",
        &[&torrent[..torrent.len() - 1], b"8:url-list8:http://ae"].concat(),
    );
    assert_eq!((status, what.as_str()), (1, "torrent_file"));
    assert!(
        reasons.contains("it has url-list: hosts would fetch from there"),
        "{reasons}"
    );
    for broken in [
        &torrent[..torrent.len() / 2],
        b"",
        b"d",
        b"x",
        "l".repeat(1 << 20).as_bytes(),
    ] {
        assert_eq!(with("torrent_file", broken).1, "torrent_file");
        assert_eq!(with("blocks_torrent_file", broken).1, "blocks_torrent_file");
    }
    // Each in the other's place.
    assert_eq!(
        with("blocks_torrent_file", &torrent).1,
        "blocks_torrent_file"
    );
    // Another tracker is another way to the same image.
    assert_eq!(
        with("torrent_file", &replaced(b"a.example", b"c.example")).0,
        0
    );
}

#[test]
fn verify_refuses_documents_without_base64() {
    let (server, document) = published();
    for key in [
        "manifest",
        "signature",
        "torrent_file",
        "blocks_torrent_file",
    ] {
        for value in [json!("*"), json!(7), Value::Null] {
            let mut broken = document.clone();
            broken["image"][key] = value;
            let ended = server.run(&["verify"], &broken.to_string());
            assert_eq!((ended.status, ended.stdout.as_str()), (65, ""), "{key}");
            assert!(
                ended.stderr.contains(&format!("image.{key}")),
                "{}",
                ended.stderr
            );
        }
    }
    assert_eq!(server.run(&["verify"], "{}").status, 65);
    let ended = server.run(&["verify"], CREATE.document);
    assert_eq!((ended.status, ended.stdout.as_str()), (65, ""));
    assert_eq!(
        ended.stderr,
        "mkimg-torrent: image: this is the input of create; give its output\n"
    );
}
