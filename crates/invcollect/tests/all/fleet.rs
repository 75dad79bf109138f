//! `invcollect fleet` on a week of nine rooms, and on what machines send that is broken or hostile.

mod accepted;
mod expected;
mod identity;
mod page;
mod traffic;
mod trust;
mod unfit;
mod week;

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use crate::store::Store;

/// The week that is looked at.
const WEEK: [&str; 4] = ["--since", "2024-11-18T00:00:00Z", "--period", "7days"];

fn run(store: &Store, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_invcollect"));
    command
        .arg("fleet")
        .arg(store.store())
        .arg("--config")
        .arg(store.config())
        .args(arguments)
        .env("TZ", "UTC")
        .output()
        .unwrap()
}

fn fleet(store: &Store, arguments: &[&str]) -> Value {
    let output = run(store, &[&WEEK, arguments].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["fleet"].take()
}

fn findings<'a>(fleet: &'a Value, list: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let text = |finding: &'a Value, key: &str| finding[key].as_str().unwrap();
    fleet[list]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            (
                text(finding, "host"),
                text(finding, "what"),
                text(finding, "seen"),
            )
        })
        .collect()
}

fn of_host<'a>(fleet: &'a Value, name: &str) -> &'a Value {
    fleet["machines"]
        .as_array()
        .unwrap()
        .iter()
        .find(|machine| machine["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {fleet}"))
}

#[test]
fn fleet_refuses_a_missing_or_wrong_store() {
    let store = Store::new();
    let status = |store: &Store| run(store, &WEEK).status.code();
    assert_eq!(status(&store), Some(0), "nobody reported yet");
    store.write_config("hosts.ini", "[host.x]\n");
    assert_eq!(status(&store), Some(78));
    store.write_config("hosts.ini", "");
    fs::remove_dir_all(store.config().join("collector/keys")).unwrap();
    assert_eq!(status(&store), Some(66));
    fs::remove_dir_all(store.store()).unwrap();
    let output = run(&store, &["--root", "/srv"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(66));
    let said = format!(
        "reading {}: neither reports/ nor text/ is there; run collector setup NAME first; DIR does not depend on --root\n",
        store.store().display()
    );
    assert!(errors.ends_with(&said), "{errors}");
}

#[test]
fn the_man_page_examples_work() {
    let page = include_str!("../../../../man/invcollect-fleet.8");
    jsonpipe::testkit::man_page_examples_work(
        env!("CARGO_BIN_EXE_invcollect"),
        page,
        week::campus().path(),
    );
}
