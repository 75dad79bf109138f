//! What holds for every tool of the suite.

mod machine;

use std::fs;
use std::io::Seek;
use std::path::Path;

use abflip::request::Arguments;
use clap::CommandFactory;
use jsonpipe::testkit::{self, Stage};
use machine::{BINARY, Machine, bios};

fn prepare(root: &Path) {
    Machine::at(root, 512, &bios()).configure_extlinux();
}

/// None of them reads a document.
const STAGES: [Stage; 6] = [
    Stage { binary: BINARY, arguments: &["status"], request: "", document: "", prepare },
    Stage { binary: BINARY, arguments: &["flip", "--dry-run"], request: "", document: "", prepare },
    Stage { binary: BINARY, arguments: &["try", "--dry-run"], request: "", document: "", prepare },
    Stage { binary: BINARY, arguments: &["commit", "--dry-run"], request: "", document: "", prepare },
    Stage { binary: BINARY, arguments: &["rollback", "--dry-run"], request: "", document: "", prepare },
    Stage { binary: BINARY, arguments: &["repair", "--dry-run"], request: "", document: "", prepare },
];

/// It needs files that lie in its machine.
const WRITE: Stage =
    Stage { binary: BINARY, arguments: &["write", "--from", "x", "--manifest", "x"], request: "", document: "", prepare };

#[test]
fn teaches_help() {
    STAGES.iter().chain([&WRITE]).for_each(Stage::teaches_help);
}

#[test]
fn tells_version() {
    STAGES[0].tells_version();
}

#[test]
fn refuses_a_bad_flag() {
    STAGES.iter().chain([&WRITE]).for_each(Stage::refuses_a_bad_flag);
}

#[test]
fn is_silent_when_its_reader_left() {
    STAGES.iter().for_each(Stage::is_silent_when_its_reader_left);
}

#[test]
fn reports_a_full_output() {
    STAGES.iter().for_each(Stage::reports_a_full_output);
}

#[cfg(debug_assertions)]
#[test]
fn survives_its_own_panic() {
    STAGES.iter().for_each(Stage::survives_its_own_panic);
}

#[test]
fn standard_input_is_left_alone() {
    let machine = Machine::new();
    let input = machine.root().join("input");
    fs::write(&input, "not a document").unwrap();
    for arguments in [["status"], ["flip"], ["repair"]] {
        let mut input = fs::File::open(&input).unwrap();
        let ended = machine.command(&arguments).stdin(input.try_clone().unwrap()).output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(input.stream_position().unwrap(), 0);
    }
}

const MAN_PAGE: &str = include_str!("../../../man/abflip.8");

#[test]
fn the_man_page_names_every_flag() {
    testkit::man_page_names_every_flag(&Arguments::command(), MAN_PAGE);
}

#[test]
fn the_man_page_examples_work() {
    let machine = Machine::new();
    testkit::man_page_examples_work(BINARY, MAN_PAGE, machine.root());
}
