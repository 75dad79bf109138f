//! What `cowvol clone` leaves where something fails or comes between: a full disk, a lock, a
//! signal, a power cut.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use jsonpipe::testkit::{feed, heeding_signals, redirected};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::clone::ALICES_TOKEN;
use crate::machine::{
    ALICE, BOB, CLONE, Machine, base_path, faults, make_base, request, tree, write_bases_ini,
};

#[test]
fn leftovers_of_a_power_cut_are_harmless() {
    let machine = Machine::new();
    fs::create_dir_all(machine.home(ALICE)).unwrap();
    fs::write(
        machine.home(ALICE).join(".windows@7.qcow2.tmp"),
        vec![0xff; 1 << 20],
    )
    .unwrap();
    assert_eq!(machine.volume(ALICE, None)["created"], true);
    assert_eq!(faults(&machine.home(ALICE).join("windows@7.qcow2")), None);
    assert_eq!(tree(&machine.home(ALICE)), ["windows@7.qcow2"]);
}

#[test]
fn a_volume_that_nobody_was_told_of_is_taken_back() {
    let machine = Machine::new();
    let unheard = |users: &[String]| {
        let mut command = Command::new(CLONE.binary);
        command.args(["clone", "--root"]).arg(machine.root());
        for how in [">&-", ">/dev/full", "1</dev/null"] {
            let ended = feed(&mut redirected(how, &command), &request(ALICE, None));
            assert_eq!(
                (ended.status, machine.left().as_slice()),
                (74, users),
                "{how}"
            );
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(writer)
            .spawn()
            .unwrap();
        std::io::Write::write_all(
            &mut child.stdin.take().unwrap(),
            request(ALICE, None).as_bytes(),
        )
        .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(74));
        assert_eq!(machine.left(), users);
    };
    unheard(&[]);
    machine.volume(ALICE, None);
    unheard(&machine.left());
}

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    // In a mount namespace of its own, so that the small disk is gone whatever happens here.
    const SCRIPT: &str = r#"
        set -eu
        mount -t tmpfs -o "$1" tmpfs "$ROOT/qcow2/user"
        [ "$2" = new ] || mkdir "$ROOT/qcow2/user/$2"
        status=0; "$COWVOL" clone --root "$ROOT" || status=$?
        find "$ROOT/qcow2/user" -mindepth 1 -printf '%P\n'
        exit "$status"
    "#;
    let machine = Machine::new();
    machine.reserves(0); // so that the write fails
    fs::create_dir(machine.users()).unwrap();
    for (size, home, left, message) in [
        ("size=8k", "new", "", "writing"),
        ("size=8k", ALICES_TOKEN, ALICES_TOKEN, "writing"),
        ("nr_inodes=1", "new", "", "making directory"),
        ("nr_inodes=2", "new", "", "writing"),
    ] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "bash", "-c", SCRIPT, "full", size, home]);
        command
            .env("ROOT", machine.root())
            .env("COWVOL", CLONE.binary);
        let ended = feed(&mut command, &request(ALICE, None));
        assert_eq!(
            (ended.status, ended.stdout.trim()),
            (73, left),
            "{size} {home}: needs root; {ended:?}"
        );
        assert!(
            ended.stderr.contains(message) && ended.stderr.contains("No space left on device"),
            "{ended:?}"
        );
    }
    assert_eq!(machine.volume(ALICE, None)["created"], true);
}

#[test]
fn a_volume_that_cannot_be_written_is_no_lack_of_room_and_none_of_rights() {
    // In a mount namespace of its own, so that the mounts are gone whatever happens here.
    const READ_ONLY: &str = r#"
        set -eu
        mount --bind "$ROOT/qcow2/user" "$ROOT/qcow2/user"
        mount -o remount,bind,ro "$ROOT/qcow2/user"
        exec "$COWVOL" clone --root "$ROOT"
    "#;
    const IMMUTABLE: &str = r#"
        set -eu
        trap 'chattr -i "$ROOT"/qcow2/user/*/*' EXIT
        chattr +i "$ROOT"/qcow2/user/*/*
        "$COWVOL" clone --root "$ROOT"
    "#;
    let machine = Machine::new();
    machine.volume(ALICE, None);
    for (script, cause) in [
        (
            READ_ONLY,
            "its file system is read-only, perhaps after an error of the disk, which dmesg shows",
        ),
        (IMMUTABLE, "Operation not permitted"),
    ] {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "bash", "-c", script])
            .env("ROOT", machine.root())
            .env("COWVOL", CLONE.binary);
        let ended = feed(&mut command, &request(ALICE, None));
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (74, ""),
            "needs root; {ended:?}"
        );
        assert!(
            ended.stderr.contains("locking ") && ended.stderr.contains(cause),
            "{ended:?}"
        );
    }
}

#[test]
fn of_two_at_once_one_creates_and_one_reuses() {
    let machine = Machine::new();
    for round in 0..20 {
        let user = format!("user{round}");
        let clone = || machine.volume(&user, None)["created"].as_bool().unwrap();
        let both = thread::scope(|scope| {
            let other = scope.spawn(clone);
            [clone(), other.join().unwrap()]
        });
        assert_eq!(both.iter().filter(|created| **created).count(), 1);
    }
}

#[test]
fn a_lock_that_stays_held_is_status_75() {
    let machine = Machine::new();
    let _held = machine.hold("pool.lock");
    let since = Instant::now();
    let (status, error) = machine.refusal(ALICE, None);
    assert_eq!(
        (status, error.as_str()),
        (
            75,
            "cowvol: locking /run/labtools/pool.lock: another run holds it; try again when that has ended\n"
        )
    );
    assert!(since.elapsed().as_secs() >= 4, "it did not wait");
    assert_eq!(machine.left(), [""; 0]);
}

#[test]
fn a_signal_ends_the_wait_for_the_lock() {
    let machine = Machine::new();
    let _held = machine.hold("pool.lock");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let since = Instant::now();
        let ended = interrupted(&machine, ALICE, signal, waits_for_the_lock);
        assert_eq!(ended.status.signal(), Some(signal as i32));
        assert_eq!(
            (ended.stdout.as_slice(), ended.stderr.as_slice()),
            (&b""[..], &b""[..])
        );
        assert!(
            since.elapsed() < Duration::from_secs(5),
            "it waited to the end"
        );
    }
    assert_eq!(machine.left(), [""; 0]);
}

/// Waits until a process waits for the lock, which it does once it has its file open.
fn waits_for_the_lock(child: u32) {
    let open = || -> Vec<PathBuf> {
        let fds = fs::read_dir(format!("/proc/{child}/fd")).unwrap();
        fds.map(|fd| fs::read_link(fd.unwrap().path()).unwrap_or_default())
            .collect()
    };
    while !open().iter().any(|path| path.ends_with("pool.lock")) {
        assert!(!open().is_empty(), "it has ended"); // and is a zombie
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_switch_over_before_the_lock_is_had_counts() {
    let machine = Machine::new();
    make_base(machine.root(), "windows", 8, &["48M"]);
    let held = machine.hold("pool.lock");
    let mut child = machine
        .command(&["clone"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(
        &mut child.stdin.take().unwrap(),
        request(ALICE, None).as_bytes(),
    )
    .unwrap();
    waits_for_the_lock(child.id());
    // What install-base does while it holds the lock.
    write_bases_ini(
        machine.root(),
        "[base.windows]\nname=Windows 11\nostype=windows\ngeneration=8\n",
    );
    fs::remove_file(base_path(machine.root(), "windows", 7)).unwrap();
    drop(held);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (
            &document["volume"]["generation"],
            &document["volume"]["created"]
        ),
        (&json!(8), &json!(true))
    );
    assert_eq!(tree(&machine.home(ALICE)), ["windows@8.qcow2"]);
}

/// A clone that has made the volume, and stands still because nobody reads its document, which no
/// pipe can hold.
fn unread_clone(machine: &Machine, user: &str) -> std::process::Child {
    let mut document: Value = serde_json::from_str(&request(user, None)).unwrap();
    document["other"] = json!({"text": "x".repeat(1 << 20)});
    let mut child = machine
        .command(&["clone"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(
        &mut child.stdin.take().unwrap(),
        document.to_string().as_bytes(),
    )
    .unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    child
}

#[test]
fn idle_readers_do_not_block_others() {
    let machine = Machine::new();
    let mut child = unread_clone(&machine, ALICE);
    assert_eq!(machine.volume(BOB, None)["created"], true);
    assert_eq!(tree(&machine.home(ALICE)), ["windows@7.qcow2"]);
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(74));
    assert!(!machine.home(ALICE).exists(), "nobody was told of it");
}

#[test]
fn a_volume_that_another_call_handed_out_is_not_taken_back() {
    let machine = Machine::new();
    let mut child = unread_clone(&machine, ALICE);
    assert_eq!(machine.volume(ALICE, None)["created"], false);
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(74));
    assert_eq!(tree(&machine.home(ALICE)), ["windows@7.qcow2"]);
}

#[test]
fn a_signal_at_any_moment_leaves_a_whole_volume_or_none() {
    let machine = Machine::new();
    let mut waited = 0;
    for moment in 0.. {
        let user = format!("user{moment}");
        let (home, overlay) = (
            machine.home(&user),
            machine.home(&user).join("windows@7.qcow2"),
        );
        let mut clone = machine.stepped(&["clone"], &request(&user, None));
        if !clone.steps(moment) {
            break;
        }
        let at_work = home.exists() && !overlay.exists();
        let ended = clone.end_by(Signal::SIGTERM);
        assert!(
            matches!(
                ended,
                WaitStatus::Signaled(_, Signal::SIGTERM, _) | WaitStatus::Exited(_, 0)
            ),
            "{ended:?}"
        );
        // None, not even an empty directory; or a whole one.
        if home.exists() {
            assert_eq!(
                (tree(&home), faults(&overlay)),
                (vec!["windows@7.qcow2".into()], None)
            );
        }
        waited += usize::from(at_work && overlay.exists());
        let _ = fs::remove_dir_all(home); // its room is not needed any more
    }
    assert!(waited > 5, "{waited} signals came while a volume was made");
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_volume_or_none() {
    let machine = Machine::new();
    let (mut before, mut at_work, mut after) = (0, 0, 0);
    for moment in 0.. {
        let user = format!("user{moment}");
        let (home, overlay) = (
            machine.home(&user),
            machine.home(&user).join("windows@7.qcow2"),
        );
        let mut clone = machine.stepped(&["clone"], &request(&user, None));
        if !clone.steps(moment) {
            break;
        }
        assert!(matches!(
            clone.end_by(Signal::SIGKILL),
            WaitStatus::Signaled(_, Signal::SIGKILL, _)
        ));
        let there = overlay.exists();
        match (home.exists(), there) {
            (false, _) => {
                before += 1;
                continue;
            }
            (true, false) => at_work += 1,
            (true, true) => after += 1,
        }
        assert_eq!(faults(&overlay).filter(|_| there), None);
        assert_eq!(machine.volume(&user, None)["created"], !there);
        assert_eq!(
            (tree(&home), faults(&overlay)),
            (vec!["windows@7.qcow2".into()], None)
        );
        fs::remove_dir_all(home).unwrap(); // its room is not needed any more
    }
    assert!(
        before > 5 && at_work > 5 && after > 5,
        "killed {before} times before, {at_work} while it was made, {after} after"
    );
}

#[test]
fn a_volume_outlives_a_power_cut() {
    for left_by_a_killed_run in [false, true] {
        let machine = Machine::new();
        let (home, users) = (machine.home(ALICE), machine.users());
        if left_by_a_killed_run {
            fs::create_dir_all(&home).unwrap();
        }
        let mut clone = machine.stepped(&["clone"], &request(ALICE, None));
        let mut synced = Vec::new();
        while clone.steps(1) {
            synced.extend(clone.syncs().filter(|path| path.starts_with(&users)));
        }
        assert_eq!(synced, [home.join(".windows@7.qcow2.tmp"), home, users]);
    }
}

/// Starts a clone and sends it a signal when `wait`, which is told its pid, comes back.
fn interrupted(
    machine: &Machine,
    user: &str,
    signal: Signal,
    wait: impl FnOnce(u32),
) -> std::process::Output {
    let input = machine.root().join("request");
    fs::write(&input, request(user, None)).unwrap();
    let mut command = heeding_signals(CLONE.binary);
    command
        .args(["clone", "--root"])
        .arg(machine.root())
        .stdin(File::open(input).unwrap());
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait(child.id());
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    child.wait_with_output().unwrap()
}
