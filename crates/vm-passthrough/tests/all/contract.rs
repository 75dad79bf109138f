//! What every tool of the suite promises, and the man page.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use jsonpipe::testkit::{Stage, man_page_examples_work};
use vm_passthrough::request::Arguments;

const CHECK_PAGE: &str = include_str!("../../../../man/vm-passthrough-check.8");
const PAGE: &str = include_str!("../../../../man/vm-passthrough.8");
const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/vm-passthrough");

/// A plan answers as a run does, and a machine can be a directory for it.
const PLAN: Stage = Stage {
    binary: env!("CARGO_BIN_EXE_vm-passthrough"),
    arguments: &["plan"],
    request: "volume",
    document: r#"{"volume":{"path":"/images/disk.qcow2","format":"qcow2","ostype":"linux"},"x":{"n":1}}"#,
    prepare: |root| {
        fs::create_dir_all(root.join("proc")).unwrap();
        fs::write(root.join("proc/meminfo"), "MemTotal: 7628800 kB\n").unwrap();
        let config = root.join("etc/labtools");
        fs::create_dir_all(&config).unwrap();
        for entry in fs::read_dir(Path::new(TESTDATA).join("config")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, config.join(path.file_name().unwrap())).unwrap();
        }
    },
};

/// A check reads no document: what is handed in is left alone.
const CHECK: Stage = Stage {
    arguments: &["check"],
    request: "",
    document: "{}",
    prepare: |root| {
        let config = root.join("etc/labtools");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("vm-passthrough.ini"), "[qemu]\nuser=64055\n").unwrap();
        let profile = "[profile.linux]\ncores=1\nmemory=64M\n";
        fs::write(config.join("profiles.ini"), profile).unwrap();
    },
    ..PLAN
};

/// The same of the question whether the host is fit for a guest.
const IS_FRESH: Stage = Stage {
    arguments: &["is-fresh"],
    ..CHECK
};

jsonpipe::contract! {
    teaches_help: [PLAN, CHECK, IS_FRESH],
    tells_version: [PLAN],
    refuses_a_bad_flag: [PLAN, CHECK, IS_FRESH],
    logs_its_run: [PLAN, CHECK, IS_FRESH],
    needs_a_document: [PLAN],
    names_an_unknown_key: [PLAN],
    passes_foreign_sections_on: [PLAN],
    is_silent_when_its_reader_left: [PLAN, CHECK],
    reports_a_full_output: [PLAN, CHECK, IS_FRESH],
    passes_a_no_on: [
        PLAN => r#"{"login":{"schema":1,"authenticated":false,"reason":"wrong_password"}}"#,
        // Also when there is a disk: it is not this user's.
        PLAN => r#"{"login":{"authenticated":false},"volume":{"path":"/v","format":"raw","ostype":"linux"}}"#,
    ],
    reads_ini_as_json: [PLAN],
    keeps_the_secret: "the password is nm-8021x-login's",
    refuses_the_secret: [PLAN],
    survives_its_own_panic: [PLAN],
    names_every_flag_on_its_page: (Arguments::command(), PAGE),
}

#[test]
fn man_page_examples_print_what_it_says() {
    for page in [PAGE, CHECK_PAGE] {
        man_page_examples_work(PLAN.binary, page, Path::new(TESTDATA));
    }
}
