//! What holds for every tool of the suite, of the subcommands that run on a host.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use clap::CommandFactory;
use jsonpipe::testkit::{self, Stage};
use seedctl::request::Arguments;
use serde_json::{Value, json};

use crate::offered::{Offered, noise};

// openssl genpkey -algorithm ed25519; openssl pkey -pubout
const PRIVATE: &str =
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIOPGIgMnOMEM+GicWFVfPQckIFh2A4aNE0yWA1EMATg2\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str =
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEABJ3i3t/qlVvom15F1jcfwZCFyXMzDFq1AqZFg9MtDLk=\n-----END PUBLIC KEY-----\n";

/// As a person would write it: without `schema`.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    fs::write(&key, PRIVATE).unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let offered = Offered::new(7, noise(100_000, 1), "http://127.0.0.1:1/announce");
    let mut document: Value = serde_json::from_str(&offered.document(&key)).unwrap();
    let image = document["image"].as_object_mut().unwrap();
    image.retain(|key, _| key != "schema" && key != "changed");
    json!({"image": image}).to_string()
});

fn keys(root: &Path) {
    fs::create_dir_all(root.join("etc/labtools/keys")).unwrap();
    fs::write(root.join("etc/labtools/keys/base-1.pub"), PUBLIC).unwrap();
}

static STAGES: LazyLock<[Stage; 2]> = LazyLock::new(|| {
    let binary = env!("CARGO_BIN_EXE_seedctl");
    [
        Stage { binary, arguments: &["get", "--dry-run"], request: "image", document: &DOCUMENT, prepare: keys },
        Stage {
            binary,
            arguments: &["stop"],
            request: "transfer",
            document: concat!(
                r#"{"transfer":{"infohash":"0123456789abcdef0123456789abcdef01234567","#,
                r#""blocks_infohash":"0123456789abcdef0123456789abcdef01234568"}}"#
            ),
            prepare: |_| (),
        },
    ]
});

#[test]
fn teaches_help() {
    STAGES.iter().for_each(Stage::teaches_help);
}

#[test]
fn tells_version() {
    STAGES.iter().for_each(Stage::tells_version);
}

#[test]
fn refuses_a_bad_flag() {
    STAGES.iter().for_each(Stage::refuses_a_bad_flag);
}

#[test]
fn logs_its_run() {
    STAGES.iter().for_each(Stage::logs_its_run);
}

#[test]
fn needs_a_document() {
    STAGES.iter().for_each(Stage::needs_a_document);
}

#[test]
fn names_an_unknown_key() {
    STAGES.iter().for_each(Stage::names_an_unknown_key);
}

#[test]
fn passes_foreign_sections_on() {
    STAGES.iter().for_each(Stage::passes_foreign_sections_on);
}

#[test]
fn is_silent_when_its_reader_left() {
    STAGES.iter().for_each(Stage::is_silent_when_its_reader_left);
}

#[test]
fn reports_a_full_output() {
    STAGES.iter().for_each(Stage::reports_a_full_output);
}

#[test]
fn reads_ini_as_json() {
    STAGES.iter().for_each(Stage::reads_ini_as_json);
}

#[test]
fn keeps_the_secret() {
    STAGES.iter().for_each(|stage| stage.keeps_the_secret(false));
}

#[cfg(debug_assertions)]
#[test]
fn survives_its_own_panic() {
    STAGES.iter().for_each(Stage::survives_its_own_panic);
}

#[test]
fn the_man_page_names_every_flag() {
    testkit::man_page_names_every_flag(&Arguments::command(), MAN_PAGE);
}

#[test]
fn the_man_page_examples_work() {
    let root = tempfile::tempdir().unwrap();
    keys(root.path());
    fs::write(root.path().join("windows.json"), &*DOCUMENT).unwrap();
    testkit::man_page_examples_work(STAGES[0].binary, MAN_PAGE, root.path());
}

const MAN_PAGE: &str = include_str!("../../../../man/seedctl.8");
