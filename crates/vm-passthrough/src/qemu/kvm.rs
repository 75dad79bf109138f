//! Tests whether KVM works here.
//!
//! A /dev/kvm that can be opened proves little: nested machines may offer one on which no kernel
//! starts. So QEMU itself runs a firmware on it that does what a kernel does.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use confined::{Identity, Life, Start, renumber};
use jsonpipe::{Common, Exit, ExitContext};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::geteuid;

use super::argv::{self, SANDBOX};
use super::firmware;
use crate::accel::Accel;
use crate::child;

/// A real start takes a fifth of a second.
const LIMIT: Duration = Duration::from_secs(5);

/// QEMU's message when KVM fails; then QEMU waits for a debugger.
const FAILED: &str = "KVM internal error";

/// Starts QEMU on KVM for a moment, as the user that will run the guest, and checks that it runs;
/// the inner error is the fault.
pub fn try_kvm(
    common: &Common,
    binary: &Path,
    identity: &Identity,
) -> anyhow::Result<Result<(), String>> {
    let Ok(node) = fs::metadata(common.path("/dev/kvm")) else {
        return Ok(Err("no /dev/kvm".into()));
    };
    // Only root can become another user; any user may ask for a plan.
    let identity = geteuid().is_root().then(|| identity.with_group_of(&node));
    let firmware =
        in_memory(&firmware::image()).exit(Exit::Io, || "making firmware to try KVM with")?;
    let argv: Vec<String> = [
        &*binary.to_string_lossy(),
        "-accel",
        argv::accelerator(Accel::Kvm),
        "-cpu",
        argv::processor(Accel::Kvm),
        "-machine",
        "pc",
        "-nodefaults",
        "-no-user-config",
        "-sandbox",
        SANDBOX,
        "-m",
        "16M",
        "-display",
        "none",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=1",
        "-bios",
        &format!("/dev/fd/{}", firmware.as_raw_fd()),
    ]
    .map(str::to_owned)
    .into();
    let start = Start {
        identity,
        hand_down: &[firmware.as_fd()],
        life: Life::WithUs,
        lock_memory: false,
    };
    let (mut qemu, mut stderr) = child::spawn(&argv, &start)?;
    let deadline = Instant::now() + LIMIT;
    while let Some(fd) = stderr.pipe() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err(
                "/dev/kvm does not work: a guest on it is slow or hangs".into(),
            ));
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout).is_ok_and(|ready| ready > 0) {
            stderr.fill().exit(Exit::Io, || "reading QEMU's messages")?;
        }
        if stderr.text().contains(FAILED) {
            return Ok(Err(
                "/dev/kvm does not work: it cannot start a kernel".into()
            ));
        }
    }
    let status = qemu.wait().exit(Exit::Software, || "waiting for QEMU")?;
    if status.code() == Some(firmware::PROOF_STATUS) {
        return Ok(Ok(()));
    }
    Ok(Err(format!(
        "/dev/kvm does not work: {status}: {}",
        stderr.text()
    )))
}

/// The firmware as a file that QEMU inherits.
fn in_memory(image: &[u8]) -> io::Result<OwnedFd> {
    let file = fs::File::from(memfd_create(c"firmware", MFdFlags::MFD_CLOEXEC)?);
    (&file).write_all(image)?;
    renumber(file.into())
}
