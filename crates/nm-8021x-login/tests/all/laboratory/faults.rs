//! What goes wrong on the way: cables, services, other logins, signals.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use jsonpipe::testkit::{Ended, feed};
use serde_json::Value;

use super::{ALICE, BINARY, Laboratory, credentials, told};

#[test]
fn a_login_that_is_ended_amid_its_exchange_leaves_the_port_closed() {
    let laboratory = Laboratory::up();
    for moment in [
        "CTRL-EVENT-EAP-STARTED",
        "CTRL-EVENT-EAP-METHOD",
        "CTRL-EVENT-EAP-PEER-CERT",
        "EAP-TTLS: Phase 2",
    ] {
        let before = laboratory.supplicant_said(moment);
        let login = laboratory.begin(&[]);
        laboratory.wait_for_supplicant(moment, before + 1);
        // Between the kill and the end the exchange goes on, with the right password; it may have
        // come to its end already.
        assert!(
            Command::new("kill")
                .args(["-TERM", &login.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        let (_, answer, stderr) = told(Ended::of(login.wait_with_output().unwrap()));
        if answer["authenticated"] == true {
            assert_eq!(laboratory.logout().0, 0);
        }
        let left = (laboratory.profiles(), laboratory.port());
        assert_eq!(
            left,
            (String::new(), "unauthorized".into()),
            "{moment}: {stderr}"
        );
    }
}

#[test]
fn a_login_that_somebody_else_ends_is_75_and_one_whose_supplicant_dies_is_69() {
    let laboratory = Laboratory::up();
    laboratory.script("mode", &["radius-down"]);
    let begun = |number| {
        let login = laboratory.begin(&[]);
        laboratory.wait_for_supplicant("Associated with", number);
        login
    };
    let login = begun(1);
    assert!(
        laboratory
            .on_computer(&["nmcli", "device", "disconnect", "eth0", "eth1"])
            .output()
            .unwrap()
            .status
            .success()
    );
    let (status, document, stderr) = told(Ended::of(login.wait_with_output().unwrap()));
    assert_eq!((status, document), (75, Value::Null), "{stderr}");
    assert!(
        stderr.contains("another program ended the login"),
        "{stderr}"
    );

    let login = begun(2);
    laboratory.kill("wpa_supplicant");
    let (status, document, stderr) = told(Ended::of(login.wait_with_output().unwrap()));
    assert_eq!((status, document), (69, Value::Null), "{stderr}");
    assert!(stderr.contains("fi.w1.wpa_supplicant1 ended"), "{stderr}");
    laboratory.assert_closed();
}

/// The time that a process has had of the processor, in hundredths of a second. (proc_pid_stat(5))
fn processor_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit(") ").next()?.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

#[test]
fn a_server_that_does_not_answer_is_silent() {
    let laboratory = Laboratory::up();
    laboratory.script("mode", &["radius-down"]);
    let mut login = laboratory.begin(&[]);
    let mut ticks = 0;
    while login.try_wait().unwrap().is_none() {
        let of_holder = laboratory.process("nm-8021x-holder");
        ticks = of_holder.and_then(processor_ticks).unwrap_or(ticks);
        std::thread::sleep(Duration::from_millis(200));
    }
    let (status, login, stderr) = told(Ended::of(login.wait_with_output().unwrap()));
    assert_eq!(
        (status, &login["reason"]),
        (1, &"server_silent".into()),
        "{stderr}"
    );
    laboratory.assert_closed();
    assert!(
        ticks < 300,
        "waiting for the server took {ticks} ticks of the processor's time"
    );
}

#[test]
fn a_port_without_8021x_never_counts_as_a_login() {
    let laboratory = Laboratory::up();
    laboratory.script("mode", &["plain"]);
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!(
        (status, &login["reason"]),
        (1, &"no_8021x".into()),
        "{stderr}"
    );
    assert_eq!(laboratory.profiles(), "");
}

#[test]
fn without_a_cable_there_is_no_login() {
    let laboratory = Laboratory::up();
    laboratory.script("mode", &["unplug"]);
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!(
        (status, &login["reason"]),
        (1, &"no_carrier".into()),
        "{stderr}"
    );
    assert_eq!(laboratory.profiles(), "");
}

#[test]
fn a_network_without_addresses_is_named_as_missing() {
    let laboratory = Laboratory::up();
    for server in ["udhcpd-nasa", "udhcpd-nasb", "radvd"] {
        laboratory.kill(server);
    }
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!(
        (
            status,
            &login["authenticated"],
            &login["links"][0]["addresses"]
        ),
        (0, &true.into(), &serde_json::json!([])),
        "{stderr}"
    );
    let missing: Vec<&str> = login["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["key"].as_str().unwrap())
        .collect();
    assert_eq!(
        missing,
        [
            "links[0].addresses",
            "links[0].primary",
            "links[1].addresses",
            "links[1].primary"
        ],
        "{login}"
    );
    assert_eq!(laboratory.logout().0, 0);
    laboratory.assert_closed();
}

#[test]
fn a_networkmanager_that_dies_is_not_a_refusal_and_leaves_nobody_who_answers_the_switch() {
    let laboratory = Laboratory::up();
    laboratory.signal("hostapd-a", "-STOP"); // so that the supplicant has not begun, however long this takes
    let login = laboratory.begin(&[]);
    laboratory.wait_for_supplicant("Associated with", 1);
    laboratory.kill("NetworkManager");
    let (status, document, stderr) = told(Ended::of(login.wait_with_output().unwrap()));
    assert_eq!((status, document), (69, Value::Null), "{stderr}");
    // Else it goes on with the login, and opens the port once the switch asks.
    let mut ask = laboratory.on_computer(&[
        "dbus-send",
        "--system",
        "--print-reply",
        "--dest=fi.w1.wpa_supplicant1",
    ]);
    ask.args([
        "/fi/w1/wpa_supplicant1",
        "fi.w1.wpa_supplicant1.GetInterface",
        "string:eth0",
    ]);
    let answer = ask.output().unwrap();
    let answer = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(
        answer.contains("InterfaceUnknown"),
        "wpa_supplicant is on eth0 still: {answer}"
    );
    laboratory.signal("hostapd-a", "-CONT");

    let (status, document, stderr) = laboratory.login(ALICE);
    assert_eq!((status, document), (69, Value::Null));
    assert!(
        stderr.contains("org.freedesktop.NetworkManager")
            && stderr.contains("start NetworkManager"),
        "{stderr}"
    );
}

#[test]
fn a_second_login_at_the_same_time_has_to_wait() {
    let laboratory = Laboratory::up();
    let run = tempfile::tempdir().unwrap();
    let root = ["--root", run.path().to_str().unwrap()];
    fs::create_dir_all(run.path().join("run/labtools")).unwrap();
    let lock = fs::File::create(run.path().join("run/labtools/login.lock")).unwrap();
    lock.lock().unwrap();
    let (status, _, stderr) = told(feed(
        laboratory.login_command().args(root),
        &credentials("alice@nowhere.example", "x"),
    ));
    assert_eq!(
        status, 1,
        "a name that cannot log in needs no lock: {stderr}"
    );
    // With --root the CA is looked for below it; the laboratory's configuration names it beside
    // itself.
    let (status, _, stderr) = told(feed(
        laboratory.login_command().args(root),
        &credentials(ALICE.0, ALICE.1),
    ));
    assert_eq!(status, 75, "{stderr}");
    assert!(stderr.contains("another login is under way"), "{stderr}");

    // The lock comes before the look at what is open: between the two, the other login could have
    // opened it.
    assert_eq!(laboratory.login(ALICE).0, 0);
    let (status, _, stderr) = told(feed(
        laboratory.login_command().args(root),
        &credentials(ALICE.0, ALICE.1),
    ));
    assert_eq!(status, 75, "{stderr}");
    assert!(stderr.contains("another login is under way"), "{stderr}");
}

#[test]
fn a_login_that_cannot_be_told_is_undone() {
    let laboratory = Laboratory::up();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = laboratory
        .login_command()
        .stdin(Stdio::piped())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(credentials(ALICE.0, ALICE.1).as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).as_ref()
        ),
        (Some(74), "")
    );
    laboratory.assert_closed();
}

#[test]
fn a_login_that_is_interrupted_leaves_nothing() {
    let laboratory = Laboratory::up();
    laboratory.script("mode", &["radius-down"]);
    // The shell says how its child, the tool, ended; and -v says when it has begun.
    let tool = format!(
        "{BINARY} login -v --config {} & wait $!; echo $?",
        laboratory.path("labtools").display()
    );
    let mut child = laboratory
        .on_computer(&[
            "bash",
            "-c",
            &format!("exec 3<&0; {}", tool.replace(" & ", " <&3 & echo $! >&2; ")),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(credentials(ALICE.0, ALICE.1).as_bytes())
        .unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut pid = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut pid).unwrap();
    let mut begun = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut begun).unwrap();
    assert!(begun.contains("asking the network"), "{begun}");
    // The pid is one of the laboratory's own pid namespace.
    assert!(
        laboratory
            .on_computer(&["kill", "-TERM", pid.trim()])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "143\n",
        "ended by the signal"
    );
    laboratory.assert_closed();
}
