//! What happens to a session, and to the processes that hold it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::waiting::wait_until;
use super::{ALICE, Laboratory, credentials};
use jsonpipe::testkit::{Ended, feed};

const HOLDER: &str = "nm-8021x-holder";
const KEEPER: &str = "nm-8021x-keeper";

/// Waits for something, and returns it.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_until(what, || {
        found = look();
        found.is_some()
    });
    found.unwrap()
}

impl Laboratory {
    /// What root reads of the session.
    fn state(&self) -> Value {
        let read = self
            .on_computer(&["cat", "/run/labtools/login.json"])
            .output()
            .unwrap();
        serde_json::from_slice(&read.stdout).unwrap_or_default()
    }

    /// Logs Alice in, and waits until both ports are open.
    fn both_up(&self) {
        let (status, login, stderr) = self.login(ALICE);
        assert_eq!(status, 0, "{login} {stderr}");
        wait_until("both links", || {
            self.ports() == ["authorized", "authorized"]
        });
    }

    /// Has NetworkManager killed and started anew, and waits until the session is bound to it.
    fn restart_networkmanager(&self) {
        let before = self.profiles_of_session();
        self.kill("NetworkManager");
        self.script("revive", &["NetworkManager"]);
        wait_until("new profiles", || {
            let after = self.profiles_of_session();
            let devices = self.devices();
            let connected = devices.lines().filter(|line| line.ends_with(":connected"));
            before.iter().all(|profile| !after.contains(profile)) && connected.count() == 2
        });
    }

    fn profiles_of_session(&self) -> Vec<Value> {
        let state = self.state();
        let links = state["links"].as_array().unwrap();
        links.iter().map(|link| link["profile"].clone()).collect()
    }

    fn kill_process(&self, pid: i32) {
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    fn is_nobody_there(&self) -> bool {
        self.process(HOLDER).is_none() && self.process(KEEPER).is_none()
    }
}

#[test]
fn whatever_is_killed_leaves_no_profile_and_no_open_port() {
    let laboratory = Laboratory::up();
    // The one that stays closes everything.
    for name in [HOLDER, KEEPER] {
        laboratory.both_up();
        laboratory.kill_process(laboratory.process(name).unwrap());
        wait_until("the end of both", || laboratory.is_nobody_there());
        laboratory.assert_closed();
        let (status, login, _) = laboratory.logout();
        assert_eq!(
            (status, &login["changed"], &login["user"]),
            (0, &false.into(), &ALICE.0.into()),
            "the session is told of once, though it ended without a logout: {name}"
        );
        assert!(login["session"].is_string() && login["ended_at"].is_string());
        assert!(login["links"][1]["addresses"].is_array());
        assert_eq!(laboratory.logout().1["user"], Value::Null);
    }
    // Nobody stays: NetworkManager takes the profile away, and the port waits for the next call.
    for next in ["logout", "login"] {
        laboratory.both_up();
        laboratory.restart_networkmanager(); // the binding holds for a new one
        laboratory.kill_process(laboratory.process(KEEPER).unwrap());
        if let Some(holder) = laboratory.process(HOLDER) {
            laboratory.kill_process(holder);
        }
        wait_until("the end of both", || laboratory.is_nobody_there());
        wait_until("the end of the profiles", || {
            laboratory.profiles().is_empty()
        });
        if next == "logout" {
            let (status, login, stderr) = laboratory.logout();
            assert_eq!((status, &login["user"]), (0, &ALICE.0.into()), "{stderr}");
        } else {
            let (status, login, stderr) = laboratory.login((ALICE.0, "wrong"));
            assert_eq!(
                (status, &login["reason"]),
                (1, &"rejected".into()),
                "{stderr}"
            );
        }
        laboratory.assert_closed();
    }
    // Amid a login, before the switch has said a word.
    for victims in [vec![], vec![HOLDER], vec![KEEPER], vec![HOLDER, KEEPER]] {
        laboratory.signal("hostapd-a", "-STOP");
        let before = laboratory.supplicant_said("Associated with");
        let mut login = laboratory.begin(&[]);
        laboratory.wait_for_supplicant("Associated with", before + 1);
        let pids: Vec<_> = victims
            .iter()
            .map(|name| laboratory.process(name).unwrap())
            .collect();
        // With its process the caller's answer is lost; with another the answer is an error.
        if victims.len() != 1 {
            login.kill().unwrap();
        }
        pids.iter().for_each(|pid| laboratory.kill_process(*pid));
        let status = login.wait().unwrap();
        assert_ne!(status.code(), Some(0));
        wait_until("the end of both", || laboratory.is_nobody_there());
        wait_until("the end of the profiles", || {
            laboratory.profiles().is_empty()
        });
        laboratory.signal("hostapd-a", "-CONT");
        let (status, login, stderr) = laboratory.logout();
        assert_eq!(status, 0, "{stderr}");
        assert_eq!(login["session"], Value::Null, "nobody was let in: {login}");
        laboratory.assert_closed();
    }
}

#[test]
fn password_that_was_changed_is_tried_once_and_the_seat_hears_of_it() {
    let laboratory = Laboratory::up();
    let root = tempfile::tempdir().unwrap(); // the event log is below it
    let root_flags = ["--root", root.path().to_str().unwrap()];
    let ended = feed(
        laboratory.login_command().args(root_flags),
        &credentials(ALICE.0, ALICE.1),
    );
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    wait_until("both links", || {
        laboratory.ports() == ["authorized", "authorized"]
    });
    laboratory.script("user", &[ALICE.0, "another-one"]);
    laboratory.script("reauth", &["a"]);
    let run = root.path().join("run/labtools");
    let state = wait_for("the refusal", || {
        let state: Value = serde_json::from_slice(&fs::read(run.join("login.json")).ok()?).ok()?;
        (state["status"] == "rejected").then_some(state)
    });
    assert_eq!(state["user"], ALICE.0);
    wait_until("the link to be closed", || {
        laboratory.ports() == ["unauthorized", "authorized"]
            && laboratory.profiles() == "labtools login"
    });
    let said = laboratory.supplicant_said("CTRL-EVENT-EAP-FAILURE");
    assert_eq!(said, 1, "the old password counts once");
    let event = wait_for("the event", || {
        let log = fs::read_to_string(root.path().join("var/log/labtools/events.jsonl")).ok()?;
        log.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .find(|event| event["event"] == "rejected")
    });
    assert_eq!(
        (&event["interface"], &event["session"]),
        (&"eth0".into(), &state["session"])
    );
    let logout = laboratory
        .on_computer(&[super::BINARY, "logout"])
        .args(root_flags)
        .output()
        .unwrap();
    assert_eq!(Ended::of(logout).status, 0);
    laboratory.assert_closed();
}

#[test]
fn session_ends_with_the_process_that_it_is_for() {
    let laboratory = Laboratory::up();
    let mut seat = Command::new("sleep")
        .arg("infinity")
        .process_group(0)
        .spawn()
        .unwrap();
    let pid = seat.id().to_string();
    let mut login = laboratory.login_command();
    login.args(["--until-pid", &pid]);
    let ended = feed(login, &credentials(ALICE.0, ALICE.1));
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    seat.kill().unwrap();
    seat.wait().unwrap();
    wait_until("the end of the session", || laboratory.is_nobody_there());
    laboratory.assert_closed();
    assert_eq!(laboratory.logout().1["user"], ALICE.0);

    let mut login = laboratory.login_command();
    login.args(["--until-pid", &pid]);
    let ended = feed(login, &credentials(ALICE.0, ALICE.1));
    assert_eq!(ended.status, 66, "it has ended already: {}", ended.stderr);
    laboratory.assert_closed();
}

#[test]
fn login_whose_process_ends_meanwhile_names_it() {
    let laboratory = Laboratory::up();
    laboratory.script("mode", &["radius-down"]);
    let mut seat = Command::new("sleep").arg("infinity").spawn().unwrap();
    let login = laboratory.begin(&["--until-pid", &seat.id().to_string()]);
    laboratory.wait_for_supplicant("Associated with", 1);
    seat.kill().unwrap();
    seat.wait().unwrap();
    let ended = Ended::of(login.wait_with_output().unwrap());
    assert_eq!((ended.status, ended.stdout.as_str()), (75, ""));
    assert!(ended.stderr.contains("--until-pid"), "{}", ended.stderr);
    laboratory.assert_closed();
}

#[test]
fn logout_that_cannot_be_told_is_told_by_the_next_one() {
    let laboratory = Laboratory::up();
    laboratory.both_up();
    for number in 1..=2 {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = laboratory
            .on_computer(&[super::BINARY, "logout"])
            .stdout(full)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        // The first one closed the ports, and that stays; the second had nothing to do.
        let status = if number == 1 { 1 } else { 74 };
        assert_eq!(output.status.code(), Some(status), "{number}: {stderr}");
        assert!(stderr.contains("standard output"), "{stderr}");
        laboratory.assert_closed();
    }
    let (status, login, stderr) = laboratory.logout();
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(
        (&login["user"], &login["changed"]),
        (&ALICE.0.into(), &false.into())
    );
    assert!(login["session"].is_string() && login["ended_at"].is_string());
    assert!(login["links"][0]["addresses"][0].is_string(), "{login}");
    assert_eq!(laboratory.logout().1["user"], Value::Null);
}

#[test]
fn login_that_is_ended_after_the_network_let_the_user_in_is_told_by_the_next_logout() {
    let laboratory = Laboratory::up();
    for server in ["udhcpd-nasa", "udhcpd-nasb", "radvd"] {
        laboratory.kill(server); // so that it waits for addresses
    }
    let login = laboratory.begin(&[]);
    wait_until("the state", || laboratory.state()["session"].is_string());
    let pid = nix::unistd::Pid::from_raw(login.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let output = login.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    laboratory.assert_closed();
    let (status, login, stderr) = laboratory.logout();
    assert_eq!((status, &login["user"]), (0, &ALICE.0.into()), "{stderr}");
    for key in ["session", "started_at", "ended_at"] {
        assert!(login[key].is_string(), "the register wants {key}: {login}");
    }
    assert_eq!(laboratory.logout().1["user"], Value::Null);
}

#[test]
fn cable_that_is_plugged_in_for_the_first_time_joins_the_session() {
    let laboratory = Laboratory::up();
    laboratory.use_one_cable();
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!(status, 0, "{login} {stderr}");
    assert_eq!(login["links"].as_array().unwrap().len(), 1);
    laboratory.script("mode", &["plug", "b"]);
    wait_until("the new link", || {
        laboratory.ports() == ["authorized", "authorized"]
    });
    wait_until("its address", || {
        let state = laboratory.state();
        let address = state["links"][1]["addresses"][0].as_str();
        address.is_some_and(|address| !address.is_empty())
    });
    let (status, logout, stderr) = laboratory.logout();
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(
        (&logout["session"], &logout["links"][1]["interface"]),
        (&login["session"], &"eth1".into())
    );
    laboratory.assert_closed();
}

#[test]
fn connection_from_before_comes_back() {
    let laboratory = Laboratory::up();
    let nmcli = |arguments: &[&str]| {
        let output = laboratory
            .on_computer(&[&["nmcli"], arguments].concat())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut add = vec!["connection", "add", "type", "ethernet", "ifname", "eth0"];
    add.extend(["con-name", "confined", "ipv6.method", "disabled"]);
    add.extend(["ipv4.method", "manual", "ipv4.addresses", "10.72.1.9/24"]);
    nmcli(&add);
    nmcli(&["connection", "up", "confined"]);
    let is_back = || {
        nmcli(&["-g", "NAME,DEVICE", "connection", "show", "--active"]).contains("confined:eth0")
    };
    assert!(is_back());

    assert_eq!(laboratory.login((ALICE.0, "wrong")).0, 1);
    wait_until("the connection after a refusal", is_back);
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!(status, 0, "{login} {stderr}");
    assert!(!is_back());
    laboratory.script("mode", &["unplug", "a"]);
    wait_until("the cable to be out", || {
        laboratory.devices().contains("eth0:unavailable")
    });
    laboratory.script("mode", &["plug", "a"]);
    wait_until("the session to come back", || {
        laboratory.is_open("a") && !is_back() && laboratory.devices().contains("eth0:connected")
    });
    assert_eq!(laboratory.logout().0, 0);
    wait_until("the connection after a logout", is_back);

    assert_eq!(laboratory.login(ALICE).0, 0);
    let pids = [KEEPER, HOLDER].map(|name| laboratory.process(name).unwrap());
    pids.iter().for_each(|pid| laboratory.kill_process(*pid));
    wait_until("the end of both", || laboratory.is_nobody_there());
    assert_eq!(laboratory.logout().0, 0);
    wait_until("the connection after a crash", is_back);
    assert_eq!(laboratory.ports(), ["unauthorized", "unauthorized"]);
}

#[test]
fn foreign_signals_and_agents_change_nothing() {
    let laboratory = Laboratory::up();
    laboratory.signal("hostapd-a", "-STOP");
    let login = laboratory.begin(&[]);
    laboratory.wait_for_supplicant("Associated with", 1);
    // As the supplicant and NetworkManager say it, from somebody else.
    let interface = "/fi/w1/wpa_supplicant1/Interfaces/0";
    let eap = "fi.w1.wpa_supplicant1.Interface.EAP";
    let device = "org.freedesktop.NetworkManager.Device.StateChanged";
    for signal in [
        vec![interface, eap, "string:started", "string:"],
        vec![
            interface,
            eap,
            "string:remote certificate verification",
            "string:success",
        ],
        vec![interface, eap, "string:completion", "string:failure"],
        vec![
            "/org/freedesktop/NetworkManager/Devices/2",
            device,
            "uint32:120",
            "uint32:70",
            "uint32:39",
        ],
    ] {
        let sent = laboratory
            .on_computer(&["dbus-send", "--system", "--type=signal"])
            .args(signal)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(sent.success());
    }
    laboratory.signal("hostapd-a", "-CONT");
    let ended = Ended::of(login.wait_with_output().unwrap());
    assert_eq!(ended.status, 0, "{ended:?}");
    assert_eq!(laboratory.logout().0, 0);
    laboratory.assert_closed();
}
