//! Where the password is not: in no argument, environment, file, log, message or core.
//!
//! Each search is tried on something that it has to find first.

use std::fs;
use std::process::{Command, Stdio};

use jsonpipe::testkit::{Ended, feed};

use super::waiting::wait_until;
use super::{ALICE, BINARY, Laboratory, credentials, told};

/// As no other text is.
const SECRET: &str = "Xyzzy-plugh-7c41";

fn holds(bytes: &[u8]) -> bool {
    bytes
        .windows(SECRET.len())
        .any(|part| part == SECRET.as_bytes())
}

impl Laboratory {
    /// Logs everything, of NetworkManager and of the supplicant.
    fn log_everything(&self) {
        assert!(self.succeeds(&[
            "nmcli", "general", "logging", "level", "TRACE", "domains", "ALL"
        ]));
        assert!(self.succeeds(&[
            "dbus-send",
            "--system",
            "--print-reply",
            "--dest=fi.w1.wpa_supplicant1",
            "/fi/w1/wpa_supplicant1",
            "org.freedesktop.DBus.Properties.Set",
            "string:fi.w1.wpa_supplicant1",
            "string:DebugLevel",
            "variant:string:excessive",
        ]));
    }

    /// The arguments and environments of this machine's processes that hold the password, by what
    /// they call themselves.
    fn in_processes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap() {
            let process = entry.unwrap().path();
            let read = |file: &str| fs::read(process.join(file)).unwrap_or_default(); // gone, perhaps
            for file in ["cmdline", "environ"] {
                if holds(&read(file)) {
                    let name = String::from_utf8_lossy(&read("comm")).trim_end().to_owned();
                    found.push(format!("{file} of {name}"));
                }
            }
        }
        found
    }

    /// The files that hold the password: of the laboratory, without what RADIUS has of its users,
    /// and those below /run, /etc, /var and /tmp of the lab machine that are younger than it.
    fn in_files(&self) -> Vec<String> {
        let search = format!(
            "cd {0} && grep -rlF {SECRET} --exclude-dir=raddb . ; \
             find /run /etc /etc/NetworkManager /var /var/lib/NetworkManager /dev/shm -xdev -type f -newer {0}/mode -exec grep -lF {SECRET} {{}} +",
            self.directory.path().display()
        );
        // From standard input, or the search would find itself.
        let mut child = self
            .on_computer(&["sh", "-s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), search.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let found = String::from_utf8(output.stdout).unwrap();
        found.lines().map(str::to_owned).collect()
    }

    fn assert_nowhere(&self, when: &str) {
        assert_eq!(self.in_processes(), Vec::<String>::new(), "{when}");
        assert_eq!(self.in_files(), Vec::<String>::new(), "{when}");
    }
}

#[test]
fn the_password_is_in_no_argument_environment_file_or_log() {
    let laboratory = Laboratory::up();
    laboratory.script("user", &[ALICE.0, SECRET]);
    laboratory.log_everything();

    let mut revealing = laboratory
        .on_computer(&["sh", "-c", "read line"])
        .env("REVEALED", SECRET)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the process that reveals it", || {
        laboratory.in_processes() == ["environ of sh"]
    });
    drop(revealing.stdin.take());
    revealing.wait().unwrap();
    for file in ["/run/revealed", "/etc/NetworkManager/revealed"] {
        assert!(laboratory.succeeds(&[
            "sh",
            "-c",
            &format!("printf 'Xyzzy-%s' plugh-7c41 >{file}")
        ]));
        assert_eq!(laboratory.in_files(), [file]);
        assert!(laboratory.succeeds(&["rm", file]));
    }

    // Amid the exchange: the switch has not answered yet.
    for port in ["hostapd-a", "hostapd-b"] {
        laboratory.signal(port, "-STOP");
    }
    let login = laboratory.begin_as((ALICE.0, SECRET), &["-v"]);
    laboratory.wait_for_supplicant("Associated with", 1);
    laboratory.assert_nowhere("amid the login");
    for port in ["hostapd-a", "hostapd-b"] {
        laboratory.signal(port, "-CONT");
    }
    let output = login.wait_with_output().unwrap();
    assert!(!holds(&output.stdout) && !holds(&output.stderr));
    assert_eq!(told(Ended::of(output)).0, 0);
    laboratory.assert_nowhere("in the session");

    laboratory.script("reauth", &["a"]);
    for program in ["wpa_supplicant", "NetworkManager"] {
        laboratory.kill(program);
        laboratory.script("revive", &[program]);
        laboratory.log_everything();
        wait_until(program, || laboratory.is_open("a"));
        wait_until(program, || laboratory.reaches_the_server());
    }
    laboratory.assert_nowhere("after the services were killed");
    let output = laboratory
        .on_computer(&[BINARY, "logout"])
        .output()
        .unwrap();
    assert!(!holds(&output.stdout) && !holds(&output.stderr));
    laboratory.assert_nowhere("after the session");
    laboratory.assert_closed();
}

#[test]
fn no_complaint_names_the_password() {
    let laboratory = Laboratory::up();
    let tell = |what: &str| {
        let (status, login, stderr) = laboratory.login((ALICE.0, SECRET));
        let said = format!("{login} {stderr}");
        assert!(status != 0 && !holds(said.as_bytes()), "{what}: {said}");
    };
    tell("a refusal");
    fs::remove_file(laboratory.path("labtools/realms.d/uni-a.pem")).unwrap();
    tell("no CA file");
    laboratory.kill("wpa_supplicant");
    tell("no supplicant");
    laboratory.kill("dbus");
    tell("no bus");
    // A document that cannot be read is quoted nowhere.
    for document in [
        format!(
            r#"{{"login":{{"username":"{}","password":"{SECRET}""#,
            ALICE.0
        ),
        format!(
            r#"{{"login":{{"username":"{}","password":["{SECRET}"]}}}}"#,
            ALICE.0
        ),
        format!(
            r#"{{"login":{{"username":"{}","pasword":"{SECRET}"}}}}"#,
            ALICE.0
        ),
        format!("[login]\nusername={}\npassword={SECRET}\n", ALICE.0),
    ] {
        let (status, login, stderr) = told(feed(laboratory.login_command(), &document));
        let said = format!("{login} {stderr}");
        assert!(status == 65 && !holds(said.as_bytes()), "{said}");
    }
}

/// Root, but without what lets it look into every process.
const LESS: [&str; 3] = [
    "setpriv",
    "--bounding-set=-sys_ptrace,-perfmon,-sys_admin",
    "--",
];

#[test]
fn the_process_that_has_the_password_leaves_no_core_and_is_not_swapped() {
    let laboratory = Laboratory::up();
    let configuration = laboratory.path("labtools");
    let login = [BINARY, "login", "--config", configuration.to_str().unwrap()];
    let login = laboratory.on_computer(&[&LESS[..], &login].concat());
    let ended = feed(login, &credentials(ALICE.0, ALICE.1));
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let holder = laboratory
        .process("nm-8021x-holder")
        .unwrap()
        .unsigned_abs();
    let of_holder = |file: &str| fs::read_to_string(format!("/proc/{holder}/{file}")).unwrap();

    let limits = of_holder("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let words: Vec<&str> = core.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{limits}");

    // The kernel makes no core of a process that is not dumpable, and none like it may look into it.
    let may_look = |pid: u32| {
        let mut look = Command::new(LESS[0]);
        look.args(&LESS[1..]).arg("cat");
        look.arg(format!("/proc/{pid}/environ"));
        look.output().unwrap().status.success()
    };
    let mut dumpable = Command::new(LESS[0])
        .args(&LESS[1..])
        .arg("cat")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("a look into another process", || may_look(dumpable.id()));
    assert!(!may_look(holder));
    drop(dumpable.stdin.take());
    dumpable.wait().unwrap();

    let status = of_holder("status");
    let kib = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        let number = line.split_whitespace().nth(1).unwrap();
        number.parse::<u64>().unwrap()
    };
    assert!(kib("VmLck:") >= kib("RssAnon:"), "{status}");
    assert_eq!(laboratory.logout().0, 0);
    laboratory.assert_closed();
}
