//! A password that was changed at the university during a session is refused once: each refusal
//! counts there, and some lock the account after three.

use super::waiting::wait_until;
use super::{ALICE, Laboratory};

/// A session on both links, whose password was changed meanwhile.
fn session_with_a_changed_password() -> Laboratory {
    let laboratory = Laboratory::up();
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!(status, 0, "{login} {stderr}");
    wait_until("both links", || {
        laboratory.is_open("a") && laboratory.is_open("b")
    });
    laboratory.script("user", &[ALICE.0, "another-one"]);
    laboratory
}

/// Waits until the holder has heard of the refusal, and asserts that it was the only one.
fn assert_one_strike(laboratory: &Laboratory) {
    wait_until("the refusal", || {
        laboratory.succeeds(&["grep", "-q", "\"rejected\"", "/run/labtools/login.json"])
    });
    wait_until("the end of all tries", || {
        !laboratory.devices().contains(":connecting")
    });
    assert_eq!(laboratory.verdicts("Login incorrect"), 1);
    let (status, section, stderr) = laboratory.logout();
    assert_eq!((status, stderr.as_str()), (0, ""), "{section}");
    laboratory.assert_closed();
    assert_eq!(laboratory.verdicts("Login incorrect"), 1);
}

#[test]
fn a_changed_password_is_one_strike_though_both_cables_were_out() {
    let laboratory = session_with_a_changed_password();
    laboratory.script("mode", &["unplug", "ab"]);
    let is_down = "! nmcli -g DEVICE,STATE device | grep -q '^eth.:connected'";
    wait_until("both links to be down", || {
        laboratory.succeeds(&["sh", "-c", is_down])
    });
    laboratory.script("mode", &["plug", "ab"]);
    assert_one_strike(&laboratory);
}

#[test]
fn a_changed_password_is_one_strike_though_a_service_was_killed() {
    for service in ["NetworkManager", "wpa_supplicant"] {
        let laboratory = session_with_a_changed_password();
        laboratory.kill(service);
        laboratory.script("revive", &[service]);
        assert_one_strike(&laboratory);
    }
}

#[test]
fn a_changed_password_is_one_strike_though_the_first_switch_was_silent_for_long() {
    let laboratory = session_with_a_changed_password();
    laboratory.use_one_cable();
    laboratory.signal("hostapd-a", "-STOP");
    laboratory.kill("wpa_supplicant");
    let (on_link, gone) = ("eth0: Associated with", "eth0: CTRL-EVENT-DISCONNECTED");
    let trusted = "eth1: CTRL-EVENT-EAP-PEER-CERT depth=0";
    let said = |words| laboratory.supplicant_said(words);
    let before = (said(on_link), said(trusted));
    laboratory.script("revive", &["wpa_supplicant"]);
    laboratory.wait_for_supplicant(on_link, before.0 + 1);
    let still_there = said(gone);
    laboratory.script("mode", &["plug", "b"]);
    laboratory.wait_for_supplicant(trusted, before.1 + 1);
    // The other link is tried now, and its verdict takes RADIUS a second. The first switch, which
    // has what the computer sent meanwhile, needs less.
    assert!(said(gone) > still_there, "both have the password");
    laboratory.signal("hostapd-a", "-CONT");
    assert_one_strike(&laboratory);
}
