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
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIOPGIgMnOMEM+GicWFVfPQckIFh2A4aNE0yWA1EMATg2\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEABJ3i3t/qlVvom15F1jcfwZCFyXMzDFq1AqZFg9MtDLk=\n-----END PUBLIC KEY-----\n";

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
        Stage {
            binary,
            arguments: &["get", "--dry-run"],
            request: "image",
            document: &DOCUMENT,
            prepare: keys,
        },
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

jsonpipe::contract! {
    teaches_help: [STAGES],
    tells_version: [STAGES],
    refuses_a_bad_flag: [STAGES],
    logs_its_run: [STAGES],
    needs_a_document: [STAGES],
    names_an_unknown_key: [STAGES],
    passes_foreign_sections_on: [STAGES],
    is_silent_when_its_reader_left: [STAGES],
    reports_a_full_output: [STAGES],
    passes_a_no_on: "nothing that comes before it says no",
    reads_ini_as_json: [STAGES],
    keeps_the_secret: "the password is nm-8021x-login's",
    refuses_the_secret: [STAGES],
    survives_its_own_panic: [STAGES],
    names_every_flag_on_its_page: (Arguments::command(), MAN_PAGE),
}

#[test]
fn the_man_page_examples_work() {
    let root = tempfile::tempdir().unwrap();
    keys(root.path());
    fs::write(root.path().join("windows.json"), &*DOCUMENT).unwrap();
    testkit::man_page_examples_work(STAGES[0].binary, MAN_PAGE, root.path());
}

const MAN_PAGE: &str = include_str!("../../../../man/seedctl.8");
