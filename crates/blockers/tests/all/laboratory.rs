//! Obstacles that only the kernel itself shows. They need root and losetup.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use blockers::Kind;
use nix::libc::O_EXCL;

use crate::machine::{Machine, USB};

/// A block device of the kernel, detached when dropped.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> Loop {
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Loop(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// A file system, a pool or a program that claims a disk is all the same to the kernel; here this
/// test claims it.
#[test]
fn a_disk_that_is_claimed_is_a_blocker() {
    let machine = Machine::new();
    let image = machine.path("/image");
    fs::write(&image, [0; 4096]).unwrap();
    let disk = Loop::new(&image);
    let name = disk.0.strip_prefix("/dev/").unwrap();
    let number = fs::read_to_string(format!("/sys/class/block/{name}/dev")).unwrap();
    machine.entry(USB, "block", name, &[("dev", &number)]);
    machine.link("/dev", "/dev");
    assert_eq!(machine.kinds(), []);
    let claim = OpenOptions::new()
        .read(true)
        .custom_flags(O_EXCL)
        .open(&disk.0)
        .unwrap();
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::DiskInUse);
    assert_eq!(found.device.unwrap().to_string(), USB);
    assert!(found.what.contains(&disk.0), "{found:?}");
    drop(claim);
    assert_eq!(machine.kinds(), []);
}

/// With a partition, the kernel claims its disk: that is one fact.
#[test]
fn a_disk_with_a_mounted_partition_is_one_blocker() {
    let machine = Machine::new();
    let image = machine.path("/image");
    fs::write(&image, [0; 4096]).unwrap();
    let disk = Loop::new(&image);
    let name = disk.0.strip_prefix("/dev/").unwrap();
    let number = fs::read_to_string(format!("/sys/class/block/{name}/dev")).unwrap();
    machine.entry(USB, "block", name, &[("dev", &number)]);
    machine.link("/dev", "/dev");
    let _claim = OpenOptions::new()
        .read(true)
        .custom_flags(O_EXCL)
        .open(&disk.0)
        .unwrap();
    assert_eq!(machine.kinds(), [Kind::DiskInUse]);
    let partition = format!("{name}p1");
    machine.entry(USB, "block", &partition, &[("dev", "8:17\n")]);
    fs::create_dir(machine.path(&format!("/sys/class/block/{name}/{partition}"))).unwrap();
    machine.file(
        "/proc/self/mountinfo",
        &format!("40 22 8:17 / /media rw - vfat /dev/{partition} rw\n"),
    );
    assert_eq!(machine.kinds(), [Kind::Mounted]);
}

/// No kernel of Debian shows guests these registers, so that this kernel's answer is the warning.
#[test]
fn registers_that_kvm_does_not_show_are_a_warning() {
    let mut machine = Machine::new();
    machine.kvm_fault = None;
    machine.link("/dev", "/dev");
    let expected = if Path::new("/dev/kvm").exists() {
        Kind::KvmRegisters
    } else {
        Kind::NotLookedAt
    };
    assert_eq!(machine.warnings(), [expected]);
    if expected == Kind::KvmRegisters {
        let what = &machine.find().warnings[0].what;
        assert!(
            what.contains("APERF is missing, MPERF is missing"),
            "{what}"
        );
        assert!(what.contains("PLATFORM_INFO reads 0x"), "{what}");
    }
}
