//! What keeps the password in the memory of the process that has it.

use jsonpipe::{Exit, ExitContext};
use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// No core holds it, only who may trace every process reads it through /proc, and it never gets
/// into swap. Pages are locked as they are touched, so the size stays what is used.
pub fn protect() -> anyhow::Result<()> {
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault)
        .exit(Exit::NoPermission, || "locking the password in memory")
}
