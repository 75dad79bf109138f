//! Logins for real: NetworkManager, wpa_supplicant, hostapd and FreeRADIUS in scripts/lab/wired-8021x. Needs root and the packages
//! that `scripts/lab/wired-8021x packages` names; without them these tests fail, they are never skipped.
//!
//! `LABTOOLS_SABOTAGE=skip-logoff` logs out as a plain deactivation would, without EAPOL-Logoff: then
//! `a_login_opens_the_port_and_a_logout_closes_it` must fail.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use futures_lite::StreamExt;
use serde_json::Value;
use tempfile::TempDir;
use zbus::connection::Builder;
use zbus::message::Type;
use zbus::{Message, MessageStream, ObjectPath, Variant};

const BINARY: &str = env!("CARGO_BIN_EXE_nm-8021x-login");
const ALICE: (&str, &str) = ("alice@uni-a.example", "correct-horse");

/// A laboratory of its own for each test; it is taken down when dropped.
struct Laboratory {
    directory: TempDir,
}

impl Laboratory {
    fn up() -> Laboratory {
        let laboratory = Laboratory { directory: tempfile::Builder::new().prefix("labtools-").tempdir().unwrap() };
        laboratory.script("up", &[]);
        laboratory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn script_command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/lab/wired-8021x"));
        command.arg(verb).arg(self.directory.path()).args(arguments);
        command
    }

    fn script(&self, verb: &str, arguments: &[&str]) -> String {
        let output = self.script_command(verb, arguments).output().unwrap();
        assert!(output.status.success(), "wired-8021x {verb}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// A command on the lab computer.
    fn on_computer(&self, arguments: &[&str]) -> Command {
        self.script_command("run", arguments)
    }

    fn login_command(&self) -> Command {
        let configuration = self.path("labtools");
        self.on_computer(&[BINARY, "login", "--config", configuration.to_str().unwrap()])
    }

    /// Status, the section `login`, standard error.
    fn login(&self, (username, password): (&str, &str)) -> (i32, Value, String) {
        ended(feed(&mut self.login_command(), &credentials(username, password)))
    }

    /// A login of Alice that has been handed its document, and goes on.
    fn begin(&self, arguments: &[&str]) -> Child {
        self.begin_as(ALICE, arguments)
    }

    fn begin_as(&self, (username, password): (&str, &str), arguments: &[&str]) -> Child {
        let mut login = self.login_command();
        login.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = login.spawn().unwrap();
        child.stdin.take().unwrap().write_all(credentials(username, password).as_bytes()).unwrap();
        child
    }

    /// How many lines of the supplicant's log hold this.
    fn supplicant_said(&self, words: &str) -> usize {
        fs::read_to_string(self.path("log/wpa_supplicant.log")).unwrap().lines().filter(|line| line.contains(words)).count()
    }

    /// Waits until so many lines of the supplicant's log hold this.
    fn wait_for_supplicant(&self, words: &str, count: usize) {
        for _ in 0..60_000 {
            if self.supplicant_said(words) >= count {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("wpa_supplicant never said {words}");
    }

    fn logout(&self) -> (i32, Value, String) {
        if std::env::var_os("LABTOOLS_SABOTAGE").is_some_and(|sabotage| sabotage == "skip-logoff") {
            let output = self.on_computer(&["nmcli", "connection", "delete", "labtools login"]).output().unwrap();
            assert!(output.status.success());
        }
        ended(self.on_computer(&[BINARY, "logout"]).output().unwrap())
    }

    /// Names of the profiles that NetworkManager has, without the loopback's.
    fn profiles(&self) -> String {
        let output = self.on_computer(&["nmcli", "-g", "NAME", "connection", "show"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().filter(|name| *name != "lo").collect()
    }

    fn kill(&self, program: &str) {
        self.signal(program, "-KILL");
    }

    /// Sends a signal to one of the laboratory's programs, by the pid that the laboratory keeps.
    fn signal(&self, program: &str, signal: &str) {
        let pid = fs::read_to_string(self.path("pid").join(program)).unwrap();
        assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success());
    }

    fn port(&self) -> String {
        self.script("port", &["a"])
    }

    fn assert_closed(&self) {
        assert_eq!((self.profiles().as_str(), self.port().as_str()), ("", "unauthorized"));
    }
}

impl Drop for Laboratory {
    fn drop(&mut self) {
        let down = self.script_command("down", &[]).status().is_ok_and(|status| status.success());
        assert!(down || std::thread::panicking(), "wired-8021x down");
    }
}

fn credentials(username: &str, password: &str) -> String {
    serde_json::json!({ "login": { "username": username, "password": password } }).to_string()
}

fn feed(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn ended(output: Output) -> (i32, Value, String) {
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap_or(-1), document["login"].clone(), stderr)
}

#[test]
fn a_login_opens_the_port_and_a_logout_closes_it() {
    let laboratory = Laboratory::up();
    let (status, login, stderr) = laboratory.login((ALICE.0, "wrong"));
    assert_eq!((status, &login["authenticated"], &login["reason"]), (1, &false.into(), &"rejected".into()), "{stderr}");
    laboratory.assert_closed();

    // The switch ignores the port for a while after a refusal; a person types again at once.
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!((status, &login["authenticated"]), (0, &true.into()), "{login} {stderr}");
    let link = &login["links"][0];
    assert_eq!((&link["interface"], &link["eap"], &link["primary"]), (&"eth0".into(), &"ttls".into(), &true.into()), "{link}");
    assert_eq!(link["server_subject"], "/O=uni-a/CN=radius.uni-a.example");
    assert!(link["addresses"][0].as_str().unwrap().starts_with("10.71.1."), "{link}");
    assert_eq!(link["profile"], login["session"]);
    assert_eq!(laboratory.port(), "authorized");

    let (status, _, stderr) = laboratory.login(("bob@uni-b.example", "battery-staple"));
    assert_eq!(status, 75, "{stderr}");

    // Nothing that lasts knows the password: not NetworkManager's files, not a log.
    let found = laboratory
        .on_computer(&["grep", "-rl", ALICE.1, "/run", "/etc/NetworkManager", "/var/lib/NetworkManager"])
        .arg(laboratory.path("log"))
        .output()
        .unwrap();
    assert_eq!((found.status.code(), String::from_utf8_lossy(&found.stdout).as_ref()), (Some(1), ""));

    let (status, login, stderr) = laboratory.logout();
    laboratory.assert_closed();
    assert_eq!(status, 0, "{stderr}");
    assert_eq!((&login["changed"], &login["links"][0]["interface"]), (&true.into(), &"eth0".into()), "{login}");

    let (status, login, _) = laboratory.logout();
    assert_eq!((status, &login["changed"]), (0, &false.into()), "a second logout has nothing to do");
}

#[test]
fn peap_and_an_awkward_password_work() {
    let laboratory = Laboratory::up();
    let (status, login, stderr) = laboratory.login(("Bob@UNI-B.example", "battery-staple"));
    // The realm is found whatever its case; whether the name is known is the RADIUS server's affair, and this one is strict.
    assert_eq!((status, &login["reason"]), (1, &"rejected".into()), "{stderr}");
    let password = format!("\"é\\'$`;# ñ漢 {}\\\"", "x".repeat(186));
    assert_eq!(password.chars().count(), 200);
    laboratory.script("user", &["dave@uni-b.example", &password]);
    let (status, login, stderr) = laboratory.login(("dave@uni-b.example", &password));
    assert_eq!((status, &login["links"][0]["eap"]), (0, &"peap".into()), "{login} {stderr}");
    assert_eq!(laboratory.logout().0, 0);
    laboratory.assert_closed();
}

#[test]
fn a_server_of_another_ca_or_name_gets_nothing() {
    let laboratory = Laboratory::up();
    for (mode, detail) in [
        ("rogue", "unable to get local issuer certificate"),
        ("wrongname", "Domain suffix mismatch"),
        ("expired", "certificate has expired"),
    ] {
        laboratory.script("mode", &[mode]);
        let (status, login, stderr) = laboratory.login(ALICE);
        assert_eq!((status, &login["reason"]), (1, &"server_not_trusted".into()), "{mode}: {stderr}");
        assert_eq!(login["detail"], detail, "{mode}");
        laboratory.assert_closed();
    }
}

#[test]
fn a_server_without_a_common_method_or_tls_version_is_no_agreement() {
    let laboratory = Laboratory::up();
    for mode in ["tls13", "md5"] {
        laboratory.script("mode", &[mode]);
        let (status, login, stderr) = laboratory.login(ALICE);
        assert_eq!((status, &login["reason"]), (1, &"no_agreement".into()), "{mode}: {stderr}");
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
    let (status, answer, stderr) = ended(login.wait_with_output().unwrap());
    assert_eq!((status, &answer["authenticated"]), (0, &true.into()), "{answer} {stderr}");
    assert_eq!(laboratory.port(), "authorized");
    assert_eq!(laboratory.logout().0, 0);
    laboratory.assert_closed();
}

#[test]
fn a_verdict_counts_though_its_supplicant_has_left_the_link_when_it_is_read() {
    let laboratory = Laboratory::up();
    let login = laboratory.begin_as((ALICE.0, "wrong"), &[]);
    let signal = |name: &str| assert!(Command::new("kill").args([name, &login.id().to_string()]).status().unwrap().success());
    laboratory.wait_for_supplicant("Associated with", 1);
    signal("-STOP"); // as a busy machine does, for longer
    laboratory.wait_for_supplicant("CTRL-EVENT-EAP-FAILURE", 1);
    // As NetworkManager does, but it waits for an answer of the login first.
    let mut leave = laboratory.on_computer(&["dbus-send", "--system", "--print-reply", "--dest=fi.w1.wpa_supplicant1"]);
    leave.args(["/fi/w1/wpa_supplicant1", "fi.w1.wpa_supplicant1.RemoveInterface"]);
    assert!(leave.arg("objpath:/fi/w1/wpa_supplicant1/Interfaces/0").output().unwrap().status.success());
    signal("-CONT");
    let (status, answer, stderr) = ended(login.wait_with_output().unwrap());
    assert_eq!((status, &answer["reason"]), (1, &"rejected".into()), "{stderr}");
    laboratory.assert_closed();
}

#[test]
fn a_login_that_is_ended_amid_its_exchange_leaves_the_port_closed() {
    let laboratory = Laboratory::up();
    for moment in ["CTRL-EVENT-EAP-STARTED", "CTRL-EVENT-EAP-METHOD", "CTRL-EVENT-EAP-PEER-CERT", "EAP-TTLS: Phase 2"] {
        let before = laboratory.supplicant_said(moment);
        let login = laboratory.begin(&[]);
        laboratory.wait_for_supplicant(moment, before + 1);
        // Between the kill and the end the exchange goes on, with the right password; it may have come to its end already.
        assert!(Command::new("kill").args(["-TERM", &login.id().to_string()]).status().unwrap().success());
        let (_, answer, stderr) = ended(login.wait_with_output().unwrap());
        if answer["authenticated"] == true {
            assert_eq!(laboratory.logout().0, 0);
        }
        let left = (laboratory.profiles(), laboratory.port());
        assert_eq!(left, (String::new(), "unauthorized".into()), "{moment}: {stderr}");
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
    assert!(laboratory.on_computer(&["nmcli", "connection", "down", "labtools login"]).output().unwrap().status.success());
    let (status, document, stderr) = ended(login.wait_with_output().unwrap());
    assert_eq!((status, document), (75, Value::Null), "{stderr}");
    assert!(stderr.contains("another program ended the login"), "{stderr}");

    let login = begun(2);
    laboratory.kill("wpa_supplicant");
    let (status, document, stderr) = ended(login.wait_with_output().unwrap());
    assert_eq!((status, document), (69, Value::Null), "{stderr}");
    assert!(stderr.contains("wpa_supplicant ended"), "{stderr}");
    laboratory.assert_closed();
}

#[test]
fn a_network_that_does_not_answer_is_a_timeout() {
    let laboratory = Laboratory::up();
    laboratory.script("mode", &["radius-down"]);
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!((status, &login["reason"]), (1, &"timeout".into()), "{stderr}");
    laboratory.assert_closed();
}

#[test]
fn a_port_without_8021x_never_counts_as_a_login() {
    let laboratory = Laboratory::up();
    laboratory.script("mode", &["plain"]);
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!((status, &login["reason"]), (1, &"timeout".into()), "{stderr}");
    assert_eq!(laboratory.profiles(), "");
}

#[test]
fn without_a_cable_there_is_no_login() {
    let laboratory = Laboratory::up();
    laboratory.script("mode", &["unplug"]);
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!((status, &login["reason"]), (1, &"no_carrier".into()), "{stderr}");
    assert_eq!(laboratory.profiles(), "");
}

#[test]
fn a_network_without_addresses_is_named_as_missing() {
    let laboratory = Laboratory::up();
    laboratory.kill("udhcpd-a");
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!(
        (status, &login["authenticated"], &login["links"][0]["addresses"]),
        (0, &true.into(), &serde_json::json!([])),
        "{stderr}"
    );
    let missing: Vec<&str> = login["missing"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap()).collect();
    assert_eq!(missing, ["links[0].addresses", "links[0].primary"], "{login}");
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
    let (status, document, stderr) = ended(login.wait_with_output().unwrap());
    assert_eq!((status, document), (69, Value::Null), "{stderr}");
    // Else it goes on with the login, and opens the port once the switch asks.
    let mut ask = laboratory.on_computer(&["dbus-send", "--system", "--print-reply", "--dest=fi.w1.wpa_supplicant1"]);
    ask.args(["/fi/w1/wpa_supplicant1", "fi.w1.wpa_supplicant1.GetInterface", "string:eth0"]);
    let answer = ask.output().unwrap();
    let answer = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(answer.contains("InterfaceUnknown"), "wpa_supplicant is on eth0 still: {answer}");
    laboratory.signal("hostapd-a", "-CONT");

    let (status, document, stderr) = laboratory.login(ALICE);
    assert_eq!((status, document), (69, Value::Null));
    assert!(stderr.contains("org.freedesktop.NetworkManager") && stderr.contains("start NetworkManager"), "{stderr}");
}

#[test]
fn a_second_login_at_the_same_time_has_to_wait() {
    let laboratory = Laboratory::up();
    let run = tempfile::tempdir().unwrap();
    let root = ["--root", run.path().to_str().unwrap()];
    fs::create_dir_all(run.path().join("run/labtools")).unwrap();
    let lock = fs::File::create(run.path().join("run/labtools/login.lock")).unwrap();
    lock.lock().unwrap();
    let (status, _, stderr) = ended(feed(laboratory.login_command().args(root), &credentials("alice@nowhere.example", "x")));
    assert_eq!(status, 1, "a name that cannot log in needs no lock: {stderr}");
    // With --root the CA is looked for below it; the laboratory's configuration names it beside itself.
    let (status, _, stderr) = ended(feed(laboratory.login_command().args(root), &credentials(ALICE.0, ALICE.1)));
    assert_eq!(status, 75, "{stderr}");
    assert!(stderr.contains("another login is under way"), "{stderr}");

    // The lock comes before the look at what is open: between the two, the other login could have opened it.
    assert_eq!(laboratory.login(ALICE).0, 0);
    let (status, _, stderr) = ended(feed(laboratory.login_command().args(root), &credentials(ALICE.0, ALICE.1)));
    assert_eq!(status, 75, "{stderr}");
    assert!(stderr.contains("another login is under way"), "{stderr}");
}

#[test]
fn a_login_that_cannot_be_told_is_undone() {
    let laboratory = Laboratory::up();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = laboratory.login_command().stdin(Stdio::piped()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(credentials(ALICE.0, ALICE.1).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(74), ""));
    laboratory.assert_closed();
}

#[test]
fn a_login_that_is_interrupted_leaves_nothing() {
    let laboratory = Laboratory::up();
    laboratory.script("mode", &["radius-down"]);
    // The shell says how its child, the tool, ended; and -v says when it has begun.
    let tool = format!("{BINARY} login -v --config {} & wait $!; echo $?", laboratory.path("labtools").display());
    let mut child = laboratory
        .on_computer(&["bash", "-c", &format!("exec 3<&0; {}", tool.replace(" & ", " <&3 & echo $! >&2; "))])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(credentials(ALICE.0, ALICE.1).as_bytes()).unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut pid = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut pid).unwrap();
    let mut begun = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut begun).unwrap();
    assert!(begun.contains("asking the network"), "{begun}");
    // The pid is one of the laboratory's own pid namespace.
    assert!(laboratory.on_computer(&["kill", "-TERM", pid.trim()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "143\n", "ended by the signal");
    laboratory.assert_closed();
}

/// A bus with nobody on it.
struct PrivateBus {
    directory: TempDir,
    daemon: Option<Child>,
}

impl PrivateBus {
    /// A configuration; nothing runs yet.
    fn new() -> PrivateBus {
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join("bus.conf"),
            format!(
                "<busconfig><listen>unix:path={}</listen><policy context=\"default\"><allow own=\"*\"/>\
                 <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/></policy></busconfig>",
                directory.path().join("bus").display()
            ),
        )
        .unwrap();
        PrivateBus { directory, daemon: None }
    }

    fn start(&mut self) {
        let mut daemon = Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile", "--print-address", "--config-file"])
            .arg(self.directory.path().join("bus.conf"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new(); // it prints its address once it listens
        std::io::BufRead::read_line(&mut std::io::BufReader::new(daemon.stdout.take().unwrap()), &mut ready).unwrap();
        self.daemon = Some(daemon);
    }

    fn address(&self) -> String {
        format!("unix:path={}", self.directory.path().join("bus").display())
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }
}

#[test]
fn without_a_bus_or_networkmanager_it_says_so() {
    let mut bus = PrivateBus::new();
    let logout = |bus: &PrivateBus| {
        ended(Command::new(BINARY).arg("logout").env("DBUS_SYSTEM_BUS_ADDRESS", bus.address()).output().unwrap())
    };

    let (status, _, stderr) = logout(&bus);
    assert_eq!(status, 69);
    assert!(stderr.contains("connecting to the system bus"), "{stderr}");

    bus.start();
    let (status, _, stderr) = logout(&bus);
    assert_eq!(status, 69);
    assert!(stderr.contains("org.freedesktop.NetworkManager") && stderr.contains("start NetworkManager"), "{stderr}");
    assert_eq!(stderr.matches("no such name").count(), 1, "{stderr}");
}

/// Answers as NetworkManager and wpa_supplicant do, until a profile is activated; refuses that once its own question is answered.
///
/// A fake, because the real NetworkManager asks a little later, and lost the answer of one login in a hundred. This one asks for
/// the password at once, and talks on, so that the tool never finds its socket empty.
async fn eager_networkmanager(address: &str, ready: mpsc::Sender<()>) -> zbus::Result<()> {
    let connection = Builder::address(address).build().await?;
    let mut messages = MessageStream::from(&connection);
    connection.request_name("org.freedesktop.NetworkManager").await?;
    connection.request_name("fi.w1.wpa_supplicant1").await?;
    let _ = ready.send(()); // the test is over
    let talking = connection.clone();
    std::thread::spawn(move || {
        let signal = || talking.emit_signal(None::<&str>, "/", "org.freedesktop.NetworkManager", "StateChanged", &70u32);
        while zbus::block_on(signal()).is_ok() {}
    });
    let path = |path: &'static str| ObjectPath::try_from(path).unwrap();
    let (mut question, mut activation) = (None, None::<Message>);
    while let Some(message) = messages.next().await {
        let message = message?;
        let header = message.header();
        if question.is_some() && header.reply_serial() == question {
            question = None;
        }
        match header.member().map(|member| member.as_str()).unwrap_or_default() {
            "ListConnections" => connection.reply(&header, &Vec::<ObjectPath<'_>>::new()).await?,
            "GetDevices" => connection.reply(&header, &vec![path("/device")]).await?,
            "Get" => {
                let (_, property): (String, String) = message.body().deserialize()?;
                let value = match property.as_str() {
                    "ActiveConnections" => Variant::from(Vec::<ObjectPath<'_>>::new()),
                    "DeviceType" => 1u32.into(),
                    "Interface" => "labtools0".into(), // no interface of this machine
                    _ => true.into(),
                };
                connection.reply(&header, &value).await?;
            }
            "Register" => {
                connection.reply(&header, &()).await?;
                let nothing = HashMap::<String, HashMap<String, Variant<'_>>>::new();
                let ask = Message::method_call("/org/freedesktop/NetworkManager/SecretAgent", "GetSecrets")
                    .interface("org.freedesktop.NetworkManager.SecretAgent")
                    .destination(header.sender().unwrap().to_owned())
                    .build(&(nothing, path("/"), "802-1x", Vec::<String>::new(), 0u32))?;
                question = Some(ask.primary_header().serial_num());
                connection.send(&ask).await?;
            }
            "AddAndActivateConnection2" => activation = Some(message.clone()),
            other if message.message_type() == Type::MethodCall => {
                connection.reply_error(&header, "org.freedesktop.DBus.Error.UnknownMethod", &other).await?;
            }
            _ => {}
        }
        if let Some(activation) = activation.take_if(|_| question.is_none()) {
            connection.reply_error(&activation.header(), "org.freedesktop.NetworkManager.Failed", &"its agent answered").await?;
        }
    }
    Ok(())
}

#[test]
fn the_secret_agent_answers_from_its_first_moment() {
    let mut bus = PrivateBus::new();
    bus.start();
    let (address, (ready, begun)) = (bus.address(), mpsc::channel());
    std::thread::spawn(move || zbus::block_on(eager_networkmanager(&address, ready)));
    begun.recv().unwrap();
    let root = tempfile::tempdir().unwrap();
    let realms = root.path().join("etc/labtools/realms.d");
    fs::create_dir_all(&realms).unwrap();
    fs::write(realms.join("ca.pem"), include_str!("../../../../testdata/nm-8021x-login/ca.pem")).unwrap();
    let realm = "[realm.uni-a.example]\neap=ttls\nphase2=pap\nca_cert=ca.pem\ndomain_suffix_match=radius.uni-a.example\n";
    fs::write(realms.join("uni-a.example.ini"), realm).unwrap();
    for number in 1..=30 {
        let mut login = Command::new(BINARY);
        login.args(["login", "--root"]).arg(root.path()).env("DBUS_SYSTEM_BUS_ADDRESS", bus.address());
        let (status, _, stderr) = ended(feed(&mut login, &credentials(ALICE.0, ALICE.1)));
        assert_eq!(status, 69, "{stderr}");
        assert!(stderr.contains("its agent answered"), "login {number}: {stderr}");
    }
}
