//! What holds for every tool of the suite.

use std::sync::LazyLock;

use clap::CommandFactory;
use jsonpipe::testkit::{self, Stage};
use mkimg_torrent::request::Arguments;
use serde_json::json;

use crate::answer_file::ANSWER_FILE;
use crate::host::HOST;
use crate::server::{CREATE, Server, with_windows};

/// `verify` of what `create` printed.
static VERIFY: LazyLock<Stage> = LazyLock::new(|| Stage {
    arguments: &["verify"],
    document: Server::new().created(json!({})).to_string().leak(),
    prepare: with_windows,
    ..CREATE
});

jsonpipe::contract! {
    teaches_help: [ANSWER_FILE, CREATE, VERIFY, HOST],
    tells_version: [CREATE],
    refuses_a_bad_flag: [ANSWER_FILE, CREATE, VERIFY, HOST],
    logs_its_run: [ANSWER_FILE, CREATE, VERIFY, HOST],
    needs_a_document: [ANSWER_FILE, CREATE, VERIFY, HOST],
    names_an_unknown_key: [ANSWER_FILE, CREATE, HOST],
    passes_foreign_sections_on: [CREATE, VERIFY, HOST],
    is_silent_when_its_reader_left: [ANSWER_FILE, CREATE, VERIFY, HOST],
    reports_a_full_output: [ANSWER_FILE, CREATE, VERIFY, HOST],
    passes_a_no_on: "nothing that comes before it says no",
    reads_ini_as_json: [ANSWER_FILE, CREATE, HOST],
    keeps_the_secret: "the password is nm-8021x-login's",
    refuses_the_secret: [ANSWER_FILE, CREATE, HOST],
    survives_its_own_panic: [ANSWER_FILE, CREATE, HOST],
    names_every_flag_on_its_page: (Arguments::command(), MAN_PAGE),
}

#[test]
fn a_misspelt_section_of_windows_ini_is_named() {
    ANSWER_FILE.refuses_unknown_sections();
}

#[test]
fn the_man_page_examples_work() {
    let directory = tempfile::tempdir().unwrap();
    testkit::man_page_examples_work(CREATE.binary, MAN_PAGE, directory.path());
}

const MAN_PAGE: &str = include_str!("../../../../man/mkimg-torrent.8");
