//! What `realms` says of a machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use jsonpipe::testkit::{self, Ended, feed};
use serde_json::json;

fn realms(root: &Path, arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nm-8021x-login"));
    command
        .arg("realms")
        .arg("--root")
        .arg(root)
        .args(arguments);
    feed(command, "")
}

#[test]
fn realms_lists_what_a_login_would_use_and_what_it_could_not() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/nm-8021x-login/realms")
        .canonicalize()
        .unwrap();
    let root = case.join("in");
    let ended = realms(&root, &[]);
    assert_eq!((ended.status, ended.stderr.as_str()), (1, ""));
    let listing = format!("{:#}\n", ended.section("realms"));
    let found = tempfile::tempdir().unwrap();
    fs::write(
        found.path().join("realms.json"),
        listing.replace(root.to_str().unwrap(), ""),
    )
    .unwrap();
    testkit::assert_expected(&case, found.path());
}

#[test]
fn realms_says_no_without_a_realm_and_for_a_ca_that_expires_within_the_days() {
    let root = tempfile::tempdir().unwrap();
    let none = realms(root.path(), &[]);
    assert_eq!(
        (none.status, none.section("realms")["realms"].clone()),
        (1, json!([]))
    );
    let message = "nm-8021x-login: no realm is installed; ";
    assert!(none.stderr.starts_with(message), "{}", none.stderr);
    crate::contract::realm(
        root.path(),
        "uni-a.example",
        "ca_cert=ca.pem\ndomain_suffix_match=radius.uni-a.example\n",
    );
    // It is good for a hundred years.
    for (days, status, state) in [("30", 0, "good"), ("40000", 1, "expires_soon")] {
        let ended = realms(root.path(), &["--days", days]);
        let listing = ended.section("realms");
        assert_eq!(
            (
                ended.status,
                &listing["realms"][0]["ca_certificates"][0]["state"]
            ),
            (status, &state.into())
        );
    }
}

#[test]
fn realms_shows_the_gate_and_whose_file_it_replaces() {
    let root = tempfile::tempdir().unwrap();
    let trust = "ca_cert=ca.pem\ndomain_suffix_match=radius.uni-a.example\n";
    crate::contract::realm(root.path(), "cs.uni-a.example", trust);
    let site = root.path().join("etc/labtools/realms.d");
    let set = root.path().join("var/lib/labtools/realms");
    fs::create_dir_all(set.parent().unwrap()).unwrap();
    fs::rename(&site, &set).unwrap();
    let gate = "subrealms=true\ncase=keep\nallow=A*@uni-a.example,*@cs.uni-a.example\ndeny=Eve@uni-a.example\ngroup=staff\n";
    crate::contract::realm(root.path(), "uni-a.example", &format!("{trust}{gate}"));
    fs::write(site.join("staff"), "Alice@uni-a.example\n").unwrap();
    let ended = realms(root.path(), &[]);
    let listing = ended.section("realms");
    assert_eq!((ended.status, &listing["broken"]), (0, &json!([])));
    let [listed] = &listing["realms"].as_array().unwrap()[..] else {
        panic!("{listing}");
    };
    for (key, value) in [
        ("case", json!("keep")),
        ("allow", json!(["A*@uni-a.example", "*@cs.uni-a.example"])),
        ("deny", json!(["eve@uni-a.example"])),
        ("group", json!("staff")),
        (
            "replaces",
            json!(["/var/lib/labtools/realms/cs.uni-a.example.ini"]),
        ),
    ] {
        assert_eq!(listed[key], value, "{key}");
    }
    // An export that failed.
    fs::write(site.join("staff"), "# staff\n\n").unwrap();
    let ended = realms(root.path(), &[]);
    let error = ended.section("realms")["broken"][0]["error"].to_string();
    assert_eq!(ended.status, 1);
    assert!(
        error.contains("staff, the group of uni-a.example: no user name in it"),
        "{error}"
    );
}

#[test]
fn realms_of_hundreds_are_listed_though_one_is_broken() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..500 {
        crate::contract::realm(
            root.path(),
            &format!("r{number}.example"),
            "ca_cert=ca.pem\ndomain_suffix_match=radius.example.org\n",
        );
    }
    let directory = root.path().join("etc/labtools/realms.d");
    fs::write(directory.join("r7.example.ini"), [0xff]).unwrap();
    let ended = realms(root.path(), &[]);
    let listing = ended.section("realms");
    assert_eq!(
        (ended.status, listing["realms"].as_array().unwrap().len()),
        (1, 499)
    );
    let broken = &listing["broken"][0];
    assert_eq!(broken["file"], "/etc/labtools/realms.d/r7.example.ini");
    let error = broken["error"].as_str().unwrap();
    assert!(
        error.ends_with(" /etc/labtools/realms.d/r7.example.ini: not UTF-8"),
        "{broken}"
    );
}

#[test]
fn realms_shows_the_subject_of_a_stranger_as_one_line_of_text() {
    let root = tempfile::tempdir().unwrap();
    crate::contract::realm(
        root.path(),
        "uni-a.example",
        "ca_cert=odd.pem\ndomain_suffix_match=radius.uni-a.example\n",
    );
    let directory = root.path().join("etc/labtools/realms.d");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:P-256", "-nodes", "-days", "3650"])
        .args([
            "-utf8",
            "-subj",
            "/CN=\"}]\u{1b}[31m\n\u{202e}Uni",
            "-keyout",
        ])
        .args(["/dev/null", "-out", "odd.pem"])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let ended = realms(root.path(), &[]);
    let subject = &ended.section("realms")["realms"][0]["ca_certificates"][0]["subject"];
    assert_eq!(
        (ended.status, subject),
        (0, &"CN=\"}]\u{fffd}[31m\u{fffd}\u{fffd}Uni".into())
    );
}
