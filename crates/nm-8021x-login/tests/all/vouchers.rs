//! What `guest-voucher` writes, and where. That FreeRADIUS takes it: `laboratory/realms.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use jsonpipe::testkit::{Ended, feed};

const BINARY: &str = env!("CARGO_BIN_EXE_nm-8021x-login");

fn vouchers(directory: &Path, arguments: &[&str]) -> Ended {
    let mut command = Command::new(BINARY);
    command
        .current_dir(directory)
        .env("TZ", "UTC")
        .args(["guest-voucher", "--realm", "Uni-A.example"])
        .args(arguments);
    feed(command, "")
}

fn bash(directory: &Path, script: &str) -> Ended {
    let mut command = Command::new("bash");
    command.current_dir(directory).args([
        "-c",
        script,
        BINARY,
        "guest-voucher",
        "--realm",
        "uni-a.example",
    ]);
    feed(command, "")
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn vouchers_are_in_both_files_and_their_passwords_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let ended = vouchers(
        directory.path(),
        &[
            "--count", "3", "--hours", "2", "--users", "users", "--slips", "slips",
        ],
    );
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    let told = ended.section("vouchers");
    assert_eq!(
        (&told["changed"], &told["realm"]),
        (&true.into(), &"uni-a.example".into())
    );
    let users = fs::read_to_string(directory.path().join("users")).unwrap();
    let slips = fs::read_to_string(directory.path().join("slips")).unwrap();
    let expires_at = told["expires_at"].as_str().unwrap();
    let entries: Vec<_> = users
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(
        (entries.len(), told["users"].as_array().unwrap().len()),
        (3, 3)
    );
    for (entry, user) in entries.iter().zip(told["users"].as_array().unwrap()) {
        let user = user.as_str().unwrap();
        let password = entry.split('"').nth(1).unwrap();
        assert!(
            entry.starts_with(&format!("{user} Cleartext-Password := \"")),
            "{entry}"
        );
        assert!(slips.contains(&format!("User name   {user}\n  Password    {password}\n")));
        assert!(!ended.stdout.contains(password));
        assert_eq!(password.len(), 19);
    }
    assert_eq!(users.matches(&format!("# until {expires_at}\n")).count(), 3);
    let minute = expires_at[..16].replace('T', " ");
    assert_eq!(
        slips
            .matches(&format!("Good until  {minute} UTC\n"))
            .count(),
        3
    );
    for name in ["users", "slips"] {
        let mode = fs::metadata(directory.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    // The same names again would lose the vouchers that are out.
    let again = vouchers(directory.path(), &["--users", "users", "--slips", "other"]);
    again.refused(73, "writing users: it is there already");
    assert!(!directory.path().join("other").exists());
}

#[test]
fn vouchers_go_to_a_pipe_or_to_the_end_of_an_open_file() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("authorize"),
        "bob Cleartext-Password := \"x\"\n",
    )
    .unwrap();
    let ended = bash(
        directory.path(),
        r#""$0" "$@" --users /dev/fd/3 --slips /dev/fd/4 3>>authorize 4> >(cat >slips; touch done); until [ -e done ]; do :; done"#,
    );
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    let authorize = fs::read_to_string(directory.path().join("authorize")).unwrap();
    let lines: Vec<_> = authorize.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("bob ") && lines[2].starts_with("visitor-"));
    assert!(
        fs::read_to_string(directory.path().join("slips"))
            .unwrap()
            .contains("Password")
    );
}

#[test]
fn vouchers_never_go_to_standard_output() {
    let directory = tempfile::tempdir().unwrap();
    for path in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let ended = bash(
            directory.path(),
            &format!(r#""$0" "$@" --users users --slips {path} | cat; exit "${{PIPESTATUS[0]}}""#),
        );
        ended.refused(2, &format!("{path}: standard output is for the document"));
        assert!(is_empty(directory.path()));
    }
}

#[test]
fn vouchers_that_cannot_all_be_written_are_not_there_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let ended = vouchers(
        directory.path(),
        &["--users", "none/users", "--slips", "slips"],
    );
    ended.refused(73, "writing none/users: no directory none; make it first");
    assert!(is_empty(directory.path()));
    let ended = vouchers(
        directory.path(),
        &["--users", "/dev/full", "--slips", "slips"],
    );
    ended.refused(73, "writing /dev/full");
    assert!(is_empty(directory.path()));
    let whole = directory.path().join("one");
    for slips in ["one", "./one", whole.to_str().unwrap()] {
        let ended = vouchers(directory.path(), &["--users", "one", "--slips", slips]);
        ended.refused(2, "--users and --slips: one file");
    }
    let ended = bash(
        directory.path(),
        r#""$0" "$@" --users /dev/fd/3 --slips /dev/fd/4 3>>both 4>>both; status=$?; rm both; exit $status"#,
    );
    ended.refused(2, "--users and --slips: one file");
    assert!(is_empty(directory.path()));
    let ended = vouchers(
        directory.path(),
        &["--users", "u", "--slips", "s", "--realm", "a/b"],
    );
    assert_eq!(ended.status, 2);
}

#[test]
fn vouchers_of_a_dry_run_are_none() {
    let directory = tempfile::tempdir().unwrap();
    let ended = vouchers(
        directory.path(),
        &["--users", "u", "--slips", "s", "--dry-run"],
    );
    let told = ended.section("vouchers");
    assert_eq!(
        (ended.status, &told["changed"], &told["users"]),
        (0, &false.into(), &serde_json::json!([]))
    );
    assert!(is_empty(directory.path()));
}
