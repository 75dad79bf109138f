//! `restore` on machines that are directories. Real devices come back in the emulated machines of
//! scripts/lab.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use jsonpipe::testkit::Ended;
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;
use tempfile::TempDir;

const JOURNAL: &str = "run/labtools/guest.journal";
const SURPLUS: &str = "sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages";
const LOCK: &str = "run/labtools/guest.lock";

/// A machine whose last guest was killed after its huge pages were reserved: 30, with 10 before.
fn machine() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let pages = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    let journal = json!({"schema": 1, "boot_id": "this-boot", "devices": [], "parked": [], "groups": [],
        "console": {"consoles": [], "framebuffers": []},
        "huge_pages": {"page_bytes": 2 << 20, "before": 10, "with_guest": 30}});
    for (name, text) in [
        ("proc/sys/kernel/random/boot_id", "this-boot\n"),
        (pages, "30\n"),
        (SURPLUS, "0\n"),
        (JOURNAL, &journal.to_string()),
    ] {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// As root of a network namespace, which has a firewall that only this command knows.
fn command(root: &Path) -> Command {
    after("true", root)
}

/// The same, after a shell has done something there.
fn after(first: &str, root: &Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--net", "sh", "-c"])
        .arg(format!("{first} && exec \"$0\" restore --root \"$@\""))
        .arg(env!("CARGO_BIN_EXE_vm-passthrough"))
        .arg(root);
    command
}

/// With a standard input that nobody writes to: reading it would never end.
fn ended(mut command: Command) -> Ended {
    let (stdin, _writer) = std::io::pipe().unwrap();
    let output = command.stdin(Stdio::from(stdin)).output();
    Ended::of(output.unwrap())
}

fn restore(root: &Path) -> Ended {
    ended(command(root))
}

#[test]
fn restore_on_a_machine_without_a_guest_is_silent_and_makes_no_file() {
    let root = tempfile::tempdir().unwrap();
    let ended = restore(root.path());
    assert_eq!((ended.status, &*ended.stderr), (0, ""));
    let guest = ended.section("guest");
    assert_eq!(
        (&guest["schema"], &guest["changed"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(guest["handed_back"], json!(true));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn restore_after_a_kill_gives_back_once() {
    let root = machine();
    for changed in [true, false] {
        let ended = restore(root.path());
        assert_eq!((ended.status, &*ended.stderr), (0, ""));
        let guest = ended.section("guest");
        assert_eq!(guest["changed"], json!(changed));
        assert_eq!(
            (&guest["handed_back"], &guest["left"]),
            (&json!(true), &json!([]))
        );
        let pages = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
        assert_eq!(fs::read_to_string(root.path().join(pages)).unwrap(), "10\n");
    }
    assert!(!root.path().join(JOURNAL).exists());
}

const TABLE: &str = "nft add table inet labtools_guest";

#[test]
fn restore_removes_the_firewall_rule_with_and_without_a_journal() {
    for root in [machine(), tempfile::tempdir().unwrap()] {
        let root = root.path();
        let both = format!(
            "{TABLE} && nft add table ip labtools_guest && \"$0\" restore --root \"$1\" >\"$1/first\" && nft list tables >&2"
        );
        let second = ended(after(&both, root));
        assert_eq!(
            (second.status, &*second.stderr),
            (0, "table ip labtools_guest\n"),
            "the tables of others stay"
        );
        let first = fs::read_to_string(root.join("first")).unwrap();
        assert!(
            first.contains(r#""changed":true,"handed_back":true"#),
            "{first}"
        );
        assert_eq!(second.section("guest")["changed"], json!(false));
    }
}

#[test]
fn restore_while_a_guest_without_devices_runs_leaves_its_firewall_rule() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("run/labtools")).unwrap();
    let lock = File::create(root.path().join(LOCK)).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    let ended = ended(after(TABLE, root.path()));
    let path = root.path().join(LOCK);
    let why = "a guest runs, or old volumes are being removed";
    ended.refused(75, &format!("locking {}: {why}", path.display()));
}

/// A fake: a nft that cannot look.
#[test]
fn restore_that_cannot_look_at_the_firewall_gives_the_rest_back_and_says_so() {
    let root = machine();
    let nft = "mkdir \"$1/bin\" && printf '#!/bin/sh\\necho broken >&2; exit 1\\n' >\"$1/bin/nft\" && chmod +x \"$1/bin/nft\" && export PATH=\"$1/bin:$PATH\"";
    let ended = ended(after(nft, root.path()));
    assert_eq!(ended.status, 1);
    let guest = ended.section("guest");
    assert_eq!(guest["handed_back"], json!(false));
    let left = guest["left"].to_string();
    assert!(left.contains("broken"), "{left}");
    assert!(!root.path().join(JOURNAL).exists());
}

#[test]
fn restore_while_a_guest_runs_is_75() {
    let root = machine();
    let lock = File::create(root.path().join(LOCK)).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    let ended = restore(root.path());
    let path = root.path().join(LOCK);
    let why = "a guest runs, or old volumes are being removed";
    ended.refused(75, &format!("locking {}: {why}", path.display()));
    assert!(root.path().join(JOURNAL).exists());
    drop(lock);
    assert_eq!(restore(root.path()).status, 0);
}

#[test]
fn restore_does_not_follow_a_journal_that_is_none() {
    let root = machine();
    fs::write(root.path().join(JOURNAL), "{\"schema\":1").unwrap();
    let ended = restore(root.path());
    let journal = root.path().join(JOURNAL);
    let why = "not a journal; restart the machine";
    ended.refused(78, &format!("reading {}: {why}", journal.display()));
}

/// A fake: a device of a tree, which no write binds to another driver.
#[test]
fn restore_of_a_named_device_asks_the_kernel_and_says_what_is_left() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("proc/sys/kernel/random/boot_id", "this-boot\n");
    write("sys/bus/pci/drivers_probe", "");
    write("sys/bus/pci/drivers/vfio-pci/unbind", "");
    let device = "sys/bus/pci/devices/0000:00:1b.0";
    for (name, text) in [
        ("vendor", "0x8086\n"),
        ("device", "0x1e20\n"),
        ("class", "0x040300\n"),
        ("driver_override", "(null)\n"),
    ] {
        write(&format!("{device}/{name}"), text);
    }
    let link = root.path().join(device).join("driver");
    std::os::unix::fs::symlink("../../drivers/vfio-pci", link).unwrap();
    let restore = |named: &str| {
        let mut command = command(root.path());
        command.arg(named);
        let ended = ended(command);
        assert_eq!(ended.status, 1, "{}", ended.stderr);
        let guest = ended.section("guest");
        assert_eq!(guest["handed_back"], json!(false));
        guest["left"].to_string()
    };
    let left = restore("00:1b.0");
    assert!(
        left.contains("not by a driver_override of vfio-pci"),
        "{left}"
    );
    assert!(restore("00:1f.3").contains("0000:00:1f.3: not there"));
    write(&format!("{device}/driver_override"), "vfio-pci\n");
    let left = restore("00:1b.0");
    assert!(left.contains("unbinding 0000:00:1b.0"), "{left}");
    let kept = fs::read_to_string(root.path().join(device).join("driver_override"));
    assert_eq!(kept.unwrap(), "vfio-pci\n", "by which check names it");
}

#[test]
fn restore_stays_although_its_reader_left() {
    let root = machine();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = command(root.path())
        .stdin(Stdio::null())
        .stdout(writer)
        .status()
        .unwrap();
    assert_eq!(
        status.code(),
        Some(1),
        "74 would mean that nothing was changed"
    );
    assert!(!root.path().join(JOURNAL).exists());
}

/// A user without rights, and here even root, cannot look: that is no proof that nothing was taken.
#[test]
fn restore_that_cannot_look_for_the_journal_does_not_say_that_all_is_back() {
    let root = machine();
    let directory = root.path().join("run/labtools");
    fs::remove_dir_all(&directory).unwrap();
    std::os::unix::fs::symlink("labtools", &directory).unwrap(); // a loop
    let ended = restore(root.path());
    assert!(ended.status > 64, "{}", ended.status);
    assert_eq!(ended.stdout, "");
}
