//! The tests of the binary: one program, so that it links once. Those in `laboratory` bring up
//! namespaces or emulated machines.

mod carry;
mod check;
mod clone;
mod contract;
mod ephemeral;
mod evict;
mod hostile;
mod idle;
mod install;
mod kills;
mod laboratory;
mod list;
mod log;
mod machine;
mod places;
mod prune;
mod release;
mod replace;
mod restore;
mod zfs;
