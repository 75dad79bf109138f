//! The contract of the suite.

use clap::{Command, CommandFactory};
use jsonpipe::testkit::Stage;

const START: Stage = Stage {
    binary: env!("CARGO_BIN_EXE_nm-8021x-login"),
    arguments: &["register", "start"],
    request: "login",
    document: r#"{"login":{"session":"5c","user":"alice@uni-a.example","realm":"uni-a.example","authenticated":true,"started_at":"2026-11-20T08:00:00Z","links":[{"addresses":["10.0.0.7"]}]}}"#,
    prepare: |_| {},
};
const END: Stage = Stage {
    arguments: &["register", "end", "shutdown"],
    document: r#"{"login":{"session":"5c","user":"alice@uni-a.example","realm":"uni-a.example","started_at":"2026-11-20T08:00:00Z","ended_at":"2026-11-20T09:00:00Z","duration_seconds":3600,"links":[{"addresses":["10.0.0.7"]}]}}"#,
    ..START
};
const REFUSED: Stage = Stage {
    arguments: &["register", "refused"],
    document: r#"{"login":{"user":"alice@uni-a.example","realm":"uni-a.example","authenticated":false,"reason":"rejected","started_at":"2026-11-20T08:00:00Z"}}"#,
    ..START
};
/// A list of links cannot be said in INI.
const NO: Stage = Stage {
    document: r#"{"login":{"authenticated":false}}"#,
    ..START
};
/// What changes nothing ends with 74 when it cannot be told.
const DRY_RUN: Stage = Stage {
    arguments: &["register", "start", "--dry-run"],
    ..START
};
const PAGE: &str = include_str!("../../../../../man/nm-8021x-login-register.8");

fn register() -> Command {
    let command = nm_8021x_login::request::Arguments::command();
    command.find_subcommand("register").unwrap().clone()
}

jsonpipe::contract! {
    teaches_help: [START, END, REFUSED],
    tells_version: [START],
    refuses_a_bad_flag: [START, END, REFUSED],
    logs_its_run: [START, END, REFUSED, DRY_RUN],
    needs_a_document: [START, END, REFUSED],
    names_an_unknown_key: [START, END, REFUSED],
    passes_foreign_sections_on: [START, END, REFUSED],
    is_silent_when_its_reader_left: [DRY_RUN],
    reports_a_full_output: [DRY_RUN],
    passes_a_no_on: [START => r#"{"x":{"y" : 1},"login":{"authenticated":false}}"#],
    reads_ini_as_json: [NO],
    keeps_the_secret: "the password is the login's",
    refuses_the_secret: [START, END, REFUSED],
    survives_its_own_panic: [START],
    names_every_flag_on_its_page: (register(), PAGE),
}
