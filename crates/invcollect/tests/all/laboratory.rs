//! What needs root and the kernel itself: mounts that hang, interfaces whose speed is set, and the
//! disks and tables of an emulated PC; reports, with the collector of scripts/lab/collector; and a
//! Prometheus. Without root and the packages that the scripts name these tests fail, they are never
//! skipped.

mod collector;
mod faults;
mod fleet;
mod push;
mod schedule;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::machine::{BINARY, Machine};

const DEAD_MOUNT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/lab/dead-mount");
const HARDWARE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/lab/hardware");
const TAP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/lab/tap");

/// A laboratory that is up until this is dropped.
struct Up(Child);

impl Up {
    fn start(command: &mut Command, ready: &str) -> Up {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line.trim_end(), ready, "it did not come up");
        Up(child)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// A block device of a file.
struct Loop(PathBuf);

impl Loop {
    fn of(file: &Path) -> Loop {
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Loop(String::from_utf8(output.stdout).unwrap().trim().into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        assert!(
            Command::new("losetup")
                .arg("--detach")
                .arg(&self.0)
                .status()
                .unwrap()
                .success()
        );
    }
}

fn filesystem(host: &Value, path: &str) -> Value {
    let found = host["filesystems"]
        .as_array()
        .unwrap()
        .iter()
        .find(|filesystem| filesystem["path"] == path);
    found
        .unwrap_or_else(|| panic!("{path} is not there: {host:#}"))
        .clone()
}

/// Without the deadline this test does not end before people lose patience.
#[test]
fn a_mount_that_hangs_is_named_and_nothing_waits_for_it() {
    let machine = Machine::optiplex();
    let directory = machine.path("srv/dead");
    machine.directory("srv/dead");
    machine.write("image", vec![0; 1 << 20]);
    let device = Loop::of(&machine.path("image"));
    machine.write(
        "proc/self/mountinfo",
        "27 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 27 8:9 / /srv/dead rw - ext4 /dev/sdb9 rw\n41 27 8:3 / /qcow2 rw - ext4 /dev/sda3 rw\n",
    );
    machine.write("etc/fstab", "/dev/sdb9 /srv/dead ext4 defaults 0 0\n");
    let up = Up::start(
        Command::new(DEAD_MOUNT).arg(&directory).arg(&device.0),
        "mounted",
    );
    let host = machine.host();
    assert_eq!(
        filesystem(&host, "/srv/dead")["hanging"],
        true,
        "a mount that hangs is not named"
    );
    assert_eq!(filesystem(&host, "/srv/dead")["total_bytes"], Value::Null);
    assert_eq!(
        machine
            .reason("filesystems[/srv/dead].total_bytes")
            .unwrap(),
        "/dev/sdb9 did not answer within 2 seconds"
    );
    for path in ["/", "/qcow2"] {
        assert!(
            filesystem(&host, path)["total_bytes"].is_u64(),
            "{path} does not suffer from it"
        );
    }
    drop(up);
    drop(device);
    assert_eq!(filesystem(&machine.host(), "/srv/dead")["hanging"], false);
}

/// What the kernel has handed on to a server that is silent not even a kill ends. The process stays
/// for as long, but holds nothing that others wait for.
#[test]
fn a_read_that_nothing_ends_holds_neither_what_is_printed_nor_the_lock() {
    let machine = Machine::optiplex();
    machine.directory("srv/dead");
    machine.write(
        "proc/self/mountinfo",
        "27 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 27 8:9 / /srv/dead rw - nfs4 server:/dead rw\n",
    );
    machine.write("etc/fstab", "server:/dead /srv/dead nfs4 defaults 0 0\n");
    let up = Up::start(
        Command::new(DEAD_MOUNT)
            .arg("--greets")
            .arg(machine.path("srv/dead")),
        "mounted",
    );
    let mut run = machine
        .command(&["changes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = String::new();
    run.stdout
        .take()
        .unwrap()
        .read_to_string(&mut printed)
        .unwrap();
    run.stderr
        .take()
        .unwrap()
        .read_to_string(&mut printed)
        .unwrap();
    assert_eq!(printed, "");
    fs::File::open(machine.path("run/labtools/inventory.lock"))
        .unwrap()
        .try_lock()
        .unwrap();
    assert!(machine.path("var/lib/labtools/baseline.json").exists());
    let stat = format!("/proc/{}/stat", run.id());
    while !fs::read_to_string(&stat).unwrap().contains(") Z ") {
        std::thread::yield_now();
    }
    assert!(
        run.try_wait().unwrap().is_none(),
        "it could be ended, and this test shows nothing"
    );
    drop(up);
    assert_eq!(run.wait().unwrap().code(), Some(0));
}

/// Of the machine that this runs on: an interface of a namespace, whose speed somebody set.
#[test]
fn the_kernel_is_asked_for_the_speed_of_a_link() {
    let collect = |megabits: &str| -> Value {
        let output = Command::new(TAP)
            .args([megabits, BINARY, "collect"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let interfaces = document["host"]["interfaces"].as_array().unwrap();
        assert_eq!(interfaces.len(), 1, "{interfaces:?}");
        interfaces[0].clone()
    };
    for megabits in [100u64, 1000] {
        let tap = collect(&megabits.to_string());
        assert_eq!(
            (&tap["name"], &tap["speed_bits_per_second"]),
            (&"tap0".into(), &(megabits * 1_000_000).into()),
            "{tap}"
        );
        assert_eq!(
            (&tap["carrier"], &tap["duplex"], &tap["hardware"]),
            (&true.into(), &"full".into(), &false.into())
        );
        assert_eq!(
            tap["addresses"],
            serde_json::json!(["10.99.0.1/24", "fd99::1/64"])
        );
        // The other end of a tap is a program, and offers nothing.
        assert_eq!(tap["best_speed_bits_per_second"], Value::Null);
    }
}

/// Takes the ten seconds that cctk has.
#[test]
fn a_cctk_that_does_not_end_is_ended_with_what_it_started() {
    let machine = Machine::optiplex();
    let cctk = "opt/dell/dcc/cctk";
    machine.write(
        cctk,
        format!(
            "#!/bin/sh\necho '[cctk]'\nsleep infinity &\necho $$ $! >{}\nwait\n",
            machine.path("pids").display()
        ),
    );
    fs::set_permissions(machine.path(cctk), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        machine.reason("firmware.attributes").unwrap(),
        "/opt/dell/dcc/cctk did not end within 10 seconds"
    );
    for pid in machine.read("pids").split_whitespace() {
        // A signal takes its time, and one that nobody waited for yet is a zombie, which runs no
        // more.
        let runs = || {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
        };
        while runs() {
            std::thread::yield_now();
        }
    }
}

fn on_hardware(options: &[&str]) -> Value {
    let output = Command::new(HARDWARE)
        .args(options)
        .args([BINARY, "collect"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["host"].clone()
}

fn disk(host: &Value, name: &str) -> Value {
    let disks = host["disks"].as_array().unwrap();
    disks
        .iter()
        .find(|disk| disk["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {disks:?}"))
        .clone()
}

#[test]
fn a_pc_is_read_through_its_own_kernel() {
    let host = on_hardware(&[]);
    let tables = [
        ("/system/model", "OptiPlex 7010"),
        ("/system/serial", "ABC1234"),
        ("/system/uuid", "4c4c4544-0042-4310-8031-b1c04f333232"),
        ("/firmware/version", "A29"),
        ("/board/serial", "/ABC1234/CN7220021B/"),
        ("/chassis/asset_tag", "LAB3-07"),
        ("/memory/modules/0/serial", "0A00B001"),
    ];
    for (pointer, expected) in tables {
        assert_eq!(host.pointer(pointer), Some(&expected.into()), "{pointer}");
    }
    assert_eq!(
        host["memory"]["installed_bytes"],
        512 << 20,
        "and not what the kernel left of it"
    );
    assert!(host["memory"]["usable_bytes"].as_u64().unwrap() < 512 << 20);
    assert_eq!(
        host["disks"].as_array().unwrap().len(),
        2,
        "the paths to an NVMe disk are not disks"
    );
    for (name, transport, serial) in [
        ("sda", "sata", "WD-WCC2EKP12345"),
        ("nvme0n1", "nvme", "S4EWNX0M123456"),
    ] {
        let disk = disk(&host, name);
        assert_eq!(
            (&disk["transport"], &disk["serial"], &disk["healthy"]),
            (&transport.into(), &serial.into(), &true.into())
        );
        assert_eq!(disk["bytes"], 64 << 20);
    }
    assert_eq!(host["boot"]["clock_before_image"], false);
}

#[test]
fn a_disk_that_fails_and_a_battery_that_is_weak_are_told_by_the_hardware() {
    let host = on_hardware(&["--rtc", "2012-01-01T00:00:00", "--failing-nvme"]);
    assert_eq!(
        disk(&host, "nvme0n1")["faults"],
        serde_json::json!(["it is no longer reliable"])
    );
    assert_eq!(disk(&host, "sda")["healthy"], true);
    assert_eq!(host["boot"]["clock_before_image"], true);
}
