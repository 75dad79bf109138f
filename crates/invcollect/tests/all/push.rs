//! `push` without a collector: what is said before anything is sent, and what becomes of what lies
//! in the spool.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;

use jsonpipe::testkit::Ended;

use crate::machine::{BINARY, ID, Machine};

const SPOOL: &str = "var/lib/labtools/spool";

/// A machine that reports to port 1 of this one, where nobody listens, by `method`.
fn reporting(method: &str) -> Machine {
    let machine = Machine::optiplex();
    machine.write(
        "etc/labtools/invcollect.ini",
        format!("[push]\nurl=https://127.0.0.1:1\nmethod={method}\n"),
    );
    self_signed(
        &machine,
        "etc/labtools/collector.pem",
        "authority.key",
        "CA",
        "ec",
    );
    machine
}

/// One that is enrolled.
fn enrolled() -> Machine {
    let machine = reporting("put");
    machine.directory("persistent/labtools");
    self_signed(
        &machine,
        "persistent/labtools/host.pem",
        "persistent/labtools/host.key",
        ID,
        "ed25519",
    );
    machine
}

fn self_signed(machine: &Machine, certificate: &str, key: &str, name: &str, algorithm: &str) {
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-nodes",
        "-newkey",
        algorithm,
        "-subj",
        &format!("/CN={name}"),
    ]);
    if algorithm == "ec" {
        openssl.args(["-pkeyopt", "ec_paramgen_curve:P-256"]);
    }
    let output = openssl
        .arg("-keyout")
        .arg(machine.path(key))
        .arg("-out")
        .arg(machine.path(certificate))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::set_permissions(machine.path(key), fs::Permissions::from_mode(0o600)).unwrap();
}

fn push(machine: &Machine) -> Ended {
    machine.run(&["push", "--now"])
}

fn snapshots(machine: &Machine, below: &str) -> Vec<String> {
    let entries = fs::read_dir(machine.path(SPOOL).join(below)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".glpi")).collect();
    names.sort();
    names
}

/// Else it would be counted for ever, and the alert would never end.
#[test]
fn a_damaged_snapshot_goes_for_the_next() {
    let machine = reporting("glpi");
    for waiting in 1..=3 {
        let ended = push(&machine);
        assert_eq!(
            (ended.status, &ended.document()["push"]["waiting_reports"]),
            (1, &waiting.into()),
            "{ended:?}"
        );
    }
    let names = snapshots(&machine, "");
    for name in &names[..2] {
        machine.write(&format!("{SPOOL}/{name}"), "cut");
    }
    fs::rename(
        machine.path(SPOOL).join(&names[0]),
        machine.path(SPOOL).join("rejected").join(&names[0]),
    )
    .unwrap();
    let ended = push(&machine);
    assert_eq!(ended.document()["push"]["dropped_reports"], 2, "{ended:?}");
    for name in &names[..2] {
        let sequence: u64 = name[..12].parse().unwrap();
        assert!(
            ended.stderr.contains(&format!(
                "report {sequence}: it was cut off, or changed; it is dropped"
            )),
            "{ended:?}"
        );
    }
    let left = snapshots(&machine, "");
    assert_eq!(
        (left.len(), snapshots(&machine, "rejected")),
        (2, vec![]),
        "{left:?}"
    );
    let newest = fs::read(machine.path(SPOOL).join(&left[1])).unwrap();
    let dropped = envelope::open(&newest).unwrap().header.dropped;
    let expected: Vec<u64> = names[..2]
        .iter()
        .map(|name| name[..12].parse().unwrap())
        .collect();
    assert_eq!(dropped, expected, "at the collector they are not lost");
    assert_eq!(push(&machine).stderr, "");
}

/// Students must not notice the agent. The kernel ends a run after a second of processor time, and
/// gives it 8 MiB of data: everything is still read. (benches/collect.rs measures what a run
/// takes.)
#[test]
fn agent_keeps_to_its_budget() {
    let within = |machine: &Machine, mib: u64, arguments: &[&str]| {
        let mut command = Command::new("prlimit");
        command.env("RUST_MIN_STACK", "65536"); // all that a thread reserves counts as data
        command
            .args([&format!("--data={}", mib << 20), "--cpu=1", BINARY])
            .args(arguments)
            .arg("--root")
            .arg(machine.root());
        Ended::of(command.output().unwrap())
    };
    let machine = enrolled();
    let missing = machine.host()["missing"].take();
    let collected = within(&machine, 8, &["collect"]);
    assert_eq!(
        (collected.status, &collected.document()["host"]["missing"]),
        (0, &missing),
        "{collected:?}"
    );
    let metrics = machine.path("labtools.prom").display().to_string();
    for arguments in [&["changes"][..], &["metrics", &metrics]] {
        let ended = within(&machine, 8, arguments);
        assert_eq!(
            (ended.status, ended.stderr.as_str()),
            (0, ""),
            "{arguments:?}: {ended:?}"
        );
    }
    let pushed = within(&machine, 8, &["push", "--now"]);
    assert_eq!(
        (pushed.status, &pushed.document()["push"]["waiting_reports"]),
        (1, &1.into()),
        "{pushed:?}"
    );
    assert_eq!(
        pushed.document()["push"]["reason"],
        "127.0.0.1:1: Connection refused (os error 111)"
    );
    assert_ne!(
        within(&machine, 0, &["changes"]).status,
        0,
        "the limit of the kernel holds"
    );
}

#[test]
fn push_errors_name_the_way_out() {
    let machine = enrolled();
    let says = |status: i32, words: &[&str]| {
        let ended = push(&machine);
        assert_eq!(ended.status, status, "{ended:?}");
        assert!(
            words.iter().all(|words| ended.stderr.contains(words)),
            "{words:?}: {ended:?}"
        );
        assert!(!machine.path(SPOOL).exists());
    };
    for (file, content, status, words) in [
        (
            "etc/labtools/collector.pem",
            None,
            66,
            &[
                "collector.pem: no such file",
                "/etc/labtools/collector/ca.pem",
            ][..],
        ),
        (
            "etc/labtools/collector.pem",
            Some("x"),
            78,
            &[
                "collector.pem: no certificate",
                "/etc/labtools/collector/ca.pem",
            ],
        ),
        (
            "persistent/labtools/host.key",
            None,
            66,
            &[
                "host.key: no such file",
                "openssl genpkey -algorithm ed25519",
            ],
        ),
        (
            "persistent/labtools/host.pem",
            None,
            66,
            &["host.pem: no such file", "collector enroll"],
        ),
        (
            "persistent/labtools/host.pem",
            Some(""),
            78,
            &["host.pem", "collector enroll"],
        ),
        (
            "persistent/inventory/uuid",
            None,
            66,
            &[
                "uuid: no such file",
                "no id of this machine; the installer writes it",
            ],
        ),
        (
            "persistent/inventory/uuid",
            Some("../x"),
            78,
            &["not a UUID in lower case", "uuidgen"],
        ),
        (
            "persistent/inventory/uuid",
            Some("5F0C1F5E-0000-4000-8000-000000000001"),
            78,
            &["not a UUID in lower case"],
        ),
        (
            "persistent/inventory/uuid",
            Some("5f0c1f5e-0000-4000-8000-000000000001"),
            78,
            &["host.pem", "not for 5f0c1f5e-"],
        ),
        (
            "etc/labtools/invcollect.ini",
            Some("[push]\nurl=https://user:pass@collector.example\n"),
            78,
            &["push.url: not https://HOST"],
        ),
    ] {
        let before = fs::read(machine.path(file)).unwrap();
        match content {
            Some(content) => fs::write(machine.path(file), content).unwrap(),
            None => machine.remove(file),
        }
        says(status, words);
        // A file that is made anew can be read by others.
        fs::write(machine.path(file), before).unwrap();
        fs::set_permissions(machine.path(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    self_signed(
        &machine,
        "persistent/labtools/host.pem",
        "other.key",
        ID,
        "ed25519",
    );
    says(
        78,
        &["host.pem: this host's certificate does not match host.key"],
    );
}

#[test]
fn push_names_a_silent_collector() {
    let machine = enrolled();
    let ended = machine.run(&["push", "-v"]);
    let push = &ended.document()["push"];
    assert_eq!(
        push["reason"],
        "127.0.0.1:1: Connection refused (os error 111)"
    );
    let snapshot = push["spooled"][0].as_u64().unwrap();
    for words in [
        format!("reports of {ID} go to https://127.0.0.1:1"),
        format!("reading the machine below {}", machine.root().display()),
        format!("report {snapshot} (snapshot): it is in the spool"),
        "the rest waits: 127.0.0.1:1: Connection refused".to_owned(),
    ] {
        assert!(ended.stderr.contains(&words), "{words}: {ended:?}");
    }
    // A dry run says what waits, and that is no failure.
    let dry = machine.run(&["push", "--dry-run"]);
    assert_eq!(
        (dry.status, &dry.document()["push"]["waiting_reports"]),
        (0, &1.into()),
        "{dry:?}"
    );
    // Who closes the connection at once.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    machine.write(
        "etc/labtools/invcollect.ini",
        format!("[push]\nurl=https://{server}\n"),
    );
    let closes = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 5]).unwrap(); // what is not read makes of the end a reset
        stream.set_nonblocking(true).unwrap();
        while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
    });
    let reason = machine.run(&["push", "--now"]).document()["push"]["reason"].clone();
    closes.join().unwrap();
    assert_eq!(
        reason,
        format!(
            "{server}: the connection was cut before the answer; look at the server's error log"
        )
    );
    assert_eq!(machine.run(&["push", "--now", "--spread"]).status, 2);
}
