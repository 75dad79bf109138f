//! A campus on which images are distributed: a server with a tracker, and seedctl on every host.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use jsonpipe::testkit::Ended;
use manifest::InfoHash;
use serde_json::{Value, json};

use super::campus::Campus;
use crate::offered::{NAME, Offered, make_key};

const BINARY: &str = env!("CARGO_BIN_EXE_seedctl");
pub const ANNOUNCE: &str = "http://10.0.0.2:6969/announce";

/// A campus on which every host believes one key, with a tracker.
pub struct Swarm {
    pub campus: Campus,
    tracker: Option<Child>,
}

/// What a call says of its transfer.
pub trait Transferred {
    /// The section `transfer` of a call that must succeed.
    fn transfer(&self) -> Value;
}

impl Transferred for Ended {
    fn transfer(&self) -> Value {
        assert_eq!(self.status, 0, "{self:?}");
        let mut document = self.document();
        assert!(
            document["image"].is_object() || document["x"].is_object(),
            "{document}"
        );
        document["transfer"].take()
    }
}

impl Swarm {
    /// Everything but the tracker.
    pub fn up(options: &[&str]) -> Swarm {
        let mut all = vec![
            "--slow",
            "0",
            "--lan",
            "80mbit",
            "--uplink",
            "80mbit",
            "--server-link",
            "80mbit",
        ];
        all.extend(options);
        let swarm = Swarm {
            campus: Campus::up(&all),
            tracker: None,
        };
        make_key(swarm.campus.shared(), "base-1");
        for host in swarm.hosts() {
            let etc = swarm.campus.path(&host).join("etc/labtools");
            fs::copy(
                swarm.campus.shared().join("base-1.pub"),
                etc.join("keys/base-1.pub"),
            )
            .unwrap();
            fs::write(etc.join("seedctl.ini"), "[tracker]\ninterval_seconds=2\n").unwrap();
        }
        swarm
    }

    pub fn key(&self) -> PathBuf {
        self.campus.shared().join("base-1")
    }

    fn hosts(&self) -> Vec<String> {
        let hosts = self.campus.script("hosts", &[]);
        hosts
            .lines()
            .map(|line| line.split('\t').next().unwrap().to_owned())
            .collect()
    }

    /// What is at a path of a host.
    pub fn path(&self, host: &str, path: &str) -> PathBuf {
        self.campus.path(host).join(path.trim_start_matches('/'))
    }

    pub fn image(&self, host: &str, generation: u64) -> PathBuf {
        self.path(host, &format!("qcow2/backing/{NAME}/{generation}.qcow2"))
    }

    /// Starts the tracker; it listens when this comes back.
    pub fn start_tracker(&mut self) {
        let mut command = self.campus.on("server", &[BINARY, "track", "-v"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let up = lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains("listening at"));
        assert!(up.is_some(), "the tracker did not come up");
        std::thread::spawn(move || lines.for_each(drop));
        self.tracker = Some(child);
    }

    pub fn kill_tracker(&mut self) {
        let mut tracker = self.tracker.take().unwrap();
        tracker.kill().unwrap();
        tracker.wait().unwrap();
    }

    /// Starts seedctl on a host with a document.
    pub fn start(&self, host: &str, arguments: &[&str], document: &str) -> Child {
        self.start_by(host, &[], arguments, document)
    }

    /// The same, by another program.
    pub fn start_by(&self, host: &str, by: &[&str], arguments: &[&str], document: &str) -> Child {
        let mut command = self.campus.on(host, &[by, &[BINARY], arguments].concat());
        // A file, for nobody waits for the other end of a pipe.
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(document.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut input).unwrap();
        command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs seedctl on a host with a document.
    pub fn run(&self, host: &str, arguments: &[&str], document: &str) -> Ended {
        ended(self.start(host, arguments, document))
    }

    /// An image in the server's store, which is seeded there; its document.
    pub fn publish(&self, offered: &Offered) -> String {
        offered.store(&self.campus.path("server"), &self.key());
        let document = offered.document(&self.key());
        let ended = self.run("server", &["seed"], &document);
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
        document
    }

    /// The torrents of a host, by what they carry.
    pub fn status(&self, host: &str) -> Value {
        let ended = self.run(host, &["status"], "");
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
        let mut document: Value = serde_json::from_str(&ended.stdout).unwrap();
        document["transfers"].take()
    }

    /// Runs a command on a host; what it printed.
    pub fn shell(&self, host: &str, script: &str) -> String {
        let output = self
            .campus
            .on(host, &["bash", "-c", script])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asks aria2 of a host itself.
    pub fn aria2(&self, host: &str, method: &str, parameters: Value) -> Value {
        let secret = fs::read_to_string(self.path(host, "run/labtools/aria2.secret")).unwrap();
        let mut all = vec![json!(format!("token:{secret}"))];
        all.extend(parameters.as_array().unwrap().iter().cloned());
        let call =
            json!({"jsonrpc": "2.0", "id": "1", "method": method, "params": all}).to_string();
        let request = format!(
            "POST /jsonrpc HTTP/1.0\r\nContent-Length: {}\r\n\r\n{call}",
            call.len()
        );
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/6800; printf %s '{request}' >&3; cat <&3");
        // aria2 that has just begun hangs up without an answer.
        let body = loop {
            let answer = self.shell(host, &script);
            if let Some((_, body)) = answer
                .split_once("\r\n\r\n")
                .filter(|(_, body)| !body.is_empty())
            {
                break body.to_owned();
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        };
        serde_json::from_str::<Value>(&body).unwrap()["result"].take()
    }

    /// Whatever lies in the store of a host, but for what is finished.
    pub fn rubbish(&self, host: &str) -> Vec<String> {
        let listed = self.shell(
            host,
            "cd /qcow2/backing && find . -name '.?*' -o -name '*.aria2' -o -name '*.tmp'",
        );
        listed
            .lines()
            .filter(|line| *line != ".")
            .map(str::to_owned)
            .collect()
    }

    /// The image of a generation is on a host, whole, with everything that belongs to it and
    /// nothing else.
    pub fn assert_arrived(&self, host: &str, offered: &Offered) {
        let generation = offered.base.generation;
        let server = self.image("server", generation);
        let here = self.image(host, generation);
        assert!(fs::read(&here).unwrap() == offered.image, "another image");
        for ending in [
            "qcow2",
            "blocks",
            "torrent",
            "blocks.torrent",
            "manifest",
            "sig",
        ] {
            let (here, there) = (here.with_extension(ending), server.with_extension(ending));
            let metadata = fs::metadata(&here).unwrap();
            assert_eq!(
                (metadata.mode() & 0o7777, metadata.uid()),
                (0o444, 0),
                "{ending}"
            );
            assert!(
                !there.exists() || fs::read(&here).unwrap() == fs::read(&there).unwrap(),
                "{ending}"
            );
        }
        assert_eq!(self.rubbish(host), [""; 0]);
    }

    /// The host offers the image and the map.
    pub fn assert_seeds(&self, host: &str, offered: &Offered) {
        let status = self.status(host);
        for infohash in [offered.base.infohash, offered.base.blocks_infohash] {
            let transfer = of(&status, infohash);
            assert_eq!(
                (&transfer["state"], &transfer["present_bytes"]),
                (&json!("complete"), &transfer["size_bytes"]),
                "{status}"
            );
        }
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        if let Some(mut tracker) = self.tracker.take() {
            let _ = tracker.kill();
            let _ = tracker.wait();
        }
    }
}

/// One torrent of a status.
pub fn of(status: &Value, infohash: InfoHash) -> Value {
    let transfers = status["transfers"].as_array().unwrap();
    let found = transfers
        .iter()
        .find(|transfer| transfer["infohash"] == infohash.to_string());
    found
        .unwrap_or_else(|| panic!("no {infohash} in {status}"))
        .clone()
}

pub fn ended(child: Child) -> Ended {
    Ended::of(child.wait_with_output().unwrap())
}

/// Where the bytes came from: building, outside, reused, zero. Together they are the image.
pub fn origins(transfer: &Value) -> [u64; 4] {
    let origins = [
        "building_bytes",
        "outside_bytes",
        "reused_bytes",
        "zero_bytes",
    ]
    .map(|key| transfer[key].as_u64().unwrap());
    assert_eq!(
        origins.iter().sum::<u64>(),
        transfer["size_bytes"].as_u64().unwrap(),
        "{transfer}"
    );
    origins
}

/// The process of aria2 on a host, by who holds its lock.
pub fn aria2_of(swarm: &Swarm, host: &str) -> PathBuf {
    let lock = fs::metadata(swarm.path(host, "run/labtools/aria2.lock")).unwrap();
    let holds = |process: &Path| {
        let Ok(fds) = fs::read_dir(process.join("fd")) else {
            return false;
        };
        fds.flatten().any(|fd| {
            fs::metadata(fd.path()).is_ok_and(|m| (m.dev(), m.ino()) == (lock.dev(), lock.ino()))
        })
    };
    let processes = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let mut found: Vec<PathBuf> = processes.filter(|process| holds(process)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}
