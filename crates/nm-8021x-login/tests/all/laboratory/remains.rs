//! What a seat gets over: a state file that nobody wrote, no room for one, a directory that was
//! deleted, or memory that cannot be locked.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use jsonpipe::testkit::{Ended, feed};
use serde_json::Value;

use super::waiting::wait_until;
use super::{ALICE, CAROL, Laboratory, credentials, told};

impl Laboratory {
    fn shell(&self, script: &str) {
        assert!(self.succeeds(&["sh", "-ec", script]), "{script}");
    }

    /// Logs Alice in on both links, and kills both processes of her session.
    fn abandon_a_session(&self) {
        self.log_in_on_both();
        // The keeper first: it would close the ports of a holder that was killed.
        let pids = ["nm-8021x-keeper", "nm-8021x-holder"].map(|name| self.process(name).unwrap());
        self.shell(&format!("kill -9 {} {}", pids[0], pids[1]));
        wait_until("the end of the profiles", || self.profiles().is_empty());
    }

    fn log_in_on_both(&self) {
        let (status, login, stderr) = self.login(ALICE);
        assert_eq!(status, 0, "{login} {stderr}");
        wait_until("both links", || self.is_open("a") && self.is_open("b"));
    }
}

#[test]
fn a_state_file_that_nobody_wrote_closes_every_cable() {
    let laboratory = Laboratory::up();
    for (number, foreign) in [
        "printf '{\"schema\":1,\"sess' > login.json",
        "printf '{\"schema\":2}' > login.json",
        "ln -s /etc/shadow login.json",
        "mkfifo login.json",
        "mkdir -p login.json/x",
        "rm login.sock; mkdir -p login.json/x login.sock/x",
        r#"printf '{"schema":1,"user":"u","realm":"r","status":"up","started_at":"t","started_boot_seconds":0,"links":[{"interface":"no\\u0000name","kind":"ethernet","profile":"p","open":true,"addresses":[]}]}' > login.json"#,
        r#"printf '{"schema":1,"user":"u","realm":"r","status":"up","started_at":"t","started_boot_seconds":0,"links":[{"interface":"eth0","kind":"ethernet","profile":"\\u0000","open":true,"addresses":[]}]}' > login.json"#,
    ]
    .into_iter()
    .enumerate()
    {
        laboratory.abandon_a_session();
        laboratory.shell(&format!(
            "cd /run/labtools && rm login.json && {foreign} && test -e login.json"
        ));
        let (status, section, stderr) = if number % 2 == 0 {
            laboratory.logout()
        } else {
            laboratory.login((ALICE.0, "wrong"))
        };
        assert_eq!(status, i32::from(number % 2 == 1), "{foreign}: {stderr}");
        assert_eq!(section["authenticated"], false, "{foreign}");
        if number % 2 == 0 {
            assert!(stderr.contains("/run/labtools/login.json"), "{stderr}");
        }
        laboratory.assert_closed();
        assert_eq!(laboratory.logout().2, "", "it is gone: {foreign}");
    }
}

#[test]
fn without_room_nobody_gets_in_and_everybody_gets_out() {
    let laboratory = Laboratory::up();
    laboratory.shell(
        "mkdir -m 700 /run/labtools; mount -t tmpfs -o size=64k,mode=0700 small /run/labtools",
    );
    let fill = "dd if=/dev/zero of=/run/labtools/full bs=4k 2>/dev/null || true";
    laboratory.abandon_a_session();
    laboratory.shell(fill);
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!((status, login), (73, Value::Null), "{stderr}");
    laboratory.assert_closed();
    laboratory.shell("rm /run/labtools/full");
    laboratory.abandon_a_session();
    laboratory.shell(fill);
    let (status, section, stderr) = laboratory.logout();
    assert_eq!((status, &section["changed"]), (0, &true.into()), "{stderr}");
    assert_eq!(section["user"], ALICE.0);
    laboratory.assert_closed();
    laboratory.shell("rm /run/labtools/full; umount /run/labtools");
}

#[test]
fn a_session_whose_directory_is_deleted_ends_and_is_told_of() {
    let laboratory = Laboratory::up();
    laboratory.log_in_on_both();
    laboratory.shell("rm -r /run/labtools");
    wait_until("the end of the session", || {
        laboratory.process("nm-8021x-holder").is_none()
            && laboratory.process("nm-8021x-keeper").is_none()
    });
    laboratory.assert_closed();
    let (status, section, stderr) = laboratory.logout();
    assert_eq!((status, &section["user"]), (0, &ALICE.0.into()), "{stderr}");
    assert!(section["ended_at"].is_string(), "{section}");
}

#[test]
fn a_login_waits_for_a_session_whose_directory_was_deleted() {
    let laboratory = Laboratory::up();
    laboratory.log_in_on_both();
    let pids = ["nm-8021x-keeper", "nm-8021x-holder"].map(|name| laboratory.process(name).unwrap());
    let signal = |signal| laboratory.shell(&format!("kill -{signal} {} {}", pids[0], pids[1]));
    signal("STOP"); // so that it closes its ports as late as can be
    laboratory.shell("rm -r /run/labtools");
    let (status, login, stderr) = laboratory.login(CAROL);
    assert_eq!((status, login), (75, Value::Null), "{stderr}");
    assert!(stderr.contains("the session before"), "{stderr}");
    laboratory.shell("test ! -e /run/labtools/login.json; rm -r /run/labtools");

    let login = laboratory.begin_as(CAROL, &[]);
    wait_until("the next login", || {
        laboratory.succeeds(&["test", "-e", "/run/labtools/login.lock"])
    });
    signal("CONT");
    let (status, login, stderr) = told(Ended::of(login.wait_with_output().unwrap()));
    assert_eq!((status, stderr.as_str()), (0, ""), "{login}");
    wait_until("both links", || {
        laboratory.is_open("a") && laboratory.is_open("b")
    });
    let (status, section, stderr) = laboratory.logout();
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(
        [&section["user"], &section["session"], &section["changed"]],
        [&CAROL.0.into(), &login["session"], &true.into()]
    );
    laboratory.assert_closed();
}

#[test]
fn another_user_cannot_keep_people_from_logging_in_by_the_name_of_the_session() {
    let laboratory = Laboratory::up();
    let program = r#"use Socket;
        socket(S, AF_UNIX, SOCK_STREAM, 0) && bind(S, pack_sockaddr_un("\0labtools/nm-8021x-login"))
            && listen(S, 1) || die $!;
        $| = 1; print "taken\n"; sleep;"#;
    let as_nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let mut other = laboratory
        .on_computer(&[&as_nobody[..], &["perl", "-e", program]].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = String::new();
    BufReader::new(other.stdout.take().unwrap())
        .read_line(&mut word)
        .unwrap();
    assert_eq!(word, "taken\n");
    let (status, login, stderr) = laboratory.login(ALICE);
    assert_eq!((status, stderr.as_str()), (0, ""), "{login}");
    assert_eq!(laboratory.logout().0, 0);
    laboratory.assert_closed();
    laboratory.shell(&format!("kill {}", other.id()));
    other.wait().unwrap();
}

#[test]
fn memory_that_cannot_be_locked_ends_the_login() {
    let laboratory = Laboratory::up();
    let configuration = laboratory.path("labtools");
    let login = laboratory.on_computer(&[
        "setpriv",
        "--bounding-set=-ipc_lock",
        "--inh-caps=-ipc_lock",
        "prlimit",
        "--memlock=0",
        super::BINARY,
        "login",
        "--config",
        configuration.to_str().unwrap(),
    ]);
    let (status, login, stderr) = told(feed(login, &credentials(ALICE.0, ALICE.1)));
    assert_eq!((status, login), (77, Value::Null), "{stderr}");
    assert!(stderr.contains("locking the password"), "{stderr}");
    laboratory.assert_closed();
}
