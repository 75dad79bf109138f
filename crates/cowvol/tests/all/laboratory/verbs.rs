//! The subcommands that change the store, each with a machine on which it has something to do: the faults of
//! all are tested alike.

use std::fs;

use nix::libc::{
    F_OFD_SETLK, O_CREAT, SYS_chmod, SYS_fallocate, SYS_fchmod, SYS_fchmodat, SYS_fchown,
    SYS_fcntl, SYS_fdatasync, SYS_flock, SYS_fsync, SYS_ftruncate, SYS_linkat, SYS_mkdir,
    SYS_openat, SYS_pwrite64, SYS_rename, SYS_renameat2, SYS_rmdir, SYS_symlinkat, SYS_unlink,
    SYS_unlinkat, SYS_utimensat, SYS_write, c_long,
};

use jsonpipe::testkit::feed;
use jsonpipe::testkit::stepped::{Call, Stepped};

use crate::evict::used_volume;
use crate::idle::idle_volumes;
use crate::machine::signed::{describe, document};
use crate::machine::{ALICE, BOB, Machine, request, write_bases_ini};

/// A run of a subcommand.
pub struct Verb {
    pub name: &'static str,
    /// Makes a machine that has windows@7, linux@3 and an uninstalled windows@8 ready for the run.
    pub prepare: fn(&Machine),
    /// The command line, with ROOT for the root directory.
    arguments: &'static [&'static str],
    /// Its standard input.
    pub input: fn(&Machine) -> String,
}

const fn verb(
    name: &'static str,
    arguments: &'static [&'static str],
    input: fn(&Machine) -> String,
    prepare: fn(&Machine),
) -> Verb {
    Verb {
        name,
        prepare,
        arguments,
        input,
    }
}

pub const VERBS: &[Verb] = &[
    verb("first login", &["clone"], alice, |_| {}),
    verb("first login of a day", &["clone"], alice, alice_was_there),
    verb("login", &["clone"], alice, restorable),
    verb("login that evicts", &["clone"], alice, |machine| {
        used_volume(machine, BOB, 1, 10);
        machine.leave_room(30); // alice needs 34
    }),
    verb("login that replaces", &["clone"], alice, |machine| {
        alice_was_there(machine);
        switch_over(machine);
    }),
    verb(
        "login that restores",
        &["clone"],
        alice_yesterday,
        restorable,
    ),
    verb("exam", &["clone", "--ephemeral"], alice, alice_was_there),
    verb("release", &["release"], nothing, two_logins),
    verb("release of an exam", &["release"], nothing, |machine| {
        let exam = feed(machine.command(&["clone", "--ephemeral"]), &alice(machine));
        assert_eq!(exam.status, 0, "{exam:?}");
    }),
    verb(
        "discard",
        &["discard", "--user", ALICE],
        nothing,
        |machine| {
            two_logins(machine);
            machine.volume(ALICE, Some("linux"));
            assert_eq!(machine.run(&["release"]).status, 0);
        },
    ),
    verb(
        "restore to yesterday",
        &["restore", "--user", ALICE, "--to", "yesterday"],
        nothing,
        restorable,
    ),
    verb(
        "restore to clean",
        &["restore", "--user", ALICE, "--to", "clean"],
        nothing,
        restorable,
    ),
    verb(
        "import",
        &[
            "import",
            "--replace",
            "--user",
            ALICE,
            "--from",
            "ROOT/stream",
        ],
        nothing,
        alice_is_exported,
    ),
    verb("install-base", &["install-base"], windows_8, two_logins),
    verb("prune", &["prune"], nothing, |machine| {
        two_logins(machine);
        switch_over(machine);
    }),
    verb("prune of idle volumes", &["prune"], nothing, idle_volumes),
    verb("repair", &["repair"], nothing, |machine| {
        two_logins(machine);
        let remains = machine.home(ALICE).join(".linux@3.qcow2.tmp");
        fs::write(remains, "half").unwrap();
        fs::write(machine.root().join("qcow2/backing/.bases.ini.tmp"), "half").unwrap();
        fs::create_dir(machine.users().join("A".repeat(38))).unwrap();
    }),
];

impl Verb {
    /// Its command line on a machine.
    pub fn arguments(&self, machine: &Machine) -> Vec<String> {
        let root = machine.root().to_str().unwrap();
        let words = self.arguments.iter();
        words.map(|word| word.replace("ROOT", root)).collect()
    }
}

fn alice(_: &Machine) -> String {
    request(ALICE, Some("windows"))
}

fn alice_yesterday(_: &Machine) -> String {
    let login = r#"{"user":"alice@uni-a.example","authenticated":true}"#;
    format!(r#"{{"login":{login},"choice":{{"base":"windows","restore":"yesterday"}}}}"#)
}

fn nothing(_: &Machine) -> String {
    String::new()
}

fn windows_8(machine: &Machine) -> String {
    document(&describe(machine.root(), "windows", 8)).to_string()
}

fn alice_was_there(machine: &Machine) {
    used_volume(machine, ALICE, 1, 1);
}

/// Alice's volume has a restore point, and her session has ended.
fn restorable(machine: &Machine) {
    alice_was_there(machine);
    let volume = machine.volume(ALICE, Some("windows"));
    assert!(volume["restore_point_at"].is_string(), "{volume}");
    assert_eq!(machine.run(&["release"]).status, 0);
}

fn alice_is_exported(machine: &Machine) {
    alice_was_there(machine);
    let stream = machine.root().join("stream");
    let stream = stream.to_str().unwrap();
    let ended = machine.run(&[
        "export", "--user", ALICE, "--base", "windows", "--to", stream,
    ]);
    assert_eq!(ended.status, 0, "{ended:?}");
}

fn two_logins(machine: &Machine) {
    for user in [ALICE, BOB] {
        machine.volume(user, Some("windows"));
    }
}

fn switch_over(machine: &Machine) {
    let text = machine
        .bases_ini()
        .replace("generation = 7", "generation = 8");
    write_bases_ini(machine.root(), &text);
}

/// Whether the next call writes to a file.
pub fn writes(run: &Stepped) -> bool {
    let Call { number, arguments } = run.next_call();
    [SYS_write, SYS_pwrite64].contains(&number) && run.file(arguments[0]).is_file()
}

/// Whether it takes room.
pub fn needs_room(run: &Stepped) -> bool {
    let Call { number, arguments } = run.next_call();
    let creates = number == SYS_openat && arguments[2] & O_CREAT as u64 != 0;
    creates || writes(run) || [SYS_fallocate, SYS_mkdir, SYS_rename].contains(&number)
}

/// The calls that change or sync something, and take no room.
const OTHERS: [c_long; 14] = [
    SYS_chmod,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_fchown,
    SYS_fdatasync,
    SYS_fsync,
    SYS_ftruncate,
    SYS_linkat,
    SYS_renameat2,
    SYS_rmdir,
    SYS_symlinkat,
    SYS_unlink,
    SYS_unlinkat,
    SYS_utimensat,
];

/// Whether it changes or syncs a file or a directory.
pub fn changes(run: &Stepped) -> bool {
    needs_room(run) || OTHERS.contains(&run.next_call().number)
}

/// Whether it does that, or locks a file.
pub fn changes_or_locks(run: &Stepped) -> bool {
    let Call { number, arguments } = run.next_call();
    let locks = number == SYS_fcntl && arguments[1] == F_OFD_SETLK as u64;
    locks || number == SYS_flock || changes(run)
}
