//! What holds for every tool of the suite.

use std::fs;
use std::io::Seek;
use std::process::Command;

use clap::CommandFactory;
use cowvol::request::Arguments;
use jsonpipe::testkit::{self, Stage, feed, redirected};

use crate::machine::signed::{describe, document, install_stage, new_windows, trust};
use crate::machine::{self, CLONE, Machine};

jsonpipe::contract! {
    teaches_help: [CLONE, install_stage()],
    tells_version: [CLONE],
    refuses_a_bad_flag: [CLONE, install_stage()],
    logs_its_run: [CLONE, install_stage()],
    needs_a_document: [CLONE, install_stage()],
    names_an_unknown_key: [CLONE, install_stage()],
    passes_foreign_sections_on: [CLONE, install_stage()],
    is_silent_when_its_reader_left: [CLONE, install_dry_run()],
    reports_a_full_output: [CLONE, install_dry_run()],
    passes_a_no_on: [
        CLONE => r#"{"login":{"schema":1,"user":"alice@uni-a.example","authenticated":false,"reason":"denied"}}"#,
        CLONE => r#"{"x":{"y" : 1},"login":{"authenticated":false}}"#,
        install_stage() => INCOMPLETE,
    ],
    reads_ini_as_json: [CLONE, install_stage()],
    keeps_the_secret: "the password is nm-8021x-login's",
    refuses_the_secret: [CLONE, install_stage()],
    survives_its_own_panic: [CLONE],
    names_every_flag_on_its_page: (Arguments::command(), MAN_PAGE),
}

/// What changes nothing ends with 74 when it cannot be told.
fn install_dry_run() -> Stage {
    Stage {
        arguments: &["install-base", "--dry-run"],
        ..install_stage()
    }
}

/// `seedctl get` did not come to its end.
const INCOMPLETE: &str = concat!(
    r#"{"image":{"schema":1,"manifest":"","signature":""},"#,
    r#""transfer":{"schema":1,"state":"incomplete","missing":[]}}"#
);

#[test]
fn the_man_page_examples_work() {
    // They make the first base. The next one comes as from seedctl.
    let machine = Machine::bare();
    trust(machine.root());
    new_windows(machine.root(), 8);
    let windows_8 = document(&describe(machine.root(), "windows", 8)).to_string();
    fs::write(machine.root().join("windows-8.json"), windows_8).unwrap();
    testkit::man_page_examples_work(CLONE.binary, MAN_PAGE, machine.root());
}

const MAN_PAGE: &str = include_str!("../../../../man/cowvol.8");

#[test]
fn list_leaves_standard_input_alone() {
    let machine = Machine::new();
    let input = machine.root().join("input");
    fs::write(&input, "not a document").unwrap();
    let mut input = fs::File::open(input).unwrap();
    let list = Command::new(CLONE.binary)
        .arg("list")
        .arg("--root")
        .arg(machine.root())
        .stdin(input.try_clone().unwrap())
        .output();
    assert!(list.unwrap().status.success());
    assert_eq!(input.stream_position().unwrap(), 0);
}

#[test]
fn a_user_without_a_name_is_a_usage_error() {
    let machine = Machine::new();
    for arguments in [
        &["list"][..],
        &["discard"],
        &["restore", "--to", "clean"],
        &["export", "--to", "volume"],
        &["import", "--from", "volume"],
    ] {
        let ended = machine.run(&[arguments, &["--user", ""]].concat());
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (2, ""),
            "{arguments:?}: {ended:?}"
        );
        assert!(ended.stderr.contains("--user"), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn a_change_that_nobody_heard_of_stays_and_is_1() {
    let machine = Machine::with_windows_8();
    let windows_8 = document(&describe(machine.root(), "windows", 8)).to_string();
    let unheard = |verb: &str, input: &str| {
        let ended = feed(
            &mut redirected(">/dev/full", &machine.command(&[verb])),
            input,
        );
        assert_eq!(ended.status, 1, "{verb}: {ended:?}");
        assert!(
            ended
                .stderr
                .starts_with("cowvol: the change is made and stays; writing the document"),
            "{ended:?}"
        );
    };
    let session = machine.hold("session.lock");
    unheard("install-base", &windows_8);
    assert!(machine.bases_ini().contains("generation = 8"));
    drop(session);
    unheard("prune", "");
    assert!(!machine::base_path(machine.root(), "windows", 7).exists());
}
