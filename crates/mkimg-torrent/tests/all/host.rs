//! `host` and `verify-host`: what is signed is what a machine takes, and nothing else.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use jsonpipe::testkit::{Ended, Stage, feed};
use serde_json::{Value, json};

use crate::server::{CREATE, Server, run, said, with_keys};

/// Describes `lab`, version 8.
pub const HOST: Stage = Stage {
    arguments: &["host", "--key", crate::server::KEY],
    document: r#"{"image":{"name":"lab","version":8,"models":"OptiPlex 7010, Latitude","path":"/lab.img","created_at":"2026-11-23T00:00:00Z"}}"#,
    prepare: with_lab,
    ..CREATE
};

const ENTRY: &str = "root=PARTUUID=00000000-0000-0000-0000-000000000000";
const UUID: &str = "6b2d1c7e-0000-4000-8000-000000000001";
const MIB: u64 = 1 << 20;
/// Where nothing of the file system stands.
const FREE: u64 = 6 * MIB;

/// A server with an image of a host's root.
pub fn with_lab(root: &Path) {
    with_keys(root);
    fs::copy(
        root.join("etc/labtools/keys/base-1.pub"),
        root.join("etc/labtools/keys/host-1.pub"),
    )
    .unwrap();
    with_file_system(root, 12 * MIB);
    write(root, FREE, ENTRY);
}

fn with_file_system(root: &Path, size_bytes: u64) {
    let image = root.join("lab.img");
    File::create(&image).unwrap().set_len(size_bytes).unwrap();
    let features = "^has_journal,^metadata_csum,^uninit_bg,^resize_inode";
    let mut command = Command::new("mke2fs");
    command
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-O", features])
        .args(["-U", UUID, "-E"]);
    command.arg(format!("hash_seed={UUID}")).arg(image);
    // The same every time.
    assert!(
        command
            .env("E2FSPROGS_FAKE_TIME", "1764000000")
            .status()
            .unwrap()
            .success()
    );
}

fn write(root: &Path, at: u64, text: &str) {
    File::options()
        .write(true)
        .open(root.join("lab.img"))
        .unwrap()
        .write_all_at(text.as_bytes(), at)
        .unwrap();
}

fn lab() -> Server {
    let server = Server::bare();
    with_lab(server.root());
    server
}

fn host(server: &Server, more: Value) -> Ended {
    let mut document: Value = serde_json::from_str(HOST.document).unwrap();
    document["image"]
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    server.run(HOST.arguments, &document.to_string())
}

fn image(ended: &Ended) -> Value {
    assert_eq!(
        (ended.status, said(&ended.stderr).as_str()),
        (0, ""),
        "{ended:?}"
    );
    serde_json::from_str::<Value>(&ended.stdout).unwrap()["image"].take()
}

/// The manifest, in words.
fn manifest(image: &Value) -> Value {
    use base64::prelude::{BASE64_STANDARD, Engine};
    serde_json::from_slice(
        &BASE64_STANDARD
            .decode(image["manifest"].as_str().unwrap())
            .unwrap(),
    )
    .unwrap()
}

#[test]
fn host_signs_the_fields_of_a_slot() {
    let server = lab();
    write(server.root(), 7 * MIB - 13, ENTRY);
    let image = image(&host(&server, json!({})));
    let sha256 = run(
        "sha256sum",
        &[server.root().join("lab.img").to_str().unwrap()],
    )[..64]
        .to_owned();
    let field = |offset: u64, length: u64, kind: &str| json!({"offset_bytes": offset, "length_bytes": length, "kind": kind});
    let expected = json!({
        "schema": 1, "kind": "host", "name": "lab", "version": 8, "size_bytes": 12 * MIB, "sha256": sha256,
        "models": ["OptiPlex 7010", "Latitude"], "created_at": "2026-11-23T00:00:00Z",
        "slot_fields": [
            field(1128, 16, "filesystem_uuid"), field(1144, 16, "filesystem_label"),
            field(FREE + 14, 36, "root_partuuid"), field(7 * MIB + 1, 36, "root_partuuid"),
        ],
    });
    assert_eq!(manifest(&image), expected);
    assert_eq!(
        (image["sha256"].as_str(), image["changed"].as_bool()),
        (Some(&*sha256), Some(false))
    );
}

/// The program is in the image of a host, and what it contains there would be a boot entry.
#[test]
fn program_contains_no_boot_entry() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_mkimg-torrent")).unwrap();
    let found = program
        .windows(ENTRY.len())
        .any(|at| at == ENTRY.as_bytes());
    assert!(!found, "mkimg-torrent contains {ENTRY}");
}

#[test]
fn host_searches_an_image_that_is_larger_than_its_memory() {
    let server = lab();
    with_file_system(server.root(), 320 * MIB);
    // Zeros that are there, in one line.
    let file = File::options()
        .write(true)
        .open(server.root().join("lab.img"))
        .unwrap();
    for at in 40..300 {
        file.write_all_at(&vec![0; MIB as usize], at * MIB).unwrap();
    }
    write(server.root(), 39 * MIB, ENTRY);
    write(server.root(), 310 * MIB, ENTRY);
    let mut command = Command::new("prlimit");
    command
        .args(["--as=134217728", HOST.binary])
        .args(HOST.arguments)
        .arg("--root")
        .arg(server.root());
    let ended = feed(&mut command, HOST.document);
    let fields = manifest(&image(&ended))["slot_fields"].take();
    let entries: Vec<u64> = fields.as_array().unwrap()[2..]
        .iter()
        .map(|field| field["offset_bytes"].as_u64().unwrap() - 14)
        .collect();
    assert_eq!(entries, [39 * MIB, 310 * MIB]);
}

#[test]
fn host_refuses_what_a_machine_would_refuse() {
    let refused = |server: &Server, more: Value, status: i32, words: &str| {
        let ended = host(server, more);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (status, ""),
            "{words}: {ended:?}"
        );
        assert!(ended.stderr.contains(words), "{words}: {ended:?}");
    };
    for (state, words) in [
        ("0", "it is mounted, or was not unmounted cleanly"),
        ("2", "its file system has errors; e2fsck -f "),
        ("3", "its file system has errors; e2fsck -f "),
        ("5", "it is mounted, or was not unmounted cleanly"),
    ] {
        let server = lab();
        let path = server.root().join("lab.img");
        run(
            "debugfs",
            &[
                "-w",
                "-R",
                &format!("set_super_value state {state}"),
                path.to_str().unwrap(),
            ],
        );
        refused(&server, json!({}), 65, words);
    }
    let server = lab();
    run(
        "tune2fs",
        &[
            "-O",
            "metadata_csum",
            server.root().join("lab.img").to_str().unwrap(),
        ],
    );
    refused(
        &server,
        json!({}),
        65,
        "it has the feature metadata_csum; tune2fs -O ^metadata_csum ",
    );

    let server = lab();
    refused(&server, json!({"name": "Lab"}), 65, "name: not a name");
    refused(
        &server,
        json!({"version": 0}),
        65,
        "version: 0; versions count from 1",
    );
    refused(
        &server,
        json!({"models": [" "]}),
        65,
        "image.models: empty, or not one line",
    );
    refused(&server, json!({"path": "/none"}), 66, "none");
    refused(&server, json!({"kind": "base"}), 65, "image.kind: ");
    refused(
        &server,
        json!({"kind": "zfs_host"}),
        65,
        "not a stream of zfs send",
    );
    // Two, and one for each entry, is as many as machines accept.
    for nth in 0..62 {
        write(server.root(), FREE + nth * 100, ENTRY);
    }
    assert_eq!(
        manifest(&image(&host(&server, json!({}))))["slot_fields"]
            .as_array()
            .unwrap()
            .len(),
        64
    );
    write(server.root(), FREE + 62 * 100, ENTRY);
    refused(&server, json!({}), 65, "slot_fields: more than 64");
    with_file_system(server.root(), 12 * MIB);
    refused(
        &server,
        json!({}),
        65,
        "no boot entry says root=PARTUUID=00000000-0000-0000-0000-000000000000",
    );
    File::create(server.root().join("lab.img"))
        .unwrap()
        .set_len(1500)
        .unwrap();
    refused(
        &server,
        json!({}),
        65,
        "not an ext2, ext3 or ext4 file system",
    );
}

#[test]
fn host_signs_with_no_other_key_than_ed25519() {
    let server = lab();
    let key = server.root().join("p256.key");
    run(
        "openssl",
        &[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            key.to_str().unwrap(),
        ],
    );
    run("chmod", &["600", key.to_str().unwrap()]);
    let ended = server.run(&["host", "--key", key.to_str().unwrap()], HOST.document);
    assert_eq!((ended.status, ended.stdout.as_str()), (78, ""), "{ended:?}");
    assert!(
        ended.stderr.contains("not an ed25519 private key in PEM"),
        "{ended:?}"
    );
}

/// Two files of a root, as the scripts leave them.
fn publish(server: &Server, image: &Value) {
    use base64::prelude::{BASE64_STANDARD, Engine};
    for (key, name) in [("manifest", "lab.manifest"), ("signature", "lab.sig")] {
        fs::write(
            server.root().join(name),
            BASE64_STANDARD
                .decode(image[key].as_str().unwrap())
                .unwrap(),
        )
        .unwrap();
    }
}

#[test]
fn verify_host_believes_what_host_signed_for_this_machine() {
    let server = lab();
    let stream = [&[0; 8][..], &0x2_f5ba_cbac_u64.to_le_bytes(), b"and so on"].concat();
    fs::write(server.root().join("lab.zfs"), &stream).unwrap();
    let dmi = server.root().join("sys/class/dmi/id");
    fs::create_dir_all(&dmi).unwrap();
    fs::write(dmi.join("product_name"), "OptiPlex 7010\n").unwrap();
    let path = server.root().join("lab.manifest");
    let verify = |kind: &str| {
        server.run(
            &[
                "verify-host",
                "--kind",
                kind,
                "--manifest",
                path.to_str().unwrap(),
            ],
            "",
        )
    };
    for (kind, other, more) in [
        ("host", "zfs_host", json!({})),
        (
            "zfs_host",
            "host",
            json!({"kind": "zfs_host", "path": "/lab.zfs"}),
        ),
    ] {
        let signed = image(&host(&server, more));
        publish(&server, &signed);
        assert_eq!(
            (image(&verify(kind)), signed["kind"].as_str()),
            (signed.clone(), Some(kind))
        );
        let refused = |ended: Ended, status: i32, words: &str| {
            assert_eq!(
                (ended.status, ended.stdout.as_str()),
                (status, ""),
                "{ended:?}"
            );
            assert!(ended.stderr.contains(words), "{ended:?}");
        };
        refused(
            verify(other),
            65,
            &format!("kind: it describes a {kind}, not a {other}"),
        );
        fs::write(dmi.join("product_name"), "Precision\n").unwrap();
        refused(
            verify(kind),
            65,
            "this machine is a Precision, the image is for OptiPlex 7010, Latitude",
        );
        fs::write(dmi.join("product_name"), "Latitude\n").unwrap();
        fs::write(server.root().join("lab.sig"), [0; 64]).unwrap();
        refused(verify(kind), 65, "not signed by any of host-1.pub");
        fs::write(server.root().join("lab.sig"), [0; 72]).unwrap();
        refused(verify(kind), 65, "lab.sig: longer than 64 bytes");
        fs::remove_file(server.root().join("lab.sig")).unwrap();
        refused(verify(kind), 66, "lab.sig: ");
    }
}
