//! What a session survives, and what ends it. The switch says whether a port is open; packets have
//! to reach a server behind it.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use super::waiting::wait_until;
use super::{ALICE, Laboratory};

fn log_in(laboratory: &Laboratory) -> serde_json::Value {
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!(status, 0, "{login} {stderr}");
    login
}

/// The session that the lab machine has on record.
fn session_on_record(laboratory: &Laboratory) -> String {
    let output = laboratory
        .on_computer(&["cat", "/run/labtools/login.json"])
        .output()
        .unwrap();
    let state: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    state["session"].as_str().unwrap().to_owned()
}

#[test]
fn a_session_survives_the_switch_the_cable_and_the_services() {
    let laboratory = Laboratory::up();
    laboratory.use_one_cable();
    let login = log_in(&laboratory);
    let is_up = |after: &str| {
        wait_until(after, || laboratory.is_open("a"));
        wait_until(after, || laboratory.reaches_the_server());
        assert_eq!(
            session_on_record(&laboratory),
            login["session"].as_str().unwrap(),
            "{after}"
        );
    };
    is_up("the login");

    let before = laboratory.verdicts("Login OK");
    laboratory.script("reauth", &["a"]);
    wait_until("another verdict", || {
        laboratory.verdicts("Login OK") > before
    });
    is_up("a re-authentication by the switch");

    for seconds in [3, 9] {
        laboratory.script("mode", &["unplug", "a"]);
        assert!(!laboratory.is_open("a"));
        sleep(Duration::from_secs(seconds)); // for so long the cable is out
        laboratory.script("mode", &["plug", "a"]);
        is_up("the cable was out");
    }

    for program in ["wpa_supplicant", "NetworkManager"] {
        laboratory.kill(program);
        laboratory.script("revive", &[program]);
        is_up(program);
    }

    let (status, logout, stderr) = laboratory.logout();
    assert_eq!(
        (status, &logout["changed"]),
        (0, &true.into()),
        "{logout} {stderr}"
    );
    laboratory.script("mode", &["plug", "b"]);
    laboratory.assert_closed();
}

#[test]
fn a_session_moves_to_the_other_cable_and_back() {
    let laboratory = Laboratory::up();
    let login = log_in(&laboratory);
    wait_until("the second link", || laboratory.is_open("b"));
    wait_until("packets", || laboratory.reaches_the_server());
    assert_eq!(laboratory.way_out(), "eth0");
    for (interface, prefix) in [("eth0", "2001:db8:71:1:"), ("eth1", "2001:db8:71:2:")] {
        wait_until("IPv6", || laboratory.addresses(interface).contains(prefix));
    }

    laboratory.script("mode", &["unplug", "a"]);
    wait_until("packets by the other cable", || {
        laboratory.way_out() == "eth1" && laboratory.reaches_the_server()
    });
    assert!(!laboratory.is_open("a") && laboratory.is_open("b"));

    laboratory.script("mode", &["plug", "a"]);
    wait_until("the first port again", || laboratory.is_open("a"));
    wait_until("packets by the first cable again", || {
        laboratory.way_out() == "eth0" && laboratory.reaches_the_server()
    });
    assert!(laboratory.is_open("b"));
    assert_eq!(
        session_on_record(&laboratory),
        login["session"].as_str().unwrap()
    );

    let (status, logout, stderr) = laboratory.logout();
    assert_eq!(status, 0, "{logout} {stderr}");
    laboratory.assert_closed();
    // Both families, of both links: the access register wants them all.
    for (number, link) in logout["links"].as_array().unwrap().iter().enumerate() {
        let all: Vec<&str> = link["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|address| address.as_str().unwrap())
            .collect();
        let network = number + 1;
        for prefix in [
            format!("10.71.{network}."),
            format!("2001:db8:71:{network}:"),
        ] {
            assert!(
                all.iter().any(|address| address.starts_with(&prefix)),
                "{prefix}: {logout}"
            );
        }
    }
}

#[test]
fn a_changed_password_is_refused_once_and_not_tried_again() {
    let laboratory = Laboratory::up();
    laboratory.use_one_cable();
    log_in(&laboratory);
    laboratory.script("user", &[ALICE.0, "changed meanwhile"]);
    laboratory.script("reauth", &["a"]);
    // NetworkManager alone would call the link connected, and the supplicant try the old password
    // each minute, until the account is locked.
    wait_until("the profile to be gone", || {
        laboratory.profiles().is_empty()
    });
    wait_until("the supplicant to leave", || {
        !laboratory.succeeds(&[
            "dbus-send",
            "--system",
            "--print-reply",
            "--dest=fi.w1.wpa_supplicant1",
            "/fi/w1/wpa_supplicant1",
            "fi.w1.wpa_supplicant1.GetInterface",
            "string:eth0",
        ])
    });
    assert!(!laboratory.is_open("a"));
    assert_eq!(laboratory.verdicts("Login incorrect"), 1);
    let state = laboratory
        .on_computer(&["cat", "/run/labtools/login.json"])
        .output()
        .unwrap();
    let state = String::from_utf8(state.stdout).unwrap();
    assert!(state.contains(r#""status":"rejected""#), "{state}");

    // The switch asks again, the cable was out: nobody answers with the old password.
    laboratory.script("mode", &["unplug", "a"]);
    laboratory.script("mode", &["plug", "a"]);
    let (status, logout, stderr) = laboratory.logout();
    assert_eq!(status, 0, "{logout} {stderr}");
    assert_eq!(laboratory.verdicts("Login incorrect"), 1);
    let log = fs::read_to_string(laboratory.path("log/hostapd-a.log")).unwrap();
    assert!(log.contains("unauthorizing port"), "{log}");

    let (status, login, stderr) = laboratory.login((ALICE.0, "changed meanwhile"));
    assert_eq!(status, 0, "{login} {stderr}");
    assert_eq!(laboratory.logout().0, 0);
}
