//! Whether KVM is used.

use std::process::Command;

use serde_json::Value;

use super::QEMU;
use super::machine::{Machine, succeed};

/// What a plan says of this machine's KVM.
fn accel(machine: &Machine) -> Value {
    let guest = machine
        .start_by(machine.command("plan"))
        .end()
        .section("guest");
    assert_eq!(guest["argv"][2], guest["accel"]);
    assert_eq!(
        guest["argv"][4],
        if guest["accel"] == "kvm" {
            "host"
        } else {
            "qemu64"
        }
    );
    guest["accel"].clone()
}

#[test]
fn kvm_is_used_where_a_guest_really_starts_on_it() {
    let machine = Machine::any();
    assert_eq!(accel(&machine), "tcg", "a machine without /dev/kvm");

    // Here is what this machine says, and the judge is a whole kernel that shuts itself down.
    machine.write("dev/kvm", "");
    let image = machine.path("linux.qcow2");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/lab/guest-image");
    succeed(script, &[&image.display().to_string()]);
    let disk = format!("if=none,id=disk,format=qcow2,file={}", image.display());
    let judge = Command::new("timeout")
        .args(["30", QEMU, "-accel", "kvm", "-cpu", "host", "-m", "256M"])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
        .args(["-drive", &disk])
        .args([
            "-device",
            "virtio-scsi-pci",
            "-device",
            "scsi-hd,drive=disk",
        ])
        .output()
        .unwrap();
    let starts = String::from_utf8_lossy(&judge.stdout).contains("GUEST shutdown");
    assert_eq!(accel(&machine), if starts { "kvm" } else { "tcg" });
}

#[test]
fn kvm_is_believed_for_its_proof_alone() {
    // Fakes, for what a given machine's KVM does or does not do.
    for (script, accel_name) in [
        ("exit 85", "kvm"),
        ("exit 0", "tcg"),
        ("exit 1", "tcg"),
        ("exec sleep 600", "tcg"),
        (
            "echo 'KVM internal error. Suberror: 1' >&2; exec sleep 600",
            "tcg",
        ),
    ] {
        let mut machine = Machine::any();
        machine.write("dev/kvm", "");
        machine.fake_qemu(script);
        assert_eq!(accel(&machine), accel_name, "{script}");
    }
}
