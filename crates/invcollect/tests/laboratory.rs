//! What needs root and the kernel itself: mounts that hang, and interfaces whose speed is set.

mod machine;
#[path = "laboratory/push.rs"]
mod push;
#[path = "laboratory/schedule.rs"]
mod schedule;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use machine::{BINARY, Machine};
use serde_json::Value;

const DEAD_MOUNT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/lab/dead-mount");
const TAP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/lab/tap");

/// A laboratory that is up until this is dropped.
struct Up(Child);

impl Up {
    fn start(command: &mut Command, ready: &str) -> Up {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
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
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Loop(String::from_utf8(output.stdout).unwrap().trim().into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        assert!(Command::new("losetup").arg("--detach").arg(&self.0).status().unwrap().success());
    }
}

fn filesystem(host: &Value, path: &str) -> Value {
    let found = host["filesystems"].as_array().unwrap().iter().find(|filesystem| filesystem["path"] == path);
    found.unwrap_or_else(|| panic!("{path} is not there: {host:#}")).clone()
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
    let up = Up::start(Command::new(DEAD_MOUNT).arg(&directory).arg(&device.0), "mounted");
    let host = machine.host();
    assert_eq!(filesystem(&host, "/srv/dead")["hanging"], true);
    assert_eq!(filesystem(&host, "/srv/dead")["total_bytes"], Value::Null);
    assert_eq!(machine.reason("filesystems[/srv/dead].total_bytes").unwrap(), "/dev/sdb9 did not answer within 2 seconds");
    for path in ["/", "/qcow2"] {
        assert!(filesystem(&host, path)["total_bytes"].is_u64(), "{path} does not suffer from it");
    }
    drop(up);
    drop(device);
    assert_eq!(filesystem(&machine.host(), "/srv/dead")["hanging"], false);
}

/// Of the machine that this runs on: an interface of a namespace, whose speed somebody set.
#[test]
fn the_kernel_is_asked_for_the_speed_of_a_link() {
    let collect = |megabits: &str| -> Value {
        let output = Command::new(TAP).args([megabits, BINARY, "collect"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let interfaces = document["host"]["interfaces"].as_array().unwrap();
        assert_eq!(interfaces.len(), 1, "{interfaces:?}");
        interfaces[0].clone()
    };
    for megabits in [100u64, 1000] {
        let tap = collect(&megabits.to_string());
        assert_eq!((&tap["name"], &tap["speed_bits_per_second"]), (&"tap0".into(), &(megabits * 1_000_000).into()), "{tap}");
        assert_eq!((&tap["carrier"], &tap["duplex"], &tap["hardware"]), (&true.into(), &"full".into(), &false.into()));
        assert_eq!(tap["addresses"], serde_json::json!(["10.99.0.1/24", "fd99::1/64"]));
        // The other end of a tap is a program, and offers nothing.
        assert_eq!(tap["best_speed_bits_per_second"], Value::Null);
    }
}
