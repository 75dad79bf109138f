//! What holds for every tool of the suite.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;
use invcollect::report::metrics::ALL;
use invcollect::request::Arguments;
use jsonpipe::testkit::{self, Stage};

use crate::machine::{self, Machine};

const MAN_PAGE: &str = include_str!("../../../../man/invcollect.8");
const FIRMWARE_PAGE: &str = include_str!("../../../../man/invcollect-firmware.8");
const FLEET_PAGE: &str = include_str!("../../../../man/invcollect-fleet.8");

/// No subcommand here requires a document: what is handed in is left alone.
const COLLECT: Stage = Stage {
    binary: env!("CARGO_BIN_EXE_invcollect"),
    arguments: &["collect"],
    request: "",
    document: "{}",
    prepare: |_: &Path| (),
};

const CHANGES: Stage = Stage {
    arguments: &["changes"],
    ..COLLECT
};
const ACCEPT: Stage = Stage {
    arguments: &["accept"],
    ..COLLECT
};
const METRICS: Stage = Stage {
    arguments: &["metrics"],
    ..COLLECT
};
/// The machine has no model, which is a refusal.
const FIRMWARE: Stage = Stage {
    arguments: &["firmware"],
    ..COLLECT
};
const NAME: Stage = Stage {
    arguments: &["name"],
    ..COLLECT
};
const FLEET: Stage = Stage {
    arguments: &["fleet"],
    ..COLLECT
};

/// Reports that nobody takes: the document is printed all the same.
const PUSH: Stage = Stage {
    arguments: &["push"],
    prepare: reports_to_nobody,
    ..COLLECT
};

/// What `push` needs; on port 1 of this machine nobody listens.
fn reports_to_nobody(root: &Path) {
    let labtools = root.join("etc/labtools");
    fs::create_dir_all(&labtools).unwrap();
    let mut ini = OpenOptions::new()
        .create(true)
        .append(true)
        .open(labtools.join("invcollect.ini"))
        .unwrap();
    ini.write_all(b"[push]\nurl=https://127.0.0.1:1\nmethod=glpi\n")
        .unwrap();
    fs::create_dir_all(root.join("persistent/inventory")).unwrap();
    fs::write(root.join("persistent/inventory/uuid"), machine::ID).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=CA",
    ]);
    openssl
        .args(["-keyout", "/dev/null", "-out"])
        .arg(labtools.join("collector.pem"));
    assert!(openssl.output().unwrap().status.success());
}

jsonpipe::contract! {
    teaches_help: [COLLECT, CHANGES, ACCEPT, METRICS, PUSH, FIRMWARE, NAME, FLEET],
    tells_version: [COLLECT],
    refuses_a_bad_flag: [COLLECT, PUSH],
    logs_its_run: "no stage of a pipe",
    needs_a_document: "no subcommand reads a document",
    names_an_unknown_key: "no subcommand reads a document",
    passes_foreign_sections_on: "no subcommand reads a document",
    is_silent_when_its_reader_left: [COLLECT, PUSH],
    reports_a_full_output: [COLLECT, PUSH],
    passes_a_no_on: "no subcommand reads a document",
    reads_ini_as_json: "no subcommand reads a document",
    keeps_the_secret: "no subcommand reads a document",
    refuses_the_secret: "no subcommand reads a document",
    survives_its_own_panic: [COLLECT, PUSH],
    names_every_flag_on_its_page: (Arguments::command(), [MAN_PAGE, FIRMWARE_PAGE, FLEET_PAGE].concat()),
}

/// A slip of the pen is not a machine that has nothing.
#[test]
fn a_root_that_is_not_there_is_no_machine() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["collect"][..],
        &["changes"],
        &["accept"],
        &["metrics", "x.prom"],
        &["push"],
        &["firmware"],
        &["name"],
        &["fleet", "/"],
    ] {
        let mut command = Command::new(COLLECT.binary);
        let output = command
            .args(arguments)
            .args(["--root", "nonexist"])
            .current_dir(&directory)
            .output()
            .unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(66), 0),
            "{arguments:?}: {output:?}"
        );
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("reading nonexist: no such directory"),
            "{output:?}"
        );
        assert_eq!(
            fs::read_dir(&directory).unwrap().count(),
            0,
            "{arguments:?}"
        );
    }
}

#[test]
fn the_man_page_examples_work() {
    let machine = Machine::optiplex();
    reports_to_nobody(machine.root());
    testkit::man_page_examples_work(COLLECT.binary, MAN_PAGE, machine.root());
}

#[test]
fn the_man_page_names_every_metric_with_its_labels() {
    for metric in ALL {
        let line = MAN_PAGE
            .lines()
            .find(|line| line.split(' ').nth(2) == Some(metric.name));
        let line = line.unwrap_or_else(|| panic!("{} is not on the page", metric.name));
        let labels = line.split_once(" Va ").map_or("", |(_, labels)| {
            labels
                .split(" ;")
                .next()
                .unwrap()
                .split(" No")
                .next()
                .unwrap()
        });
        assert_eq!(
            labels.split_whitespace().collect::<Vec<_>>(),
            metric.labels,
            "{line}"
        );
    }
}
