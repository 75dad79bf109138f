//! What a network can answer, by the modes of scripts/lab/wired-8021x that have no test elsewhere.
//! The switch says whether a port is open, RADIUS how often it was asked for a password.

use std::fs;
use std::path::Path;

use super::waiting::wait_until;
use super::{ALICE, Laboratory};

fn assert_refused(laboratory: &Laboratory, mode: &str, reason: &str) -> serde_json::Value {
    laboratory.script("mode", &[mode]);
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!(
        (status, &login["reason"]),
        (1, &reason.into()),
        "{mode}: {login} {stderr}"
    );
    laboratory.assert_closed();
    login
}

#[test]
fn a_refusal_has_the_reason_of_its_mode() {
    let laboratory = Laboratory::up();
    let login = assert_refused(&laboratory, "tls10", "no_agreement");
    assert_eq!(login["detail"], "protocol version", "{login}");
    assert_refused(&laboratory, "no-realm", "realm_rejected");
    assert_eq!(
        laboratory.verdicts(""),
        0,
        "a password went to a server that was not trusted, or spoke an old TLS"
    );
}

#[test]
fn a_wrong_password_costs_one_strike_though_there_are_two_links() {
    let laboratory = Laboratory::up();
    let (status, login, stderr) = laboratory.login((ALICE.0, "wrong"));
    assert_eq!(
        (status, &login["reason"]),
        (1, &"rejected".into()),
        "{stderr}"
    );
    laboratory.assert_closed();
    assert_eq!(laboratory.verdicts("Login incorrect"), 1, "{login}");
}

#[test]
fn a_torn_ca_file_is_78_before_a_packet_is_sent() {
    let laboratory = Laboratory::up();
    let file = laboratory.path("labtools/realms.d/uni-a.pem");
    let whole = fs::read(&file).unwrap();
    let other = fs::read(laboratory.path("ca/uni-b.pem")).unwrap();
    // The first certificate of the bundle is the right one, and whole: the supplicant alone would
    // say of this no more than that the exchange failed.
    for torn in [
        [&whole[..], &other[..other.len() / 2]].concat(),
        whole[..whole.len() / 2].to_vec(),
        Vec::new(),
    ] {
        fs::write(&file, torn).unwrap();
        let (status, login, stderr) = laboratory.login(ALICE);
        assert_eq!((status, login.is_null()), (78, true), "{login} {stderr}");
        assert!(stderr.contains("uni-a.pem"), "{stderr}");
    }
    assert_eq!(laboratory.supplicant_said("Associated with"), 0);
}

#[test]
fn a_switch_that_is_quiet_after_a_refusal_lets_the_right_password_in_after_it() {
    let laboratory = Laboratory::up();
    laboratory.use_one_cable();
    laboratory.script("quiet", &["10"]);
    assert_eq!(laboratory.login((ALICE.0, "wrong")).0, 1);
    assert!(!laboratory.is_open("a"));
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!(status, 0, "{login} {stderr}");
    assert!(laboratory.is_open("a"));
    assert_eq!(laboratory.logout().0, 0);
    assert!(!laboratory.is_open("a"));
}

#[test]
fn the_confined_network_of_before_comes_back() {
    let laboratory = Laboratory::up();
    laboratory.script("mode", &["confined"]);
    // It does not come back by itself.
    let confined = "nmcli connection add type ethernet con-name confined ifname eth0 autoconnect no && \
                    nmcli connection up confined";
    assert!(laboratory.succeeds(&["sh", "-c", confined]));
    let is_confined = || laboratory.addresses("eth0").contains(" 10.72.1.");
    wait_until("the confined network", is_confined);

    let (status, login, stderr) = laboratory.login((ALICE.0, "wrong"));
    assert_eq!(
        (status, &login["reason"]),
        (1, &"rejected".into()),
        "{stderr}"
    );
    wait_until("the confined network after a refusal", is_confined);

    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!(status, 0, "{login} {stderr}");
    assert!(!is_confined());
    assert!(
        login["links"][0]["addresses"][0]
            .as_str()
            .unwrap()
            .starts_with("10.71.1."),
        "{login}"
    );
    assert_eq!(laboratory.logout().0, 0);
    wait_until("the confined network after a logout", is_confined);
    assert!(!laboratory.is_open("a"));
}

/// The lab machine has what the package ships for NetworkManager, and nothing else.
#[test]
fn the_confined_network_of_the_package_is_there_whenever_nobody_is_logged_in() {
    let laboratory = Laboratory::up();
    laboratory.use_one_cable();
    laboratory.script("mode", &["confined"]);
    let default_routes = || {
        let mut routes = laboratory.on_computer(&["ip", "-4", "route", "show", "default"]);
        String::from_utf8(routes.output().unwrap().stdout).unwrap()
    };
    // No connection of its own making, though somebody on the cable gives addresses.
    assert_eq!(
        (laboratory.profiles(), default_routes()),
        Default::default()
    );
    let profiles = laboratory.path("nm/system-connections");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../scripts/host/network-manager/labtools-confined.nmconnection");
    let install = format!(
        "install -m 600 '{}' '{}' && nmcli connection reload",
        shipped.display(),
        profiles.display()
    );
    assert!(laboratory.succeeds(&["sh", "-c", &install]));
    let is_confined = || default_routes().starts_with("default via 10.72.1.1 ");
    wait_until("the confined network", is_confined);
    assert_eq!(default_routes().lines().count(), 1);

    let is_in = || default_routes().starts_with("default via 10.71.1.1 ");
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!(status, 0, "{login} {stderr}");
    assert!(is_in() && default_routes().lines().count() == 1);
    laboratory.script("mode", &["unplug", "a"]);
    wait_until("the cable out", || default_routes().is_empty());
    laboratory.script("mode", &["plug", "a"]);
    wait_until("the session on the cable again", is_in);
    assert_eq!(laboratory.logout().0, 0);
    wait_until("the confined network after a logout", is_confined);
    assert_eq!(default_routes().lines().count(), 1);
    assert!(!laboratory.is_open("a"));
}
