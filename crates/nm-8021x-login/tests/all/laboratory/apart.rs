//! Whatever ends a login: until its port is closed, nothing of this machine asks for an address
//! behind it. The DHCP server of the users' network says who asked.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use jsonpipe::testkit::Ended;
use serde_json::Value;

use super::waiting::wait_until;
use super::{ALICE, BINARY, Laboratory, told};

const HOLDER: &str = "nm-8021x-holder";
const KEEPER: &str = "nm-8021x-keeper";
const UNRESTORED: &str = "setting whether eth0 autoconnects: ";
const TRIED_AGAIN: &str = "; the next login or logout tries again";

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

    /// Whether NetworkManager may activate something on an interface by itself.
    fn autoconnects(&self, interface: &str) -> bool {
        match self.shown("GENERAL.AUTOCONNECT", interface).as_str() {
            "yes" => true,
            "no" => false,
            other => panic!("{other}"),
        }
    }

    /// What NetworkManager tells of a device.
    fn shown(&self, key: &str, interface: &str) -> String {
        let show = ["nmcli", "-g", key, "device", "show", interface];
        let output = self.on_computer(&show).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Has the bus pass on what sets a property of NetworkManager, or refuse it.
    fn pass_properties_on(&self, is_passed: bool) {
        const DENIAL: &str = r#"<deny send_destination="org.freedesktop.NetworkManager"
            send_interface="org.freedesktop.DBus.Properties" send_member="Set"/>"#;
        const END: &str = "</policy>";
        let file = self.path("dbus.conf");
        let policy = fs::read_to_string(&file).unwrap().replace(DENIAL, "");
        let policy = if is_passed {
            policy
        } else {
            policy.replace(END, &format!("{DENIAL}{END}"))
        };
        fs::write(file, policy).unwrap();
        assert!(self.succeeds(&[
            "dbus-send",
            "--system",
            "--print-reply",
            "--dest=org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus.ReloadConfig",
        ]));
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
    assert!(laboratory.autoconnects("eth0"));
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
    assert!(laboratory.autoconnects("eth0"));

    // Nobody is left to close it: the next logout does.
    laboratory.log_in();
    let before = laboratory.asked_for_addresses();
    let [keeper, holder] = [KEEPER, HOLDER].map(|name| laboratory.process(name).unwrap());
    signal("-STOP", holder); // it would close the port when the keeper ends
    signal("-KILL", keeper);
    signal("-KILL", holder);
    laboratory.wait_for_decision();
    assert!(laboratory.is_open("a") && !laboratory.autoconnects("eth0"));
    assert_eq!(laboratory.logout().0, 0);
    laboratory.wait_for_confined("the next logout");
    assert_eq!(laboratory.asked_for_addresses(), before);
    assert!(laboratory.autoconnects("eth0"));
}

#[test]
fn a_cable_autoconnects_after_a_session_if_it_did_before() {
    let laboratory = Laboratory::up();
    laboratory.use_one_cable();
    for before in [true, false] {
        let word = if before { "yes" } else { "no" };
        assert!(laboratory.succeeds(&["nmcli", "device", "set", "eth0", "autoconnect", word]));
        assert_eq!(laboratory.login((ALICE.0, "wrong")).0, 1);
        assert_eq!(laboratory.autoconnects("eth0"), before, "after a refusal");
        laboratory.log_in();
        assert!(!laboratory.autoconnects("eth0"));
        assert_eq!(laboratory.logout().0, 0);
        assert_eq!(laboratory.autoconnects("eth0"), before, "after a logout");
    }
    laboratory.script("mode", &["plug", "b"]);
    laboratory.assert_closed();
}

#[test]
fn a_device_that_could_not_be_given_back_comes_back_with_the_next_logout_or_login() {
    let laboratory = Laboratory::up();
    laboratory.be_confined();
    for by_logout in [true, false] {
        laboratory.log_in();
        laboratory.pass_properties_on(false);
        let (status, ended, stderr) = laboratory.logout();
        assert_eq!(
            (status, &ended["links"][0]["unrestored"]),
            (1, &true.into()),
            "{ended} {stderr}"
        );
        assert!(stderr.contains(UNRESTORED), "{stderr}");
        assert!(stderr.trim_end().ends_with(TRIED_AGAIN), "{stderr}");
        assert!(ended["ended_at"].is_string() && !laboratory.is_open("a"));
        assert!(!laboratory.autoconnects("eth0"));
        laboratory.wait_for_confined("the first try");
        let active = || laboratory.shown("GENERAL.CON-PATH", "eth0");
        let since_first_try = active();
        let (status, login, stderr) = laboratory.login(ALICE);
        assert_eq!((status, login), (77, Value::Null), "{stderr}");
        assert!(stderr.contains(UNRESTORED), "{stderr}");
        assert_eq!(active(), since_first_try, "it was not activated again");
        laboratory.pass_properties_on(true);
        if by_logout {
            let (status, section, stderr) = laboratory.logout();
            assert_eq!((status, stderr.as_str()), (0, ""));
            assert_eq!(section["links"][0].get("unrestored"), None, "{section}");
            assert_eq!(active(), since_first_try, "it was not activated again");
            assert_eq!(
                [
                    &section["session"],
                    &section["ended_at"],
                    &section["changed"]
                ],
                [&ended["session"], &ended["ended_at"], &true.into()]
            );
        } else {
            laboratory.log_in();
            assert_eq!(laboratory.logout().0, 0);
        }
        assert!(laboratory.autoconnects("eth0"));
        laboratory.wait_for_confined("the second try");
        assert_eq!(laboratory.logout().1.get("user"), None, "it is forgotten");
    }
}

#[test]
fn a_refusal_is_told_where_the_device_cannot_be_given_back() {
    let laboratory = Laboratory::up();
    laboratory.use_one_cable();
    laboratory.signal("hostapd-a", "-STOP"); // no verdict comes yet
    let login = laboratory.begin_as((ALICE.0, "wrong"), &[]);
    wait_until("the login's activation", || {
        !laboratory.autoconnects("eth0")
    });
    laboratory.pass_properties_on(false);
    laboratory.signal("hostapd-a", "-CONT");
    let (status, login, stderr) = told(Ended::of(login.wait_with_output().unwrap()));
    assert_eq!(
        (status, &login["reason"]),
        (1, &"rejected".into()),
        "{login} {stderr}"
    );
    assert!(stderr.contains(UNRESTORED), "{stderr}");
    assert!(stderr.trim_end().ends_with(TRIED_AGAIN), "{stderr}");
    assert!(!laboratory.autoconnects("eth0"));
    laboratory.pass_properties_on(true);
    let (status, _, stderr) = laboratory.logout();
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(laboratory.autoconnects("eth0"));
}

#[test]
fn a_device_is_given_back_by_the_first_logout_that_reaches_the_bus() {
    let laboratory = Laboratory::up();
    laboratory.use_one_cable();
    laboratory.log_in();
    let [keeper, holder] = [KEEPER, HOLDER].map(|name| laboratory.process(name).unwrap());
    // The keeper first: it would close the ports of a holder that was killed.
    let kill = format!("kill -KILL {keeper} {holder}");
    assert!(laboratory.succeeds(&["sh", "-c", &kill]));
    laboratory.wait_for_decision();
    // NetworkManager keeps its connection.
    let [bus, away] = ["bus", "bus.away"].map(|name| laboratory.path(name));
    fs::rename(&bus, &away).unwrap();
    let (status, ended, stderr) = laboratory.logout();
    fs::rename(&away, &bus).unwrap();
    assert_eq!(
        (status, &ended["links"][0]["unrestored"]),
        (1, &true.into()),
        "{ended} {stderr}"
    );
    let unasked = format!("{UNRESTORED}NetworkManager cannot be asked{TRIED_AGAIN}");
    assert!(stderr.contains(&unasked), "{stderr}");
    assert!(!laboratory.autoconnects("eth0"));
    let (status, section, stderr) = laboratory.logout();
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(section["session"], ended["session"]);
    assert!(laboratory.autoconnects("eth0"));
    assert_eq!(laboratory.logout().1.get("user"), None, "it is forgotten");
}

#[test]
fn after_a_state_file_that_cannot_be_read_a_cable_that_is_out_autoconnects_again() {
    let laboratory = Laboratory::up();
    laboratory.log_in();
    wait_until("the second link", || laboratory.is_open("b"));
    let [keeper, holder] = [KEEPER, HOLDER].map(|name| laboratory.process(name).unwrap());
    // The keeper first: it would close the ports of a holder that was killed.
    let kill = format!("kill -KILL {keeper} {holder}; printf '{{' >/run/labtools/login.json");
    assert!(laboratory.succeeds(&["sh", "-c", &kill]));
    laboratory.use_one_cable();
    let interfaces = ["eth0", "eth1"];
    assert_eq!(interfaces.map(|of| laboratory.autoconnects(of)), [false; 2]);
    let (status, _, stderr) = laboratory.logout();
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(interfaces.map(|of| laboratory.autoconnects(of)), [true; 2]);
    assert!(!laboratory.is_open("a"));
}
