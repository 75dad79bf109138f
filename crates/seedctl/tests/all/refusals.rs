//! What `seedctl get` does not take, told before anything is written or fetched. No aria2 and no
//! root is needed for that.

use std::fs;
use std::path::{Path, PathBuf};

use jsonpipe::testkit::{Ended, Stage};
use manifest::Kind;
use sha1::{Digest, Sha1};
use tempfile::TempDir;

use crate::offered::{NAME, Offered, PIECE_BYTES, TorrentFile, make_key, noise};

const ANNOUNCE: &str = "http://10.0.0.2:6969/announce";
const GET: Stage = Stage {
    binary: env!("CARGO_BIN_EXE_seedctl"),
    arguments: &["get"],
    request: "image",
    document: "",
    prepare: |_| (),
};
const DRY: Stage = Stage {
    arguments: &["get", "--dry-run"],
    ..GET
};

/// A machine that believes `base-1`, and a key that it does not believe.
struct Machine {
    root: TempDir,
}

impl Machine {
    fn new() -> Machine {
        let root = tempfile::tempdir().unwrap();
        let keys = root.path().join("etc/labtools/keys");
        fs::create_dir_all(&keys).unwrap();
        for name in ["base-1", "host-1", "stranger"] {
            make_key(root.path(), name);
        }
        for name in ["base-1.pub", "host-1.pub"] {
            fs::copy(root.path().join(name), keys.join(name)).unwrap();
        }
        Machine { root }
    }

    fn key(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn root(&self) -> &Path {
        self.root.path()
    }

    /// The status and the error of a document that is refused, with nothing changed.
    fn refused(&self, document: &str) -> (i32, String) {
        let Ended {
            status,
            stdout,
            stderr,
            ..
        } = GET.run(self.root(), document);
        assert_eq!(stdout, "", "{stderr}");
        assert!(
            !self.root().join("run").exists(),
            "it began to work: {stderr}"
        );
        (
            status,
            stderr.trim_end().replace(self.root().to_str().unwrap(), ""),
        )
    }

    fn assert_refused(&self, offered: &Offered, message: &str) {
        let expected = (65, format!("seedctl: {message}"));
        assert_eq!(
            self.refused(&offered.document(&self.key("base-1"))),
            expected
        );
    }
}

fn offered() -> Offered {
    Offered::new(7, noise(3 * PIECE_BYTES, 1), ANNOUNCE)
}

/// The torrent is another one, and the manifest says so.
fn with(torrent: &TorrentFile) -> Offered {
    let mut offered = offered();
    offered.torrent = torrent.bytes();
    offered.base.infohash = torrent.infohash();
    offered
}

fn pieces(image: &[u8]) -> Vec<u8> {
    image
        .chunks(PIECE_BYTES)
        .flat_map(|piece| Sha1::digest(piece).to_vec())
        .collect()
}

#[test]
fn a_manifest_that_no_known_key_signed() {
    let machine = Machine::new();
    let not_signed = (
        65,
        "seedctl: verifying the manifest: not signed by any of base-1.pub".to_owned(),
    );
    for key in ["stranger", "host-1"] {
        assert_eq!(
            machine.refused(&offered().document(&machine.key(key))),
            not_signed,
            "{key}"
        );
    }
    let right = offered().document(&machine.key("base-1"));
    let other = Offered::new(8, noise(10, 2), ANNOUNCE).document(&machine.key("base-1"));
    let part = |document: &str, key: &str| {
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        document["image"][key].as_str().unwrap().to_owned()
    };
    let exchanged = |key: &str| right.replace(&part(&right, key), &part(&other, key));
    assert_eq!(machine.refused(&exchanged("signature")), not_signed);
    assert_eq!(machine.refused(&exchanged("manifest")), not_signed);
    for (key, name) in [
        ("torrent_file", "torrent_file"),
        ("blocks_torrent_file", "blocks_torrent_file"),
    ] {
        let message =
            format!("seedctl: reading image.{name}: its infohash is not the one in the manifest");
        assert_eq!(machine.refused(&exchanged(key)), (65, message));
    }
    for (key, message) in [
        ("signature", "not 64 bytes long"),
        (
            "torrent_file",
            "reading image.torrent_file: not a dictionary",
        ),
    ] {
        let short = right.replace(&part(&right, key), "");
        assert!(machine.refused(&short).1.contains(message), "{key}");
        let (status, message) = machine.refused(&right.replace(&part(&right, key), "*"));
        assert!(
            status == 65 && message.starts_with(&format!("seedctl: image.{key}: not Base64")),
            "{message}"
        );
    }
    fs::remove_file(machine.root().join("etc/labtools/keys/base-1.pub")).unwrap();
    assert_eq!(machine.refused(&right).0, 78);
    assert_eq!(Kind::Base.as_str(), "base");
}

#[test]
fn a_torrent_that_is_not_whole() {
    let machine = Machine::new();
    let whole = offered().torrent;
    for length in [0, 1, 20, whole.len() / 2, whole.len() - 1] {
        let cut = Offered {
            torrent: whole[..length].to_vec(),
            ..offered()
        };
        let (status, message) = machine.refused(&cut.document(&machine.key("base-1")));
        assert_eq!(status, 65, "{length}: {message}");
        assert!(
            message.starts_with("seedctl: reading image.torrent_file: "),
            "{length}: {message}"
        );
    }
    let deep = Offered {
        torrent: [b"d1:a".to_vec(), vec![b'l'; 3 << 20]].concat(),
        ..offered()
    };
    machine.assert_refused(&deep, "reading image.torrent_file: it is nested too deeply");
}

#[test]
fn a_torrent_by_which_a_host_would_fetch_from_elsewhere() {
    let machine = Machine::new();
    let image = offered().image;
    let private = "7:privatei1e";
    let public = "reading image.torrent_file: it is public, so its peers would not only come from the tracker; \
                  make it with private=1";
    for more in ["", "7:privatei0e"] {
        machine.assert_refused(
            &with(&TorrentFile::with(
                image.len(),
                &pieces(&image),
                more,
                ANNOUNCE,
            )),
            public,
        );
    }
    let seeded = "reading image.torrent_file: it has a web seed, which every host would fetch from past its building";
    for after in [
        "8:url-list18:http://10.0.0.2/x/",
        "8:url-listl18:http://10.0.0.2/x/e",
    ] {
        let torrent = TorrentFile {
            after: after.into(),
            ..TorrentFile::of(&image, ANNOUNCE)
        };
        machine.assert_refused(&with(&torrent), seeded);
    }
    let elsewhere = TorrentFile::of(&image, "udp://10.0.0.2:6969");
    machine.assert_refused(
        &with(&elsewhere),
        "reading image.torrent_file: the address of a tracker does not begin with http://",
    );
    let shorter = TorrentFile::with(image.len() - 1, &pieces(&image), private, ANNOUNCE);
    let message = format!(
        "reading image.torrent_file: it describes {} bytes, the manifest {}",
        image.len() - 1,
        image.len()
    );
    machine.assert_refused(&with(&shorter), &message);
    let few = TorrentFile::with(image.len(), &pieces(&image)[20..], private, ANNOUNCE);
    machine.assert_refused(
        &with(&few),
        "reading image.torrent_file: the number of piece hashes is not the number of pieces",
    );
    let several = TorrentFile {
        info: b"d5:filesld6:lengthi7e4:pathl1:yeee4:name1:x12:piece lengthi65536e6:pieces20:aaaaaaaaaaaaaaaaaaaa7:privatei1ee"
            .into(),
        ..TorrentFile::of(&image, ANNOUNCE)
    };
    machine.assert_refused(
        &with(&several),
        "reading image.torrent_file: it has several files",
    );
}

#[test]
fn a_generation_below_the_current_one() {
    let machine = Machine::new();
    let backing = machine.root().join("qcow2/backing");
    fs::create_dir_all(&backing).unwrap();
    let section = |name: &str, generation: u64| {
        format!("[base.{name}]\nname=X\nostype=x\ngeneration={generation}\n")
    };
    fs::write(backing.join("bases.ini"), section("windows", 8)).unwrap();
    machine.assert_refused(
        &offered(),
        "refusing generation 7 of windows: 8 is current; use --allow-downgrade to accept it",
    );
    let document = offered().document(&machine.key("base-1"));
    let told = Stage {
        arguments: &["get", "--dry-run", "--allow-downgrade"],
        ..GET
    }
    .run(machine.root(), &document);
    assert_eq!((told.status, told.stderr.as_str()), (0, ""));
    fs::write(
        backing.join("bases.ini"),
        section("windows", 7) + &section("linux", 9),
    )
    .unwrap();
    assert_eq!(DRY.run(machine.root(), &document).status, 0);
    // Nothing is fetched that cowvol would refuse to install. What scripts would round on the way
    // is no generation.
    for (text, expected) in [
        (
            section("windows", 9007199254740992),
            "base.windows.generation: above 9007199254740991",
        ),
        (
            section("windows", 7) + "version=7\n",
            "base.windows.version: unknown key",
        ),
        (
            "[base.windows]\ngeneration=7\n".into(),
            "base.windows.name: missing",
        ),
    ] {
        fs::write(backing.join("bases.ini"), text).unwrap();
        let (status, message) = machine.refused(&document);
        assert_eq!(status, 78, "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn another_image_under_the_same_number() {
    let machine = Machine::new();
    let key = machine.key("base-1");
    let other = Offered::new(7, noise(1000, 3), ANNOUNCE);
    other.store(machine.root(), &key);
    let refused = |message: &str| {
        // The store is looked at under the lock: only a dry run leaves no trace of that.
        let ended = DRY.run(machine.root(), &offered().document(&key));
        assert_eq!((ended.status, ended.stdout.as_str()), (65, ""));
        assert_eq!(
            ended.stderr.replace(machine.root().to_str().unwrap(), ""),
            format!("seedctl: {message}\n")
        );
    };
    refused(
        "refusing generation 7 of windows: the store has another image under that number; give the new one the next",
    );
    let directory = machine.root().join("qcow2/backing").join(NAME);
    fs::remove_file(directory.join("7.manifest")).unwrap();
    refused(
        "refusing to replace /qcow2/backing/windows/7.qcow2: it has no manifest, and is not this image; move it away",
    );
}

#[test]
fn a_dry_run_says_what_would_be_done_and_writes_nothing() {
    let machine = Machine::new();
    let (offered, key) = (offered(), machine.key("base-1"));
    let told = |document: &str| -> serde_json::Value {
        let told = DRY.run(machine.root(), document);
        assert_eq!((told.status, told.stderr.as_str()), (0, ""));
        assert!(!machine.root().join("run").exists());
        serde_json::from_str::<serde_json::Value>(&told.stdout).unwrap()["transfer"].take()
    };
    let document = offered.document(&key);
    let absent = told(&document);
    assert_eq!(
        (absent["state"].as_str(), absent["changed"].as_bool()),
        (Some("absent"), Some(true))
    );
    assert_eq!(absent["missing"].as_array().unwrap().len(), 4);
    offered.store(machine.root(), &key);
    let there = told(&document);
    assert_eq!(
        (there["state"].as_str(), there["changed"].as_bool()),
        (Some("complete"), Some(false))
    );
    // A flipped bit is seen.
    let mut damaged = offered.image.clone();
    damaged[70_000] ^= 1;
    let path = machine
        .root()
        .join("qcow2/backing")
        .join(NAME)
        .join("7.qcow2");
    fs::remove_file(&path).unwrap();
    fs::write(&path, damaged).unwrap();
    assert_eq!(told(&document)["state"].as_str(), Some("absent"));
}
