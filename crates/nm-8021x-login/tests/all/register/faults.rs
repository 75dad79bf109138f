//! Power cuts, kills, a full disk, and others that write.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use jsonpipe::testkit::stepped::{Stepped, killed_before};
use jsonpipe::testkit::{feed, hold};
use nix::sys::signal::Signal;

use super::{Machine, end, login, start};

#[test]
fn register_loses_no_other_line_wherever_a_power_cut_tears_one() {
    let (whole, torn) = (start("1") + &end("1") + &start("2"), end("2"));
    for length in 0..=torn.len() {
        for zeros in [0, 5] {
            let left = [
                whole.as_bytes(),
                &torn.as_bytes()[..length],
                &vec![0; zeros],
            ]
            .concat();
            let machine = Machine::with(&left);
            // What JSON calls whole is whole, with or without its newline.
            let ended = length >= torn.len() - 1 && (zeros == 0 || length == torn.len());
            machine.done("recover", "");
            machine.done("start", &login("3"));
            let last = if ended {
                "end 2 shutdown"
            } else {
                "end 2 power_lost"
            };
            assert_eq!(
                machine.lines(),
                [
                    "start 1 -",
                    "end 1 shutdown",
                    "start 2 -",
                    last,
                    "start 3 -"
                ],
                "{length} {zeros}"
            );
            assert!(fs::read(machine.register()).unwrap().starts_with(&left));
        }
    }
}

#[test]
fn register_is_whole_wherever_a_recover_is_killed() {
    let open = start("1") + &end("1") + &start("2") + &start("3");
    for nth in 0.. {
        let machine = Machine::with(&open);
        let killed = killed_before(&mut machine.command("recover"), nth, |_| true);
        assert!(machine.text().ends_with('\n'), "{nth}");
        machine.done("recover", "");
        let expected = [
            "start 1 -",
            "end 1 shutdown",
            "start 2 -",
            "start 3 -",
            "end 2 power_lost",
            "end 3 power_lost",
        ];
        assert_eq!(machine.lines(), expected, "{nth}");
        if !killed {
            break;
        }
    }
}

fn long_ago(line: String) -> String {
    line.replace("2026", "2004")
}

/// A session that ended long ago, one that began then and ended lately, and one of lately.
fn old_and_young() -> (String, String) {
    let old = start("0") + &end("0") + &start("1");
    (long_ago(old), end("1") + &start("2"))
}

#[test]
fn register_has_the_old_or_the_new_lines_wherever_a_prune_is_killed() {
    let (old, young) = old_and_young();
    let all = old + &young;
    for nth in 0.. {
        let machine = Machine::with(&all);
        let killed = killed_before(&mut machine.command("prune"), nth, |_| true);
        assert!(
            machine.text() == all || machine.text().ends_with(&(long_ago(start("1")) + &young)),
            "neither the old nor the new lines, killed before call {nth}"
        );
        machine.done("prune", "");
        let expected = ["pruned - -", "start 1 -", "end 1 shutdown", "start 2 -"];
        assert_eq!(machine.lines(), expected, "{nth}");
        let names = fs::read_dir(machine.register().parent().unwrap())
            .unwrap()
            .count();
        assert_eq!(names, 1, "nothing else is left");
        if !killed {
            break;
        }
    }
}

#[test]
fn register_has_the_start_on_the_disk_before_it_ends() {
    let machine = Machine::new();
    let document = machine.path().join("login.json");
    fs::write(&document, login("1")).unwrap();
    let mut command = machine.command("start");
    command
        .stdin(File::open(document).unwrap())
        .stdout(Stdio::null());
    let mut run = Stepped::start(&mut command);
    let mut synced = Vec::new();
    while {
        synced.extend(run.syncs());
        run.steps(1)
    } {}
    let register = machine.register();
    for path in [register.as_path(), register.parent().unwrap()] {
        assert!(
            synced.iter().any(|synced| synced == path),
            "{}: not synced: {synced:?}",
            path.display()
        );
    }
}

#[test]
fn register_has_every_line_of_many_writers() {
    const MANY: usize = 20;
    let machine = Machine::with("");
    let lock = hold(&machine.register());
    let writers: Vec<_> = (0..MANY)
        .map(|session| {
            let document = machine.path().join(session.to_string());
            fs::write(&document, login(&session.to_string())).unwrap();
            let mut command = machine.command("start");
            command
                .stdin(File::open(document).unwrap())
                .stdout(Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    lock.unlock().map_err(|(_, errno)| errno).unwrap();
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let mut lines = machine.lines();
    lines.sort();
    lines.dedup();
    assert_eq!((lines.len(), machine.text().lines().count()), (MANY, MANY));
}

#[test]
fn register_whose_lock_is_kept_is_75_in_the_end() {
    let machine = Machine::with("");
    let _lock = hold(&machine.register());
    let ended = machine.run("start", &login("1"));
    ended.refused(75, "opening ");
    assert!(
        ended.stderr.ends_with("another program keeps its lock\n"),
        "{ended:?}"
    );
    assert_eq!(machine.text(), "");
}

#[test]
fn register_without_room_is_as_it_was() {
    // A limit instead of a full disk: the line goes half way, too.
    let machine = Machine::with(start("1") + &end("1") + &start("2") + &end("2"));
    let before = machine.text();
    let limit = before.len().div_ceil(1024);
    let mut bash = Command::new("bash");
    let limited = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$@\"");
    let command = machine.command("start");
    bash.args(["-c", &limited, "bash"]);
    bash.arg(command.get_program()).args(command.get_args());
    feed(&mut bash, &login(&"3".repeat(1024))).refused(73, "writing ");
    assert_eq!(machine.text(), before);
}

#[test]
fn register_that_was_pruned_says_where_a_reader_goes_on() {
    let (old, young) = old_and_young();
    let machine = Machine::with(old.clone() + &young);
    let inode = fs::metadata(machine.register()).unwrap().ino();
    machine.done("prune", "");
    let file = File::open(machine.register()).unwrap();
    let rest = |offset: usize| {
        let moved = register::moved(&file, inode, offset as u64).unwrap();
        moved.map(|offset| machine.text().split_off(offset as usize))
    };
    assert_eq!(rest(old.len()), Some(young.clone()));
    assert_eq!(rest(old.len() + end("1").len()), Some(start("2")));
    assert_eq!(rest(old.len() + young.len()), Some(String::new()));
    assert_eq!(
        rest(old.len() - 1),
        None,
        "what was to be read next is gone"
    );
    assert_eq!(
        register::moved(&file, inode + 1, old.len() as u64).unwrap(),
        None,
        "another file"
    );
}

#[test]
fn register_start_that_is_killed_is_there_whole_or_not_at_all() {
    let machine = Machine::with(start("1") + &end("1"));
    let before = machine.text();
    let document = machine.path().join("login.json");
    fs::write(&document, login("2")).unwrap();
    for calls in 0.. {
        fs::write(machine.register(), &before).unwrap();
        let mut command = machine.command("start");
        command
            .stdin(File::open(&document).unwrap())
            .stdout(Stdio::null());
        let mut run = Stepped::start(&mut command);
        if !run.steps(calls) {
            break;
        }
        run.end_by(Signal::SIGKILL);
        let text = machine.text();
        assert!(text.starts_with(&before) && text.ends_with('\n'), "{calls}");
        assert!(text == before || machine.lines().len() == 3, "{calls}");
    }
}

#[test]
fn register_has_an_end_that_was_seen_once_beside_one_that_was_found() {
    // recover, called while the session runs, is wrong about it.
    let machine = Machine::new();
    machine.done("start", &login("1"));
    machine.done("recover", "");
    let logout = login("1").replace(
        "\"authenticated\":true",
        "\"authenticated\":false,\"ended_at\":\"2026-11-20T09:00:00Z\",\"duration_seconds\":3600",
    );
    machine.done("end shutdown", &logout);
    machine.done("end killed", &logout);
    machine.done("recover", "");
    assert_eq!(
        machine.lines(),
        ["start 1 -", "end 1 killed", "end 1 shutdown"]
    );
    let ended = machine.done("find --address 10.0.0.7 --at 2026-11-20T08:30:00Z", "");
    assert_eq!(ended.section("register")["sessions"][0]["certain"], true);
}
