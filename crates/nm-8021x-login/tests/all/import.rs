//! `import`, on the files of testdata/realms.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use jsonpipe::testkit::stepped::killed_before;
use jsonpipe::testkit::{Ended, assert_expected};
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use serde_json::{Value, json};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_nm-8021x-login");

pub fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/realms")
}

/// A machine as a directory.
pub struct Machine(TempDir);

impl Machine {
    pub fn new() -> Machine {
        Machine(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn command(&self, subcommand: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg(subcommand).args(arguments);
        command.arg("--root").arg(self.0.path());
        command.current_dir(testdata());
        command
    }

    pub fn import(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command("import", arguments).output().unwrap())
    }

    /// The names and texts in a directory.
    pub fn files(&self, directory: &str) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.path(directory)).unwrap();
        let mut files: Vec<_> = entries
            .map(|entry| {
                let entry = entry.unwrap();
                let text = fs::read(entry.path()).unwrap();
                let text = String::from_utf8_lossy(&text).into_owned();
                (entry.file_name().into_string().unwrap(), text)
            })
            .collect();
        files.sort();
        files
    }

    pub fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// It printed no document, and said that in one line.
#[track_caller]
pub fn refuses(ended: &Ended, status: i32, words: &str) {
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (status, ""),
        "{ended:?}"
    );
    assert!(ended.stderr.contains(words), "{words}: {ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}

pub const SET: &str = "var/lib/labtools/realms";
pub const STATE: &str = "var/lib/labtools";

/// The files are described in testdata/realms/README.md.
#[test]
fn a_directory_is_imported_with_a_reason_for_each_bad_file() {
    let machine = Machine::new();
    let ended = machine.import(&["in", "-v"]);
    assert_eq!(ended.status, 1, "{ended:?}");
    let found = machine.path("found");
    fs::create_dir(&found).unwrap();
    let document = serde_json::to_string_pretty(&ended.document()).unwrap();
    fs::write(found.join("document.json"), document + "\n").unwrap();
    for (name, text) in machine.files(SET) {
        fs::write(found.join(name), text).unwrap();
    }
    assert_expected(&testdata(), &found);
    let all = format!("{ended:?}{:?}", machine.files(SET));
    assert!(
        !all.contains("SECRET") && !all.contains("U0VDUkVU"),
        "{all}"
    );

    let again = machine.import(&["in"]);
    assert_eq!(again.section("import")["changed"], false);
    assert_eq!(machine.names(STATE), ["realms", "realms-1"]);
}

#[test]
fn a_later_import_adds_to_the_set_and_says_what_changed() {
    let machine = Machine::new();
    let both = machine.import(&["in/uni-b.eap-config", "in/twice-1.eap-config"]);
    assert_eq!((both.status, both.stderr.as_str()), (0, ""));
    let section = machine.import(&["in/twice-2.eap-config"]).section("import");
    let changes = &section["changes"];
    assert_eq!(changes.as_array().unwrap().len(), 1, "{section}");
    assert_eq!(changes[0]["realm"], "twice.example");
    for (key, subject) in [
        ("old_ca_certificates", "O=Federation, CN=Federation Root"),
        ("new_ca_certificates", "O=Uni B, CN=Uni B Root"),
    ] {
        assert_eq!(changes[0][key][0]["subject"], subject);
        let expires = changes[0][key][0]["not_after"].as_str().unwrap();
        assert!(expires.starts_with("2126-"), "{expires}");
    }
    let uni_b = [
        "twice.example.ini",
        "twice.example.pem",
        "uni-b.example.ini",
        "uni-b.example.pem",
    ];
    assert_eq!(machine.names(SET), uni_b);
    // The set before the present one stays for the sessions that go on; older ones do not.
    machine.import(&["in/twice-1.eap-config"]);
    assert_eq!(machine.names(STATE), ["realms", "realms-2", "realms-3"]);
}

#[test]
fn a_dry_run_changes_nothing() {
    let machine = Machine::new();
    let ended = machine.import(&["--dry-run", "in/uni-a.eap-config"]);
    assert_eq!(
        (ended.status, &ended.section("import")["changed"]),
        (0, &json!(true))
    );
    assert_eq!(machine.names(STATE), Vec::<String>::new());
}

#[test]
fn a_directory_that_is_given_keeps_what_else_it_has() {
    let machine = Machine::new();
    let directory = machine.path("etc/labtools/realms.d");
    let into = directory.to_str().unwrap();
    machine.write("etc/labtools/realms.d/ca.pem", "x");
    symlink("uni-a.example.ini", directory.join("old.example.ini")).unwrap();
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o750)).unwrap();
    assert_eq!(
        machine
            .import(&["--into", into, "in/uni-a.eap-config"])
            .status,
        0
    );
    let names = [
        "ca.pem",
        "old.example.ini",
        "uni-a.example.ini",
        "uni-a.example.pem",
    ];
    assert_eq!(machine.names("etc/labtools/realms.d"), names);
    assert!(directory.join("old.example.ini").is_symlink());
    let mode = directory.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
    assert_eq!(machine.names("etc/labtools"), ["realms.d"]);
    assert!(!machine.path("var").exists());

    let new = machine.path("new");
    let into = new.to_str().unwrap();
    assert_eq!(
        machine
            .import(&["--into", into, "in/uni-c.eap-config"])
            .status,
        0
    );
    assert_eq!(
        machine.names("new"),
        ["uni-c.example.ini", "uni-c.example.pem"]
    );

    fs::create_dir(new.join("sub")).unwrap();
    refuses(
        &machine.import(&["--into", into, "in/uni-a.eap-config"]),
        78,
        "sub: not a file",
    );
    assert_eq!(
        machine.names("new"),
        ["sub", "uni-c.example.ini", "uni-c.example.pem"]
    );
}

#[test]
fn a_file_with_keys_of_the_site_is_kept() {
    let machine = Machine::new();
    machine.import(&["in/uni-a.eap-config"]);
    let own = "[realm.uni-a.example]\neap=ttls\nphase2=pap\nca_cert=ca.pem\ndomain_suffix_match=radius.uni-a.example\nallow=*@uni-a.example\n";
    machine.write("etc/labtools/realms.d/uni-a.example.ini", own);
    let ended = machine.import(&["in/uni-a.eap-config", "in/uni-c.eap-config"]);
    let section = ended.section("import");
    assert_eq!(
        (
            ended.status,
            section["kept"][0]["realm"].as_str(),
            section["kept"][0]["file"].as_str(),
            section["kept"][0]["reason"].as_str()
        ),
        (
            0,
            Some("uni-a.example"),
            Some("/etc/labtools/realms.d/uni-a.example.ini"),
            Some("it has keys of this site: allow")
        ),
        "{ended:?}"
    );
    let names = ["uni-c.example.ini", "uni-c.example.pem"];
    assert_eq!(machine.names(SET), names, "it would be in its way");

    let directory = machine.path("etc/labtools/realms.d");
    let into = directory.to_str().unwrap();
    let ended = machine.import(&["--into", into, "in/uni-a.eap-config", "in/uni-c.eap-config"]);
    assert_eq!(ended.section("import")["kept"][0]["realm"], "uni-a.example");
    let kept = fs::read_to_string(directory.join("uni-a.example.ini")).unwrap();
    assert_eq!(kept, own);

    // What is torn may be a gate.
    machine.write("etc/labtools/realms.d/uni-a.example.ini", "[realm");
    let ended = machine.import(&["in/uni-a.eap-config"]);
    let kept = &ended.section("import")["kept"][0];
    let reason = kept["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("/etc/labtools/realms.d/uni-a.example.ini"),
        "{reason}"
    );
    machine
        .import(&["--into", "in/uni-a.eap-config", "in/uni-c.eap-config"])
        .refused(73, "replacing ");
}

#[test]
fn a_realm_can_be_given_with_one_file() {
    let machine = Machine::new();
    let one = machine.import(&["--realm", "Given.example", "in/no-realm.eap-config"]);
    assert_eq!(one.status, 0, "{one:?}");
    assert_eq!(
        machine.names(SET),
        ["given.example.ini", "given.example.pem"]
    );
    for (arguments, status, words) in [
        (
            &["--realm", "a.example", "in"][..],
            2,
            "--realm: it is for one file",
        ),
        (
            &["--realm", "../a", "in/uni-a.eap-config"],
            2,
            "--realm: not a domain name",
        ),
        (&["in/nothing.eap-config"], 66, "in/nothing.eap-config: "),
        (&["expected"], 66, "no *.eap-config and no *.xml in it"),
        (
            &["--into", "/nonexistent/a", "in/uni-a.eap-config"],
            66,
            "/nonexistent/a",
        ),
    ] {
        refuses(&machine.import(arguments), status, words);
    }
}

#[test]
fn what_is_no_file_or_too_large_has_a_reason() {
    let machine = Machine::new();
    let directory = machine.path("in");
    fs::create_dir(&directory).unwrap();
    nix::unistd::mkfifo(&directory.join("a.xml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("/dev/zero", directory.join("b.xml")).unwrap();
    let huge = File::create(directory.join("c.xml")).unwrap();
    huge.set_len(1 << 40).unwrap();
    fs::create_dir(directory.join("d.xml")).unwrap();
    symlink("nowhere", directory.join("e.xml")).unwrap();
    fs::write(directory.join("ignored.txt"), "").unwrap();
    let ended = machine.import(&[directory.to_str().unwrap()]);
    let refused = ended.section("import")["refused"].clone();
    let reasons: Vec<&str> = refused
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["reason"].as_str().unwrap())
        .collect();
    assert_eq!(ended.status, 1);
    assert_eq!(
        reasons,
        [
            "not a regular file",
            "not a regular file",
            "larger than 4 MiB, which no such file is",
            "is a directory",
            "No such file or directory (os error 2)"
        ],
    );
}

#[test]
fn a_second_import_at_the_same_time_waits_its_turn() {
    let machine = Machine::new();
    machine.import(&["in/uni-a.eap-config"]);
    let state = File::open(machine.path(STATE)).unwrap();
    let held = Flock::lock(state, FlockArg::LockExclusiveNonblock).unwrap();
    refuses(
        &machine.import(&["in/uni-c.eap-config"]),
        75,
        "another import or update is under way",
    );
    drop(held);
    assert_eq!(machine.import(&["in/uni-c.eap-config"]).status, 0);
}

#[test]
fn a_set_that_has_no_room_changes_nothing() {
    let machine = Machine::new();
    machine.import(&["in/uni-c.eap-config"]);
    let before = machine.files(SET);
    let command = machine.command("import", &["in/uni-a.eap-config"]);
    let mut bash = Command::new("bash");
    // The kernel lets no file grow beyond 1 KiB, and says so instead of ending the process.
    bash.args([
        "-c",
        "trap '' XFSZ; ulimit -f 1; exec \"$@\"",
        "bash",
        BINARY,
    ]);
    bash.args(command.get_args()).current_dir(testdata());
    refuses(
        &Ended::of(bash.output().unwrap()),
        73,
        "uni-a.example.pem: ",
    );
    assert_eq!(machine.files(SET), before);
    assert_eq!(machine.names(STATE), ["realms", "realms-1"]);

    machine.write("var/lib/labtools/realms-1/x/y", "");
    let moved = Machine::new();
    moved.write("var/lib/labtools/realms/x.ini", "");
    refuses(
        &moved.import(&["in/uni-a.eap-config"]),
        78,
        "realms: a directory, and not the symbolic link",
    );
    assert_eq!(moved.names(SET), ["x.ini"]);
}

/// At whatever change of the disk a power cut or a kill comes, the set is the old one or the new
/// one, and the next import leaves nothing of it.
#[test]
fn killed_at_any_moment_the_set_is_whole() {
    let changes = |call: libc::c_long| {
        [
            libc::SYS_mkdir,
            libc::SYS_mkdirat,
            libc::SYS_linkat,
            libc::SYS_symlink,
            libc::SYS_symlinkat,
            libc::SYS_rename,
            libc::SYS_renameat,
            libc::SYS_renameat2,
            libc::SYS_unlink,
            libc::SYS_unlinkat,
            libc::SYS_rmdir,
            libc::SYS_write,
            libc::SYS_syncfs,
        ]
        .contains(&call)
    };
    for into in [None, Some("realms")] {
        let directory = into.unwrap_or(SET);
        let place = Path::new(directory)
            .parent()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let outcome = |killed_at: Option<u64>| {
            let machine = Machine::new();
            let path = machine.path(directory);
            let mut arguments = vec![];
            if into.is_some() {
                arguments = vec!["--into", path.to_str().unwrap()];
            }
            let import =
                |file: &str| machine.command("import", &[&arguments[..], &[file]].concat());
            import("in/uni-c.eap-config").output().unwrap();
            import("in/twice-1.eap-config").output().unwrap();
            let old = machine.files(directory);
            let killed = killed_at
                .map(|nth| killed_before(&mut import("in/twice-2.eap-config"), nth, changes));
            let found = match path.exists() {
                true => machine.files(directory),
                false => Vec::new(),
            };
            let again = import("in/twice-2.eap-config").output().unwrap();
            assert!(again.status.success(), "{again:?}");
            let new = machine.files(directory);
            assert!(
                found == old || found == new,
                "neither set is whole after a kill at {killed_at:?}: {found:?}"
            );
            let names = machine.names(&place);
            assert!(
                names.iter().all(|name| !name.starts_with('.')) && names.len() <= 3,
                "{killed_at:?}: {names:?}"
            );
            (killed, found == new)
        };
        let mut switched = 0;
        let mut kept = 0;
        for nth in 0.. {
            let (killed, is_new) = outcome(Some(nth));
            if killed == Some(false) {
                break;
            }
            if is_new { switched += 1 } else { kept += 1 }
        }
        assert!(
            kept > 5 && switched > 0,
            "{into:?}: {kept} before the switch, {switched} after"
        );
    }
}

/// Its documents name the places that people can read.
#[test]
fn every_reason_is_one_line() {
    let machine = Machine::new();
    let section = machine.import(&["in"]).section("import");
    for refused in section["refused"].as_array().unwrap() {
        let reason = refused["reason"].as_str().unwrap();
        assert!(
            !reason.is_empty() && !reason.contains('\n') && reason.len() < 200,
            "{reason}"
        );
        assert_ne!(refused["file"], Value::Null);
    }
}
