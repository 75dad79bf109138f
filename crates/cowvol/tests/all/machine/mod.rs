//! A machine in a directory, with bases that qemu-img makes, and qemu-img and qemu-io as the judges
//! of what cowvol made.

pub mod disk;
pub mod guest;
pub mod logged;
pub mod signed;
pub mod store;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cowvol::Token;
use jsonpipe::testkit::stepped::{Call, Stepped};
use jsonpipe::testkit::{Ended, Stage, feed, hold};
use nix::fcntl::Flock;
use nix::libc::SYS_pread64;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::store::Pool;

pub const ALICE: &str = "alice@uni-a.example";
pub const BOB: &str = "bob@uni-b.example";

pub const CLONE: Stage = Stage {
    binary: env!("CARGO_BIN_EXE_cowvol"),
    arguments: &["clone"],
    request: "login",
    document: r#"{"login":{"user":"alice@uni-a.example","authenticated":true},"choice":{"base":"windows"}}"#,
    prepare: two_bases,
};

const BASES_INI: &str = "\
[base.windows]
name = Windows 10
ostype = windows
default = true
generation = 7

[base.linux]
name = Debian 12
ostype = linux
generation = 3
";

/// `windows@7`, of 32 MiB with some data in it, and `linux@3`, empty.
pub fn two_bases(root: &Path) {
    write_bases_ini(root, BASES_INI);
    make_base(root, "windows", 7, &["32M"]);
    qemu_io(
        &base_path(root, "windows", 7),
        &["write -q -P 0x55 0 3M", "write -q -P 0xaa 16M 1M"],
    );
    make_base(root, "linux", 3, &["64M"]);
}

/// The title, the ostype, and whether it is the default, of a base of [`two_bases`].
fn labels_of(base: &str) -> (&'static str, &'static str, &'static str) {
    match base {
        "windows" => ("Windows 10", "windows", "true"),
        _ => ("Debian 12", "linux", "false"),
    }
}

/// The current generation of a base of [`two_bases`].
fn generation_of(base: &str) -> u64 {
    if base == "windows" { 7 } else { 3 }
}

pub fn write_bases_ini(root: &Path, text: &str) {
    fs::create_dir_all(root.join("qcow2/backing")).unwrap();
    fs::write(root.join("qcow2/backing/bases.ini"), text).unwrap();
}

pub fn base_path(root: &Path, name: &str, generation: u64) -> PathBuf {
    root.join(format!("qcow2/backing/{name}/{generation}.qcow2"))
}

/// `arguments` are those of `qemu-img create -f qcow2 [-o OPTIONS]` that come around the file:
/// options, then the size.
pub fn make_base(root: &Path, name: &str, generation: u64, arguments: &[&str]) {
    let path = base_path(root, name, generation);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (size, options) = arguments.split_last().unwrap();
    let mut create = vec!["create", "-q", "-f", "qcow2"];
    create.extend(options);
    create.extend([path.to_str().unwrap(), size]);
    qemu_img(&create);
}

/// Runs qemu-img, which must succeed; what it printed.
pub fn qemu_img(arguments: &[&str]) -> String {
    let output = judge("qemu-img", arguments);
    assert!(
        output.status.success(),
        "qemu-img {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs commands of qemu-io on an image, which must succeed.
pub fn qemu_io(image: &Path, commands: &[&str]) {
    qemu_io_as("qcow2", image, commands);
}

fn qemu_io_as(format: &str, image: &Path, commands: &[&str]) {
    let mut arguments = vec!["-f", format];
    for command in commands {
        arguments.extend(["-c", command]);
    }
    arguments.push(image.to_str().unwrap());
    let output = judge("qemu-io", &arguments);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && !said.contains("failed"),
        "{commands:?}: {said}{output:?}"
    );
}

/// What `qemu-img check` has against an image; `None` when it has nothing.
pub fn faults(image: &Path) -> Option<String> {
    let output = judge(
        "qemu-img",
        &["check", "-f", "qcow2", image.to_str().unwrap()],
    );
    (!output.status.success()).then(|| format!("{output:?}"))
}

fn judge(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| {
            panic!("{program}, from the package qemu-utils, is needed by this test: {error}")
        })
}

pub struct Machine {
    // Before the directory: they go first.
    pool: Option<Pool>,
    mount: Option<disk::Mount>,
    directory: TempDir,
}

impl Machine {
    /// With the two bases.
    pub fn new() -> Machine {
        let machine = Machine::bare();
        match &machine.pool {
            None => two_bases(machine.root()),
            Some(pool) => {
                machine.configure("");
                assert_eq!(machine.run(&["layout"]).status, 0);
                machine.two_bases_on(pool);
            }
        }
        machine
    }

    pub fn bare() -> Machine {
        let directory = tempfile::tempdir().unwrap();
        Machine {
            pool: Pool::of(directory.path()),
            mount: None,
            directory,
        }
    }

    /// Another machine, the same in everything, except that it holds no room. In memory: tests that
    /// need hundreds would wait for the disk at every sync.
    pub fn copy(&self) -> Machine {
        let machine = self.copy_in(Path::new("/dev/shm"));
        machine.reserves(0);
        machine
    }

    /// The same in a directory, and as it is.
    pub fn copy_in(&self, directory: &Path) -> Machine {
        let machine = Machine {
            pool: None,
            mount: None,
            directory: tempfile::tempdir_in(directory).unwrap(),
        };
        let from = format!("{}/.", self.root().display());
        assert!(
            Command::new("cp")
                .args(["-a", &from])
                .arg(machine.root())
                .status()
                .unwrap()
                .success()
        );
        machine
    }

    /// Configures that so many bytes have to be free, and that no room is held.
    pub fn reserves(&self, bytes: u64) {
        self.configure(&format!("[room]\nreserve = {bytes}\n"));
    }

    /// Writes cowvol.ini, with the section of the back end.
    pub fn configure(&self, sections: &str) {
        let directory = self.root().join("etc/labtools");
        fs::create_dir_all(&directory).unwrap();
        let of_pool = self.pool.as_ref().map(Pool::section).unwrap_or_default();
        fs::write(directory.join("cowvol.ini"), sections.to_owned() + &of_pool).unwrap();
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Runs `cowvol clone` for a user and perhaps a choice.
    pub fn clone(&self, user: &str, base: Option<&str>) -> Ended {
        CLONE.run(self.root(), &request(user, base))
    }

    /// The section `volume` of a clone that must succeed.
    pub fn volume(&self, user: &str, base: Option<&str>) -> Value {
        volume(&self.clone(user, base))
    }

    /// Status and error of a clone that must not succeed; nothing is on its standard output.
    pub fn refusal(&self, user: &str, base: Option<&str>) -> (i32, String) {
        let ended = self.clone(user, base);
        assert_eq!(ended.stdout, "", "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        (
            ended.status,
            ended.stderr.replace(self.root().to_str().unwrap(), ""),
        )
    }

    pub fn list(&self) -> Value {
        let output = Command::new(CLONE.binary)
            .arg("list")
            .arg("--root")
            .arg(self.root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a subcommand that reads no document.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        feed(self.command(arguments), "")
    }

    /// A run, stopped before its first call, with `input` on standard input; what it prints is
    /// lost.
    pub fn stepped(&self, arguments: &[&str], input: &str) -> Stepped {
        let request = self.root().join("request");
        fs::write(&request, input).unwrap();
        let mut command = self.command(arguments);
        Stepped::start(
            command
                .stdin(File::open(request).unwrap())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CLONE.binary);
        command.args(arguments).arg("--root").arg(self.root());
        command
    }

    /// Holds a lock in /run/labtools, as another process would.
    pub fn hold(&self, name: &str) -> Flock<File> {
        hold(&self.root().join("run/labtools").join(name))
    }

    pub fn users(&self) -> PathBuf {
        self.root().join("qcow2/user")
    }

    /// The directory of a user's volumes.
    pub fn home(&self, user: &str) -> PathBuf {
        self.users().join(Token::of(user).as_str())
    }

    /// Everything in the place for volumes, sorted.
    pub fn left(&self) -> Vec<String> {
        match &self.pool {
            Some(pool) => pool.left(),
            None => tree(&self.users()),
        }
    }
}

/// Everything below a directory by its relative name, sorted.
pub fn tree(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return names;
    };
    for entry in entries.map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        // A link, as that to /dev, is a name alone.
        if entry.file_type().unwrap().is_dir() {
            let inner = tree(&entry.path()).into_iter();
            names.extend(inner.map(|inner| format!("{name}/{inner}")));
        }
        names.push(name);
    }
    names.sort();
    names
}

pub fn request(user: &str, base: Option<&str>) -> String {
    let mut document = json!({"login": {"user": user, "authenticated": true}});
    if let Some(base) = base {
        document["choice"] = json!({"base": base});
    }
    document.to_string()
}

pub fn volume(ended: &Ended) -> Value {
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let mut document: Value = serde_json::from_str(&ended.stdout).unwrap();
    document["volume"].take()
}

/// Whether the next call reads a piece of the content of a file of that name, and not of its
/// tables, which are read by the page.
pub fn reads(run: &Stepped, name: &str) -> bool {
    let Call { number, arguments } = run.next_call();
    number == SYS_pread64 && arguments[2] > 4096 && run.file(arguments[0]).ends_with(name)
}
