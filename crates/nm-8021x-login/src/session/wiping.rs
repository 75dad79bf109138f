//! Memory is wiped when it is freed, all of it: what libraries copy of a password on its way (the
//! message of a D-Bus call, a buffer that grew) is in nobody's sight then.

#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

use zeroize::Zeroize;

struct Wiping;

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

// SAFETY: all is the system allocator's own, and what is given back to it is only overwritten
// before.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    // `realloc` is left as it is by default: a new piece, a copy, and `dealloc` of the old one.

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise: `layout.size()` bytes are ours until the system has them.
        unsafe {
            (*ptr::slice_from_raw_parts_mut(pointer, layout.size())).zeroize();
            System.dealloc(pointer, layout);
        }
    }
}
