//! The access register: `nm-8021x-login register`.

mod cases;
mod contract;
mod door;
mod faults;
mod length;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jsonpipe::testkit::{Ended, feed};
use serde_json::Value;
use tempfile::TempDir;

/// A machine with a register.
struct Machine {
    root: TempDir,
}

impl Machine {
    fn new() -> Machine {
        Machine {
            root: tempfile::tempdir().unwrap(),
        }
    }

    /// With this register.
    fn with(text: impl AsRef<[u8]>) -> Machine {
        let machine = Machine::new();
        fs::create_dir_all(machine.register().parent().unwrap()).unwrap();
        fs::write(machine.register(), text).unwrap();
        machine
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn register(&self) -> PathBuf {
        self.path().join("var/log/labtools/register/register.jsonl")
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.register()).unwrap()).into_owned()
    }

    /// The lines that can be read: event, session and how it ended.
    fn lines(&self) -> Vec<String> {
        let text = self.text();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .map(|line| {
                let word = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
                [word("event"), word("session"), word("ended")].join(" ")
            })
            .collect()
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nm-8021x-login"));
        command
            .arg("register")
            .args(arguments.split(' '))
            .arg("--root")
            .arg(self.path());
        command
    }

    fn run(&self, arguments: &str, input: &str) -> Ended {
        feed(self.command(arguments), input)
    }

    /// The same, and it succeeds.
    #[track_caller]
    fn done(&self, arguments: &str, input: &str) -> Ended {
        let ended = self.run(arguments, input);
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
        ended
    }
}

/// What a login answers.
fn login(session: &str) -> String {
    format!(
        r#"{{"login":{{"schema":1,"session":"{session}","user":"alice@uni-a.example","realm":"uni-a.example","authenticated":true,"started_at":"2026-11-20T08:00:00Z","links":[{{"interface":"eth0","addresses":["10.0.0.7"]}}]}}}}"#
    )
}

/// A start line of another boot.
fn start(session: &str) -> String {
    format!(
        r#"{{"event":"start","session":"{session}","user":"alice@uni-a.example","realm":"uni-a.example","machine":"lab-1","addresses":["10.0.0.7"],"started_at":"2026-11-20T08:00:00Z","boot_id":"of another boot"}}"#
    ) + "\n"
}

/// Its end.
fn end(session: &str) -> String {
    format!(
        r#"{{"event":"end","session":"{session}","user":"alice@uni-a.example","realm":"uni-a.example","machine":"lab-1","addresses":["10.0.0.7"],"started_at":"2026-11-20T08:00:00Z","ended_at":"2026-11-20T09:00:00Z","duration_seconds":3600,"ended":"shutdown"}}"#
    ) + "\n"
}
