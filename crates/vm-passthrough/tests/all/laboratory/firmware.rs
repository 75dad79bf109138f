//! The firmware that KVM is tried with, on QEMU's translator.

use std::process::{Command, Stdio};

use vm_passthrough::qemu::firmware::{PROOF_STATUS, image};

use super::QEMU;

/// QEMU's exit status for the firmware on a processor model.
fn status_on(processor: &str) -> Option<i32> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), image()).unwrap();
    Command::new("timeout")
        .args(["60", QEMU, "-accel", "tcg", "-cpu", processor, "-m", "16M"])
        .args(["-machine", "pc", "-nodefaults", "-display", "none"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .args(["-no-reboot", "-bios"])
        .arg(file.path())
        .stdin(Stdio::null())
        .status()
        .unwrap()
        .code()
}

#[test]
fn firmware_ends_with_its_proof_on_a_whole_processor() {
    for processor in ["qemu64", "max"] {
        assert_eq!(status_on(processor), Some(PROOF_STATUS), "{processor}");
    }
}

#[test]
fn firmware_ends_without_proof_on_a_processor_without_an_instruction() {
    // The first fault finds no handler, and so the processor starts again.
    for processor in ["qemu64,-lm", "qemu64,-syscall"] {
        assert_eq!(status_on(processor), Some(0), "{processor}");
    }
}
