//! What holds for every tool of the suite.

use std::path::Path;

use jsonpipe::testkit::Stage;

/// No subcommand here requires a document: what is handed in is left alone.
const COLLECT: Stage = Stage {
    binary: env!("CARGO_BIN_EXE_invcollect"),
    arguments: &["collect"],
    request: "",
    document: "{}",
    prepare: |_: &Path| (),
};

#[test]
fn teaches_help() {
    for arguments in [&["collect"][..], &["changes"], &["accept"], &["metrics"]] {
        Stage { arguments, ..COLLECT }.teaches_help();
    }
}

#[test]
fn tells_version() {
    COLLECT.tells_version();
}

#[test]
fn refuses_a_bad_flag() {
    COLLECT.refuses_a_bad_flag();
}

#[test]
fn is_silent_when_its_reader_left() {
    COLLECT.is_silent_when_its_reader_left();
}

#[test]
fn reports_a_full_output() {
    COLLECT.reports_a_full_output();
}

#[cfg(debug_assertions)]
#[test]
fn survives_its_own_panic() {
    COLLECT.survives_its_own_panic();
}
