//! Whether standard output existed when the process started (`tool >&-`). No other code may run
//! before `main`: no other `.init_array` entry, here or in a tool.
//!
//! Before `main`, Rust's runtime opens /dev/null for a closed standard stream, and a document
//! written there is lost without an error. Only code that runs before the runtime can detect that.

#![allow(
    unsafe_code,
    reason = "one system call that the standard library has no safe word for before `main`"
)]

use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

// SAFETY: the C library calls every entry of this section once, in the only thread, before `main`;
// an `extern "C"` function that takes no arguments may be called with the arguments that it gives.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = look;

/// Must not use parts of the standard library that need its runtime.
extern "C" fn look() {
    // SAFETY: F_GETFD takes no pointer and changes nothing, whatever the descriptor is. It fails
    // only where there is none.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    WAS_CLOSED.store(flags == -1, Ordering::Relaxed);
}

/// Whether the process was started without a standard output.
pub(crate) fn was_closed() -> bool {
    WAS_CLOSED.load(Ordering::Relaxed)
}
