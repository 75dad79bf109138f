//! A collector and hosts that report to it: scripts/lab/collector.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePublicKey;
use envelope::{Header, Kind};
use jsonpipe::testkit::Ended;
use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_invcollect");
/// A host of the laboratory.
pub const H1: &str = "5f0c1f5e-0000-4000-8000-000000000001";
/// Another.
pub const H2: &str = "5f0c1f5e-0000-4000-8000-000000000002";

/// It is taken down when dropped, or when the tests are killed.
pub struct Collector {
    directory: TempDir,
}

impl Collector {
    pub fn up() -> Collector {
        let collector = Collector {
            directory: tempfile::Builder::new()
                .prefix("labtools-")
                .tempdir()
                .unwrap(),
        };
        collector.script("up", &["--until-pid", &std::process::id().to_string()]);
        collector
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn script(&self, verb: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(script("lab/collector"));
        let output = command
            .arg(verb)
            .arg(self.directory.path())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "collector {verb}: {output:?}");
        output
    }

    /// What the hosts find.
    pub fn mode(&self, mode: &str) {
        self.script("mode", &mode.split(' ').collect::<Vec<_>>());
    }

    /// A machine that is enrolled.
    pub fn host(&self, id: &str) -> Host<'_> {
        self.script("host", &[id]);
        Host {
            collector: self,
            id: id.to_owned(),
            root: self.path("hosts").join(id),
        }
    }

    /// A command where the collector can be reached.
    pub fn inside(&self, program: &str, arguments: &[&str]) -> Command {
        let pid = fs::read_to_string(self.path("pid/namespace")).unwrap();
        let namespace = |kind: &str| File::open(format!("/proc/{}/ns/{kind}", pid.trim())).unwrap();
        let (net, mount) = (namespace("net"), namespace("mnt"));
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        #[allow(unsafe_code, reason = "only the child itself can go there")]
        // SAFETY: between fork and exec the child makes two system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                setns(&net, CloneFlags::CLONE_NEWNET)?;
                Ok(setns(&mount, CloneFlags::CLONE_NEWNS)?)
            });
        }
        command
    }

    /// What curl says of a request: the status, and the answer.
    pub fn curl(&self, arguments: &[&str]) -> (u16, String) {
        let authority = self.path("root/etc/labtools/collector/ca.pem");
        let mut curl = self.inside(
            "curl",
            &[
                "-s",
                "-o",
                "-",
                "-w",
                "\n%{http_code}",
                "--cacert",
                authority.to_str().unwrap(),
            ],
        );
        let output = curl.args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (answer, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), answer.to_owned())
    }

    /// Waits until nothing is half received: whoever was killed while he sent may have been heard,
    /// and nginx is still writing.
    pub fn rests(&self) {
        while fs::read_dir(self.store("incoming"))
            .unwrap()
            .next()
            .is_some()
        {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// The secret of the thesis's script.
    pub fn secret(&self) -> String {
        fs::read_to_string(self.path("root/etc/labtools/collector/secret"))
            .unwrap()
            .trim()
            .to_owned()
    }

    pub fn store(&self, name: &str) -> PathBuf {
        self.path("root/var/lib/labtools/collector").join(name)
    }

    /// What the collector has of a host, in order; each is whole, of its name, and signed by the
    /// host.
    pub fn received(&self, under: &str, id: &str) -> Vec<Received> {
        let key = fs::read_to_string(
            self.path("root/etc/labtools/collector/keys")
                .join(format!("{id}.pub")),
        )
        .unwrap();
        let key = VerifyingKey::from_public_key_pem(&key).unwrap();
        let mut received: Vec<Received> = fs::read_dir(self.store(under).join(id))
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let report = fs::read(&path).unwrap();
                let opened = envelope::open(&report)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                assert!(
                    opened.seal.host == id && opened.seal.is_signed_by(&key),
                    "{}",
                    path.display()
                );
                assert_eq!(
                    path.file_name().unwrap().to_str().unwrap(),
                    format!("{:012}", opened.seal.sequence)
                );
                let payload = String::from_utf8(opened.payload.to_vec()).unwrap();
                Received {
                    sequence: opened.seal.sequence,
                    header: opened.header,
                    payload,
                }
            })
            .collect();
        received.sort_by_key(|report| report.sequence);
        received
    }

    /// Nothing is lost: the sequences have no hole. Nothing is there twice: the events are these,
    /// in this order.
    pub fn assert_complete(&self, id: &str, events: &[String]) {
        let received = self.received("reports", id);
        let sequences: Vec<u64> = received.iter().map(|report| report.sequence).collect();
        assert!(
            sequences.windows(2).all(|two| two[1] == two[0] + 1),
            "a report is lost: {sequences:?}"
        );
        assert_eq!(
            messages(&received),
            events,
            "an event is lost, or there twice"
        );
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.script("down", &[]);
    }
}

/// The messages of the events in reports.
pub fn messages(received: &[Received]) -> Vec<String> {
    let events = received
        .iter()
        .filter(|report| report.header.kind == Kind::Events)
        .flat_map(|report| report.payload.lines());
    events
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["message"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

/// A report at the collector.
#[derive(Debug)]
pub struct Received {
    pub sequence: u64,
    pub header: Header,
    pub payload: String,
}

pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../scripts")
        .join(name)
}

/// A machine.
pub struct Host<'a> {
    pub collector: &'a Collector,
    pub id: String,
    pub root: PathBuf,
}

impl Host<'_> {
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.collector.inside(BINARY, arguments);
        command.arg("--root").arg(&self.root);
        command
    }

    pub fn push(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(&["push"]).args(arguments).output().unwrap())
    }

    /// All that waited is at the collector.
    pub fn push_all(&self) -> Value {
        let ended = self.push(&["--now"]);
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
        assert_eq!(ended.section("push")["waiting_reports"], 0, "{ended:?}");
        ended.section("push")
    }

    /// What `changes` would tell.
    pub fn tell(&self, message: &str) {
        self.log(
            "var/log/labtools/events.jsonl",
            &format!(r#"{{"event":{{"provider":"invcollect"}},"message":"{message}"}}"#),
        );
    }

    pub fn log(&self, name: &str, line: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The names in a directory of the spool.
    pub fn spool(&self, name: &str) -> Vec<String> {
        let directory = self.path("var/lib/labtools/spool").join(name);
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The reports that wait.
    pub fn waiting(&self) -> Vec<String> {
        let names = self.spool("");
        names
            .into_iter()
            .filter(|name| !matches!(name.as_str(), "sent" | "rejected" | "retry.json"))
            .collect()
    }

    pub fn configure(&self, text: &str) {
        fs::write(
            self.path("etc/labtools/invcollect.ini"),
            format!("[push]\nurl=https://collector.example\n{text}"),
        )
        .unwrap();
    }

    /// As if the last failure had been so many seconds later (earlier, below 0).
    pub fn later(&self, seconds: i64) {
        let path = self.path("var/lib/labtools/spool/retry.json");
        let mut retry: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        retry["failed_at"] = (retry["failed_at"].as_i64().unwrap() + seconds).into();
        fs::write(path, retry.to_string()).unwrap();
    }
}

/// The reports are kept, for this reason.
pub fn assert_waits(ended: &Ended, words: &str) {
    assert_eq!(ended.status, 1, "{ended:?}");
    let push = ended.section("push");
    assert!(
        push["waiting_reports"].as_u64().unwrap() > 0 && push["sent_reports"] == 0,
        "a report is gone: {ended:?}"
    );
    assert!(
        push["reason"].as_str().unwrap().contains(words),
        "{ended:?}"
    );
}
