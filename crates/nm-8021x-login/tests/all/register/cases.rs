//! Cases as directories: a machine, commands, what they say and what the register says then.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use humantime::parse_rfc3339;
use jsonpipe::testkit::{assert_expected, copy};

use super::Machine;

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/register");

/// Runs the case: each line of `commands` on the machine `in`, with `<FILE` on standard input.
fn case(name: &str) {
    let case = Path::new(CASES).join(name);
    let machine = Machine::new();
    copy(&case.join("in"), machine.path());
    let begun = SystemTime::now() - Duration::from_secs(1);
    let mut said = String::new();
    for line in fs::read_to_string(case.join("commands")).unwrap().lines() {
        let (arguments, input) = line.split_once(" <").unwrap_or((line, ""));
        let input = match input {
            "" => String::new(),
            file => fs::read_to_string(machine.path().join(file)).unwrap(),
        };
        let ended = machine.run(arguments, &input);
        writeln!(
            said,
            "$ {line}\n{}{}exit status {}\n",
            ended.stdout, ended.stderr, ended.status
        )
        .unwrap();
    }
    let found = tempfile::tempdir().unwrap();
    let keep = |name: &str, text: String| {
        fs::write(found.path().join(name), of_every_run(text, begun)).unwrap();
    };
    keep("said", said);
    keep("register.jsonl", machine.text());
    assert_expected(&case, found.path());
}

/// The text without what only one run knows: the boot, the name of the machine, an inode, and the
/// times since it began.
fn of_every_run(text: String, begun: SystemTime) -> String {
    let kernel = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap();
        format!("\"{}\"", text.trim_end())
    };
    let text = text
        .replace(&kernel("random/boot_id"), "\"BOOT\"")
        .replace(&kernel("hostname"), "\"NAME\"");
    let mut parts = text.split('"').map(str::to_owned).collect::<Vec<_>>();
    for part in &mut parts {
        if parse_rfc3339(part).is_ok_and(|time| time >= begun && time <= SystemTime::now()) {
            *part = "NOW".to_owned();
        }
    }
    let text = parts.join("\"");
    match text.split_once("\"inode\":") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}\"inode\":0{after}")
        }
        None => text,
    }
}

#[test]
fn register_says_who_was_here_and_from_when_to_when() {
    case("session");
}

#[test]
fn register_closes_what_was_left_open_once() {
    case("open");
}

#[test]
fn register_finds_who_had_an_address_and_nobody_else() {
    case("find");
}

#[test]
fn register_removes_what_is_older_than_the_law_asks_for() {
    case("prune");
}
