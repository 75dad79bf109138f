//! `abflip write` ended, or failed by the kernel, at any of its system calls.

use std::fs;
use std::process::Command;

use jsonpipe::testkit::Ended;

use crate::update::{Content, Image, MIB, Machine, ended};

/// Two versions of which the second one is to be written over the first; slot a is the one that
/// runs.
struct Update {
    machine: Machine,
    new: Image,
    from: String,
    before: Content,
    records: Vec<u8>,
}

impl Update {
    fn new() -> Update {
        let machine = Machine::new();
        let old = Image::new(5 * MIB);
        assert_eq!(
            machine
                .write(&old, &machine.file("old", &old.bytes), &[])
                .status,
            0
        );
        let new = Image::new(9 * MIB + 12_345).version(9);
        let from = machine.file("new", &new.compressed());
        new.describe(&machine);
        let (before, records) = (machine.content(), fs::read(machine.records()).unwrap());
        Update {
            machine,
            new,
            from,
            before,
            records,
        }
    }

    /// Version 8 is in slot b again.
    fn restore(&self) {
        fs::write(self.machine.disk(), &self.before.0).unwrap();
        fs::write(self.machine.records(), &self.records).unwrap();
    }

    /// The write with `fault` at the nth call of a kind, of whichever thread makes as many first.
    fn with(&self, call: &str, fault: &str, nth: u32) -> Ended {
        let manifest = self.machine.path("lab.manifest");
        let write = self.machine.command(&[
            "write",
            "--manifest",
            manifest.to_str().unwrap(),
            "--from",
            &self.from,
        ]);
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-qq", "-o"])
            .arg(self.machine.path("trace"));
        strace.args([
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={call}:{fault}:when={nth}"),
        ]);
        ended(strace.arg(write.get_program()).args(write.get_args()))
    }

    /// Whether that happened.
    fn was_injected(&self) -> bool {
        let trace = fs::read_to_string(self.machine.path("trace")).unwrap();
        trace.contains("INJECTED") || trace.contains("SIGKILL")
    }

    /// Whether slot b holds what its record says; none is right, too.
    fn is_told_right(&self) -> bool {
        let status = self.machine.run(&["status", "--digest"]);
        self.machine.recorded("b").is_none() || status.section("slots")["b"]["intact"] == true
    }
}

#[test]
fn killed_at_any_system_call_the_running_slot_is_untouched_and_no_record_lies() {
    let update = Update::new();
    let calls = [
        "openat",
        "read",
        "pread64",
        "pwrite64",
        "pwritev2",
        "fallocate",
        "fdatasync",
        "fsync",
        "rename",
        "ftruncate",
        "flock",
        "close",
        "munmap",
        "clone3",
        "write",
    ];
    for call in calls {
        let mut kills = 0;
        loop {
            update.restore();
            let ended = update.with(call, "signal=KILL", kills + 1);
            if ended.status == 0 {
                break;
            }
            assert!(update.was_injected(), "{call}: {ended:?}");
            kills += 1;
            assert!(
                update.machine.content().is_same_outside(&update.before),
                "{call} {kills}"
            );
            assert!(
                update.is_told_right(),
                "the record of slot b is wrong after a kill at {call} {kills}"
            );
        }
        assert!(kills > 0, "{call} is never called");
        // The last one was not killed; and one after a kill completes what that left.
        let after = update.machine.content();
        assert!(
            after.slot_b()[..update.new.bytes.len()] == update.new.in_slot_b(),
            "{call}"
        );
        assert_eq!(update.machine.recorded("b"), Some(9), "{call}");
        eprintln!("{call}: {kills} kills");
    }
}

#[test]
fn a_fault_at_any_system_call_is_told_and_leaves_nothing_that_could_be_booted() {
    let update = Update::new();
    // A short write is one that wrote nothing, and says that it wrote a sector.
    let faults = [
        ("pwrite64", "error=EIO"),
        ("pwrite64", "error=ENOSPC"),
        ("pwrite64", "retval=512"),
        ("pwritev2", "error=EIO"),
        ("pwritev2", "retval=512"),
        ("fallocate", "error=EIO"),
        ("fallocate", "error=ENOSPC"),
        ("fallocate", "error=EOPNOTSUPP"),
        ("fdatasync", "error=EIO"),
        ("fsync", "error=EIO"),
        ("rename", "error=ENOSPC"),
        ("pread64", "error=EIO"),
    ];
    for (call, fault) in faults {
        let mut faulty = 0;
        loop {
            update.restore();
            let ended = update.with(call, fault, faulty + 1);
            if !update.was_injected() {
                assert_eq!(ended.status, 0, "{call} {fault}: {ended:?}");
                break;
            }
            faulty += 1;
            let after = update.machine.content();
            assert!(
                after.is_same_outside(&update.before),
                "{call} {fault} {faulty}"
            );
            match ended.status {
                // It went another way.
                0 => assert_eq!(update.machine.recorded("b"), Some(9)),
                1 => {
                    assert_eq!(
                        (
                            update.machine.recorded("b"),
                            ended.section("slots")["changed"].as_bool()
                        ),
                        (None, Some(true))
                    );
                    assert!(
                        after.slot_b()[..MIB as usize].iter().all(|byte| *byte == 0),
                        "{call} {fault} {faulty}: {ended:?}"
                    );
                    assert!(ended.stderr.contains("write it again"), "{}", ended.stderr);
                }
                // 127: a library could not be loaded, and nothing began.
                73 | 74 | 127 => {
                    assert!(
                        after == update.before && ended.stdout.is_empty(),
                        "{call} {fault} {faulty}: {ended:?}"
                    )
                }
                other => panic!("{call} {fault} {faulty}: {other}: {ended:?}"),
            }
            assert!(update.is_told_right(), "{call} {fault} {faulty}");
        }
        assert!(faulty > 0, "{call} is never called");
        eprintln!("{call} {fault}: {faulty} faults");
    }
}
