//! `publish-realms` and `update-realms`, over HTTPS on the loopback.

mod federation;
mod server;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use jsonpipe::testkit::Ended;
use serde_json::{Value, json};

use crate::import::{Machine, SET, STATE, refuses};
use federation::Federation;
use server::{Certificates, Fault, Real};

fn realms(section: &Value, key: &str) -> Vec<String> {
    let list = section[key].as_array().unwrap().iter();
    list.map(|entry| {
        entry["realm"]
            .as_str()
            .or(entry.as_str())
            .unwrap()
            .to_owned()
    })
    .collect()
}

fn fetched(ended: &Ended) -> Vec<&str> {
    let lines = ended.stderr.lines();
    lines
        .filter_map(|line| line.strip_prefix("nm-8021x-login: fetching "))
        .collect()
}

const ALL: [&str; 5] = [
    "uni-a.example",
    "uni-b.example",
    "uni-c.example",
    "uni-d.example",
    "uni-e.example",
];

#[test]
fn a_published_set_is_installed_and_only_what_changed_is_fetched_again() {
    let federation = Federation::new();
    let ended = federation.update();
    let section = ended.section("update");
    assert_eq!(
        (ended.status, &section["generation"]),
        (0, &json!(1)),
        "{ended:?}"
    );
    assert_eq!(realms(&section, "imported"), ALL);
    assert_eq!(fetched(&ended).len(), 5);
    // The same as an import of the files.
    let imported = Machine::new();
    let from = federation.directory.path().to_str().unwrap();
    assert_eq!(imported.import(&[from]).status, 0);
    let set = federation.machine.files(SET).into_iter();
    let set: Vec<_> = set
        .filter(|(name, _)| !name.starts_with("realms."))
        .collect();
    assert_eq!(set, imported.files(SET));

    let before = federation.state();
    let again = federation.update();
    assert_eq!(
        (again.status, &again.section("update")["changed"]),
        (0, &json!(false))
    );
    assert_eq!((fetched(&again), federation.state()), (vec![], before));

    // uni-c leaves, uni-b has another server, and same.example comes.
    fs::remove_file(federation.file("uni-c")).unwrap();
    federation.edit("uni-b", "radius-1", "radius-9");
    federation.add("same", "same-1");
    let published = federation.publish().section("publication");
    assert_eq!(
        (&published["generation"], &published["removed"]),
        (&json!(2), &json!(["uni-c.example"]))
    );
    let ended = federation.update();
    let section = ended.section("update");
    assert_eq!(fetched(&ended), ["same.eap-config", "uni-b.eap-config"]);
    assert_eq!(realms(&section, "changes"), ["uni-b.example"]);
    assert_eq!(
        section["changes"][0]["new_server_names"][0],
        "radius-9.uni-b.example"
    );
    assert_eq!(section["removed"], json!(["uni-c.example"]));
    assert!(
        !federation
            .machine
            .path(SET)
            .join("uni-c.example.ini")
            .exists()
    );
    assert!(
        federation
            .machine
            .path("var/lib/labtools/realms-1/uni-c.example.ini")
            .exists()
    );
}

#[test]
fn a_realm_that_loses_what_a_login_checks_stays_as_it_was() {
    let federation = Federation::new();
    federation.update();
    let before = federation.machine.files(SET);
    for (name, from) in [
        ("uni-a", "no-ca"),
        ("uni-b", "no-server"),
        ("uni-c", "page"),
    ] {
        federation.add(name, from);
    }
    // `publish-realms` does not sign that.
    let published = federation.publish();
    assert_eq!(
        (published.status, &published.section("publication")["lost"]),
        (
            1,
            &json!(["uni-a.eap-config", "uni-b.eap-config", "uni-c.eap-config"])
        ),
        "{published:?}"
    );
    federation.edit("uni-e", "radius.uni-e", "radius-2.uni-e");
    federation.sign_present_files();
    let ended = federation.update();
    let section = ended.section("update");
    assert_eq!(ended.status, 1, "{ended:?}");
    let refused: Vec<_> = section["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|refused| {
            (
                refused["realm"].as_str().unwrap(),
                refused["reason"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        refused,
        [
            ("uni-a.example", "no CA: any server could ask for passwords"),
            (
                "uni-b.example",
                "no ServerID: any server of the CA could ask for passwords"
            ),
            ("uni-c.example", "a web page, and no eap-config"),
        ]
    );
    assert_eq!(realms(&section, "changes"), ["uni-e.example"]);
    let after = federation.machine.files(SET);
    let changed: Vec<_> = after
        .iter()
        .zip(&before)
        .filter(|(after, before)| after != before)
        .map(|(after, _)| after.0.as_str())
        .collect();
    assert_eq!(changed, ["realms.json", "realms.sig", "uni-e.example.ini"]);
}

#[test]
fn a_file_is_for_the_realms_that_were_signed() {
    let federation = Federation::new();
    federation.add("uni-a", "uni-b");
    federation.sign("realms.key", |set| {
        set.files.retain(|file| file.name == "uni-a.eap-config")
    });
    federation.sign_present_files();
    let ended = federation.update();
    assert_eq!(
        (
            ended.status,
            &ended.section("update")["refused"][0]["reason"]
        ),
        (1, &json!("the file does not describe this realm")),
        "{ended:?}"
    );
    assert_eq!(federation.machine.names(SET), ["realms.json", "realms.sig"]);
}

#[test]
fn what_is_not_as_it_was_signed_changes_nothing() {
    let federation = Federation::new();
    let put = |name: &str, bytes: &[u8]| {
        fs::write(federation.directory.path().join(name), bytes).unwrap()
    };
    let get = |name: &str| fs::read(federation.directory.path().join(name)).unwrap();
    federation.update();
    federation.add("same", "same-1");
    federation.publish();
    let before = federation.state();
    let (manifest, signature, file) = (
        get("realms.json"),
        get("realms.sig"),
        get("same.eap-config"),
    );
    let refused = |words: &str| {
        let ended = federation.update();
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (65, ""),
            "{words}: {ended:?}"
        );
        assert!(ended.stderr.contains(words), "{words}: {ended:?}");
        assert_eq!(federation.state(), before);
    };
    federation.sign("other.key", |_| {});
    refused("verifying the manifest: not signed by any of realms-1.pub");
    put("realms.sig", &signature);
    put(
        "realms.json",
        &[&manifest[..manifest.len() - 1], b" \n"].concat(),
    );
    refused("verifying the manifest: not signed by any of realms-1.pub");
    put("realms.json", &manifest);
    put("realms.sig", &signature[..63]);
    refused("realms.sig: not 64 bytes long");
    put("realms.sig", &[&signature[..], b"\n"].concat());
    refused("realms.sig: longer than 64 bytes");
    put("realms.sig", &signature);
    put("same.eap-config", &[&file[..file.len() - 1], b" "].concat());
    refused("same.eap-config: not the file that was signed");
    put("same.eap-config", &[&file[..], b" "].concat());
    refused("same.eap-config: longer than ");
    put("same.eap-config", &file);

    federation.sign("realms.key", |set| set.generation = 1);
    refused("refusing generation 1 of the realms: another set of this number");
    put("realms.json", &manifest);
    put("realms.sig", &signature);
    assert_eq!(federation.update().status, 0);
    let before = federation.state();
    federation.sign("realms.key", |set| set.generation = 1);
    let ended = federation.update();
    assert_eq!(ended.status, 65);
    assert!(
        ended
            .stderr
            .contains("refusing generation 1 of the realms: 2 is installed"),
        "{ended:?}"
    );
    assert_eq!(federation.state(), before);
}

#[test]
fn a_server_that_fails_changes_nothing() {
    let federation = Federation::new();
    federation.update();
    federation.edit("uni-e", "radius.", "radius-2.");
    federation.publish();
    let before = federation.state();
    for (file, fault, status, words) in [
        ("realms.json", Fault::Torn, 69, "the connection was cut"),
        ("realms.json", Fault::Short, 65, "not signed by any of"),
        (
            "realms.json",
            Fault::Endless,
            65,
            "longer than 8388608 bytes",
        ),
        (
            "realms.json",
            Fault::Redirect,
            69,
            "says 302 Found; no redirection is followed",
        ),
        ("realms.json", Fault::Absent, 69, "says 404 Not Found"),
        ("realms.json", Fault::Silent, 69, "the connection was cut"),
        ("realms.sig", Fault::Endless, 65, "longer than 64 bytes"),
        (
            "uni-e.eap-config",
            Fault::Torn,
            69,
            "the connection was cut",
        ),
        (
            "uni-e.eap-config",
            Fault::Short,
            65,
            "not the file that was signed",
        ),
        ("uni-e.eap-config", Fault::Endless, 65, "longer than "),
        ("uni-e.eap-config", Fault::Redirect, 69, "says 302 Found"),
        ("uni-e.eap-config", Fault::Absent, 69, "says 404 Not Found"),
    ] {
        refuses(&federation.update_with(file, fault), status, words);
        assert_eq!(federation.state(), before, "{file}: {words}");
    }
    // The server of somebody else, and none at all.
    let stranger = tempfile::tempdir().unwrap();
    let server = Real::start(
        &Certificates::make(stranger.path()),
        federation.directory.path(),
    );
    refuses(
        &federation.update_from(server.address, &[]),
        69,
        "invalid peer certificate",
    );
    refuses(
        &federation.update_from("127.0.0.1:1", &[]),
        69,
        "Connection refused",
    );
    // One that takes only clients with a certificate.
    let server = Real::start_with(
        &federation.certificates,
        federation.directory.path(),
        &["-Verify", "1"],
    );
    refuses(
        &federation.update_from(server.address, &[]),
        69,
        "it asks for a client's certificate, and update-realms has none",
    );
    assert_eq!(federation.state(), before);

    let dry = Real::start(&federation.certificates, federation.directory.path());
    let dry = federation.update_from(dry.address, &["--dry-run"]);
    assert_eq!(
        (dry.status, realms(&dry.section("update"), "changes")),
        (0, vec!["uni-e.example".to_owned()])
    );
    assert_eq!(federation.state(), before);
}

#[test]
fn a_gate_of_the_site_stays_the_one_that_counts() {
    let federation = Federation::new();
    federation.update();
    let own = "[realm.uni-a.example]\neap=ttls\nphase2=pap\nca_cert=ca.pem\ndomain_suffix_match=radius.uni-a.example\ndeny=eve@uni-a.example\n";
    federation
        .machine
        .write("etc/labtools/realms.d/uni-a.example.ini", own);
    let ended = federation.update();
    let section = ended.section("update");
    assert_eq!((ended.status, fetched(&ended)), (0, vec![]));
    assert_eq!(realms(&section, "kept"), ["uni-a.example"]);
    assert_eq!(section["removed"], json!(["uni-a.example"]));
    assert!(
        !federation
            .machine
            .path(SET)
            .join("uni-a.example.ini")
            .exists()
    );
    // A later import would be gone with the next update.
    refuses(
        &federation.machine.import(&["in/same-1.eap-config"]),
        78,
        "use --into",
    );
}

#[test]
fn a_machine_without_an_address_or_a_key_says_what_it_lacks() {
    let federation = Federation::new();
    let update = |arguments: &[&str]| {
        Ended::of(
            federation
                .machine
                .command("update-realms", arguments)
                .output()
                .unwrap(),
        )
    };
    refuses(&update(&[]), 66, "put [update] with url=https://... there");
    for (ini, words) in [
        ("", "no [update]"),
        (
            "[update]\nurl=http://noc.example/\n",
            "update.url: not https://",
        ),
        (
            "[update]\nurl=https://user:secret@noc.example/\n",
            "update.url: not https://",
        ),
        (
            "[update]\nurl=https://noc.example/?a=b\n",
            "update.url: not https://",
        ),
        (
            "[update]\nurl=https://noc.example/\nca=x\n",
            "update.ca: unknown key",
        ),
        ("[other]\n", "[other]: unknown section"),
        (
            "[update]\nurl=https://noc.example/\nca_cert=none.pem\n",
            "none.pem: No such file",
        ),
        (
            "[update]\nurl=https://noc.example/\nca_cert=keys/realms-1.pub\n",
            "no certificate in PEM",
        ),
    ] {
        federation
            .machine
            .write("etc/labtools/nm-8021x-login.ini", ini);
        let ended = update(&[]);
        refuses(&ended, 78, words);
        assert!(!ended.stderr.contains("secret"));
    }
    fs::remove_file(federation.machine.path("etc/labtools/keys/realms-1.pub")).unwrap();
    refuses(
        &federation.update_from("127.0.0.1:1", &[]),
        78,
        "no realms-*.pub",
    );
    assert!(!federation.machine.path(STATE).exists());
}

#[test]
fn publish_signs_what_machines_take_and_openssl_agrees() {
    let federation = Federation::new();
    let again = federation.publish().section("publication");
    assert_eq!(
        (&again["changed"], &again["generation"]),
        (&json!(false), &json!(1))
    );
    let verified = Command::new("openssl")
        .args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"])
        .arg(federation.secrets.path().join("realms.pub"))
        .args(["-in", "realms.json", "-sigfile", "realms.sig"])
        .current_dir(federation.directory.path())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
    let mode = |name: &str| {
        fs::metadata(federation.directory.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!((mode("realms.json"), mode("realms.sig")), (0o644, 0o644));

    // A file that never was in the set does not stop it; one that was does.
    federation.add("tls-only", "tls-only");
    federation.add("same", "same-1");
    fs::copy(
        federation.file("same"),
        federation.directory.path().join("name with space.xml"),
    )
    .unwrap();
    let dry = federation
        .publish_with("realms.key", &["--dry-run"])
        .section("publication");
    assert_eq!(
        (&dry["changed"], &dry["generation"]),
        (&json!(true), &json!(2))
    );
    let ended = federation.publish();
    let section = ended.section("publication");
    assert_eq!(
        (ended.status, &section["generation"], &section["changed"]),
        (1, &json!(2), &json!(true)),
        "{ended:?}"
    );
    let refused = section["refused"].as_array().unwrap();
    assert_eq!(refused[0]["file"], "name with space.xml");
    assert!(
        refused[0]["reason"]
            .as_str()
            .unwrap()
            .starts_with("not a name for an address")
    );
    assert_eq!(refused[1]["file"], "tls-only.eap-config");
    federation.add("uni-a", "cut");
    let section = federation.publish().section("publication");
    assert_eq!(
        (&section["changed"], &section["lost"]),
        (&json!(false), &json!(["uni-a.eap-config"]))
    );

    refuses(
        &federation.publish_with("other.key", &[]),
        78,
        "its public half is none of realms-1.pub",
    );
    fs::set_permissions(
        federation.secrets.path().join("realms.key"),
        PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    refuses(&federation.publish(), 78, "realms.key");
    let names = federation.machine.names(".");
    assert_eq!(names, ["etc"], "it leaves nothing else");
    let left = fs::read_dir(federation.directory.path()).unwrap();
    assert!(left.into_iter().all(|entry| {
        !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.')
    }));
    // A manifest that is none has lost its number.
    fs::set_permissions(
        federation.secrets.path().join("realms.key"),
        PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    fs::write(federation.directory.path().join("realms.json"), "{}").unwrap();
    refuses(
        &federation.publish(),
        65,
        "realms.json: not the manifest of realms",
    );
}
