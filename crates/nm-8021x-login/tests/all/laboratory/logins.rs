//! Who gets in, and who does not.

use std::process::Command;

use jsonpipe::testkit::Ended;
use serde_json::Value;

use super::{ALICE, Laboratory, told};

#[test]
fn a_login_opens_the_port_and_a_logout_closes_it() {
    let laboratory = Laboratory::up();
    let (status, login, stderr) = laboratory.login((ALICE.0, "wrong"));
    assert_eq!(
        (status, &login["authenticated"], &login["reason"]),
        (1, &false.into(), &"rejected".into()),
        "{stderr}"
    );
    laboratory.assert_closed();

    // The switch ignores the port for a while after a refusal; a person types again at once.
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!(
        (status, &login["authenticated"]),
        (0, &true.into()),
        "{login} {stderr}"
    );
    let link = &login["links"][0];
    assert_eq!(
        (&link["interface"], &link["eap"], &link["primary"]),
        (&"eth0".into(), &"ttls".into(), &true.into()),
        "{link}"
    );
    assert_eq!(link["server_subject"], "/O=uni-a/CN=radius.uni-a.example");
    assert!(
        link["addresses"][0]
            .as_str()
            .unwrap()
            .starts_with("10.71.1."),
        "{link}"
    );
    assert_eq!(link["profile"], login["session"]);
    assert_eq!(laboratory.port(), "authorized");
    let second = &login["links"][1];
    assert_eq!(
        (&second["interface"], &second["kind"], &second["primary"]),
        (&"eth1".into(), &"ethernet".into(), &Value::Null),
        "{second}"
    );

    let (status, _, stderr) = laboratory.login(("bob@uni-b.example", "battery-staple"));
    assert_eq!(status, 75, "{stderr}");

    // Nothing that lasts knows the password: not NetworkManager's files, not a log.
    let found = laboratory
        .on_computer(&[
            "grep",
            "-rl",
            ALICE.1,
            "/run",
            "/etc/NetworkManager",
            "/var/lib/NetworkManager",
        ])
        .arg(laboratory.path("log"))
        .output()
        .unwrap();
    assert_eq!(
        (
            found.status.code(),
            String::from_utf8_lossy(&found.stdout).as_ref()
        ),
        (Some(1), "")
    );

    let (status, login, stderr) = laboratory.logout();
    laboratory.assert_closed();
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(
        (&login["changed"], &login["links"][0]["interface"]),
        (&true.into(), &"eth0".into()),
        "{login}"
    );

    let (status, login, _) = laboratory.logout();
    assert_eq!(
        (status, &login["changed"]),
        (0, &false.into()),
        "a second logout has nothing to do"
    );
}

#[test]
fn peap_and_an_awkward_password_work() {
    let laboratory = Laboratory::up();
    let (status, login, stderr) = laboratory.login(("Bob@UNI-B.example", "battery-staple"));
    // The realm is found whatever its case; whether the name is known is the RADIUS server's
    // affair, and this one is strict.
    assert_eq!(
        (status, &login["reason"]),
        (1, &"rejected".into()),
        "{stderr}"
    );
    let password = format!("\"é\\'$`;# ñ漢 {}\\\"", "x".repeat(186));
    assert_eq!(password.chars().count(), 200);
    laboratory.script("user", &["dave@uni-b.example", &password]);
    let (status, login, stderr) = laboratory.login(("dave@uni-b.example", &password));
    assert_eq!(
        (status, &login["links"][0]["eap"]),
        (0, &"peap".into()),
        "{login} {stderr}"
    );
    assert_eq!(laboratory.logout().0, 0);
    laboratory.assert_closed();
}

#[test]
fn a_server_of_another_ca_or_name_gets_nothing() {
    let laboratory = Laboratory::up();
    for (mode, reason, detail) in [
        (
            "rogue",
            "server_not_trusted",
            "unable to get local issuer certificate",
        ),
        ("wrongname", "server_wrong_name", "Domain suffix mismatch"),
        (
            "expired",
            "server_expired",
            "certificate has expired; by this computer's clock it is 20",
        ),
    ] {
        laboratory.script("mode", &[mode]);
        let (status, login, stderr) = laboratory.login(ALICE);
        assert_eq!(
            (status, &login["reason"]),
            (1, &reason.into()),
            "{mode}: {stderr}"
        );
        let said = login["detail"].as_str().unwrap();
        assert!(said.starts_with(detail), "{mode}: {said}");
        // A refusal shows whose certificate it was, and how long the verdict took.
        let links = login["links"].as_array().unwrap();
        assert_eq!(links.len(), 2, "{login}");
        for link in links {
            assert_eq!(link["reason"], reason, "{login}");
            assert!(link["verdict_seconds"].is_number(), "{login}");
        }
        if mode != "rogue" {
            let subject = links[0]["server_subject"].as_str().unwrap();
            assert!(subject.starts_with("/O=uni-a/CN="), "{login}");
        }
        laboratory.assert_closed();
    }
}

#[test]
fn a_server_without_a_common_method_or_tls_version_is_no_agreement() {
    let laboratory = Laboratory::up();
    for mode in ["tls13", "md5"] {
        laboratory.script("mode", &[mode]);
        let (status, login, stderr) = laboratory.login(ALICE);
        assert_eq!(
            (status, &login["reason"]),
            (1, &"no_agreement".into()),
            "{mode}: {stderr}"
        );
        laboratory.assert_closed();
    }
}

#[test]
fn a_failure_that_answers_nothing_ends_no_login() {
    let laboratory = Laboratory::up();
    laboratory.signal("hostapd-a", "-STOP"); // so that nothing has begun, however long this takes
    let login = laboratory.begin(&[]);
    laboratory.wait_for_supplicant("Associated with", 1);
    laboratory.script("stray", &["a"]);
    laboratory.signal("hostapd-a", "-CONT");
    let (status, answer, stderr) = told(Ended::of(login.wait_with_output().unwrap()));
    assert_eq!(
        (status, &answer["authenticated"]),
        (0, &true.into()),
        "{answer} {stderr}"
    );
    assert_eq!(laboratory.port(), "authorized");
    assert_eq!(laboratory.logout().0, 0);
    laboratory.assert_closed();
}

#[test]
fn a_verdict_counts_though_its_supplicant_has_left_the_link_when_it_is_read() {
    let laboratory = Laboratory::up();
    let login = laboratory.begin_as((ALICE.0, "wrong"), &[]);
    laboratory.wait_for_supplicant("Associated with", 1);
    let holder = laboratory.process("nm-8021x-holder").unwrap();
    let signal = |name: &str| {
        assert!(
            Command::new("kill")
                .args([name, &holder.to_string()])
                .status()
                .unwrap()
                .success()
        )
    };
    signal("-STOP"); // as a busy machine does, for longer
    laboratory.wait_for_supplicant("CTRL-EVENT-EAP-FAILURE", 1);
    // As NetworkManager does, but it waits for an answer of the login first.
    let mut leave = laboratory.on_computer(&[
        "dbus-send",
        "--system",
        "--print-reply",
        "--dest=fi.w1.wpa_supplicant1",
    ]);
    leave.args([
        "/fi/w1/wpa_supplicant1",
        "fi.w1.wpa_supplicant1.RemoveInterface",
    ]);
    assert!(
        leave
            .arg("objpath:/fi/w1/wpa_supplicant1/Interfaces/0")
            .output()
            .unwrap()
            .status
            .success()
    );
    signal("-CONT");
    let (status, answer, stderr) = told(Ended::of(login.wait_with_output().unwrap()));
    assert_eq!(
        (status, &answer["reason"]),
        (1, &"rejected".into()),
        "{stderr}"
    );
    laboratory.assert_closed();
}
