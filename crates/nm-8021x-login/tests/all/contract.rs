//! The contract of the suite, and what is refused before a packet is sent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::CommandFactory;
use jsonpipe::testkit::{self, Stage};
use nm_8021x_login::request::Arguments;

const LOGIN: Stage = Stage {
    binary: env!("CARGO_BIN_EXE_nm-8021x-login"),
    arguments: &["login"],
    request: "login",
    document: r#"{"login":{"username":"alice@nowhere.example","password":"x"},"choice":{"base":"linux"}}"#,
    prepare: |root| {
        realm(
            root,
            "uni-a.example",
            "ca_cert=ca.pem\ndomain_suffix_match=radius.uni-a.example\n",
        )
    },
};

pub fn realm(root: &Path, name: &str, trust: &str) {
    let directory = root.join("etc/labtools/realms.d");
    fs::create_dir_all(&directory).unwrap();
    fs::write(
        directory.join("ca.pem"),
        include_str!("../../../../testdata/nm-8021x-login/ca.pem"),
    )
    .unwrap();
    fs::write(
        directory.join(format!("{name}.ini")),
        format!("[realm.{name}]\neap=ttls\nphase2=pap\n{trust}"),
    )
    .unwrap();
}

/// A password in INI is refused, so what is the same is the complaint that there is none.
const WITHOUT_PASSWORD: Stage = Stage {
    document: r#"{"login":{"username":"alice@nowhere.example"}}"#,
    ..LOGIN
};

const MAN_PAGE: &str = include_str!("../../../../man/nm-8021x-login.8");
const REALMS_PAGE: &str = include_str!("../../../../man/nm-8021x-login-realms.8");
const SEAT_PAGE: &str = include_str!("../../../../man/lab-seat.8");
const REGISTER_PAGE: &str = include_str!("../../../../man/nm-8021x-login-register.8");

jsonpipe::contract! {
    teaches_help: [LOGIN],
    tells_version: [LOGIN],
    refuses_a_bad_flag: [LOGIN],
    logs_its_run: [LOGIN],
    needs_a_document: [LOGIN],
    names_an_unknown_key: [LOGIN],
    passes_foreign_sections_on: [LOGIN],
    is_silent_when_its_reader_left: [LOGIN],
    reports_a_full_output: [LOGIN],
    passes_a_no_on: "it is the first, and says no itself",
    reads_ini_as_json: [WITHOUT_PASSWORD],
    keeps_the_secret: [LOGIN],
    refuses_the_secret: "the password is its own",
    survives_its_own_panic: [LOGIN],
    names_every_flag_on_its_page: (Arguments::command(), [MAN_PAGE, REALMS_PAGE, REGISTER_PAGE, SEAT_PAGE].concat()),
}

/// `--days` of `realms` is not that of `register prune`.
#[test]
fn the_page_of_each_subcommand_names_its_flags() {
    let command = Arguments::command();
    let visible = command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set());
    for subcommand in visible {
        let page = match subcommand.get_name() {
            "login" | "logout" => MAN_PAGE,
            "prompt" | "explain" => SEAT_PAGE,
            "register" => REGISTER_PAGE,
            _ => REALMS_PAGE,
        };
        testkit::man_page_names_every_flag(subcommand, page);
    }
}

#[test]
fn the_examples_of_the_man_pages_work() {
    for page in [MAN_PAGE, REALMS_PAGE, REGISTER_PAGE, SEAT_PAGE] {
        let directory = tempfile::tempdir().unwrap();
        (LOGIN.prepare)(directory.path());
        fs::copy(
            crate::import::testdata().join("in/uni-c.eap-config"),
            directory.path().join("uni-c.eap-config"),
        )
        .unwrap();
        testkit::man_page_examples_work(LOGIN.binary, page, directory.path());
    }
}

#[test]
fn a_name_that_cannot_log_in_is_refused_with_its_reason() {
    for (name, reason) in [
        ("alice", "bad_user_name"),
        ("alice@", "bad_user_name"),
        ("a@b@uni-a.example", "bad_user_name"),
        ("../../x", "bad_user_name"),
        ("\u{ff41}lice@uni-a.example", "bad_user_name"),
        ("alice@nowhere.example", "unknown_realm"),
        ("alice@../realms.d/uni-a.example", "unknown_realm"),
    ] {
        let ended = LOGIN.answer(&format!(
            r#"{{"login":{{"username":"{name}","password":"x"}}}}"#
        ));
        assert_eq!((ended.status, ended.stderr.as_str()), (1, ""), "{name}");
        assert!(
            ended
                .stdout
                .contains(&format!(r#""authenticated":false,"reason":"{reason}""#)),
            "{}",
            ended.stdout
        );
    }
}

#[test]
fn a_realm_that_a_trap_could_answer_for_is_78_before_a_packet_is_sent() {
    let document = r#"{"login":{"username":"alice@b.example","password":"x"}}"#;
    for (trust, missing) in [
        ("ca_cert=ca.pem\n", "domain_suffix_match"),
        ("domain_suffix_match=radius.b.example\n", "ca_cert"),
    ] {
        let root = tempfile::tempdir().unwrap();
        realm(root.path(), "b.example", trust);
        let ended = LOGIN.run(root.path(), document);
        assert_eq!((ended.status, ended.stdout.as_str()), (78, ""));
        assert!(
            ended
                .stderr
                .contains(&format!("realm.b.example.{missing}: missing")),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_user_whom_the_realm_does_not_let_in_is_refused_before_a_packet_is_sent() {
    let root = tempfile::tempdir().unwrap();
    realm(
        root.path(),
        "uni-a.example",
        "ca_cert=ca.pem\ndomain_suffix_match=radius.uni-a.example\naccepts=stud.uni-a.example\ndeny=eve@uni-a.example\n",
    );
    for name in ["Eve@uni-a.example", "eve@Stud.Uni-A.example"] {
        let document = format!(r#"{{"login":{{"username":"{name}","password":"x"}}}}"#);
        let ended = LOGIN.run(root.path(), &document);
        assert_eq!((ended.status, ended.stderr.as_str()), (1, ""), "{name}");
        let login = ended.section("login");
        assert_eq!(
            [&login["user"], &login["realm"], &login["reason"]],
            ["eve@uni-a.example", "uni-a.example", "not_allowed"]
        );
        // Nobody was asked: this machine has no NetworkManager, or none of its own is to be.
        assert!(login.get("method").is_none(), "{login}");
    }
}

#[test]
fn an_empty_password_is_refused_without_asking() {
    let ended = LOGIN.answer(r#"{"login":{"username":"alice@uni-a.example","password":""}}"#);
    assert_eq!(
        (
            ended.status,
            ended.stdout.contains(r#""reason":"rejected""#)
        ),
        (1, true),
        "{ended:?}"
    );
}

#[test]
fn a_password_that_no_login_can_carry_is_65() {
    for password in ["a\\u0000b".to_owned(), "x".repeat(256), "é".repeat(128)] {
        let ended = LOGIN.answer(&format!(
            r#"{{"login":{{"username":"alice@uni-a.example","password":"{password}"}}}}"#
        ));
        assert_eq!((ended.status, ended.stdout.as_str()), (65, ""));
        assert!(
            ended.stderr.contains("which no login can carry") && !ended.stderr.contains("xx"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn login_and_logout_need_root() {
    let root = tempfile::tempdir().unwrap();
    (LOGIN.prepare)(root.path());
    let binary = root.path().join("nm-8021x-login"); // that of the build may be where only root looks
    fs::copy(LOGIN.binary, &binary).unwrap();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(root.path(), open).unwrap();
    let document = r#"{"login":{"username":"alice@uni-a.example","password":"x"}}"#;
    for (words, input, complaint) in [
        (&["login"][..], document, "logging in: needs root"),
        (&["logout"], "", "logging out: needs root"),
        (&["logout", "--dry-run"], "", "logging out: needs root"),
    ] {
        let mut command = std::process::Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(&binary)
            .args(words)
            .arg("--root")
            .arg(root.path());
        let ended = testkit::feed(command, input);
        ended.refused(77, complaint);
    }
}

/// Its arguments, on a machine without a system bus.
fn without_a_bus(root: &Path, arguments: &[&str], name: &str) -> testkit::Ended {
    let mut login = std::process::Command::new(LOGIN.binary);
    login
        .arg("login")
        .args(arguments)
        .arg("--root")
        .arg(root)
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
    let document = format!(r#"{{"login":{{"username":"{name}","password":"x"}}}}"#);
    testkit::feed(login, &document)
}

#[test]
fn a_dry_run_needs_the_bus_only_for_a_user_who_may_log_in() {
    let root = tempfile::tempdir().unwrap();
    let trust = "ca_cert=ca.pem\ndomain_suffix_match=radius.uni-a.example\n";
    realm(
        root.path(),
        "uni-a.example",
        &format!("{trust}deny=eve@uni-a.example\n"),
    );
    for (name, reason) in [
        ("eve@uni-a.example", "not_allowed"),
        ("eve@uni-b.example", "unknown_realm"),
    ] {
        let ended = without_a_bus(root.path(), &["--dry-run"], name);
        assert_eq!(ended.status, 1, "{ended:?}");
        assert_eq!(ended.section("login")["reason"], reason);
    }
    let ended = without_a_bus(root.path(), &["--dry-run"], "alice@uni-a.example");
    assert_eq!((ended.status, ended.stdout.as_str()), (69, ""), "{ended:?}");
}

#[test]
fn a_login_is_bound_to_a_process_that_is_there() {
    let root = tempfile::tempdir().unwrap();
    (LOGIN.prepare)(root.path());
    let ours = std::process::id().to_string();
    let none = i32::MAX.to_string(); // the kernel gives no such number
    for (pid, status, message) in [
        (&none, 66, "watching process"),
        (&ours, 69, "connecting to the system bus"),
        // The keeper of the one before has ended.
        (&ours, 69, "connecting to the system bus"),
    ] {
        let until = ["--until-pid", pid];
        without_a_bus(root.path(), &until, "alice@uni-a.example").refused(status, message);
    }
}
