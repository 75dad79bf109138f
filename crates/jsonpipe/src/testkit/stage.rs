//! A subcommand as a stage of a pipe, and the rules of the contract. Each runs the real binary with
//! a fresh directory as its `--root`.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value};
use tempfile::TempDir;

use super::ended::{Ended, feed, feed_into, redirected};

/// A subcommand that requires a document, and the input of its checks.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// `env!("CARGO_BIN_EXE_…")`.
    pub binary: &'static str,
    /// The subcommand and its arguments.
    pub arguments: &'static [&'static str],
    /// A section that it reads, present in `document` and written as by a person (without
    /// `schema`).
    pub request: &'static str,
    /// A JSON document, flat enough for INI, whose answer is yes or no.
    pub document: &'static str,
    /// Makes the machine below the root directory that `document` needs.
    pub prepare: fn(&Path),
}

/// Stands for a secret or a value that must not be shown.
const HIDDEN: &str = "Tr0ub4dor&3";

impl Stage {
    /// Runs the stage with `input` on standard input and `root` as the machine.
    pub fn run(&self, root: &Path, input: &str) -> Ended {
        let mut command = self.command(root);
        feed(&mut command, input)
    }

    /// The same on a fresh machine.
    pub fn answer(&self, input: &str) -> Ended {
        let root = self.machine();
        self.run(root.path(), input)
    }

    /// `--help` of the tool and of the stage ends with 0, and names the flags of every tool.
    pub fn teaches_help(&self) {
        let flags = self.arguments.iter().position(|word| word.starts_with('-'));
        for words in 0..=flags.unwrap_or(self.arguments.len()) {
            let arguments = [&self.arguments[..words], &["--help"]].concat();
            let ended = feed(Command::new(self.binary).args(&arguments), "");
            assert_eq!(
                (ended.status, ended.stderr.as_str()),
                (0, ""),
                "{arguments:?}"
            );
            for flag in ["--help", "--root", "--config", "--verbose", "--log"] {
                assert!(
                    ended.stdout.contains(flag),
                    "{arguments:?} does not name {flag}:\n{}",
                    ended.stdout
                );
            }
        }
    }

    /// `--version` prints the tool's name and version.
    pub fn tells_version(&self) {
        let ended = feed(Command::new(self.binary).arg("--version"), "");
        let name = Path::new(self.binary)
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a binary");
        assert_eq!(ended.status, 0);
        assert!(
            ended.stdout.starts_with(&format!("{name} ")),
            "{}",
            ended.stdout
        );
    }

    /// An unknown flag is status 2 with nothing on standard output.
    pub fn refuses_a_bad_flag(&self) {
        let root = self.machine();
        let ended = feed(
            self.command(root.path()).arg("--no-such-flag"),
            self.document,
        );
        assert_eq!((ended.status, ended.stdout.as_str()), (2, ""));
        assert!(ended.stderr.contains("--no-such-flag"), "{}", ended.stderr);
        let ended = feed(
            self.command(root.path()).arg("--no\u{1b}[2Jflag"),
            self.document,
        );
        assert!(
            ended.status == 2 && ended.stderr.contains("--no\u{fffd}[2Jflag"),
            "{ended:?}"
        );
    }

    /// Nothing on standard input is status 65.
    pub fn needs_a_document(&self) {
        for input in ["", " \n"] {
            let ended = self.answer(input);
            assert_eq!((ended.status, ended.stdout.as_str()), (65, ""));
            assert!(
                ended.stderr.contains("no document on standard input"),
                "{}",
                ended.stderr
            );
        }
    }

    /// An unknown key is named by its path, without its value. Control characters in its name do
    /// not reach a terminal.
    pub fn names_an_unknown_key(&self) {
        let ended = self.answer(&self.with(self.request, "\u{1b}[2J\u{202e}k\n", HIDDEN));
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (65, ""),
            "{}",
            ended.stderr
        );
        let named = format!(
            "{}.\u{fffd}[2J\u{fffd}k\u{fffd}: unknown key\n",
            self.request
        );
        assert!(ended.stderr.ends_with(&named), "{:?}", ended.stderr);
        let ended = self.answer(&self.with(self.request, "usernam", HIDDEN));
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (65, ""),
            "{}",
            ended.stderr
        );
        assert!(
            ended
                .stderr
                .contains(&format!("{}.usernam: unknown key", self.request)),
            "{}",
            ended.stderr
        );
        assert!(!ended.stderr.contains(HIDDEN), "{}", ended.stderr);
    }

    /// A section that the tool does not own leaves as the bytes that came in.
    pub fn passes_foreign_sections_on(&self) {
        let foreign = r#""x_foreign":{"b" : 1.0, "a":[1e3,-0.0,"é\u00e9"], "n":{"n":null}}"#;
        let ended = self.answer(&self.document.replacen('{', &format!("{{{foreign},"), 1));
        assert!(matches!(ended.status, 0 | 1), "{ended:?}");
        assert!(ended.stdout.contains(foreign), "{}", ended.stdout);
        let document: Value =
            serde_json::from_str(&ended.stdout).expect("one document on standard output");
        assert!(
            document.is_object() && ended.stdout.ends_with("}\n"),
            "{}",
            ended.stdout
        );
    }

    /// Where a person writes the document for this tool alone: a section that the tool does not know
    /// is named, without a value; one of another tool leaves as the bytes that came in.
    pub fn refuses_unknown_sections(&self) {
        let unknown = format!(r#"{{"x_foreign":{{"k":"{HIDDEN}"}},"#);
        let ended = self.answer(&self.document.replacen('{', &unknown, 1));
        ended.refused(65, "[x_foreign]: unknown section; known are ");
        assert!(
            ended.stderr.contains(self.request) && !ended.stderr.contains(HIDDEN),
            "{ended:?}"
        );
        let foreign = r#""x_foreign":{"schema":7,"b" : 1.0, "a":[1e3,"é\u00e9"]}"#;
        let ended = self.answer(&self.document.replacen('{', &format!("{{{foreign},"), 1));
        assert!(
            ended.status == 0 && ended.stdout.contains(foreign),
            "{ended:?}"
        );
    }

    /// A reader that has left, or a missing standard output, is status 74 without a message.
    pub fn is_silent_when_its_reader_left(&self) {
        let root = self.machine();
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = feed_into(
            &mut self.command(root.path()),
            self.document,
            OwnedFd::from(writer).into(),
        );
        assert_eq!((ended.status, ended.stderr.as_str()), (74, ""));

        let root = self.machine();
        let ended = feed(
            &mut redirected(">&-", &self.command(root.path())),
            self.document,
        );
        assert_eq!(
            (ended.status, ended.stderr.as_str()),
            (74, ""),
            "standard output is closed"
        );
    }

    /// A full disk behind standard output, or a read-only descriptor, is status 74, with a message.
    pub fn reports_a_full_output(&self) {
        let root = self.machine();
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("/dev/full");
        let ended = feed_into(&mut self.command(root.path()), self.document, full.into());
        assert_eq!(ended.status, 74);
        assert!(
            ended
                .stderr
                .contains("standard output: No space left on device"),
            "{}",
            ended.stderr
        );

        let root = self.machine();
        let ended = feed(
            &mut redirected("1</dev/null", &self.command(root.path())),
            self.document,
        );
        assert_eq!(ended.status, 74, "standard output can only be read");
        assert!(
            ended
                .stderr
                .contains("standard output: Bad file descriptor"),
            "{}",
            ended.stderr
        );
    }

    /// A document with a no is passed on unchanged, with status 1.
    pub fn passes_a_no_on(&self, no: &str) {
        let ended = self.answer(no);
        assert_eq!(
            (ended.status, ended.stdout.trim_end(), ended.stderr.as_str()),
            (1, no, "")
        );
    }

    /// INI stands for JSON in which every value that is no boolean is a string: both give the same
    /// bytes. A document with numbers gives the same answer, and sections that are passed on keep
    /// their types.
    pub fn reads_ini_as_json(&self) {
        let typed: Map<String, Value> =
            serde_json::from_str(self.document).expect("a JSON document");
        let mut spelt = typed.clone();
        let mut ini = String::from("# the same by hand\n");
        for (name, section) in &mut spelt {
            ini += &format!("\n[{name}]\n");
            for (key, value) in section.as_object_mut().expect("a section") {
                let text = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                ini += &format!("{key} = {text}\n");
                if !value.is_boolean() {
                    *value = text.into();
                }
            }
        }
        let answer = |input: &str| without_times(self.answer(input));
        let expected = answer(&ini);
        assert_eq!(answer(&Value::from(spelt.clone()).to_string()), expected);
        let mut ended = answer(&Value::from(typed.clone()).to_string());
        for (name, section) in typed {
            ended.stdout = ended.stdout.replace(
                &format!("\"{name}\":{section}"),
                &format!("\"{name}\":{}", spelt[&name]),
            );
        }
        assert_eq!(ended, expected);
    }

    /// The password, which this tool owns, is in no output and no error.
    pub fn keeps_the_secret(&self) {
        self.shows_no_secret(false);
    }

    /// A tool that does not own the password refuses it, and does not show it.
    pub fn refuses_the_secret(&self) {
        self.shows_no_secret(true);
    }

    fn shows_no_secret(&self, refuses: bool) {
        let ended = self.answer(&self.with("login", "password", HIDDEN));
        assert_eq!(
            ended.status == 65 && ended.stdout.is_empty(),
            refuses,
            "{ended:?}"
        );
        let broken = self.with("login", "password", HIDDEN) + ",";
        for ended in [
            ended,
            self.answer(&broken),
            self.answer(&format!("[login]\npassword={HIDDEN}\n")),
        ] {
            assert!(!format!("{ended:?}").contains(HIDDEN), "{ended:?}");
        }
    }

    /// With `--log` a run is a line in the event log, with the section that it wrote, of a change
    /// or a failure, or with its error, and without the password. A dry run writes nothing.
    pub fn logs_its_run(&self) {
        for document in [
            self.document.to_owned(),
            "{".to_owned(),
            self.with("login", "password", HIDDEN),
        ] {
            let root = self.machine();
            let ended = feed(self.command(root.path()).arg("--log"), &document);
            let log = fs::read_to_string(root.path().join("var/log/labtools/events.jsonl"));
            if self.arguments.contains(&"--dry-run") {
                assert!(log.is_err(), "{log:?}");
                continue;
            }
            let log = log.expect("an event log");
            assert!(
                log.ends_with("}\n") && log.lines().count() == 1 && !log.contains(HIDDEN),
                "{log}"
            );
            let line: Value = serde_json::from_str(&log).expect("a line of JSON");
            let name = Path::new(self.binary)
                .file_name()
                .and_then(|name| name.to_str());
            assert_eq!(
                (line["event"].as_str(), line["tool"].as_str()),
                (Some("stage"), name),
                "{log}"
            );
            let command = line["command"].as_str().expect("a text");
            assert!(
                self.arguments.join(" ").starts_with(command)
                    && command.starts_with(self.arguments[0])
                    && line["status"].as_i64() == Some(ended.status.into()),
                "{log}"
            );
            assert!(
                line["at"].is_string() && line["seconds"].is_number(),
                "{log}"
            );
            let error = line
                .get("error")
                .map_or("", |error| error.as_str().expect("a text"));
            assert_eq!(error, ended.stderr.trim_end(), "{log}");
            let printed: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
            let sections = printed
                .as_object()
                .map_or_else(Vec::new, |sections| sections.values().collect());
            assert!(
                line.get("report")
                    .is_none_or(|report| sections.contains(&report)),
                "{log}{}",
                ended.stdout
            );
        }
    }

    /// A panic is status 70 and prints only its place. (Only a debug build can be made to panic.)
    #[cfg(debug_assertions)]
    pub fn survives_its_own_panic(&self) {
        let root = self.machine();
        let ended = feed(
            self.command(root.path()).env("LABTOOLS_TEST_PANIC", HIDDEN),
            self.document,
        );
        assert_eq!((ended.status, ended.stdout.as_str()), (70, ""));
        assert!(
            ended.stderr.contains("internal fault at ") && !ended.stderr.contains(HIDDEN),
            "{}",
            ended.stderr
        );
    }

    fn command(&self, root: &Path) -> Command {
        let mut command = Command::new(self.program());
        command.args(self.arguments).arg("--root").arg(root);
        command
    }

    /// The binary, or the one of its name in the directory `LABTOOLS_BIN`, so that release builds
    /// are checked as well.
    fn program(&self) -> PathBuf {
        let built = Path::new(self.binary);
        let name = built.file_name().expect("a binary");
        std::env::var_os("LABTOOLS_BIN").map_or_else(
            || built.to_owned(),
            |directory| Path::new(&directory).join(name),
        )
    }

    fn machine(&self) -> TempDir {
        let root = tempfile::tempdir().expect("a temporary directory");
        (self.prepare)(root.path());
        root
    }

    /// The document with one more key.
    fn with(&self, section: &str, key: &str, value: &str) -> String {
        let mut document: Map<String, Value> =
            serde_json::from_str(self.document).expect("a JSON document");
        document.entry(section).or_insert_with(|| Map::new().into())[key] = value.into();
        Value::from(document).to_string()
    }
}

/// Two equal runs may differ only in times: the values of keys in `_at` are left out.
fn without_times(ended: Ended) -> Ended {
    let mut parts = ended.stdout.split("_at\":\"");
    let mut stdout = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (_time, rest) = part.split_once('"').expect("the end of a string");
        stdout += &format!("_at\":\"\"{rest}");
    }
    Ended { stdout, ..ended }
}
