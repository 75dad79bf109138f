//! What every tool of the suite promises, and the man page.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use jsonpipe::testkit::{Stage, man_page_examples_work, man_page_names_every_flag};
use vm_passthrough::request::Arguments;

const PAGE: &str = include_str!("../../../../man/vm-passthrough.8");
const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/vm-passthrough");

/// A plan answers as a run does, and a machine can be a directory for it.
const PLAN: Stage = Stage {
    binary: env!("CARGO_BIN_EXE_vm-passthrough"),
    arguments: &["plan"],
    request: "volume",
    document: r#"{"volume":{"path":"/images/disk.qcow2","format":"qcow2","ostype":"linux"},"x":{"n":1}}"#,
    prepare: |root| {
        let config = root.join("etc/labtools");
        fs::create_dir_all(&config).unwrap();
        for entry in fs::read_dir(Path::new(TESTDATA).join("config")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, config.join(path.file_name().unwrap())).unwrap();
        }
    },
};

#[test]
fn teaches_help() {
    PLAN.teaches_help();
}

#[test]
fn tells_version() {
    PLAN.tells_version();
}

#[test]
fn refuses_a_bad_flag() {
    PLAN.refuses_a_bad_flag();
}

#[test]
fn logs_its_run() {
    PLAN.logs_its_run();
}

#[test]
fn needs_a_document() {
    PLAN.needs_a_document();
}

#[test]
fn names_an_unknown_key() {
    PLAN.names_an_unknown_key();
}

#[test]
fn passes_foreign_sections_on() {
    PLAN.passes_foreign_sections_on();
}

#[test]
fn is_silent_when_its_reader_left() {
    PLAN.is_silent_when_its_reader_left();
}

#[test]
fn reports_a_full_output() {
    PLAN.reports_a_full_output();
}

#[test]
fn passes_a_no_on() {
    PLAN.passes_a_no_on(r#"{"login":{"schema":1,"authenticated":false,"reason":"wrong_password"}}"#);
    // Also when there is a disk: it is not this user's.
    PLAN.passes_a_no_on(r#"{"login":{"authenticated":false},"volume":{"path":"/v","format":"raw","ostype":"linux"}}"#);
}

#[test]
fn reads_ini_as_json() {
    PLAN.reads_ini_as_json();
}

#[test]
fn keeps_the_secret() {
    PLAN.keeps_the_secret(false);
}

#[test]
#[cfg(debug_assertions)]
fn survives_its_own_panic() {
    PLAN.survives_its_own_panic();
}

#[test]
fn man_page_is_complete() {
    man_page_names_every_flag(&Arguments::command(), PAGE);
}

#[test]
fn man_page_examples_print_what_it_says() {
    man_page_examples_work(PLAN.binary, PAGE, Path::new(TESTDATA));
}
