//! Logins for real: NetworkManager, wpa_supplicant, hostapd and FreeRADIUS in
//! scripts/lab/wired-8021x. Needs root and the packages that `scripts/lab/wired-8021x packages`
//! names; without them these tests fail, they are never skipped.
//!
//! With `LABTOOLS_SABOTAGE=skip-logoff` the tool logs out as a plain deactivation would, without
//! EAPOL-Logoff: then `a_login_opens_the_port_and_a_logout_closes_it` must fail.

mod agent;
mod apart;
mod faults;
mod logins;
mod modes;
mod realms;
mod remains;
mod secrets;
mod session;
mod strikes;
mod survival;
mod waiting;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use jsonpipe::testkit::{Ended, feed};
use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_nm-8021x-login");
const ALICE: (&str, &str) = ("alice@uni-a.example", "correct-horse");
const CAROL: (&str, &str) = ("carol@uni-a.example", "tr0ub4dor");

/// A laboratory of its own for each test; it is taken down when dropped, and when the test is
/// killed.
struct Laboratory {
    directory: TempDir,
}

impl Laboratory {
    fn up() -> Laboratory {
        let laboratory = Laboratory {
            directory: tempfile::Builder::new()
                .prefix("labtools-")
                .tempdir()
                .unwrap(),
        };
        laboratory.script("up", &["--until-pid", &std::process::id().to_string()]);
        laboratory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn script_command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/lab/wired-8021x"),
        );
        command.arg(verb).arg(self.directory.path()).args(arguments);
        command
    }

    fn script(&self, verb: &str, arguments: &[&str]) -> String {
        let output = self.script_command(verb, arguments).output().unwrap();
        assert!(
            output.status.success(),
            "wired-8021x {verb}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// A command on the lab machine.
    fn on_computer(&self, arguments: &[&str]) -> Command {
        self.script_command("run", arguments)
    }

    fn login_command(&self) -> Command {
        let configuration = self.path("labtools");
        self.on_computer(&[BINARY, "login", "--config", configuration.to_str().unwrap()])
    }

    /// Status, the section `login`, standard error.
    fn login(&self, (username, password): (&str, &str)) -> (i32, Value, String) {
        told(feed(self.login_command(), &credentials(username, password)))
    }

    /// A login of Alice that has been handed its document, and goes on.
    fn begin(&self, arguments: &[&str]) -> Child {
        self.begin_as(ALICE, arguments)
    }

    fn begin_as(&self, (username, password): (&str, &str), arguments: &[&str]) -> Child {
        let mut login = self.login_command();
        login
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = login.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(credentials(username, password).as_bytes())
            .unwrap();
        child
    }

    /// How many lines of the supplicant's log hold this.
    fn supplicant_said(&self, words: &str) -> usize {
        fs::read_to_string(self.path("log/wpa_supplicant.log"))
            .unwrap()
            .lines()
            .filter(|line| line.contains(words))
            .count()
    }

    /// Waits until so many lines of the supplicant's log hold this.
    fn wait_for_supplicant(&self, words: &str, count: usize) {
        for _ in 0..60_000 {
            if self.supplicant_said(words) >= count {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("wpa_supplicant never said {words}");
    }

    fn logout(&self) -> (i32, Value, String) {
        told(Ended::of(
            self.on_computer(&[BINARY, "logout"]).output().unwrap(),
        ))
    }

    /// Names of the profiles that NetworkManager has, without the loopback's.
    fn profiles(&self) -> String {
        let output = self
            .on_computer(&["nmcli", "-g", "NAME", "connection", "show"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter(|name| *name != "lo")
            .collect()
    }

    fn kill(&self, program: &str) {
        self.signal(program, "-KILL");
    }

    /// Sends a signal to one of the laboratory's programs, by the pid that the laboratory keeps.
    fn signal(&self, program: &str, signal: &str) {
        let pid = fs::read_to_string(self.path("pid").join(program)).unwrap();
        assert!(
            Command::new("kill")
                .args([signal, pid.trim()])
                .status()
                .unwrap()
                .success()
        );
    }

    /// The pid of the process of this laboratory that calls itself so.
    fn process(&self, name: &str) -> Option<i32> {
        let mark = format!("LABTOOLS_WIRED_8021X={}", self.directory.path().display());
        let is_ours = |pid: &i32| {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("comm").trim_ascii_end() == name.as_bytes()
                && read("environ")
                    .split(|byte| *byte == 0)
                    .any(|variable| variable == mark.as_bytes())
        };
        let entries = fs::read_dir("/proc").unwrap();
        let pids =
            entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
        pids.into_iter().find(is_ours)
    }

    /// Devices and their states, as NetworkManager tells them.
    fn devices(&self) -> String {
        let output = self
            .on_computer(&["nmcli", "-g", "DEVICE,STATE", "device"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the switch says of the ports a and b.
    fn ports(&self) -> [String; 2] {
        ["a", "b"].map(|port| self.script("port", &[port]))
    }

    fn port(&self) -> String {
        self.script("port", &["a"])
    }

    fn assert_closed(&self) {
        assert_eq!(
            (self.profiles().as_str(), self.ports()),
            ("", ["a", "b"].map(|_| "unauthorized".to_owned()))
        );
    }
}

impl Drop for Laboratory {
    fn drop(&mut self) {
        let down = self
            .script_command("down", &[])
            .status()
            .is_ok_and(|status| status.success());
        assert!(down || std::thread::panicking(), "wired-8021x down");
    }
}

fn credentials(username: &str, password: &str) -> String {
    serde_json::json!({ "login": { "username": username, "password": password } }).to_string()
}

/// Status, the section `login`, standard error; null where there is no document.
fn told(ended: Ended) -> (i32, Value, String) {
    let login = if ended.stdout.is_empty() {
        Value::Null
    } else {
        ended.section("login")
    };
    (ended.status, login, ended.stderr)
}
