//! The tests of the binary: one program, so that it links once. Those in `laboratory` bring up
//! namespaces or emulated machines.

mod contract;
mod cuts;
mod faults;
mod flip;
#[allow(dead_code, reason = "the benchmark needs more of it")]
mod judge;
mod laboratory;
mod layout;
mod machine;
mod repair;
mod scripts;
mod settle;
mod status;
mod trial;
mod update;
mod update_host;
mod write;
