//! What holds for every tool of the suite.

use std::sync::LazyLock;

use clap::CommandFactory;
use jsonpipe::testkit::{self, Stage};
use mkimg_torrent::request::Arguments;
use serde_json::json;

use crate::host::HOST;
use crate::server::{CREATE, Server, with_windows};

/// `verify` of what `create` printed.
static VERIFY: LazyLock<Stage> = LazyLock::new(|| Stage {
    arguments: &["verify"],
    document: Server::new().created(json!({})).to_string().leak(),
    prepare: with_windows,
    ..CREATE
});

#[test]
fn teaches_help() {
    CREATE.teaches_help();
    VERIFY.teaches_help();
    HOST.teaches_help();
}

#[test]
fn tells_version() {
    CREATE.tells_version();
}

#[test]
fn refuses_a_bad_flag() {
    CREATE.refuses_a_bad_flag();
    VERIFY.refuses_a_bad_flag();
    HOST.refuses_a_bad_flag();
}

#[test]
fn logs_its_run() {
    CREATE.logs_its_run();
    VERIFY.logs_its_run();
    HOST.logs_its_run();
}

#[test]
fn needs_a_document() {
    CREATE.needs_a_document();
    VERIFY.needs_a_document();
    HOST.needs_a_document();
}

#[test]
fn names_an_unknown_key() {
    CREATE.names_an_unknown_key();
    HOST.names_an_unknown_key();
}

#[test]
fn passes_foreign_sections_on() {
    CREATE.passes_foreign_sections_on();
    VERIFY.passes_foreign_sections_on();
    HOST.passes_foreign_sections_on();
}

#[test]
fn is_silent_when_its_reader_left() {
    CREATE.is_silent_when_its_reader_left();
    VERIFY.is_silent_when_its_reader_left();
    HOST.is_silent_when_its_reader_left();
}

#[test]
fn reports_a_full_output() {
    CREATE.reports_a_full_output();
    VERIFY.reports_a_full_output();
    HOST.reports_a_full_output();
}

#[test]
fn reads_ini_as_json() {
    CREATE.reads_ini_as_json();
    HOST.reads_ini_as_json();
}

#[test]
fn keeps_the_secret() {
    CREATE.keeps_the_secret(false);
    HOST.keeps_the_secret(false);
}

#[cfg(debug_assertions)]
#[test]
fn survives_its_own_panic() {
    CREATE.survives_its_own_panic();
    HOST.survives_its_own_panic();
}

#[test]
fn the_man_page_names_every_flag() {
    testkit::man_page_names_every_flag(&Arguments::command(), MAN_PAGE);
}

#[test]
fn the_man_page_examples_work() {
    let directory = tempfile::tempdir().unwrap();
    testkit::man_page_examples_work(CREATE.binary, MAN_PAGE, directory.path());
}

const MAN_PAGE: &str = include_str!("../../../../man/mkimg-torrent.8");
