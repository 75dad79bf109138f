//! A server in a directory, with a key and images that qemu-img makes.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use jsonpipe::testkit::{Ended, Stage, feed};
use serde_json::{Value, json};
use tempfile::TempDir;

// openssl genpkey -algorithm ed25519; openssl pkey -pubout
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIOPGIgMnOMEM+GicWFVfPQckIFh2A4aNE0yWA1EMATg2\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEABJ3i3t/qlVvom15F1jcfwZCFyXMzDFq1AqZFg9MtDLk=\n-----END PUBLIC KEY-----\n";

/// One for all tests, for a [`Stage`] has its arguments at compile time.
pub const KEY: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/mkimg-torrent-base.key");

/// Describes `windows@7`. The time is given, because on every machine the image is made anew.
pub const CREATE: Stage = Stage {
    binary: env!("CARGO_BIN_EXE_mkimg-torrent"),
    arguments: &["create", "--key", KEY],
    request: "image",
    document: r#"{"image":{"name":"windows","title":"Windows 10","ostype":"windows","default":true,"generation":7,"trackers":"http://a.example:6969/announce, http://b.example:6969/announce","created_at":"2026-11-23T00:00:00Z","piece_bytes":65536},"programs":{"R":"4.5"}}"#,
    prepare: with_windows,
};

/// A server with `windows@7`, a disk of 1 GiB with some data in it.
pub fn with_windows(root: &Path) {
    with_keys(root);
    let image = store(root).join("7.qcow2");
    fs::create_dir_all(store(root)).unwrap();
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", image.to_str().unwrap(), "1G"],
    );
    run(
        "qemu-io",
        &[
            "-f",
            "qcow2",
            "-c",
            "write -q -P 0x55 0 3M",
            "-c",
            "write -q -P 0xaa 512M 1M",
            image.to_str().unwrap(),
        ],
    );
}

/// The private key, and the public one where machines have it.
pub fn with_keys(root: &Path) {
    // Tests run side by side: it appears whole, and whoever is last wins with the same bytes.
    let mut key = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::io::Write::write_all(&mut key, PRIVATE.as_bytes()).unwrap();
    key.persist(KEY).unwrap();
    fs::create_dir_all(root.join("etc/labtools/keys")).unwrap();
    fs::write(root.join("etc/labtools/keys/base-1.pub"), PUBLIC).unwrap();
}

/// Where the files of `windows` are.
pub fn store(root: &Path) -> PathBuf {
    root.join("qcow2/backing/windows")
}

/// The smallest qcow2 image that qemu-img makes: two clusters and two tables.
static EMPTY_DISK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            "cluster_size=512",
            path.to_str().unwrap(),
            "64K",
        ],
    );
    fs::read(path).unwrap()
});

/// A server in a directory.
pub struct Server {
    directory: TempDir,
}

impl Server {
    /// With `windows@7`.
    pub fn new() -> Server {
        let directory = tempfile::tempdir().unwrap();
        with_windows(directory.path());
        Server { directory }
    }

    /// With keys and no image.
    pub fn bare() -> Server {
        let directory = tempfile::tempdir().unwrap();
        with_keys(directory.path());
        Server { directory }
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// A file of the store.
    pub fn file(&self, name: &str) -> PathBuf {
        store(self.root()).join(name)
    }

    /// Makes `/image`, a small empty disk with anything behind it, and holes where nothing is
    /// written.
    pub fn image(&self, size: u64, writes: &[(u64, &[u8])]) {
        let file = fs::File::create(self.root().join("image")).unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in writes {
            file.write_all_at(bytes, *at).unwrap();
        }
        if size >= EMPTY_DISK.len() as u64 {
            file.write_all_at(&EMPTY_DISK, 0).unwrap();
        }
    }

    /// `create` of `/image`, with the keys of `more` in the request.
    pub fn create_image(&self, more: Value) -> Ended {
        let mut image = json!({"path": "/image", "created_at": "2026-11-23T00:00:00Z"});
        image
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.create(image)
    }

    /// `create` with the keys of `more` in the request, instead of its own or beside them.
    pub fn create(&self, more: Value) -> Ended {
        CREATE.run(self.root(), &request(more))
    }

    /// The document that `create` prints.
    pub fn created(&self, more: Value) -> Value {
        document(&self.create(more))
    }

    /// The same with the flags of the command line.
    pub fn create_with(&self, arguments: &[&str]) -> Ended {
        self.run(&[&["create"], arguments].concat(), &request(json!({})))
    }

    /// `verify` of an image with a document; the section `verification`.
    pub fn verify(&self, arguments: &[&str], document: &Value) -> (i32, Value) {
        let ended = self.run(&[&["verify"], arguments].concat(), &document.to_string());
        assert!(ended.status <= 1, "{ended:?}");
        let mut output: Value = serde_json::from_str(&ended.stdout).unwrap();
        let verification = output
            .as_object_mut()
            .unwrap()
            .remove("verification")
            .unwrap();
        assert_eq!(&output, document);
        (ended.status, verification)
    }

    /// The tool with these arguments and this input.
    pub fn run(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = Command::new(CREATE.binary);
        command.args(arguments).arg("--root").arg(self.root());
        feed(&mut command, input)
    }
}

/// A request for `windows@7` with other keys, of which null takes one away.
pub fn request(more: Value) -> String {
    let mut document: Value = serde_json::from_str(CREATE.document).unwrap();
    let image = document["image"].as_object_mut().unwrap();
    for (key, value) in more.as_object().unwrap() {
        image.insert(key.clone(), value.clone());
    }
    image.retain(|_, value| !value.is_null());
    document.to_string()
}

/// The document of a run that must succeed.
pub fn document(ended: &Ended) -> Value {
    assert_eq!(ended.status, 0, "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

/// Base64, by openssl's peer in the shell.
pub fn decoded(value: &Value) -> Vec<u8> {
    let mut base64 = Command::new("base64");
    let mut child = base64
        .arg("-d")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(
        &mut child.stdin.take().unwrap(),
        value.as_str().unwrap().as_bytes(),
    )
    .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Runs a program that must succeed; what it printed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(arguments).output().unwrap();
    assert!(
        status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8(stdout).unwrap()
}

/// What a run said, without how far it is: that appears where the machine is slow.
pub fn said(stderr: &str) -> String {
    stderr
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("mkimg-torrent: hashing "))
        .collect()
}

/// The names in the store, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The permissions of a file.
pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
