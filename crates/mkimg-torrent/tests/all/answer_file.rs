//! `answer-file`: the files are there, whole and for one reader; crates/answer-file tests their content.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use jsonpipe::testkit::{Ended, Stage};
use serde_json::Value;

use crate::server::CREATE;

/// Describes Windows, and writes nothing.
pub const ANSWER_FILE: Stage = Stage {
    arguments: &[
        "answer-file",
        "--dry-run",
        "--into",
        concat!(env!("CARGO_TARGET_TMPDIR"), "/answer-file"),
    ],
    request: "windows",
    document: r#"{"image":{"name":"windows","title":"Windows 10","ostype":"windows","generation":7,"trackers":"http://a.example:6969/announce"},"windows":{"edition":"Windows 10 Education","product_key":"ABCDE-12345-FGHIJ-67890-KLMNO","language":"pt-BR","keyboard":"0416:00010416","time_zone":"UTC","user":"aluno","disk_bytes":"85899345920"},"msi":{"x.msi":"A=1"},"programs":{"R":"4.5"}}"#,
    prepare: |_| {},
    ..CREATE
};

const FILES: [&str; 3] = [
    "autounattend.xml",
    "labtools/oobe.xml",
    "labtools/recipe.json",
];

fn write(into: &Path, document: &str, more: &[&'static str]) -> Ended {
    let into: &'static str = into.to_str().unwrap().to_owned().leak();
    let arguments = [&["answer-file", "--into", into], more].concat();
    let stage = Stage {
        arguments: arguments.leak(),
        ..ANSWER_FILE
    };
    let root = tempfile::tempdir().unwrap();
    stage.run(root.path(), document)
}

fn windows(ended: &Ended) -> Value {
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    serde_json::from_str::<Value>(&ended.stdout).unwrap()["windows"].clone()
}

#[test]
fn files_are_for_one_reader_and_stay_when_nothing_changes() {
    let directory = tempfile::tempdir().unwrap();
    let into = directory.path().join("new/medium");
    let first = windows(&write(&into, ANSWER_FILE.document, &[]));
    assert_eq!(
        first,
        serde_json::json!({"schema":1,"changed":true,"edition":"Windows 10 Education","language":"pt-BR","disk_bytes":85_899_345_920_u64,"network":false,"files":["msi/x.msi"]})
    );
    let content = || FILES.map(|name| fs::read_to_string(into.join(name)).unwrap());
    let before = content();
    for name in FILES {
        let mode = fs::metadata(into.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(
        windows(&write(&into, ANSWER_FILE.document, &[]))["changed"],
        false
    );
    let other = ANSWER_FILE.document.replace("\"aluno\"", "\"ana\"");
    assert_eq!(
        windows(&write(&into, &other, &["--dry-run"]))["changed"],
        true
    );
    assert_eq!(content(), before);
    assert_eq!(windows(&write(&into, &other, &[]))["changed"], true);
    assert_ne!(content(), before);
}

#[test]
fn a_description_that_create_would_refuse_is_refused_before_the_installation() {
    let directory = tempfile::tempdir().unwrap();
    let into = directory.path().join("medium");
    for (from, to, wrong) in [
        ("http://a.example", "ftp://a.example", "image.trackers: "),
        ("\"generation\":7", "\"generation\":0", "image.generation: "),
        (
            "\"generation\":7",
            "\"generation\":7,\"path\":\"/x\"",
            "image.path: leave it out",
        ),
        ("\"edition\":", "\"edition\":\"\",\"x\":", "windows."),
    ] {
        let ended = write(&into, &ANSWER_FILE.document.replace(from, to), &[]);
        assert_eq!((ended.status, ended.stdout.as_str()), (65, ""), "{to}");
        assert!(
            ended.stderr.starts_with(&format!("mkimg-torrent: {wrong}")),
            "{}",
            ended.stderr
        );
    }
    assert!(!into.exists());
}

#[test]
fn a_name_alone_is_in_the_current_directory() {
    let directory = tempfile::tempdir().unwrap();
    let description = directory.path().join("windows.json");
    fs::write(&description, ANSWER_FILE.document).unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_mkimg-torrent"))
        .args(["answer-file", "--into", "medium"])
        .current_dir(directory.path())
        .stdin(File::open(&description).unwrap())
        .output()
        .unwrap();
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(0), &b""[..]));
    assert!(directory.path().join("medium").join(FILES[0]).is_file());
}
