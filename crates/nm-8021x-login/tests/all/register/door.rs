//! What does not come into the register, and who does not come to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use jsonpipe::testkit::{feed, redirected};
use serde_json::{Value, json};

use super::{Machine, login};

/// A document of `logout`.
fn logout() -> Value {
    let mut document: Value = serde_json::from_str(&login("5c")).unwrap();
    document["login"]["authenticated"] = false.into();
    document["login"]["ended_at"] = "2026-11-20T09:00:00Z".into();
    document["login"]["duration_seconds"] = 3600.into();
    document
}

#[test]
fn register_refuses_a_record_that_misses_a_field() {
    let machine = Machine::new();
    let without = |document: &Value, key: &str| {
        let mut document = document.clone();
        document["login"].as_object_mut().unwrap().remove(key);
        document.to_string()
    };
    let started: Value = serde_json::from_str(&login("5c")).unwrap();
    let refused = json!({"login": {"schema": 1, "authenticated": false, "reason": "rejected", "started_at": "2026-11-20T08:00:00Z"}});
    let session = ["session", "user", "realm", "started_at", "links"];
    let seen = ["ended_at", "duration_seconds"];
    for (verb, document, keys) in [
        (
            "start",
            &started,
            [&session[..], &["authenticated"]].concat(),
        ),
        ("end shutdown", &logout(), [&session[..], &seen].concat()),
        (
            "refused",
            &refused,
            vec!["authenticated", "reason", "started_at"],
        ),
    ] {
        machine.done(&format!("{verb} --dry-run"), &document.to_string());
        for key in keys {
            machine
                .run(verb, &without(document, key))
                .refused(65, &format!("login.{key}: missing"));
        }
    }
    assert!(!machine.path().join("var").exists(), "nothing was recorded");
}

#[test]
fn register_refuses_values_that_are_none() {
    let machine = Machine::new();
    for (key, value, wrong) in [
        ("session", json!(""), "session: empty"),
        ("session", json!(7), "session: expected a string"),
        ("user", json!("a\u{202e}b@c"), "user: holds a character"),
        ("user", json!("a\n{}"), "user: holds a character"),
        ("realm", json!(["c"]), "realm: expected a string"),
        ("started_at", json!("today"), "started_at: a time is wanted"),
        ("links", json!([{}]), "links[0].addresses: missing"),
        (
            "links",
            json!([{"addresses": ["x"]}]),
            "links[0].addresses[0]: ",
        ),
        (
            "links",
            json!([{"addresses": ["10.0.0.7/24"]}]),
            "links[0].addresses[0]: ",
        ),
        ("duration_seconds", json!(-1), "duration_seconds: "),
        ("duration_seconds", json!("08"), "duration_seconds: "),
    ] {
        let mut document = logout();
        document["login"][key] = value;
        machine
            .run("end shutdown", &document.to_string())
            .refused(65, &format!("login.{wrong}"));
    }
    for text in ["{", "[]", "7", &format!("{0}{0}", login("5c"))] {
        machine
            .run("start", text)
            .refused(65, "reading the document: ");
    }
    machine
        .run("refused", &login("5c"))
        .refused(65, "login.authenticated: true");
    assert!(!machine.path().join("var").exists(), "nothing was recorded");
}

#[test]
fn register_refuses_a_command_line_that_says_nothing() {
    let machine = Machine::new();
    for words in [
        "end",
        "end Died!",
        "end died -5",
        "end died 5",
        "start 5",
        "recover x",
        "begin",
        "find --address 10.0.0.7",
        "find --at 2026-11-20T08:00:00Z",
        "find --address x --at 2026-11-20T08:00:00Z",
        "find --address 10.0.0.7 --at yesterday",
        "find --address 10.0.0.7 --at 2026-11-20T08:00:00",
        "prune --days 364",
        "prune --days x",
        "end \u{1b}[2J",
    ] {
        let ended = machine.run(words, &login("5c"));
        assert_eq!((ended.status, ended.stdout.as_str()), (2, ""), "{words}");
        assert!(!ended.stderr.contains('\u{1b}'), "{words}");
    }
    let ended = machine.run("find --address x --at 2026-11-20T08:00:00Z", "");
    assert!(
        ended
            .stderr
            .contains("--address <A>': an address is wanted, such as 10.0.0.7"),
        "{ended:?}"
    );
    assert!(!machine.path().join("var").exists(), "nothing was recorded");
}

#[test]
fn register_keeps_hostile_names_in_their_line() {
    let machine = Machine::new();
    let name = r#"a","ended":"x\"}{'$(id)@uni-a.example"#;
    let document = login("5c").replace(
        "alice@uni-a.example",
        &name.replace('\\', r"\\").replace('"', "\\\""),
    );
    machine.done("start", &document);
    let line: Value = serde_json::from_str(&machine.text()).unwrap();
    assert_eq!(
        (line["user"].as_str(), line.get("ended")),
        (Some(name), None)
    );
    let ended = machine.done("find --address 10.0.0.7 --at 2026-11-20T08:00:01Z", "");
    assert_eq!(ended.section("register")["sessions"][0]["user"], name);
}

#[test]
fn register_is_for_root_alone() {
    let machine = Machine::new();
    machine.done("start", &login("5c"));
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&machine.register()), 0o600);
    assert_eq!(mode(machine.register().parent().unwrap()), 0o700);

    // Somebody else, who comes as far as the directory.
    let tool = machine.path().join("nm-8021x-login");
    // Not by this process: another test's child could have it open for writing still.
    let copied = Command::new("cp")
        .args([
            env!("CARGO_BIN_EXE_nm-8021x-login").as_ref(),
            tool.as_path(),
        ])
        .status();
    assert!(copied.unwrap().success());
    for directory in ["", "var", "var/log", "var/log/labtools"] {
        let path = machine.path().join(directory);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let before = machine.text();
    for words in [
        "start",
        "recover",
        "prune",
        "find --address 10.0.0.7 --at 2026-11-20T08:00:01Z",
    ] {
        let mut command = Command::new(&tool);
        command.arg("register").args(words.split(' '));
        command
            .arg("--root")
            .arg(machine.path())
            .uid(65534)
            .gid(65534);
        let ended = feed(command, &login("5d"));
        assert_eq!((ended.status, ended.stdout.as_str()), (77, ""), "{ended:?}");
        assert!(ended.stderr.contains("needs root"), "{ended:?}");
    }
    assert_eq!(machine.text(), before);
}

#[test]
fn register_that_is_no_file_is_74() {
    let machine = Machine::new();
    fs::create_dir_all(machine.register()).unwrap();
    for words in [
        "start",
        "recover",
        "recover --dry-run",
        "prune",
        "find --address 10.0.0.7 --at 2026-11-20T08:00:01Z",
    ] {
        let ended = machine.run(words, &login("5d"));
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (74, ""),
            "{words}: {ended:?}"
        );
        assert!(
            ended.stderr.contains("register.jsonl: Is a directory"),
            "{ended:?}"
        );
    }
}

#[test]
fn register_record_that_nobody_heard_of_stays_and_is_1() {
    let machine = Machine::new();
    let ended = feed(
        redirected(">/dev/full", &machine.command("start")),
        &login("5c"),
    );
    assert_eq!(ended.status, 1, "{ended:?}");
    assert_eq!(machine.lines(), ["start 5c -"]);
}
