//! Whether standard output was there when the process started (`tool >&-`). Nothing else may run
//! code before `main`: no other `.init_array` entry, here or in a tool.
//!
//! Before `main`, Rust's runtime opens /dev/null for a standard stream that is closed, and a
//! document that is written there is delivered to nobody without an error. Only what runs before
//! the runtime can tell.

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

/// Uses nothing of the standard library that would need its runtime.
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
