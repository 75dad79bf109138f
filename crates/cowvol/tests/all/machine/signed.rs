//! Images as they come to a machine: with a manifest that a key signed, and a document that says
//! so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use jsonpipe::testkit::{Ended, Stage, feed};
use manifest::{Base, Format, Signed, SigningKey};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{CLONE, Machine, base_path, make_base, qemu_io};

/// Two keys for bases: one that the machines know, and one that they do not.
static KEYS: LazyLock<TempDir> = LazyLock::new(|| {
    // Nothing drops what is static, so it is where other things of the build are.
    fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for name in ["base-1", "stranger"] {
        let key = directory.path().join(name);
        let public = key.with_extension("pub");
        openssl(&[
            "genpkey",
            "-algorithm",
            "ed25519",
            "-out",
            key.to_str().unwrap(),
        ]);
        openssl(&[
            "pkey",
            "-in",
            key.to_str().unwrap(),
            "-pubout",
            "-out",
            public.to_str().unwrap(),
        ]);
    }
    directory
});

/// `windows@8`, complete: a document, and the image.
static WINDOWS_8: LazyLock<(String, PathBuf)> = LazyLock::new(|| {
    let machine = Machine::bare();
    new_windows(machine.root(), 8);
    let image = KEYS.path().join("8.qcow2");
    fs::copy(base_path(machine.root(), "windows", 8), &image).unwrap();
    (
        document(&describe(machine.root(), "windows", 8)).to_string(),
        image,
    )
});

pub fn install_stage() -> Stage {
    Stage {
        arguments: &["install-base"],
        request: "transfer",
        document: &WINDOWS_8.0,
        prepare: machine_with_windows_8,
        ..CLONE
    }
}

/// A machine that has no base yet: what a generation before it held on the disk would not be the
/// same every time.
fn machine_with_windows_8(root: &Path) {
    trust(root);
    fs::create_dir_all(root.join("qcow2/backing/windows")).unwrap();
    fs::copy(&WINDOWS_8.1, base_path(root, "windows", 8)).unwrap();
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .output()
        .expect("openssl is needed by this test");
    assert!(output.status.success(), "{output:?}");
}

/// Puts the key where machines look for it.
pub fn trust(root: &Path) {
    let keys = root.join("etc/labtools/keys");
    fs::create_dir_all(&keys).unwrap();
    fs::copy(KEYS.path().join("base-1.pub"), keys.join("base-1.pub")).unwrap();
}

/// An image of the next generation, not yet installed, with the files that come with it.
pub fn new_windows(root: &Path, generation: u64) {
    make_base(root, "windows", generation, &["48M"]);
    let image = base_path(root, "windows", generation);
    qemu_io(
        &image,
        &[&format!("write -q -P {} 0 64k", generation % 256)],
    );
    for ending in ["manifest", "sig", "blocks", "torrent", "blocks.torrent"] {
        fs::write(image.with_extension(ending), ending).unwrap();
    }
}

/// What a manifest says of an image that is there.
pub fn describe(root: &Path, name: &str, generation: u64) -> Base {
    let image = base_path(root, name, generation);
    let sum = Command::new("sha256sum").arg(&image).output().unwrap();
    let info: Value = serde_json::from_str(&super::qemu_img(&[
        "info",
        "--output=json",
        image.to_str().unwrap(),
    ]))
    .unwrap();
    Base {
        name: name.into(),
        title: format!("Windows {generation}"),
        ostype: "windows".into(),
        default: true,
        generation,
        format: Format::Qcow2,
        size_bytes: fs::metadata(&image).unwrap().len(),
        virtual_bytes: info["virtual-size"].as_u64().unwrap(),
        sha256: manifest::Digest::parse(std::str::from_utf8(&sum.stdout[..64]).unwrap()).unwrap(),
        blocks_sha256: manifest::Digest::parse(&"00".repeat(32)).unwrap(),
        infohash: manifest::InfoHash::parse(&"00".repeat(20)).unwrap(),
        blocks_infohash: manifest::InfoHash::parse(&"00".repeat(20)).unwrap(),
        models: Vec::new(),
        programs: Vec::new(),
        created_at: "2026-11-23T00:00:00Z".into(),
    }
}

/// The document of a transfer that is complete, signed by the key that machines know.
pub fn document(base: &Base) -> Value {
    document_by("base-1", base)
}

/// Puts the manifest beside the image, signed by the key that machines know.
pub fn publish(root: &Path, base: &Base) {
    let (manifest, signature) = sealed(base);
    let image = base_path(root, &base.name, base.generation);
    fs::write(image.with_extension("manifest"), manifest).unwrap();
    fs::write(image.with_extension("sig"), signature).unwrap();
}

/// A manifest and its signature by the key that machines know, as they lie beside an image.
pub fn sealed(base: &Base) -> (Vec<u8>, Vec<u8>) {
    let sealed = seal("base-1", base);
    (sealed.bytes, sealed.signature.to_bytes().to_vec())
}

fn seal(key: &str, base: &Base) -> Signed {
    let key = SigningKey::read(&KEYS.path().join(key)).unwrap();
    Signed::seal(base, &key).unwrap()
}

pub fn document_by(key: &str, base: &Base) -> Value {
    let (manifest, signature) = seal(key, base).to_base64();
    json!({
        "image": {"manifest": manifest, "signature": signature},
        "transfer": {"state": "complete", "path": format!("/qcow2/backing/{}/{}.qcow2", base.name, base.generation)},
    })
}

impl Machine {
    /// With windows@7 and linux@3 installed, and windows@8 waiting for it.
    pub fn with_windows_8() -> Machine {
        let machine = Machine::new();
        trust(machine.root());
        new_windows(machine.root(), 8);
        machine
    }

    pub fn install(&self, document: &Value, flags: &[&str]) -> Ended {
        feed(
            self.command(&[&["install-base"], flags].concat()),
            &document.to_string(),
        )
    }

    /// The section `base` of an installation that must succeed.
    pub fn installed(&self, base: &Base, flags: &[&str]) -> Value {
        let ended = self.install(&document(base), flags);
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
        serde_json::from_str::<Value>(&ended.stdout).unwrap()["base"].take()
    }

    /// The section `pruned` of a pruning that must succeed.
    pub fn pruned(&self, flags: &[&str]) -> Value {
        let ended = self.run(&[&["prune"], flags].concat());
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
        serde_json::from_str::<Value>(&ended.stdout).unwrap()["pruned"].take()
    }

    pub fn bases_ini(&self) -> String {
        fs::read_to_string(self.root().join("qcow2/backing/bases.ini")).unwrap_or_default()
    }
}
