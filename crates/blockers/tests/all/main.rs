//! Each obstacle on a machine that is a directory: it is found there, and nothing else is. Those in `laboratory` need root and the kernel's own devices. The
//! numbers of the emulated machines, where the kernel itself shows these obstacles, are in
//! scripts/lab/test-passthrough.

mod devices;
mod hardware;
mod laboratory;
mod machine;
mod platform;
mod reading;
mod uses;
