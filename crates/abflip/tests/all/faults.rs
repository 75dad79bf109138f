//! Every fault of the disk and of the records, at every call, in every run that changes something:
//! what the status says is so.

use std::fs;

use manifest::Description;
use serde_json::Value;

use crate::machine::Machine;
use crate::machine::extlinux::empty;
use crate::update::{self, Image};

fn records(machine: &Machine) -> String {
    fs::read_to_string(machine.root().join("var/lib/labtools/slots.json")).unwrap()
}

/// A machine that runs slot a, with a trial of slot b that is armed.
fn armed() -> Machine {
    let machine = Machine::new();
    machine.configure_extlinux();
    machine.slots(&["try"]);
    machine
}

/// The same, booted.
fn tried() -> Machine {
    let machine = armed();
    machine.set_boot_once(&[empty(), empty()]);
    machine.run_from(2);
    machine
}

fn fresh() -> Machine {
    let machine = Machine::new();
    machine.configure_extlinux();
    machine
}

/// Its backup table is torn.
fn torn() -> Machine {
    let machine = fresh();
    machine.poke(machine.last() * 512 + 16, b"torn");
    machine
}

/// A machine with an image to write, `image`, its manifest and its signature.
fn writable() -> Machine {
    let machine = fresh();
    let image = Image::new(256 << 10);
    let path = |name: &str| machine.root().join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(path("etc/labtools/keys")).unwrap();
    fs::copy(
        update::key("host-1.pub"),
        path("etc/labtools/keys/host-1.pub"),
    )
    .unwrap();
    fs::create_dir_all(path("sys/class/dmi/id")).unwrap();
    fs::write(path("sys/class/dmi/id/product_name"), "OptiPlex 7010\n").unwrap();
    fs::write(path("image"), &image.bytes).unwrap();
    fs::write(path("lab.manifest"), image.host.to_bytes().unwrap()).unwrap();
    let (key, key_arguments) = (
        update::key("host-1"),
        ["pkeyutl", "-sign", "-rawin", "-inkey"],
    );
    let files = [
        key.to_str().unwrap(),
        "-in",
        &path("lab.manifest"),
        "-out",
        &path("lab.sig"),
    ];
    update::openssl(&[&key_arguments[..], &files].concat());
    machine
}

/// The calls that a run makes: of the disk, of the records, and of what it says.
const ALL: [&str; 5] = ["pwritev2", "fdatasync", "fsync", "rename", "write"];
const DISK: [&str; 3] = ["pwritev2", "fdatasync", "write"];
const RECORDS: [&str; 3] = ["fsync", "rename", "write"];

/// `calls` are those that the run makes, each of which fails once. `ROOT` in `arguments` is the
/// machine's.
///
/// From 65 on nothing was changed, 1 is not silent, and the same run afterwards ends with this slot
/// booting next.
fn every_fault_is_told_right(
    prepare: fn() -> Machine,
    arguments: &[&str],
    calls: &[&str],
    next: &str,
) {
    let verb = arguments[0];
    // A short write is one that wrote nothing, and says that it wrote half a sector.
    let faults = [
        ("pwritev2", "error=EIO"),
        ("pwritev2", "error=ENOSPC"),
        ("pwritev2", "retval=256"),
        ("fdatasync", "error=EIO"),
        ("fsync", "error=EIO"),
        ("rename", "error=ENOSPC"),
        ("write", "error=ENOSPC"),
    ];
    let machine = prepare();
    let (disk, recorded) = (machine.bytes(), records(&machine));
    let log = machine.root().join("injected");
    let root = machine.root().to_str().unwrap();
    let arguments: Vec<String> = arguments
        .iter()
        .map(|argument| argument.replace("ROOT", root))
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut injected = 0;
    for (call, fault) in faults {
        let before = injected;
        for step in 1.. {
            machine.poke(0, &disk);
            fs::write(
                machine.root().join("var/lib/labtools/slots.json"),
                &recorded,
            )
            .unwrap();
            let inject = format!("inject={call}:{fault}:when={step}");
            let ended = machine.traced(
                &arguments,
                &[
                    "-f",
                    "-o",
                    log.to_str().unwrap(),
                    "-e",
                    &format!("trace={call}"),
                    "-e",
                    &inject,
                ],
            );
            let what = format!("{verb}: {call} {fault} {step}: {ended:?}");
            let slots = machine.run(&["status"]).section("slots");
            assert_eq!(
                (&slots["table"]["primary"], slots["next"].is_string()),
                (&true.into(), true),
                "{what}"
            );
            if !fs::read_to_string(&log).unwrap().contains("(INJECTED)") {
                assert_eq!((ended.status, &slots["next"]), (0, &next.into()), "{what}");
                break;
            }
            injected += 1;
            match ended.status {
                // What is said on standard error, nobody has to hear.
                0 => assert_eq!((call, &slots["next"]), ("write", &next.into()), "{what}"),
                // The document that cannot be delivered comes when all is done.
                1 if call == "write" && ended.stderr.contains("standard output") => {
                    assert!(
                        ended.stderr.contains("the change is made and stays"),
                        "{what}"
                    );
                    assert_eq!(
                        (ended.stdout.as_str(), &slots["next"]),
                        ("", &next.into()),
                        "{what}"
                    );
                }
                1 => assert!(
                    !ended.stderr.is_empty() && ended.section("slots")["next"] == slots["next"],
                    "{what}"
                ),
                73 | 74 => {
                    assert_eq!(ended.stdout, "", "{what}");
                    assert!(machine.bytes() == disk, "{what}");
                    let same = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                    assert_eq!(same(&records(&machine)), same(&recorded), "{what}");
                }
                _ => panic!("{what}"),
            }
            // And it can be done then.
            assert_eq!(machine.slots(&arguments)["next"], next, "{what}");
        }
        assert_eq!(
            injected > before,
            calls.contains(&call),
            "{verb}: {call} {fault}"
        );
    }
}

#[test]
fn of_flip() {
    every_fault_is_told_right(fresh, &["flip"], &DISK, "b");
}

#[test]
fn of_flip_that_heals() {
    every_fault_is_told_right(torn, &["flip"], &DISK, "b");
}

#[test]
fn of_flip_that_ends_a_trial() {
    every_fault_is_told_right(armed, &["flip"], &ALL, "b");
}

#[test]
fn of_try() {
    every_fault_is_told_right(fresh, &["try"], &ALL, "a");
}

#[test]
fn of_commit() {
    every_fault_is_told_right(tried, &["commit"], &ALL, "b");
}

#[test]
fn of_rollback() {
    every_fault_is_told_right(armed, &["rollback"], &ALL, "a");
    every_fault_is_told_right(tried, &["rollback"], &RECORDS, "a");
}

#[test]
fn of_repair() {
    every_fault_is_told_right(torn, &["repair"], &DISK, "a");
}

#[test]
fn of_write() {
    let arguments = [
        "write",
        "--manifest",
        "ROOT/lab.manifest",
        "--from",
        "ROOT/image",
    ];
    every_fault_is_told_right(writable, &arguments, &ALL, "a");
}
