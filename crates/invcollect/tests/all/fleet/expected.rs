//! What machines should have, and who should have come.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::{WEEK, findings, fleet, run};
use crate::store::{HOUR, MONDAY, Store};

#[test]
fn machines_that_did_not_wake_have_causes() {
    let mut store = Store::new();
    store.list("at1", "101", "asleep");
    let mut awake = store.machine("at1", "101", "awake");
    awake.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |_| ());
    let wake = store.path().join("wake.json");
    let likely = json!(["its power cable or network cable is not plugged in"]);
    let document = json!({"wake": {"schema": 1, "changed": true, "hosts": [
        {"name": "asleep", "building": "at1", "room": "101", "state": "no_link", "likely": likely},
        {"name": "awake", "building": "at1", "room": "101", "state": "awake", "likely": []}]}});
    fs::write(&wake, document.to_string()).unwrap();
    let fleet = fleet(&store, &["--wake", wake.to_str().unwrap()]);
    let asleep: Vec<_> = findings(&fleet, "visit")
        .into_iter()
        .filter(|(host, ..)| *host == "asleep")
        .collect();
    assert_eq!(
        asleep,
        [(
            "asleep",
            "not_woken",
            "it was woken, and nothing is on the wire"
        )]
    );
    assert_eq!(fleet["visit"][0]["likely"], likely);
    for (text, status) in [
        (None, 66),
        (Some("{}"), 65),
        (Some("{\"wake\":{\"schema\":1,\"hosts\":[{}]}}"), 65),
    ] {
        match text {
            Some(text) => fs::write(&wake, text).unwrap(),
            None => fs::remove_file(&wake).unwrap(),
        }
        let output = run(&store, &["--wake", wake.to_str().unwrap()]);
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(status), 0),
            "{text:?}"
        );
    }
}

/// The same as versions of images, and who signed them.
#[test]
fn expected_versions_come_from_a_signed_manifest() {
    let mut store = Store::new();
    let mut machine = store.machine("at1", "101", "one");
    machine.week(MONDAY, |_| ());
    let key = store.path().join("publisher.key");
    let sign = |kind: &str| {
        let manifest = store.path().join(format!("{kind}.manifest"));
        let script = format!(
            "openssl genpkey -algorithm ed25519 -out {key} && mkdir -p {keys} && openssl pkey -in {key} -pubout -out {keys}/{kind}-1.pub && \
             openssl pkeyutl -sign -rawin -inkey {key} -in {manifest} -out {signature}",
            key = key.display(),
            keys = store.config().join("keys").display(),
            manifest = manifest.display(),
            signature = manifest.with_extension("sig").display()
        );
        assert!(
            Command::new("sh")
                .args(["-c", &script])
                .output()
                .unwrap()
                .status
                .success()
        );
        manifest
    };
    let digest = "0".repeat(64);
    let host = json!({"schema": 1, "kind": "host", "name": "lab", "version": 13, "size_bytes": 4096, "sha256": digest, "models": [], "slot_fields": [], "created_at": "2024-11-01T00:00:00Z"});
    fs::write(store.path().join("host.manifest"), host.to_string()).unwrap();
    let manifest = sign("host");
    let fleet = fleet(&store, &["--manifest", manifest.to_str().unwrap()]);
    assert_eq!(
        findings(&fleet, "remote"),
        [("one", "behind", "host image: 12, the newest is 13")]
    );
    let image = &fleet["versions"][0];
    assert_eq!(
        (
            &image["kind"],
            &image["newest"],
            &image["given"],
            &image["current"]
        ),
        (&json!("image"), &json!(13), &json!(true), &json!(0))
    );

    fs::write(&manifest, host.to_string().replace("13", "14")).unwrap();
    let status = || {
        run(
            &store,
            &[&WEEK[..], &["--manifest", manifest.to_str().unwrap()]].concat(),
        )
        .status
        .code()
    };
    assert_eq!(status(), Some(65), "it is not what was signed");
    fs::remove_file(manifest.with_extension("sig")).unwrap();
    assert_eq!(status(), Some(66));
}
