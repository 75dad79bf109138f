//! Whatever ends a login: until its port is closed, nothing of this machine asks for an address
//! behind it. The DHCP server of the users' network says who asked.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use jsonpipe::testkit::Ended;

use super::waiting::wait_until;
use super::{ALICE, BINARY, Laboratory, told};

const HOLDER: &str = "nm-8021x-holder";
const KEEPER: &str = "nm-8021x-keeper";

impl Laboratory {
    /// Installs the confined profile of the package, and waits for its network.
    fn be_confined(&self) {
        self.use_one_cable();
        self.script("mode", &["confined"]);
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../scripts/host/network-manager/labtools-confined.nmconnection");
        let install = format!(
            "install -m 600 '{}' '{}' && nmcli connection reload",
            shipped.display(),
            self.path("nm/system-connections").display()
        );
        assert!(self.succeeds(&["sh", "-c", &install]));
        self.wait_for_confined("the installation");
    }

    fn wait_for_confined(&self, after: &str) {
        wait_until(&format!("the confined network after {after}"), || {
            self.addresses("eth0").contains(" 10.72.1.")
        });
        assert!(!self.is_open("a"));
    }

    fn log_in(&self) {
        let (status, login, stderr) = self.login(ALICE);
        assert_eq!(status, 0, "{login} {stderr}");
    }

    /// How often the DHCP server of the users' network was asked.
    fn asked_for_addresses(&self) -> usize {
        let log = fs::read_to_string(self.path("log/udhcpd-nasa.log")).unwrap();
        log.lines().filter(|line| line.contains("sending")).count()
    }

    /// Waits until NetworkManager has no login any more, and has decided what comes next: it does
    /// so before it answers the second question.
    fn wait_for_decision(&self) {
        wait_until("the end of the login's profile", || {
            !self.profiles().contains("labtools login")
        });
        wait_until("the end of its deactivation", || {
            !self.devices().contains("eth0:deactivating")
        });
        assert!(self.devices().contains("eth0:"));
    }

    /// Whether NetworkManager may activate something on eth0 by itself.
    fn autoconnects(&self) -> bool {
        let show = "nmcli -g GENERAL.AUTOCONNECT device show eth0";
        let output = self.on_computer(&["sh", "-c", show]).output().unwrap();
        match output.stdout.trim_ascii_end() {
            b"yes" => true,
            b"no" => false,
            _ => panic!("{output:?}"),
        }
    }
}

#[test]
fn nothing_asks_for_an_address_behind_a_port_that_a_logout_has_not_closed_yet() {
    let laboratory = Laboratory::up();
    laboratory.be_confined();
    laboratory.log_in();
    let before = laboratory.asked_for_addresses();
    assert!(before > 0, "the login has an address");
    laboratory.signal("wpa_supplicant", "-STOP"); // the logout waits for it, before its Logoff
    let mut logout = laboratory.on_computer(&[BINARY, "logout"]);
    let logout = logout.stdout(Stdio::piped()).stderr(Stdio::piped());
    let logout = logout.spawn().unwrap();
    laboratory.wait_for_decision();
    let devices = laboratory.devices();
    assert!(devices.contains("eth0:disconnected"), "{devices}");
    assert!(laboratory.is_open("a"));
    laboratory.signal("wpa_supplicant", "-CONT");
    let (status, _, stderr) = told(Ended::of(logout.wait_with_output().unwrap()));
    assert_eq!((status, stderr.as_str()), (0, ""));
    laboratory.wait_for_confined("a logout");
    assert_eq!(laboratory.asked_for_addresses(), before);
    assert!(laboratory.autoconnects());
}

#[test]
fn nothing_asks_for_an_address_behind_the_port_of_a_session_that_was_killed() {
    let laboratory = Laboratory::up();
    laboratory.be_confined();
    laboratory.log_in();
    let before = laboratory.asked_for_addresses();
    let [keeper, holder] = [KEEPER, HOLDER].map(|name| laboratory.process(name).unwrap());
    let signal = |signal: &str, pid: i32| {
        assert!(laboratory.succeeds(&["kill", signal, &pid.to_string()]));
    };
    signal("-STOP", keeper); // it would close the port
    signal("-KILL", holder);
    laboratory.wait_for_decision();
    let devices = laboratory.devices();
    assert!(devices.contains("eth0:disconnected"), "{devices}");
    assert!(laboratory.is_open("a"));
    signal("-CONT", keeper);
    laboratory.wait_for_confined("the keeper's work");
    wait_until("the keeper's end", || laboratory.process(KEEPER).is_none());
    assert_eq!(laboratory.asked_for_addresses(), before);
    assert!(laboratory.autoconnects());

    // Nobody is left to close it: the next logout does.
    laboratory.log_in();
    let before = laboratory.asked_for_addresses();
    let [keeper, holder] = [KEEPER, HOLDER].map(|name| laboratory.process(name).unwrap());
    signal("-STOP", holder); // it would close the port when the keeper ends
    signal("-KILL", keeper);
    signal("-KILL", holder);
    laboratory.wait_for_decision();
    assert!(laboratory.is_open("a") && !laboratory.autoconnects());
    assert_eq!(laboratory.logout().0, 0);
    laboratory.wait_for_confined("the next logout");
    assert_eq!(laboratory.asked_for_addresses(), before);
    assert!(laboratory.autoconnects());
}

#[test]
fn a_cable_autoconnects_after_a_session_if_it_did_before() {
    let laboratory = Laboratory::up();
    laboratory.use_one_cable();
    for before in [true, false] {
        let word = if before { "yes" } else { "no" };
        assert!(laboratory.succeeds(&["nmcli", "device", "set", "eth0", "autoconnect", word]));
        assert_eq!(laboratory.login((ALICE.0, "wrong")).0, 1);
        assert_eq!(laboratory.autoconnects(), before, "after a refusal");
        laboratory.log_in();
        assert!(!laboratory.autoconnects());
        assert_eq!(laboratory.logout().0, 0);
        assert_eq!(laboratory.autoconnects(), before, "after a logout");
    }
    laboratory.script("mode", &["plug", "b"]);
    laboratory.assert_closed();
}
