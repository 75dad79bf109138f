//! A tracker that runs, and a store for it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use manifest::{Base, Digest, Format, InfoHash, Signed, SigningKey};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The program.
pub const BINARY: &str = env!("CARGO_BIN_EXE_seedctl");

/// Makes a key in `root/key`, and a store below `root` that believes it.
pub fn prepare(root: &Path) {
    fs::create_dir_all(root.join("etc/labtools/keys")).unwrap();
    fs::create_dir_all(root.join("qcow2/backing")).unwrap();
    openssl(
        &["genpkey", "-algorithm", "ed25519", "-out"],
        &root.join("key"),
    );
    let public = root.join("etc/labtools/keys/base-1.pub");
    let key = root.join("key").display().to_string();
    openssl(&["pkey", "-in", &key, "-pubout", "-out"], &public);
}

fn openssl(arguments: &[&str], last: &Path) {
    let output = Command::new("openssl")
        .args(arguments)
        .arg(last)
        .output()
        .expect("openssl");
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Puts the signed manifest of generation `generation` of `windows` into the store.
pub fn publish(root: &Path, generation: u64, infohash: InfoHash, size_bytes: u64) {
    let other = |byte: u8| manifest::Hex([byte; 20]);
    let base = Base {
        name: "windows".into(),
        title: "Windows 10".into(),
        ostype: "windows".into(),
        default: true,
        generation,
        format: Format::Qcow2,
        size_bytes,
        virtual_bytes: size_bytes,
        sha256: Digest::parse(&"ab".repeat(32)).unwrap(),
        blocks_sha256: Digest::parse(&"cd".repeat(32)).unwrap(),
        infohash,
        blocks_infohash: other(0xf0 ^ generation as u8),
        models: Vec::new(),
        programs: Vec::new(),
        created_at: "2026-11-23T00:00:00Z".into(),
    };
    let signed = Signed::seal(&base, &SigningKey::read(&root.join("key")).unwrap()).unwrap();
    let directory = root.join("qcow2/backing/windows");
    fs::create_dir_all(&directory).unwrap();
    // The signature first: a manifest without one is a fault.
    fs::write(
        directory.join(format!("{generation}.sig")),
        signed.signature.to_bytes(),
    )
    .unwrap();
    fs::write(
        directory.join(format!("{generation}.manifest")),
        &signed.bytes,
    )
    .unwrap();
}

/// A tracker; it is killed when dropped.
pub struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// Where it listens.
    pub listen: SocketAddr,
}

impl Running {
    /// Starts a command that is `seedctl track -v`; ready when this returns.
    pub fn start(command: &mut Command) -> Running {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let listen = wait_for(&mut stderr, "listening at ")
            .trim()
            .parse()
            .unwrap();
        Running {
            child,
            stderr,
            listen,
        }
    }

    /// What stands after `words` in the next line on standard error that has them.
    pub fn wait_for(&mut self, words: &str) -> String {
        wait_for(&mut self.stderr, words)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Its end: by which signal, and standard output.
    pub fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        use std::io::Read;
        use std::os::unix::process::ExitStatusExt;
        self.signal(signal);
        let mut stdout = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut stdout)
            .unwrap();
        (self.child.wait().unwrap().signal(), stdout)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

fn wait_for(stderr: &mut impl BufRead, words: &str) -> String {
    let mut before = String::new();
    loop {
        let mut line = String::new();
        let read = stderr.read_line(&mut line).unwrap();
        assert!(read > 0, "it ended before it said {words:?}:\n{before}");
        if let Some((_, rest)) = line.split_once(words) {
            return rest.to_owned();
        }
        before += &line;
    }
}
