//! `seedctl nets`, and `ssh-attackers`, which asks it what must never be blocked.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

fn net(name: &str, cidr: &str) -> String {
    format!("[net.{name}]\ncidr={cidr}\ncampus=c\nbuilding=b\nroom=1\n")
}

/// A server with this campus.ini.
fn server(campus: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("campus.ini"), campus).unwrap();
    directory
}

fn nets(config: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seedctl"));
    command
        .arg("nets")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn nets_lists_the_networks_of_the_campus() {
    let server = server(&format!(
        "{}role=servers\n{}",
        net("a", "10.0.0.0/8"),
        net("b", "10.1.2.0/24")
    ));
    let document: Value = serde_json::from_slice(&nets(server.path()).stdout).unwrap();
    let of = |name: &str, cidr: &str, role: &str| json!({"name": name, "cidr": cidr, "campus": "c", "building": "b", "room": "1", "role": role});
    let expected = [
        of("b", "10.1.2.0/24", "lab"),
        of("a", "10.0.0.0/8", "servers"),
    ];
    assert_eq!(
        document,
        json!({"nets": {"schema": 1, "changed": false, "nets": expected}})
    );
    fs::write(server.path().join("campus.ini"), net("a", "10.0.0.1/8")).unwrap();
    assert_eq!(nets(server.path()).status.code(), Some(78));
    fs::remove_file(server.path().join("campus.ini")).unwrap();
    assert_eq!(nets(server.path()).status.code(), Some(66));
}

/// The script, and a log-query that has these lines.
fn attackers(config: &Path, addresses: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/server/ssh-attackers");
    fs::copy(script, directory.path().join("ssh-attackers")).unwrap();
    let line = |address: &&str| {
        json!({"message": format!("Failed password for x from {address} port 1 ssh2")}).to_string()
            + "\n"
    };
    fs::write(
        directory.path().join("lines"),
        addresses.iter().map(line).collect::<String>(),
    )
    .unwrap();
    let log_query = directory.path().join("log-query");
    fs::write(&log_query, "#!/bin/sh\nexec cat \"${0%/*}/lines\"\n").unwrap();
    fs::set_permissions(&log_query, Permissions::from_mode(0o755)).unwrap();
    let tools = Path::new(env!("CARGO_BIN_EXE_seedctl")).parent().unwrap();
    let mut command = Command::new(directory.path().join("ssh-attackers"));
    command.env(
        "PATH",
        format!("{}:{}", tools.display(), env::var("PATH").unwrap()),
    );
    command
        .args(["--at-least", "1", "--config"])
        .arg(config)
        .output()
        .unwrap()
}

#[test]
fn ssh_attackers_never_lists_a_network_of_the_campus() {
    let server = server(&(net("a", "10.0.0.0/8") + &net("b", "2001:db8:99::/48")));
    let output = attackers(
        server.path(),
        &[
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "2001:db8:99::1",
            "192.0.2.1",
            "2001:db8::1",
            "127.0.0.1",
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut listed: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["address"].take())
        .collect();
    listed.sort_by_key(Value::to_string);
    assert_eq!(listed, ["192.0.2.1", "2001:db8::1"]);
    // Without its networks nothing is listed.
    for (campus, status) in [
        (Some(net("a", "10.0.0.0/33")), 78),
        (Some(String::new()), 78),
        (None, 66),
    ] {
        match campus {
            Some(campus) => fs::write(server.path().join("campus.ini"), campus).unwrap(),
            None => fs::remove_file(server.path().join("campus.ini")).unwrap(),
        }
        let output = attackers(server.path(), &["192.0.2.1"]);
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(status), 0),
            "{output:?}"
        );
    }
}
