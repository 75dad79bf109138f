//! The documents of earlier stages, and of people.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::plan::{LINUX, guest, machine_with, plan, write};

#[test]
fn a_login_that_does_not_say_yes_or_no_is_65() {
    let ended = plan(
        machine_with(&[]).path(),
        &LINUX.replacen('{', r#"{"login":{"schema":1,"user":"a"},"#, 1),
    );
    assert_eq!(
        (ended.status, ended.stderr.as_str()),
        (65, "vm-passthrough: login.authenticated: missing\n")
    );
}

/// What cowvol 0.1.0 printed for `[login]`, `user=…`, `realm=…` and `authenticated=true` by hand.
const BY_COWVOL: &str = concat!(
    r#"{"login":{"user":"alice@uni-a.example","realm":"uni-a.example","authenticated":true},"volume":{"schema":1,"#,
    r#""user":"alice@uni-a.example","token":"T36T7_9pSGo3VWMdGbk9-qTCynRXmZCZlGbo-w","base":"linux","ostype":"linux","#,
    r#""generation":7,"backend":"qcow2","format":"qcow2","#,
    r#""path":"/qcow2/user/T36T7_9pSGo3VWMdGbk9-qTCynRXmZCZlGbo-w/linux@7.qcow2","backing_path":"/qcow2/backing/linux/7.qcow2","#,
    r#""backing_format":"qcow2","virtual_bytes":1048576,"held_bytes":12288,"created":true,"changed":true}}"#
);

/// What nm-8021x-login writes, all its keys.
const BY_LOGIN: &str = concat!(
    r#""login":{"schema":1,"changed":true,"user":"alice@uni-a.example","realm":"uni-a.example","method":"8021x","#,
    r#""session":"0e9fc01c-1e52-4f0a-8f3c-5a6f7f1f3c11","authenticated":true,"reason":"rejected","#,
    r#""started_at":"2026-11-23T08:00:00Z","links":[{"interface":"eth0","kind":"ethernet","#,
    r#""profile":"0e9fc01c-1e52-4f0a-8f3c-5a6f7f1f3c11","eap":"ttls","server_subject":"CN=radius","addresses":["192.0.2.7"],"#,
    r#""primary":true,"verdict_seconds":0.5}],"missing":[{"key":"links[0].primary","reason":"no route yet"}]}"#
);

#[test]
fn documents_of_earlier_stages_are_taken() {
    let root = machine_with(&[]);
    write(
        root.path(),
        "sys/class/net/eth0/address",
        "74:86:7a:00:00:04",
    );
    let by_both = BY_COWVOL.replacen(
        &BY_COWVOL[1..BY_COWVOL.find(r#","volume""#).unwrap()],
        BY_LOGIN,
        1,
    );
    for document in [BY_COWVOL, &by_both] {
        // The same without `schema`: a person who copied it from there.
        for document in [document.to_owned(), document.replace(r#""schema":1,"#, "")] {
            let ended = plan(root.path(), &document);
            let argv = guest(&ended)["argv"].to_string();
            assert!(
                argv.contains("linux@7.qcow2") && argv.contains("/7.qcow2"),
                "{argv}"
            );
            assert_eq!(argv.contains(",mac="), document.contains("eth0"), "{argv}");
            let handed_on = document.strip_suffix('}').unwrap();
            assert!(ended.stdout.starts_with(handed_on), "{}", ended.stdout);
        }
    }
    let ini = "[login]\nuser=alice@uni-a.example\nusername=alice\nauthenticated=true\n\n[volume]\nbase=linux\ngeneration=7\n\
               virtual_bytes=1048576\ncreated=true\npath=/v\nformat=raw\nostype=linux\n";
    guest(&plan(root.path(), ini));
}

#[test]
fn a_key_that_no_stage_before_writes_is_named() {
    for (key, path) in [
        ("authenticated", "login.x"),
        ("interface", "login.links[0].x"),
        ("ostype", "volume.x"),
    ] {
        let login = r#"{"login":{"authenticated":true,"links":[{"interface":"eth0"}]},"#;
        let document = LINUX.replacen('{', login, 1).replacen(
            &format!("\"{key}\":"),
            &format!("\"x\":1,\"{key}\":"),
            1,
        );
        let ended = plan(machine_with(&[]).path(), &document);
        assert_eq!(
            (ended.status, ended.stderr),
            (65, format!("vm-passthrough: {path}: unknown key\n"))
        );
    }
}

/// The keys of a table of a page: of the first one that has this line.
fn keys(page: &str, line: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../man")
        .join(page);
    let text = fs::read_to_string(path).unwrap();
    let tables = text
        .split(".Bl -column")
        .map(|part| part.split("\n.El").next().unwrap());
    let table = tables
        .into_iter()
        .find(|table| table.contains(line))
        .unwrap();
    let rows = table.lines().filter_map(|row| row.strip_prefix(".It Va "));
    let keys = rows.flat_map(|row| row.split(" Ta ").next().unwrap().split(" , "));
    keys.map(|key| key.trim_matches(',').trim().to_owned())
        .collect()
}

/// A person's section: these keys, where those of `known` have its values.
fn section(keys: &[String], known: &Value) -> Value {
    let value = |key: &String| known.get(key).cloned().unwrap_or(json!("x"));
    let keys = keys.iter().filter(|key| *key != "schema");
    Value::Object(
        keys.map(|key| (key.clone(), value(key)))
            .collect::<Map<_, _>>(),
    )
}

#[test]
fn each_key_that_the_pages_of_earlier_stages_list_is_known() {
    let root = machine_with(&[]);
    write(
        root.path(),
        "sys/class/net/eth0/address",
        "74:86:7a:00:00:04",
    );
    let volume = keys("cowvol.8", ".It Va backing_path Ta");
    let login = keys(
        "nm-8021x-login.8",
        ".It Va authenticated Ta boolean Ta the answer",
    );
    let link = keys("nm-8021x-login.8", ".It Va interface Ta");
    for (keys, one) in [
        (&volume, "held_bytes"),
        (&login, "ended_at"),
        (&link, "detail"),
    ] {
        assert!(keys.iter().any(|key| key == one), "{keys:?}");
    }
    let links = section(
        &link,
        &json!({"interface": "eth0", "addresses": ["192.0.2.7"]}),
    );
    let document = json!({
        "login": section(&login, &json!({"authenticated": true, "links": [links]})),
        "volume": section(&volume, &json!({"path": "/v", "format": "qcow2", "ostype": "linux",
            "backing_path": "/b", "backing_format": "qcow2"})),
    });
    guest(&plan(root.path(), &document.to_string()));
}
